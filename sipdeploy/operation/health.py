"""Whether a host does clearly worse than before a change: registrations, calls, daemons. Pure.

One user cannot make a host look worse, and neither can a stranger: repeated calls between two
numbers count once, failures must concern two callers, and what nobody has proved does not count.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sipdeploy.diagnostics import count
from sipdeploy.host.incoming import whole
from sipdeploy.operation.calls import FLOOD, TIMEOUT, is_attempt
from sipdeploy.operation.events import Call, Event, Refusal

SETTLE_SECONDS = 60  # phones need this long to register again
FEW_REGISTERED = 0.7
MOST_MISSING = 4  # registrations that may go without a meaning
LEAST_FAILED = 3
LEAST_CALLERS = 2
RARE = 0.001  # the probability of chance below which more failures are clearly more
LEAST_EXPECTED = 10.0  # answered calls, so that none is clearly fewer
FAILURES = (403, 404, 480, 488)
SERVER = range(500, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a host does: over `seconds` until now, or at this moment.

    `outcomes`: whether the last call between two numbers failed. `answered` counts calls.
    `restarts` maps each unit to how often systemd has restarted it by itself; `down` do not run.
    """

    seconds: float
    registrations: int | None = None  # None is unknown
    outcomes: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    answered: int = 0
    restarts: Mapping[str, int] = field(default_factory=dict)
    down: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """How many pairs of numbers had a call that failed."""
        return sum(self.outcomes.values())


def reading(answer: Mapping[str, str], events: Sequence[Event], seconds: float) -> Reading:
    """A reading from the sections of the script `watch`, and the events of its journal."""
    match = re.search(r"location[-_]contacts = (\d+)", answer.get("contacts", ""))
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in answer.get("units", "").split("\n\n")
    ]
    units = {block["Id"]: block for block in blocks if "Id" in block}
    return Reading(
        seconds=seconds,
        registrations=whole(match[1]) if match else None,
        outcomes=_outcomes(events),
        answered=sum(isinstance(each, Call) and each.answered is not None for each in events),
        restarts={name: whole(block.get("NRestarts", "")) for name, block in units.items()},
        down=tuple(n for n, each in units.items() if each.get("ActiveState") in DOWN),
    )


DOWN = ("failed", "inactive", "activating", "deactivating")


def _outcomes(events: Iterable[Event]) -> dict[tuple[str, str], bool]:
    found: dict[tuple[str, str], bool] = {}
    for event in events:
        if isinstance(event, Call) and event.kind:
            found[event.caller, event.callee] = has_failed(event)
        elif isinstance(event, Refusal) and event.number and _is_refused(event):
            found[event.number, event.callee] = True
    return found


def _is_refused(event: Refusal) -> bool:
    return is_attempt(event) and event.why != FLOOD


def has_failed(call: Call) -> bool:
    """Whether the system did not set up a call: nobody was busy, declined, or did not pick up."""
    if call.answered is not None:
        return False
    if call.status == TIMEOUT:
        return call.rang is None
    return call.status in FAILURES or call.status in SERVER


def worse(before: Reading, since: Sequence[Reading]) -> tuple[str, ...]:
    """Why a host does clearly worse in its last readings than before; empty if it does not."""
    if not since:
        return ()
    return (*_daemons(since), *_registrations(before, since), *_calls(before, since[-1]))


def _daemons(since: Sequence[Reading]) -> Iterator[str]:
    now = since[-1]
    yield from (f"{unit} does not run" for unit in now.down)
    for unit, number in now.restarts.items():
        if unit not in now.down and number > since[0].restarts.get(unit, number):
            yield f"{unit} ended unexpectedly and was restarted"


def _registrations(before: Reading, since: Sequence[Reading]) -> Iterator[str]:
    """In two readings, because a reload or a proof may come in between."""
    expected, last = before.registrations, since[-2:]
    settled = [each.registrations for each in last if each.seconds >= SETTLE_SECONDS]
    known = [number for number in settled if number is not None]
    if expected is None or len(known) < 2:  # noqa: PLR2004 - two readings
        return
    if all(_is_few(number, expected) for number in known):
        yield f"{count(known[-1], 'registration')}, {expected} before"


def _is_few(now: int, before: int) -> bool:
    if now == 0:
        return before > 1
    return now < before * FEW_REGISTERED and before - now > MOST_MISSING


def _calls(before: Reading, now: Reading) -> Iterator[str]:
    tried, failed = len(now.outcomes), now.failed
    callers = {caller for (caller, _), is_failed in now.outcomes.items() if is_failed}
    usual = (before.failed + 1) / (len(before.outcomes) + 2)
    is_more = failed >= LEAST_FAILED and len(callers) >= LEAST_CALLERS
    if is_more and at_least(failed, tried, usual) < RARE:
        usually = f"{before.failed} of {len(before.outcomes)} before"
        yield f"{failed} of {count(tried, 'call')} failed, {usually}"
    expected = before.answered / before.seconds * now.seconds if before.seconds else 0.0
    if expected >= LEAST_EXPECTED and now.answered == 0:
        yield f"no call was answered, {round(expected)} were in the same time before"


def at_least(failed: int, tried: int, rate: float) -> float:
    """The probability that of `tried` calls `failed` or more fail, if each fails at `rate`."""
    if rate >= 1:
        return 1.0
    log = (
        math.lgamma(tried + 1)
        - math.lgamma(number + 1)
        - math.lgamma(tried - number + 1)
        + number * math.log(rate)
        + (tried - number) * math.log(1 - rate)
        for number in range(failed, tried + 1)
    )
    return min(1.0, sum(map(math.exp, log)))


def in_words(before: Reading, now: Reading) -> str:
    """`41 of 42 registered, 12 calls, 1 failed`."""
    known, usual = now.registrations, before.registrations
    registered = "unknown" if known is None else f"{known}"
    share = "" if usual is None else f" (before: {usual})"
    return (
        f"{registered} registered{share}, {now.failed} of {count(len(now.outcomes), 'call')} "
        f"failed (before: {before.failed} of {len(before.outcomes)})"
    )
