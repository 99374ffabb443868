"""The steps of `--user`: one account, on a host that sipdeploy need not have configured.

Level `attack` proves the same and more, but needs probe accounts. These steps send in the name of
the given account or of no number, and end each call that they begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.attack.attempt import FAILURE, answer, stranger
from sipdeploy.proof.outside.attack.identity import NUMBER, UNPROVEN
from sipdeploy.proof.outside.calls import invite_of
from sipdeploy.proof.outside.signalling import service_number
from sipdeploy.proof.outside.step import PHONES, Step, StepFailed, StepSkipped
from sipdeploy.sip.call import CallRefusedError

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.call import Call, Incoming
    from sipdeploy.sip.phone import Phone, Reply

TRUNKS = ("kamailio", "asterisk")  # names that guides give to the other daemon
# An offer without DTLS and ICE: guides do not give their trunk `webrtc=yes`.
PLAIN = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    "m=audio 9 RTP/AVP 0\r\n"
)
ARRIVAL_SECONDS = 1.5
FORK_SECONDS = 0.5  # in which another phone of the number rings too
FORGOTTEN_SECONDS = 10.0  # within which a host notices a connection that was reset
TRYING, REDIRECTION, SERVER_FAILURE = 100, 300, 500
NOT_ACCEPTABLE = 488  # the answer to media that the sender may not offer: the sender may call
NO_PHONE = {404, 480}
DECLINED = {486, 600, 603}


async def phone_of_stranger(subject: Subject) -> str:
    """A REGISTER without the password is refused, and its phone does not ring.

    The reply alone says nothing: a proxy may store the phone before the registrar answers 401.
    """
    phone = await subject.phone(0)
    async with stranger(subject) as thief:
        try:
            reply = await answer(thief.register(expires=60, authenticate=False))
            seen = NUMBER.refused(subject, "a REGISTER without the password", reply)
            call = await phone.invite(phone.number)
            try:
                await _rings(call, phone)
                is_stored = await _comes(thief.incoming(FORK_SECONDS, method="INVITE"))
            finally:
                await _end(call)
        finally:
            await answer(thief.register(expires=0, authenticate=False))
        if is_stored:
            raise NUMBER.succeeded(
                subject, "a phone without the password gets the calls of a number"
            )
    return f"{seen}, and it does not ring"


async def to_itself(subject: Subject) -> str:
    """In a call of the number to itself, ACK and BYE arrive at the phone that answers."""
    phone = await subject.phone(0)
    outgoing = await phone.invite(phone.number)
    ringing = await _rings(outgoing, phone)
    # the number's other phones ring by then: one that has not replied yet cannot be cancelled
    await asyncio.sleep(FORK_SECONDS)
    incoming = await ringing.answer()
    await outgoing.answered()
    await outgoing.ack()
    missing = [] if await _comes(incoming.acknowledged(ARRIVAL_SECONDS)) else ["ACK"]
    reply = await answer(outgoing.bye())
    if not await _comes(incoming.ended(ARRIVAL_SECONDS)):
        missing.append("BYE")
    if missing:
        seen = f"{reply.status} {reply.reason}" if reply else "nothing"
        do = "does" if len(missing) == 1 else "do"
        raise StepFailed(
            Diagnostic(
                "SD907",
                f"on `{subject.name}`, {' and '.join(missing)} of a caller {do} not reach the "
                "other phone",
                notes=(f"the caller's BYE is answered with {seen}",),
                help=subject.logs,
            )
        )
    return "ACK and BYE arrive"


async def of_stranger(subject: Subject) -> str:
    """A connection that has not registered cannot call in the name of the number."""
    phone = await subject.phone(0)
    async with stranger(subject) as nobody:
        call = await nobody.invite(phone.number, authenticate=False)
        try:
            await invite_of(call, phone)
        except CallRefusedError as refusal:
            if refusal.reply.status >= FAILURE:
                return str(refusal)
        except TimeoutError:
            if not _is_underway(call):
                return "no reply"
        finally:
            await _end(call)
    raise NUMBER.succeeded(
        subject, "a connection that has not registered calls in the name of a number"
    )


async def of_trunk(subject: Subject) -> str:
    """The name of a trunk is no password: Asterisk does not know its trunk by From."""
    number = service_number(subject)
    seen, is_proven = [], True
    for name in TRUNKS:
        reply, is_underway = await _as_trunk(subject, name, number)
        said = f"{reply.status} {reply.reason}" if reply else "no reply"
        is_accepted = reply and (reply.status < FAILURE or reply.status == NOT_ACCEPTABLE)
        if is_accepted or (reply is None and is_underway):
            raise NUMBER.succeeded(
                subject,
                f"a connection that has not registered calls the service {number} in the name of "
                f"the trunk `{name}` ({said})",
            )
        is_proven &= reply is None or reply.status in UNPROVEN
        seen.append(said)
    told = ", ".join(dict.fromkeys(seen))
    if not is_proven:
        raise StepSkipped(f"the host answers {told}, which says nothing")
    return told


async def _as_trunk(subject: Subject, name: str, number: str) -> tuple[Reply | None, bool]:
    """The final reply to a call in the name of a trunk, and whether one came before it."""
    async with stranger(subject) as nobody:
        call = await nobody.invite(number, PLAIN, from_user=name, authenticate=False)
        try:
            return await call.final(ARRIVAL_SECONDS), True
        except (TimeoutError, ConnectionError):
            return None, _is_underway(call)
        finally:
            await _end(call)


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
            if reply and (reply.status < REDIRECTION or reply.status in NO_PHONE):
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
    """The final reply to a call, which is ended; StepSkipped if nobody can say more."""
    call = await caller.invite(number)
    try:
        reply = await call.final(ARRIVAL_SECONDS)
    except TimeoutError:
        if _is_underway(call):
            raise StepSkipped(f"other phones of {number} are registered") from None
        return None
    finally:
        await _end(call)
    if reply.status in DECLINED:
        raise StepSkipped(f"other phones of {number} are registered")
    if reply.status in UNPROVEN:
        raise StepSkipped("a phone must register here before it calls")
    return reply


# --- parts ---------------------------------------------------------------------------------------


async def _rings(call: Call, phone: Phone) -> Incoming:
    """The INVITE of the number to itself; StepSkipped if the host has another meaning for it."""
    try:
        return await invite_of(call, phone)
    except CallRefusedError as refusal:
        await _end(call)
        if refusal.reply.status >= SERVER_FAILURE:
            raise
        raise StepSkipped(f"a number cannot call itself here: {refusal}") from refusal


def _is_underway(call: Call) -> bool:
    """Whether somebody has taken the call: it rings, or it is answered."""
    return any(each.status > TRYING for each in call.replies)


async def _end(call: Call) -> None:
    """End a call, whatever became of it, so that no phone rings on and no mailbox listens."""
    if not call.replies:
        return
    with contextlib.suppress(OSError):
        try:
            reply = await call.final(0)
        except TimeoutError:
            await call.cancel()
            reply = await call.final(ARRIVAL_SECONDS)
        if reply.status < REDIRECTION:
            await call.ack()
            await call.bye()


async def _comes(message: Awaitable[object]) -> bool:
    try:
        await message
    except (TimeoutError, ConnectionError):
        return False
    return True


def _is_one(subject: Subject) -> bool:
    return len(subject.accounts) == 1


def _step(
    name: str, run: Callable[[Subject], Awaitable[str]], *, code: str, seconds: float = 15
) -> Step:
    return Step(
        name=name, level="quick", run=run, code=code, needs=("REGISTER",), lane=PHONES,
        seconds=seconds, is_wanted=_is_one,
    )  # fmt: skip


STEPS: tuple[Step, ...] = (
    _step("phone of a stranger", phone_of_stranger, code="SD946"),
    _step("call to itself", to_itself, code="SD907"),
    _step("call of a stranger", of_stranger, code="SD946"),
    _step("call of a trunk", of_trunk, code="SD946"),
    _step("lost phone", lost, code="SD907", seconds=20),
)
