"""The rungs of sound: rules for media, a call with sound and its packets on both sides, the relay.

Everything about the call is in `Media`; what it means is pure.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, count
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import run_script, sections
from sipdeploy.plan.preflight import firewall
from sipdeploy.proof.doctor import call, causes
from sipdeploy.proof.doctor.causes import WHOLE_ASTERISK, down
from sipdeploy.proof.doctor.inside import COTURN
from sipdeploy.proof.doctor.rung import Case, Rung, broken
from sipdeploy.proof.outside import full
from sipdeploy.proof.outside.step import StepFailed, StepSkipped
from sipdeploy.sip.media import MediaError, missing, open_audio
from sipdeploy.sip.media.description import Description

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sipdeploy.host import Host
    from sipdeploy.host.incoming import OnLine
    from sipdeploy.sip.media import MediaState
    from sipdeploy.sip.media.audio import Audio
    from sipdeploy.sip.phone import Phone

TAP_SECONDS = 5
READY_SECONDS = 3.0
CONNECT_SECONDS = 4.0
HEAR_SECONDS = 4.0
TONE = 440
# Services to call for sound: an echo judges both directions, the others speak.
KINDS = ("echo", "ivr-test", "voicemail")
NOTHING = Description("")
STEPS = {step.name: step for step in full.STEPS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The packets of a call at the host's interface, by `in` or `out` and kind (RFC 7983)."""

    packets: dict[str, int] = field(default_factory=dict)

    def sum(self, way: str, *kinds: str) -> int:
        """The packets of one direction, of these kinds or of all."""
        rows = (key.split() for key in self.packets)
        return sum(
            self.packets[f"{w} {kind}"] for w, kind in rows if w == way and kind in (kinds or kind)
        )

    def __str__(self) -> str:
        """`in 12 checks of ICE, 1 of DTLS, 0 of sound; out ...`."""
        return "; ".join(
            f"{way} {self.sum(way, 'stun')} of ICE, {self.sum(way, 'dtls')} of DTLS, "
            f"{self.sum(way, 'rtp')} of sound"
            for way in ("in", "out")
        )


@dataclass(slots=True, kw_only=True)
class Media:
    """A call with sound from here to a service, and what both sides have seen of it."""

    number: str
    who: str  # the caller: a user, or the phone of this machine
    kind: str
    status: str = ""  # of the answer to the INVITE
    answer: Description = NOTHING
    problem: str = ""  # why the audio could not be set up
    state: MediaState | None = None
    arrived: int = 0  # datagrams of any kind that reached this machine
    counted: Counted | None = None  # None if the host was not asked
    has_heard: bool = False

    @property
    def port(self) -> int:
        """The port at which the service expects media; 0 if it has not said any."""
        return next((each.port for each in self.answer.candidates), 0)

    @property
    def evidence(self) -> tuple[str, ...]:
        """What was seen on both sides."""
        host = f"at the host: {self.counted}" if self.counted else "the host was not asked"
        sent = f"here: {self.state}; {count(self.arrived, 'packet')} of any kind arrived"
        offered = ", ".join(map(str, self.answer.candidates[:3])) or "no address"
        return (f"the service offers {offered}", sent if self.state else "", host)


# --- the call with sound -------------------------------------------------------------------------


async def call_with_sound(case: Case) -> str:
    """A service answers, and what is said to it comes back, or it speaks."""
    if problem := missing():
        raise StepSkipped(f"{problem.message}; {problem.help} installs it")
    media = case.media = _begin(case)
    phone = await case.subject.phone(_caller(case))
    async with open_audio(tone_hz=TONE) as audio:
        await _talk(case, media, phone, audio)
    if media.problem or not media.has_heard:
        raise StepFailed(Diagnostic("SD936", f"{media.number} is silent: {media.problem}"))
    return (
        f"{media.number} is heard, {media.state.codec}, {media.state.path}" if media.state else ""
    )


def _begin(case: Case) -> Media:
    services = case.subject.site.services
    kinds = {str(item.kind): number for number, item in reversed(services.items())}
    kind = next((each for each in KINDS if each in kinds), "")
    if not kind:
        raise StepSkipped(f"the inventory has no service of the kind {' or '.join(KINDS)}")
    number = case.subject.accounts[_caller(case)].number
    who = number if number == case.number else "the phone here"
    return Media(number=kinds[kind], who=who, kind=kind)


def _caller(case: Case) -> int:
    """The account that calls: the user of the trouble, else a probe."""
    if case.account is not None and case.account in case.subject.accounts:
        return case.subject.accounts.index(case.account)
    return 0


async def _talk(case: Case, media: Media, phone: Phone, audio: Audio) -> None:
    outgoing = await phone.invite(media.number, await audio.offer())
    reply = await outgoing.final()
    media.status = f"{reply.status} {reply.reason}"
    if reply.status != 200:  # noqa: PLR2004
        media.problem = f"it answers with {media.status}"
        return
    media.answer = Description(reply.body)
    await outgoing.ack()
    try:
        async with _counting(case, media):
            await _listen(media, audio, reply.body)
    finally:
        media.state, media.arrived = await audio.state(), audio.arrived
        with contextlib.suppress(OSError, RuntimeError):
            await outgoing.bye()


async def _listen(media: Media, audio: Audio, answer: str) -> None:
    try:
        await audio.accept(answer)
        await audio.connected(CONNECT_SECONDS)
        if media.kind == "echo":
            media.has_heard = await audio.hears(TONE, HEAR_SECONDS)
        else:
            media.has_heard = await audio.hears_sound(0.5, HEAR_SECONDS)
    except MediaError as failure:
        media.problem = str(failure)


@contextlib.asynccontextmanager
async def _counting(case: Case, media: Media) -> AsyncIterator[None]:
    """The host counts the packets of the call meanwhile, if it can be asked."""
    if case.inside is None or not media.port:
        yield
        return
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_line(line: str) -> None:
        if line == "ready":
            loop.call_soon_threadsafe(ready.set)

    task = asyncio.create_task(asyncio.to_thread(_tap, case.connect, media.port, on_line))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_SECONDS):
            await ready.wait()
    try:
        yield
    finally:
        media.counted = None if media.has_heard else await task
        task.cancel()


def _tap(connect: Callable[[], Host], port: int, on_line: OnLine) -> Counted | None:
    argv = ("tap", str(port), str(TAP_SECONDS))
    try:
        result = run_script(connect(), argv, on_line=on_line, timeout_seconds=20)
    except HostFailed:
        return None
    return parse_counts(sections(result.text).get("packets"))


def parse_counts(text: str | None) -> Counted | None:
    """Read the output of the script `tap`; None if it could not count."""
    if text is None or "ready" not in text.split():
        return None
    rows = re.findall(r"^(in|out) (\w+) ([0-9]{1,9})\b", text, re.MULTILINE)
    return Counted(packets={f"{way} {kind}": int(number) for way, kind, number in rows})


# --- what the call means -------------------------------------------------------------------------


def _fix(case: Case) -> str:
    changed = causes.EDITED_ASTERISK(case)
    return f"`sipdeploy apply {case.name}{' --overwrite' if changed else ''}`"


def _edits(case: Case) -> tuple[str, ...]:
    changed = causes.EDITED_ASTERISK(case)
    return changed.notes if changed else ()


def not_answered(case: Case) -> Diagnostic | None:
    """The service refuses a call with sound."""
    media = case.media
    if media is None or media.status.startswith("200"):
        return None
    refused = replace(case, result=None) if case.result is None else case
    found = call.no_common_codec(refused) or WHOLE_ASTERISK(case) or call.module_missing(case)
    return found or broken(
        "SD936",
        f"the service {media.number} on `{case.name}` refuses a call with sound: {media.status}",
        *_edits(case),
        fix=f"on `{case.name}`: `journalctl -b -u asterisk` shows why",
    )


def description_unusable(case: Case) -> Diagnostic | None:
    """The description of the service is not one that a browser takes."""
    media = case.media
    defects = media.answer.defects(is_answer=True) if media and media.answer.text else []
    if media is None or not defects:
        return None
    return broken(
        "SD936",
        f"Asterisk on `{case.name}` answers calls with a description that no phone takes: "
        f"{'; '.join(defects)}",
        f"from {media.number}: {media.answer.profile or 'no audio'}",
        *_edits(case),
        fix=_fix(case),
    )


def wrong_address(case: Case) -> Diagnostic | None:
    """Media is announced at an address that is not the host's."""
    media, entry = case.media, case.subject.entry
    announced = [each.address for each in media.answer.candidates] if media else []
    if not announced or entry.media_address in announced:
        return None
    return broken(
        "SD936",
        f"`{case.name}` announces {announced[0]} for media, and phones reach it at "
        f"{entry.media_address}: calls to services are silent",
        *(media.evidence if media else ()),
        *_edits(case),
        fix=_fix(case)
        if _edits(case)
        else f"correct `hosts.{case.name}.public_address`, then `sipdeploy apply {case.name}`",
    )


def _ports(case: Case) -> str:
    return f"UDP {case.subject.site.ports.rtp}"


def blocked_in_front(case: Case) -> Diagnostic | None:
    """What is sent from here does not arrive at the host."""
    media = case.media
    if media is None or media.counted is None or media.counted.sum("in") or not media.state:
        return None
    return broken(
        "SD936",
        f"{media.who} sends, the host never receives: {_ports(case)} is blocked in front of it",
        *media.evidence,
        "no rule of the host's own firewall closes these ports, and it would not matter: nothing "
        "arrives at its interface",
        fix=f"open {_ports(case)} to {case.subject.entry.media_address} for everyone in the "
        "firewall of the provider; or the network here lets no UDP out: try it from another",
    )


def blocked_on_the_way_back(case: Case) -> Diagnostic | None:
    """What the host sends does not arrive here."""
    media = case.media
    if media is None or media.counted is None or not media.counted.sum("out") or media.arrived:
        return None
    return broken(
        "SD936",
        f"the host sends, {media.who} never receives: {_ports(case)} is blocked on the way back",
        *media.evidence,
        fix=f"let `{case.name}` send from {_ports(case)} in the firewall of the provider (its "
        "rules for outgoing traffic); or the network here lets no UDP in: try it from another",
    )


def host_sends_nothing(case: Case) -> Diagnostic | None:
    """Packets arrive at the host, and it sends none."""
    media = case.media
    if media is None or media.counted is None or media.counted.sum("out"):
        return None
    rule = closed_out(case)
    if rule is not None:
        return rule
    return broken(
        "SD936",
        f"{media.who} sends and the host receives, but it sends nothing back",
        *media.evidence,
        *_edits(case),
        fix=f"on `{case.name}`: `nft list ruleset` shows whether a rule of an output chain drops "
        f"{_ports(case)}; else `journalctl -b -u asterisk`",
    )


def swallowed(case: Case) -> Diagnostic | None:
    """Packets arrive at the interface of the host, and Asterisk does not get them."""
    media = case.media
    if media is None or media.counted is None or media.state is None:
        return None
    if media.state.ice in ("completed", "connected") or not media.counted.sum("in"):
        return None
    rule = closed_in(case)
    if rule is not None:
        return rule
    return broken(
        "SD936",
        f"what {media.who} sends arrives at the host, and Asterisk does not answer it",
        *media.evidence,
        *_edits(case),
        fix=f"on `{case.name}`: `nft list ruleset` shows whether a rule of an input chain drops "
        f"{_ports(case)}; else `journalctl -b -u asterisk`",
    )


def no_encryption(case: Case) -> Diagnostic | None:
    """ICE has connected both sides, and DTLS has not."""
    media = case.media
    if media is None or media.state is None or media.state.ice != "completed":
        return None
    if media.state.dtls == "connected":
        return None
    return broken(
        "SD936",
        f"the addresses connect, and the encryption (DTLS) with `{case.name}` does not: "
        f"it is {media.state.dtls}",
        *media.evidence,
        *_edits(case),
        fix=f"{_fix(case)}; packets of DTLS are large: a network with a small MTU drops them",
    )


def nothing_heard(case: Case) -> Diagnostic | None:
    """Everything is connected, and one side hears silence."""
    media = case.media
    if media is None or media.state is None or media.state.dtls != "connected":
        return None
    state = media.state
    if not state.packets_received:
        what = f"{media.who} sends {state.packets_sent} packets of sound, and the host sends none"
    elif media.kind == "echo":
        what = f"the host sends sound, and not what {media.who} says"
    else:
        what = f"the host sends {state.packets_received} packets, all of them silence"
    found = no_sounds(case) if media.kind != "echo" else None
    return found or broken(
        "SD936",
        f"connected, and silent: {what}",
        *media.evidence,
        *_edits(case),
        fix=f"on `{case.name}`: `asterisk -rx 'pjsip show channelstats'` during a call; "
        f"{_fix(case)}",
    )


def from_here(case: Case) -> Diagnostic | None:
    """Nothing connects, and the host could not count."""
    media = case.media
    if media is None or media.counted is not None or media.state is None:
        return None
    return broken(
        "SD936",
        f"{media.who} and the host do not connect: {_ports(case)} is probably blocked",
        media.problem,
        *media.evidence,
        fix=f"open {_ports(case)} to {case.subject.entry.media_address} in the firewall of the "
        f"provider; with SSH, `sipdeploy doctor {case.name} audio` counts packets on the host",
    )


# --- rules, sounds, relay ------------------------------------------------------------------------


def _closed(case: Case, *, is_answer: bool) -> Diagnostic | None:
    rtp, entry = case.subject.site.ports.rtp, case.subject.entry
    aim = firewall.Aim(
        protocol="udp", first=rtp.start, last=rtp.end, who="media", is_answer=is_answer
    )
    if case.facts is None or not case.subject.site.services:
        return None
    found = firewall.rule_against(entry, case.facts, aim)
    if found is None:
        return None
    rule, fix = found
    if is_answer:
        what = f"the firewall of `{case.name}` drops what it sends from {_ports(case)}: {rule}"
    else:
        what = f"the firewall of `{case.name}` closes {_ports(case)}: {rule}"
    evidence = case.media.evidence if case.media else ()
    return broken("SD936", what, *evidence, fix=f"on `{case.name}`: {fix}")


def closed_in(case: Case) -> Diagnostic | None:
    """A rule of the host drops media that comes in."""
    return _closed(case, is_answer=False)


def closed_out(case: Case) -> Diagnostic | None:
    """A rule of the host drops media that goes out."""
    return _closed(case, is_answer=True)


def other_range(case: Case) -> Diagnostic | None:
    """Asterisk uses other ports for media than the inventory says."""
    inside, rtp = case.inside, case.subject.site.ports.rtp
    start = inside.number("rtp", r"^\s*Port start: *(\d+)") if inside else None
    end = inside.number("rtp", r"^\s*Port end: *(\d+)") if inside else None
    if start is None or end is None or (start, end) == (rtp.start, rtp.end):
        return None
    return broken(
        "SD936",
        f"Asterisk on `{case.name}` uses UDP {start}-{end} for media, and {rtp} is open for it",
        f"`asterisk -rx 'rtp show settings'` says {start} to {end}",
        *_edits(case),
        fix=f"{_fix(case)}; if nothing was edited, on the host: `systemctl restart asterisk`",
    )


def no_sounds(case: Case) -> Diagnostic | None:
    """What Asterisk says to callers is missing."""
    if case.inside is None or "digits/1" in case.inside.lines("sounds"):
        return None
    package = "asterisk-core-sounds-en-gsm"
    return broken(
        "SD936",
        f"the sound files of Asterisk are missing on `{case.name}`: services answer, and say "
        "nothing",
        "there is no digits/1 below /usr/share/asterisk/sounds",
        fix=f"on `{case.name}`: `apt-get install --reinstall {package}`",
    )


def no_relay(case: Case) -> Diagnostic | None:
    """The relay does not run, or its ports are closed."""
    turn = case.subject.site.turn
    if turn is None or case.facts is None:
        return None
    found = down(COTURN)(case)
    if found is not None:
        return found
    aims = (
        firewall.Aim(protocol="udp", first=turn.port, last=turn.port, who="the relay"),
        firewall.Aim(
            protocol="udp", first=turn.relay.start, last=turn.relay.end, who="relayed media"
        ),
    )
    for aim in aims:
        closed = firewall.rule_against(case.subject.entry, case.facts, aim)
        if closed is not None:
            return broken(
                "SD936",
                f"the firewall of `{case.name}` closes {aim}: {closed[0]}",
                "phones behind strict networks have no way for sound without the relay",
                fix=f"on `{case.name}`: {closed[1]}",
            )
    return None


CALL_WITH_SOUND = (
    *(not_answered, description_unusable, wrong_address, blocked_in_front, host_sends_nothing),
    *(blocked_on_the_way_back, swallowed, no_encryption, nothing_heard, from_here),
)


async def relay(case: Case) -> str:
    """The inventory has a relay; whether it runs, only the host can say."""
    if case.subject.site.turn is None:
        raise StepSkipped("the inventory has no relay (`turn: {}`)")
    return ""


async def speech(case: Case) -> str:
    """The test service is heard to speak."""
    if problem := missing():
        raise StepSkipped(problem.message)
    return await full.speech(case.subject)


RUNGS: tuple[Rung, ...] = (
    Rung(
        name="rules for media",
        topic="audio",
        code="SD936",
        faults=(other_range, closed_in, closed_out),
    ),
    Rung(
        name="call with sound",
        topic="audio",
        code="SD936",
        ask=call_with_sound,
        seconds=25,
        causes=CALL_WITH_SOUND,
    ),
    Rung(
        name="speech",
        topic="audio",
        code="SD936",
        ask=speech,
        seconds=35,
        causes=(no_sounds, WHOLE_ASTERISK, causes.EDITED_ASTERISK),
        faults=(no_sounds,),  # the ring tone of the test service needs no file
    ),
    Rung(name="relay", topic="audio", code="SD936", ask=relay, faults=(no_relay,)),
)
