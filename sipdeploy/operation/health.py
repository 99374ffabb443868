"""Whether a host does clearly worse than before a change: users, calls, daemons. Pure.

The previous release comes back with its users and passwords, so nobody may bring it back alone:
a user counts once however many phones he has, calls must look worse without those of any one
number, as caller or callee, and what nobody has proved does not count. Who can end a daemon can.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sipdeploy.diagnostics import count
from sipdeploy.host.incoming import whole
from sipdeploy.operation.calls import FLOOD, TIMEOUT, is_attempt
from sipdeploy.operation.events import Call, Event, Refusal

SETTLE_SECONDS = 60  # phones need this long to register again
FEW_REGISTERED = 0.7
MOST_MISSING = 4  # users that may go without a meaning
MOST_ALONE = 2  # of so few, all may go
LEAST_FAILED = 3
RARE = 0.001  # the probability of chance below which more failures are clearly more
LEAST_EXPECTED = 10.0  # answered calls, so that none is clearly fewer
FAILURES = (403, 404, 480, 488)
SERVER = range(500, 600)
Pair = tuple[str, str]  # caller and callee


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a host does: over `seconds` until now, or at this moment.

    `outcomes`: whether the last call between two numbers failed; `answered`: how many were.
    `restarts` maps each unit to how often systemd has restarted it by itself; `down` do not run.
    """

    seconds: float
    registered: int | None = None  # users; None is unknown
    outcomes: Mapping[Pair, bool] = field(default_factory=dict)
    answered: Mapping[Pair, int] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    down: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """How many pairs of numbers had a call that failed."""
        return sum(self.outcomes.values())

    def without(self, numbers: Collection[str]) -> Reading:
        """The reading without the calls from and to these numbers."""
        gone = set(numbers)
        outcomes = {pair: each for pair, each in self.outcomes.items() if gone.isdisjoint(pair)}
        answered = {pair: each for pair, each in self.answered.items() if gone.isdisjoint(pair)}
        return replace(self, outcomes=outcomes, answered=answered)


def reading(answer: Mapping[str, str], events: Sequence[Event], seconds: float) -> Reading:
    """A reading from the sections of the script `watch`, and the events of its journal."""
    match = re.search(r"location[-_]users = (\d+)", answer.get("contacts", ""))
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in answer.get("units", "").split("\n\n")
    ]
    units = {block["Id"]: block for block in blocks if "Id" in block}
    return Reading(
        seconds=seconds,
        registered=whole(match[1]) if match else None,
        outcomes=_outcomes(events),
        answered=_answered(events),
        restarts={name: whole(block.get("NRestarts", "")) for name, block in units.items()},
        down=tuple(n for n, each in units.items() if each.get("ActiveState") in DOWN),
    )


DOWN = ("failed", "inactive", "activating", "deactivating")


def _answered(events: Iterable[Event]) -> Mapping[Pair, int]:
    calls = (each for each in events if isinstance(each, Call) and each.answered is not None)
    return Counter((call.caller, call.callee) for call in calls)


def _outcomes(events: Iterable[Event]) -> dict[Pair, bool]:
    found: dict[Pair, bool] = {}
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
    return (*_daemons(since), *_users(before, since), *_calls(before, since[-1]))


def _daemons(since: Sequence[Reading]) -> Iterator[str]:
    now = since[-1]
    yield from (f"{unit} does not run" for unit in now.down)
    for unit, number in now.restarts.items():
        if unit not in now.down and number > since[0].restarts.get(unit, number):
            yield f"{unit} ended unexpectedly and was restarted"


def _users(before: Reading, since: Sequence[Reading]) -> Iterator[str]:
    """In two readings, because a reload or a proof may come in between."""
    expected, last = before.registered, since[-2:]
    settled = [each.registered for each in last if each.seconds >= SETTLE_SECONDS]
    known = [number for number in settled if number is not None]
    if expected is None or len(known) < 2:  # noqa: PLR2004 - two readings
        return
    if all(_is_few(number, expected) for number in known):
        yield f"{count(known[-1], 'user')} registered, {expected} before"


def _is_few(now: int, before: int) -> bool:
    if now == 0:
        return before > MOST_ALONE
    return now < before * FEW_REGISTERED and before - now > MOST_MISSING


def _calls(before: Reading, now: Reading) -> Iterator[str]:
    if _fail_more(before.outcomes, now.outcomes):
        usually = f"{before.failed} of {len(before.outcomes)} before"
        yield f"{now.failed} of {count(len(now.outcomes), 'call')} failed, {usually}"
    usual = sum(before.answered.values()) - max(_by_number(before.answered).values(), default=0)
    expected = usual / before.seconds * now.seconds if before.seconds else 0.0
    if expected >= LEAST_EXPECTED and not now.answered:
        yield f"no call was answered, {round(expected)} were in the same time before"


def _fail_more(before: Mapping[Pair, bool], now: Mapping[Pair, bool]) -> bool:
    """Whether clearly more calls fail, also without those from and to any one number."""
    readings = (now, before)
    totals = [(sum(each.values()), len(each)) for each in readings]
    failed = [_by_number(each) for each in readings]
    tried = [_by_number(dict.fromkeys(each, 1)) for each in readings]
    rest = {
        tuple(
            (total[0] - failures[number], total[1] - calls[number])
            for total, failures, calls in zip(totals, failed, tried, strict=True)
        )
        for number in ("", *tried[0], *tried[1])
    }
    return all(_is_more(*new, *old) for new, old in rest)


def _is_more(failed: int, tried: int, failed_before: int, tried_before: int) -> bool:
    usual = (failed_before + 1) / (tried_before + 2)
    return failed >= LEAST_FAILED and at_least(failed, tried, usual) < RARE


def _by_number(pairs: Mapping[Pair, int]) -> Counter[str]:
    """Number -> the sum of the pairs that it is part of."""
    found: Counter[str] = Counter()
    for pair, value in pairs.items():
        for number in set(pair):
            found[number] += value
    return found


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
    known, usual = now.registered, before.registered
    registered = "unknown" if known is None else f"{known}"
    share = "" if usual is None else f" (before: {usual})"
    return (
        f"{registered} registered{share}, {now.failed} of {count(len(now.outcomes), 'call')} "
        f"failed (before: {before.failed} of {len(before.outcomes)})"
    )
