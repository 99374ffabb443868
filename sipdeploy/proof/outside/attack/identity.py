"""Attacks on a number: to take its calls, or to speak for it, without its password."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sipdeploy.proof.outside.attack.attempt import (
    Kind,
    accomplice,
    answer,
    charge,
    final,
    stranger,
)
from sipdeploy.proof.outside.calls import invite_of, pair
from sipdeploy.proof.outside.step import StepSkipped
from sipdeploy.sip.call import CallRefusedError
from sipdeploy.sip.digest import Challenge, Credentials
from sipdeploy.sip.message import token

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.phone import Phone, Reply

NUMBER = Kind(code="SD941")
NOBODY = "0"  # a number that no site has: its 404 says that the host accepts the sender
DAEMONS = ("asterisk", "trunk", "anonymous")  # names that are not numbers
UNPROVEN = {401, 403, 407}


async def no_password(subject: Subject) -> str:
    """A REGISTER without the password binds no phone, and unbinds none."""
    caller, victim = await pair(subject)
    async with stranger(subject, 1) as thief:
        for contact, expires in ((None, 60), ("*", 0)):
            asked = thief.register(contact=contact, expires=expires, authenticate=False)
            reply = await answer(asked)
            seen = NUMBER.refused(subject, "a REGISTER without a password", reply)
            asked = thief.register(contact=contact, expires=expires)
            reply = await answer(asked)
            NUMBER.refused(subject, "a REGISTER with a wrong password", reply)
        await charge(subject, thief, 3)
        call = await caller.invite(victim.number)
        try:
            ringing = await invite_of(call, victim)
        except CallRefusedError as refusal:
            raise NUMBER.succeeded(
                subject, "a phone without the password unregisters others"
            ) from refusal
        await ringing.reject(486)
        await subject.hang_up([(1, 0)])
        await _check_calls(subject, caller, victim.number, thief)
    return f"{seen}, and the owner keeps the calls"


async def _check_calls(subject: Subject, caller: Phone, number: str, thief: Phone) -> None:
    """StepFailed if a call to the number, whose owner is away, reaches the thief."""
    call = await caller.invite(number)
    try:
        await invite_of(call, thief)
    except CallRefusedError:
        return
    raise NUMBER.succeeded(subject, "a phone without the password gets the calls of a number")


async def for_another(subject: Subject) -> str:
    """A phone with a password of its own registers no other number."""
    _, victim = await pair(subject)
    eve = await accomplice(subject)
    reply = await answer(eve.register(to_user=victim.number, expires=60))
    await answer(eve.register(to_user=victim.number, expires=0))  # whatever it has left
    return NUMBER.refused(subject, "a REGISTER for another number", reply)


async def as_another(subject: Subject) -> str:
    """A registered phone sends nothing in the name of another number."""
    eve, victim = await pair(subject)
    before = _reached(victim)
    seen = []
    for name in (victim.number, *DAEMONS):
        asked = eve.request("MESSAGE", victim.number, body="x", from_user=name, authenticate=False)
        seen.append(NUMBER.refused(subject, "a MESSAGE in another's name", await answer(asked)))
    asked = eve.request("MESSAGE", victim.number, body="x", from_user=victim.number)
    NUMBER.refused(subject, "a MESSAGE with the digest of another", await answer(asked))
    await charge(subject, eve, int(subject.site.authentication == "kamailio"))
    calling = eve.invite(victim.number, from_user=victim.number, authenticate=False)
    NUMBER.refused(subject, "an INVITE in another's name", await final(calling))
    if _reached(victim) > before:
        raise NUMBER.succeeded(subject, "a phone speaks in the name of another number")
    return ", ".join(dict.fromkeys(seen))


async def unregistered(subject: Subject) -> str:
    """A connection that has proved no number reaches nobody."""
    _, victim = await pair(subject)
    before = _reached(victim)
    seen = []
    async with stranger(subject) as nobody:
        for number in (victim.number, *list(subject.site.services)[:1]):
            reply = await final(nobody.invite(number, authenticate=False))
            seen.append(NUMBER.refused(subject, "an INVITE of a stranger", reply))
        asked = nobody.request("MESSAGE", victim.number, body="x", authenticate=False)
        seen.append(NUMBER.refused(subject, "a MESSAGE of a stranger", await answer(asked)))
    if _reached(victim) > before:
        raise NUMBER.succeeded(subject, "a phone that has not registered reaches others")
    return ", ".join(dict.fromkeys(seen))


def _reached(phone: Phone) -> int:
    return len(phone.received("MESSAGE")) + len(phone.received("INVITE"))


async def replayed(subject: Subject) -> str:
    """A digest is good for one request, and one without a count for none."""
    if subject.site.authentication != "kamailio":
        raise StepSkipped("Asterisk checks the passwords, and bounds a digest by its age alone")
    await pair(subject)
    async with subject.new_phone(0) as phone:
        await phone.connect()
        asked = phone.request("MESSAGE", NOBODY, body="x", authenticate=False)
        challenge = Challenge.from_reply(await asked)
        first = await _message(phone, challenge)
        again = await _message(phone, challenge)
        seen = _refused(subject, "a digest for the second time", again)
        bare = replace(Challenge.from_reply(again), qop=False)
        _refused(subject, "a digest without a count", await _message(phone, bare))
        await charge(subject, phone, 1)
    if first.status in UNPROVEN:
        raise ConnectionError(f"the first digest is answered with {first.status}")
    return seen


async def _message(phone: Phone, challenge: Challenge) -> Reply:
    """The reply to a MESSAGE to nobody with the first digest of a challenge."""
    login = Credentials(user=phone.number, password=phone.password, challenge=challenge)
    request = phone.initial("MESSAGE", NOBODY, {"body": "x", "headers": {"Call-ID": token(20)}})
    name = "Proxy-Authorization" if challenge.proxy else "Authorization"
    _, value = login.header("MESSAGE", request.uri, cnonce="0" * 16)
    return await phone.exchange(phone.changed(request, {name: value}))


def _refused(subject: Subject, what: str, reply: Reply) -> str:
    if reply.status not in UNPROVEN:
        raise NUMBER.succeeded(subject, f"{what} is accepted")
    return f"{reply.status} {reply.reason}"


STEPS = (
    NUMBER.step("REGISTER of a stranger", no_password),
    NUMBER.step("REGISTER for another", for_another),
    NUMBER.step("in another's name", as_another),
    NUMBER.step("without registration", unregistered),
    NUMBER.step("replayed digest", replayed),
)
