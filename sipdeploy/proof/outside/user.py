"""The steps of `--user`: one account, on a host that sipdeploy need not have configured.

Level `attack` proves the same and more, but needs probe accounts. These steps send less than ten
messages, in the name of the given account or of no number.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.attack.attempt import Kind, answer, final, stranger
from sipdeploy.proof.outside.calls import invite_of
from sipdeploy.proof.outside.signalling import service_number
from sipdeploy.proof.outside.step import PHONES, Step, StepFailed, StepSkipped
from sipdeploy.sip.call import CallRefusedError

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.phone import Phone, Reply

NUMBER = Kind(code="SD941")
TRUNKS = ("kamailio", "asterisk")  # names that guides give to the other daemon
# An offer without DTLS and ICE: guides do not give their trunk `webrtc=yes`.
PLAIN = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    "m=audio 9 RTP/AVP 0\r\n"
)
ARRIVAL_SECONDS = 1.5
FORK_SECONDS = 0.5  # in which another phone of the number rings too
FORGOTTEN_SECONDS = 10.0  # within which a host notices a connection that was reset
UNPROVEN = {401, 403, 407}
NOT_ACCEPTABLE = 488  # the answer to media that the sender may not offer: the sender may call
NO_PHONE = {404, 480}


async def to_itself(subject: Subject) -> str:
    """In a call of the number to itself, ACK and BYE arrive at the phone that answers."""
    phone = await subject.phone(0)
    outgoing = await phone.invite(phone.number)
    incoming = await (await invite_of(outgoing, phone)).answer()
    await outgoing.answered()
    await outgoing.ack()
    lost = [] if await _comes(incoming.acknowledged(ARRIVAL_SECONDS)) else ["ACK"]
    reply = await answer(outgoing.bye())
    if not await _comes(incoming.ended(ARRIVAL_SECONDS)):
        lost.append("BYE")
    if lost:
        seen = f"{reply.status} {reply.reason}" if reply else "nothing"
        raise StepFailed(
            Diagnostic(
                "SD907",
                f"on `{subject.name}`, {' and '.join(lost)} of a caller {_do(lost)} not reach the "
                "other phone",
                notes=(f"the caller's BYE is answered with {seen}",),
                help=subject.logs,
            )
        )
    return "ACK and BYE arrive"


def _do(what: list[str]) -> str:
    return "does" if len(what) == 1 else "do"


async def _comes(message: Awaitable[object]) -> bool:
    try:
        await message
    except (TimeoutError, ConnectionError):
        return False
    return True


async def phone_of_stranger(subject: Subject) -> str:
    """A REGISTER without the password is refused, and its phone does not ring.

    The reply alone says nothing: a proxy may store the phone before the registrar answers 401.
    """
    phone = await subject.phone(0)
    async with stranger(subject) as thief:
        reply = await answer(thief.register(expires=60, authenticate=False))
        seen = NUMBER.refused(subject, "a REGISTER without the password", reply)
        call = await phone.invite(phone.number)
        ringing = await invite_of(call, phone)
        is_stored = await _comes(thief.incoming(FORK_SECONDS, method="INVITE"))
        await ringing.reject()
        await call.final()
        if is_stored:
            await answer(thief.register(expires=0, authenticate=False))
            raise NUMBER.succeeded(
                subject, "a phone without the password gets the calls of a number"
            )
    return f"{seen}, and it does not ring"


async def of_stranger(subject: Subject) -> str:
    """A connection that has not registered cannot call in the name of the number."""
    phone = await subject.phone(0)
    async with stranger(subject) as nobody:
        call = await nobody.invite(phone.number, authenticate=False)
        try:
            ringing = await invite_of(call, phone)
        except CallRefusedError as refusal:
            return str(refusal)
        except TimeoutError:
            return "no reply"
        await ringing.reject()
        raise NUMBER.succeeded(
            subject, "a connection that has not registered calls in the name of a number"
        )


async def of_trunk(subject: Subject) -> str:
    """The name of a trunk is no password: Asterisk does not know its trunk by From."""
    number, seen = service_number(subject), ""
    for name in TRUNKS:
        async with stranger(subject) as nobody:
            calling = nobody.invite(number, PLAIN, from_user=name, authenticate=False)
            reply = await final(calling)
        if reply and (reply.status < 400 or reply.status == NOT_ACCEPTABLE):  # noqa: PLR2004
            raise NUMBER.succeeded(
                subject,
                f"a connection that has not registered calls the service {number} in the name of "
                f"the trunk `{name}` ({reply.status} {reply.reason})",
            )
        seen = f"{reply.status} {reply.reason}" if reply else "no reply"
    return seen


async def lost(subject: Subject) -> str:
    """A phone whose connection breaks gets no more calls."""
    number = subject.accounts[0].number
    await subject.hang_up()
    phone = subject.new_phone(0)
    await phone.connect()
    await subject.register(phone)
    await phone.reset()
    end = time.monotonic() + FORGOTTEN_SECONDS
    async with subject.new_phone(0) as caller:
        await caller.connect()
        while True:
            reply = await _called(caller, number)
            if reply and reply.status in UNPROVEN:
                raise StepSkipped("a phone must register here before it calls")
            if reply and (reply.status < 400 or reply.status in NO_PHONE):  # noqa: PLR2004
                return "a phone whose connection breaks is forgotten"
            if time.monotonic() > end:
                break
            await asyncio.sleep(1)
    seen = f"are answered with {reply.status} {reply.reason}" if reply else "get no answer"
    raise StepFailed(
        Diagnostic(
            "SD907",
            f"`{subject.name}` keeps a phone whose connection is broken: calls to {number} {seen}",
            notes=(f"{FORGOTTEN_SECONDS:g} s after the reset",),
            help=subject.logs,
        )
    )


async def _called(caller: Phone, number: str) -> Reply | None:
    """The final reply to a call, at once ended; StepSkipped if another phone of it rings."""
    call = await caller.invite(number)
    try:
        reply = await call.final(ARRIVAL_SECONDS)
    except TimeoutError:
        rings = any(each.status > 100 for each in call.replies)  # noqa: PLR2004
        await call.cancel()
        if rings:
            raise StepSkipped(f"other phones of {number} are registered") from None
        return None
    if reply.status < 300:  # noqa: PLR2004
        await call.ack()
        await call.bye()
    return reply


def _is_one(subject: Subject) -> bool:
    return len(subject.accounts) == 1


def _step(
    name: str, run: Callable[[Subject], Awaitable[str]], *, code: str, seconds: float = 6
) -> Step:
    return Step(
        name=name, level="quick", run=run, code=code, needs=("REGISTER",), lane=PHONES,
        seconds=seconds, is_wanted=_is_one,
    )  # fmt: skip


STEPS: tuple[Step, ...] = (
    _step("phone of a stranger", phone_of_stranger, code="SD941", seconds=10),
    _step("call to itself", to_itself, code="SD907", seconds=10),
    _step("call of a stranger", of_stranger, code="SD941", seconds=10),
    _step("call of a trunk", of_trunk, code="SD941", seconds=10),
    _step("lost phone", lost, code="SD907", seconds=20),
)
