"""The rungs of a call: between two phones, to a service, and what became of a user's calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import count
from sipdeploy.operation import calls
from sipdeploy.operation.events import Refusal
from sipdeploy.operation.journal import clock
from sipdeploy.proof.doctor import causes
from sipdeploy.proof.doctor.causes import WHOLE_ASTERISK, WHOLE_KAMAILIO
from sipdeploy.proof.doctor.inside import KEY
from sipdeploy.proof.doctor.rung import Case, Rung, broken
from sipdeploy.proof.outside import signalling
from sipdeploy.proof.outside.step import StepSkipped

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic

STEPS = {step.name: step for step in signalling.STEPS}
NEEDED = ("res_rtp_asterisk.so", "res_srtp.so", "res_crypto.so", "chan_pjsip.so")
NOT_ACCEPTABLE, UNAVAILABLE = 488, 503


async def between_phones(case: Case) -> str:
    """A call in each direction, and one that is cancelled."""
    for step in (signalling.call, signalling.call_back, signalling.cancel):
        await step(case.subject)
    return "rings, is answered and ends, in both directions"


async def service(case: Case) -> str:
    """A service answers."""
    return await signalling.service(case.subject)


# --- between two phones --------------------------------------------------------------------------


def other_key(case: Case) -> Diagnostic | None:
    """The key that signs the routes of calls was changed: calls from before cannot be ended."""
    times = [int(line) for line in (case.inside.lines("times") if case.inside else ())]
    if len(times) != 3:  # noqa: PLR2004 - of the key, of Kamailio's start, of the last apply
        return None
    changed, started, applied = times
    refused = [
        each
        for each in (case.inside.events if case.inside else ())
        if isinstance(each, Refusal) and each.why == "Not Your Dialog" and each.when >= started
    ]
    if not refused or not applied < changed <= started + 1:
        return None
    return broken(
        "SD935",
        f"the key that signs calls on `{case.name}` was changed: calls from before can be neither "
        "held nor ended",
        f"{KEY} was written at {clock(changed)}",
        f"{count(len(refused), 'request')} inside calls refused since then (403 Not Your Dialog)",
        fix=f"end these calls in the phones; do not change {KEY}, which `sipdeploy backup` keeps "
        "when a host moves",
    )


# --- services ------------------------------------------------------------------------------------


def module_missing(case: Case) -> Diagnostic | None:
    """Asterisk runs without a module that calls with phones need."""
    if case.inside is None:
        return None
    running = case.inside.lines("running")
    lacking = [each for each in case.inside.lines("wanted") if each not in running]
    needed = [each for each in NEEDED if running and each not in running]
    if not needed and not lacking:
        return None
    names = needed or lacking
    return broken(
        "SD935",
        f"Asterisk on `{case.name}` runs without {', '.join(f'`{each}`' for each in names)}",
        case.said,
        fix=f"on `{case.name}`: `asterisk -rx 'module load {names[0]}'` says why it cannot be "
        f"loaded; if it was edited out, `sipdeploy apply {case.name} --overwrite`",
    )


def not_identified(case: Case) -> Diagnostic | None:
    """Asterisk does not recognize Kamailio: it answers as to a stranger."""
    said = case.inside.texts.get("identify", "") if case.inside else ""
    if "Match" not in said and "Identify" not in said:
        return None
    port = case.subject.site.ports.kamailio
    if re.search(rf"[\d.:\]]+:{port}\b", said):
        return None
    changed = causes.EDITED_ASTERISK(case)
    matches = ", ".join(re.findall(r"Match: *([\d.:\[][^\s<]*)", said)) or "nothing"
    return broken(
        "SD935",
        f"Asterisk on `{case.name}` does not recognize the calls that Kamailio sends from port "
        f"{port}: it expects them from {matches}",
        case.said,
        *(changed.notes if changed else ()),
        fix=f"`sipdeploy apply {case.name} --overwrite`",
    )


def calls_full(case: Case) -> Diagnostic | None:
    """Asterisk has as many calls as it may have."""
    used = (
        case.inside.number("channels", r"^(\d+) of \d+ max active call") if case.inside else None
    )
    most = (
        case.inside.number("channels", r"^\d+ of (\d+) max active call") if case.inside else None
    )
    if used is None or not most or used < most:
        return None
    return broken(
        "SD935",
        f"`{case.name}` has all {most} calls with services in use",
        f"{used} of {most} (`asterisk -rx 'core show channels count'`)",
        fix="raise `limits: {calls: N}` in the inventory and apply at a quiet time",
    )


def no_common_codec(case: Case) -> Diagnostic | None:
    """Asterisk and phones have no codec in common."""
    if f"with {NOT_ACCEPTABLE}" not in case.said and f"{NOT_ACCEPTABLE} " not in case.said:
        return None
    trunk = case.inside.texts.get("trunk", "") if case.inside else ""
    allowed = re.search(r"^\s*allow\s*: *\(?([^)\n]*)", trunk, re.MULTILINE)
    webrtc = re.search(r"^\s*webrtc\s*: *(\w+)", trunk, re.MULTILINE)
    changed = causes.EDITED_ASTERISK(case)
    if webrtc and webrtc[1].lower() in ("no", "false"):
        what = f"Asterisk on `{case.name}` offers no WebRTC: `webrtc={webrtc[1]}` for calls with "
        what += "phones"
    else:
        what = f"Asterisk on `{case.name}` and the phone have no codec in common"
    return broken(
        "SD935",
        what,
        f"Asterisk allows {allowed[1].strip()}; phones offer opus, G.722, PCMU, PCMA"
        if allowed
        else "",
        case.said,
        *(changed.notes if changed else ()),
        fix=f"`sipdeploy apply {case.name} --overwrite`"
        if changed
        else "a phone must be a WebRTC phone with audio",
    )


def wrong_media_address(case: Case) -> Diagnostic | None:
    """The host announces an address for media that is not its own."""
    match = re.search(r"expects media at (.+), not at (\S+)", case.said)
    if match is None:
        return None
    changed = causes.EDITED_ASTERISK(case)
    if match[1] == "nowhere":
        what = f"Asterisk on `{case.name}` announces no address for media: phones hear nothing"
    else:
        what = f"`{case.name}` announces {match[1]} for media, and phones reach it at {match[2]}: "
        what += "calls to services are silent"
    return broken(
        "SD936",
        what,
        f"in its answer: candidates {match[1]}; in the inventory: {match[2]}",
        *(changed.notes if changed else ()),
        fix=f"`sipdeploy apply {case.name} --overwrite`"
        if changed
        else f"correct `hosts.{case.name}.public_address`, then `sipdeploy apply {case.name}`",
    )


def refused_by_asterisk(case: Case) -> Diagnostic | None:
    """A service answers with an error that nothing above explains."""
    if "the service" not in case.said or case.inside is None:
        return None
    log = case.inside.daemons["asterisk"].log
    return broken(
        "SD935",
        case.said,
        *log,
        fix=f"on `{case.name}`: `journalctl -b -u asterisk` shows why",
    )


# --- the calls of a user -------------------------------------------------------------------------


async def history(case: Case) -> str:
    """The last calls of a user."""
    if not case.number or case.inside is None:
        raise StepSkipped("about one user: `--user NUMBER`")
    rows = [row for row in calls.rows(case.inside.events) if _concerns(row, case.number)]
    return f"{count(len(rows), 'call')} in the last day"


def _concerns(row: calls.Row, number: str) -> bool:
    return number in (row.caller, row.callee)


def no_phone(case: Case) -> Diagnostic | None:
    """The user has no phone that could ring."""
    if not case.number or case.inside is None or "phones" not in case.inside.texts:
        return None
    if "Address:" in case.inside.texts["phones"] or "AoR" in case.inside.texts["phones"]:
        return None
    last = [each for each in case.inside.events if getattr(each, "number", "") == case.number]
    seen = f"last: {calls.earlier(last[-1])}" if last else "none in the last day"  # type: ignore[arg-type]
    return broken(
        "SD935",
        f"{case.number} has no phone registered: calls to it get 480, or its mailbox",
        f"{seen}",
        fix=f"open the phone; `sipdeploy logs {case.name} --user {case.number}` shows when it was "
        "there",
    )


def refused_calls(case: Case) -> Diagnostic | None:
    """The last call of the user was refused by the host."""
    if not case.number or case.inside is None:
        return None
    rows = [row for row in calls.rows(case.inside.events) if _concerns(row, case.number)]
    last = rows[-1] if rows else None
    if last is None or not isinstance(last.event, Refusal):
        return None
    return broken(
        "SD935",
        f"the last call of {case.number}, from {last.caller} to {last.callee}, was refused: "
        f"{last.result}",
        f"at {clock(last.when)}",
        fix=f"`sipdeploy calls {case.name} --user {case.number}` shows all of them; the table in "
        "docs/troubleshooting.md says what each status means",
    )


RUNGS: tuple[Rung, ...] = (
    Rung(
        name="call",
        topic="call",
        code="SD935",
        ask=between_phones,
        seconds=15,
        causes=(causes.EDITED_KAMAILIO, WHOLE_KAMAILIO),
        faults=(other_key,),
    ),
    Rung(
        name="service",
        topic="call",
        code="SD935",
        step=STEPS["service"],
        causes=(
            *(WHOLE_ASTERISK, wrong_media_address, not_identified, no_common_codec),
            *(module_missing, calls_full, causes.rows_missing),
            *(causes.EDITED_ASTERISK, causes.EDITED_KAMAILIO, refused_by_asterisk),
        ),
    ),
    Rung(
        name="calls of the user",
        topic="call",
        code="SD935",
        ask=history,
        is_own=True,
        faults=(no_phone, refused_calls),
    ),
)
