"""The steps of level `full`: calls with sound. They need the extra `media` when they run."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.step import PHONES, Sound, Step, StepFailed, StepSkipped
from sipdeploy.sip.media import MediaError, NotConnected, open_audio, talk
from sipdeploy.sip.media.description import Description

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.media.audio import Audio
    from sipdeploy.sip.media.talk import Talk
    from sipdeploy.sip.phone import Phone

SERVICES = "services"  # the lane of calls to services, beside the calls of the two phones
LOW, HIGH, OTHER = 440, 620, 800  # Hz
HEAR_SECONDS = 6.0
SPEECH_SECONDS = 1.0
SERVICE_SECONDS = 20.0  # that the test service takes at most, until it hangs up
GREETING_SECONDS = 10.0
MESSAGE_SECONDS = 2.5
NOTED_SECONDS = 0.5
ENVELOPE_SECONDS = 25.0  # what Asterisk says before a message


# --- calls between two phones --------------------------------------------------------------------


async def sound(subject: Subject) -> str:
    """Two phones hear each other's tone, and the caller ends the call."""
    async with _talking(subject) as (caller, callee):
        state = await caller.audio.state()
        await _hang_up(caller, callee)
    return f"tones both ways, {state.codec}, media {state.path}"


async def sound_back(subject: Subject) -> str:
    """The same in the other direction with another codec; the callee ends the call."""
    async with _talking(subject, backwards=True, codecs=("PCMU",)) as (caller, callee):
        state = await caller.audio.state()
        await _hang_up(callee, caller)
    return f"in the other direction, {state.codec}, BYE of the callee"


async def hold(subject: Subject) -> str:
    """Each side holds the call, which is silent then, and resumes it."""
    phones = await _phones(subject)
    async with _talking(subject) as sides:
        for ours, theirs, phone in ((0, 1, phones[1]), (1, 0, phones[0])):
            for change in (sides[ours].hold, sides[ours].resume):
                await asyncio.gather(change(), sides[theirs].reoffered(phone))
                if change == sides[ours].hold:
                    await _be_silent(subject, sides)
            await _hear_each_other(subject, *sides)
        await _hang_up(*sides)
    return "silent while held, heard again after it, on both sides"


async def two_answers(subject: Subject) -> str:
    """Two phones of a number answer at once: the caller hears the one that keeps the call."""
    caller, first = await _phones(subject)
    second = await subject.phone(1, 1)
    async with contextlib.AsyncExitStack() as stack:
        ours, *theirs = [await _open(stack, hz) for hz in (LOW, HIGH, OTHER)]
        call = await talk.dial(caller, first.number, ours)
        rung = [await phone.incoming(method="INVITE") for phone in (first, second)]
        sides = await asyncio.gather(*map(talk.answer, rung, theirs))
        side = await talk.connect(call, ours)
        kept = await _kept(subject, sides)
        await _hears(subject, ours, HIGH if kept is sides[0] else OTHER, "the caller")
        await _hears(subject, kept.audio, LOW, "the phone that kept the call")
        await _hang_up(side, kept)
    await subject.hang_up([(1, 1)])
    return "one keeps the call and is heard, the other gets a BYE"


async def _kept(subject: Subject, sides: list[Talk]) -> Talk:
    """The side that got the ACK; the other one got a BYE after it, or only that."""
    for side in sides:
        with contextlib.suppress(TimeoutError):
            await side.call.ended(0.5)
    left = [side for side in sides if side.call.bye_received is None and side.call.acks]
    if len(left) != 1:
        raise _failed(subject, f"two phones answered at once, and {len(left)} kept the call")
    return left[0]


async def blind_transfer(subject: Subject) -> str:
    """The callee sends the caller to another phone, and is out of the call then."""
    caller, callee = await _phones(subject)
    async with _talking(subject) as (held, transferor):
        other = await subject.phone(1, 1)
        await transferor.refer(f"sip:{callee.number}@{subject.site.domain}")
        async with _following(subject, caller, held, other) as (ours, theirs):
            await callee.incoming(method="INVITE")  # it rings too, until the other answers
            await callee.incoming(method="NOTIFY")
            await _hang_up(transferor, held)
            await _hang_up(ours, theirs)
    await subject.hang_up([(1, 1)])
    return "REFER, the new call is heard, NOTIFY, BYE of the old one"


async def attended_transfer(subject: Subject) -> str:
    """The callee asks another phone, and connects the caller with it (Replaces)."""
    caller, callee = await _phones(subject)
    async with _talking(subject) as (held, transferor), contextlib.AsyncExitStack() as stack:
        other = await subject.phone(1, 1)
        asking, asked = [await _open(stack, hz) for hz in (HIGH, OTHER)]
        # the other phone has the same number, which works in both modes; a Contact does not
        call = await talk.dial(callee, callee.number, asking)
        await (await callee.incoming(method="INVITE")).reject(480)
        second = await talk.answer(await other.incoming(method="INVITE"), asked)
        first = await talk.join(call, asking, second)
        await transferor.refer(first.call.established.remote_target, first.call)
        async with _following(subject, caller, held, other, replaced=second) as (ours, theirs):
            await _hang_up(second, first)
            await callee.incoming(method="NOTIFY")
            await _hang_up(transferor, held)
            await _hang_up(ours, theirs)
    await subject.hang_up([(1, 1)])
    return "REFER with Replaces, the new call is heard, BYE of the old ones"


@contextlib.asynccontextmanager
async def _following(
    subject: Subject, caller: Phone, held: Talk, other: Phone, *, replaced: Talk | None = None
) -> AsyncIterator[tuple[Talk, Talk]]:
    """The caller follows a REFER to the phone `other`; yields the two sides of the new call."""
    refer = await caller.incoming(method="REFER")
    target, headers = talk.refer_target(refer)
    async with contextlib.AsyncExitStack() as stack:
        ours, theirs = [await _open(stack, hz) for hz in (LOW, OTHER)]
        call = await talk.dial(caller, target, ours, headers=headers)
        invite = await other.incoming(method="INVITE")
        if replaced and not talk.replaces(invite, replaced.call):
            raise _failed(subject, "the INVITE of a transfer arrives without its Replaces")
        callee = await talk.answer(invite, theirs)
        side = await talk.join(call, ours, callee)
        await _hear_each_other(subject, side, callee, (LOW, OTHER))
        await held.referred(refer, "200 OK")
        yield side, callee


# --- services ------------------------------------------------------------------------------------


async def speech(subject: Subject) -> str:
    """The test service speaks, rings and hangs up."""
    number = _service(subject, "ivr-test")
    async with _service_call(subject, number, 0) as (_, side):
        is_heard = await side.audio.hears_sound(SPEECH_SECONDS, GREETING_SECONDS)
        await _note(subject, side.audio, 0, f"the caller of {number}")
        if not is_heard:
            raise await _deaf(
                subject, f"{number} answers, and its speech does not arrive", side.audio
            )
        await side.call.ended(SERVICE_SECONDS)
        seconds = side.audio.heard.loud_seconds()
        state = await side.audio.state()
    return f"{number}: {seconds:.0f} s of sound, {state.codec}, and it hangs up"


async def echo(subject: Subject) -> str:
    """A service returns each tone."""
    number = _service(subject, "echo")
    async with _service_call(subject, number, LOW) as (_, side):
        for hz in (LOW, HIGH):
            side.audio.say(hz)
            await _hears(subject, side.audio, hz, f"the caller of {number}")
        state = await side.audio.state()
        await side.call.bye()
    return f"{number} returns the tones, {state.codec}, media {state.path}"


async def digits(subject: Subject) -> str:
    """A service gets a digit: `#` ends the echo."""
    number = _service(subject, "echo")
    async with _service_call(subject, number, LOW) as (_, side):
        await _hears(subject, side.audio, LOW, f"the caller of {number}")
        await side.audio.dial("5#")
        try:
            await side.call.ended()
        except TimeoutError:
            raise await _deaf(
                subject, f"{number} does not notice the digit #", side.audio
            ) from None
    return f"{number} ends at the digit #"


async def voicemail(subject: Subject) -> str:
    """A user leaves a message for the own number, is told of it, hears it and removes it."""
    number = _mailbox(subject)
    service = _service(subject, "voicemail")
    phone = await subject.phone(0)  # the only one of the number, because all of them ring
    await phone.request("SUBSCRIBE", number, headers=_MWI)
    if await _new_messages(phone):
        raise StepSkipped(f"{number} has new messages, and the proof leaves them alone")
    await _leave_message(subject, phone, number)
    if (count := await _new_messages(phone)) != 1:
        raise _failed(subject, f"after one message, {number} is told of {count}")
    await _remove_message(subject, phone, service)
    if count := await _new_messages(phone):
        raise _failed(subject, f"after its removal, {number} is told of {count} messages")
    return f"left, told, heard and removed in the mailbox of {number}"


_MWI: dict[str, str | None] = {
    "Event": "message-summary",
    "Accept": "application/simple-message-summary",
    "Expires": "120",
}


def _mailbox(subject: Subject) -> str:
    """The user of the proof; StepSkipped without a mailbox."""
    number = subject.accounts[0].number
    if number not in subject.site.users:
        raise StepSkipped("a probe account has no mailbox: `--user NUMBER` uses that of a user")
    if not subject.site.users[number].voicemail:
        raise StepSkipped(f"{number} has no mailbox")
    return number


async def _new_messages(phone: Phone) -> int:
    """The number of new messages in the next NOTIFY of the mailbox."""
    notify = await phone.incoming(GREETING_SECONDS, method="NOTIFY")
    match = re.search(r"^Voice-Message: *(\d+)/", notify.request.body, re.MULTILINE)
    return int(match[1]) if match else 0


async def _leave_message(subject: Subject, phone: Phone, number: str) -> None:
    """Call the own number, decline there, and speak after the greeting of the mailbox."""
    async with contextlib.AsyncExitStack() as stack:
        audio = await _open(stack, 0)
        call = await talk.dial(phone, number, audio)
        await (await phone.incoming(method="INVITE")).reject(603)
        side = await talk.connect(call, audio, GREETING_SECONDS)
        await audio.hears_sound(0.5, GREETING_SECONDS)
        await audio.dial("#")  # ends the greeting
        if not await audio.hears_nothing(0.6, GREETING_SECONDS):
            raise await _deaf(subject, f"the mailbox of {number} does not begin to record", audio)
        audio.say(LOW)
        await asyncio.sleep(MESSAGE_SECONDS)
        await side.call.bye()


async def _remove_message(subject: Subject, phone: Phone, service: str) -> None:
    """Call the mailbox, listen to the new message, and delete it."""
    async with contextlib.AsyncExitStack() as stack:
        audio = await _open(stack, 0)
        side = await talk.connect(await talk.dial(phone, service, audio), audio)
        await audio.hears_sound(0.5, GREETING_SECONDS)
        await audio.dial("1")  # new messages
        if not await audio.hears(LOW, ENVELOPE_SECONDS):
            raise await _deaf(subject, f"{service} does not play the message that was left", audio)
        await audio.dial("7")  # delete
        await audio.hears_sound(0.5, GREETING_SECONDS)
        await side.call.bye()


# --- parts ---------------------------------------------------------------------------------------


async def _phones(subject: Subject) -> tuple[Phone, Phone]:
    if len(subject.accounts) < 2:  # noqa: PLR2004
        raise StepSkipped("needs two probe accounts")
    return await subject.phone(0), await subject.phone(1)


async def _open(stack: contextlib.AsyncExitStack, hz: int, codecs: tuple[str, ...] = ()) -> Audio:
    return await stack.enter_async_context(open_audio(tone_hz=hz, codecs=codecs))


@contextlib.asynccontextmanager
async def _talking(
    subject: Subject, *, backwards: bool = False, codecs: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Talk, Talk]]:
    """A call between the two phones, which hear each other: 440 Hz here and 620 Hz there."""
    caller, callee = (await _phones(subject))[:: -1 if backwards else 1]
    async with contextlib.AsyncExitStack() as stack:
        ours, theirs = await _open(stack, LOW, codecs), await _open(stack, HIGH)
        call = await talk.dial(caller, callee.number, ours)
        invite = await callee.incoming(method="INVITE")
        _check_untouched(subject, call.request.body, invite.request.body)
        answered = await talk.answer(invite, theirs)
        side = await talk.join(call, ours, answered)
        await _hear_each_other(subject, side, answered)
        yield side, answered


def _check_untouched(subject: Subject, sent: str, received: str) -> None:
    """A host that changes what a phone says about its media breaks DTLS or ICE."""
    for name in ("fingerprint", "candidate", "ice-ufrag", "setup"):
        if Description(sent).values(name) != Description(received).values(name):
            raise _failed(subject, f"an INVITE arrives with another `a={name}` than was sent")


@contextlib.asynccontextmanager
async def _service_phone(subject: Subject) -> AsyncIterator[Phone]:
    """Another phone of the first account, because the other lane uses that of the subject.

    A user's account has only one, which nothing else uses by then.
    """
    if len(subject.accounts) == 1:
        yield await subject.phone(0)
        return
    async with subject.new_phone(0, 1) as phone:
        await phone.connect()
        await subject.register(phone)
        try:
            yield phone
        finally:
            with contextlib.suppress(OSError):
                await phone.register(expires=0, timeout_seconds=1)


@contextlib.asynccontextmanager
async def _service_call(
    subject: Subject, number: str, hz: int
) -> AsyncIterator[tuple[Phone, Talk]]:
    async with _service_phone(subject) as phone, contextlib.AsyncExitStack() as stack:
        audio = await _open(stack, hz)
        yield phone, await talk.connect(await talk.dial(phone, number, audio), audio)


def _service(subject: Subject, kind: str) -> str:
    """The number of a service; StepSkipped if the inventory has none of that kind."""
    for number, service in subject.site.services.items():
        if service.kind == kind:
            return number
    raise StepSkipped(f"the inventory has no service of the kind {kind}")


async def _hang_up(first: Talk, other: Talk) -> None:
    """`first` sends the BYE, and `other` receives it."""
    reply = await first.call.bye()
    if reply.status != 200:  # noqa: PLR2004
        raise ConnectionError(f"BYE was answered with {reply.status} {reply.reason}")
    await other.call.ended()


async def _hear_each_other(
    subject: Subject, caller: Talk, callee: Talk, tones: tuple[int, int] = (LOW, HIGH)
) -> None:
    low, high = tones
    await asyncio.gather(
        _hears(subject, caller.audio, high, "the caller"),
        _hears(subject, callee.audio, low, "the callee"),
    )


async def _be_silent(subject: Subject, sides: tuple[Talk, Talk]) -> None:
    for side, who in zip(sides, ("the caller", "the callee"), strict=True):
        if not await side.audio.hears_nothing(0.3, HEAR_SECONDS):
            raise _failed(subject, f"{who} still hears the other in a call that is held")


async def _hears(subject: Subject, audio: Audio, hz: int, who: str) -> None:
    is_heard = await audio.hears(hz, HEAR_SECONDS)
    await _note(subject, audio, hz, who)
    if is_heard:
        return
    heard = audio.heard_hz()
    instead = f"a sound of about {heard} Hz" if heard else "silence"
    raise await _deaf(subject, f"{who} hears {instead} and not the tone of {hz} Hz", audio)


async def _note(subject: Subject, audio: Audio, hz: int, who: str) -> None:
    """Keep what a phone hears at this moment, for a report."""
    now = time.monotonic()
    samples = audio.heard.since(now - NOTED_SECONDS)
    state = str(await audio.state())
    subject.sounds.append(Sound(at=now, who=who, hz=hz, samples=samples, state=state))


def _failed(subject: Subject, what: str, notes: tuple[str, ...] = ()) -> StepFailed:
    return StepFailed(
        Diagnostic("SD922", f"on `{subject.name}`, {what}", notes=notes, help=subject.logs)
    )


async def _deaf(subject: Subject, what: str, audio: Audio) -> StepFailed:
    """SD922 with the state of the audio of the phone that does not hear."""
    return _failed(subject, what, (str(await audio.state()),))


def _step(
    name: str,
    run: Callable[[Subject], Awaitable[str]],
    *,
    needs: str = "call",
    lane: str = PHONES,
    seconds: float = 20,
) -> Step:
    async def with_sound(subject: Subject) -> str:
        try:
            return await run(subject)
        except MediaError as error:
            is_blocked = lane == SERVICES and isinstance(error, NotConnected)
            raise _not_working(subject, error, is_blocked=is_blocked) from error

    return Step(
        name=name, level="full", run=with_sound, code="SD922", needs=(needs,), lane=lane,
        seconds=seconds,
    )  # fmt: skip


def _not_working(subject: Subject, error: MediaError, *, is_blocked: bool) -> StepFailed:
    """SD922; the two phones of a proof are on this machine, so only services can be blocked."""
    name, ports = subject.name, subject.site.ports.rtp
    fix = f"`sipdeploy plan {name}` shows what was edited on the host"
    if is_blocked:
        fix = f"open UDP {ports} to {subject.entry.media_address} in the firewall of the provider"
    return StepFailed(
        Diagnostic(
            "SD922",
            f"the audio of a call on `{name}` does not work: {error}",
            help=f"{fix}; {subject.logs}",
        )
    )


STEPS: tuple[Step, ...] = (
    _step("sound", sound),
    _step("sound back", sound_back, needs="sound"),
    _step("hold and resume", hold, needs="sound"),
    _step("two answers", two_answers, needs="sound"),
    _step("blind transfer with sound", blind_transfer, needs="sound"),
    _step("attended transfer with sound", attended_transfer, needs="sound"),
    # after the transfers of level `quick`, which need the second phone of the first account
    _step("echo", echo, needs="service", lane=SERVICES),
    _step("digits", digits, needs="echo", lane=SERVICES),
    _step("speech", speech, needs="service", lane=SERVICES, seconds=35),
    _step("voicemail", voicemail, needs="REGISTER", lane=SERVICES, seconds=55),
)
