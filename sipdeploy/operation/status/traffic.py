"""The last hour of the call log in figures: answered, failed, refused. Pure."""

from dataclasses import dataclass

from sipdeploy.diagnostics import count, listed
from sipdeploy.operation.calls import FLOOD, TIMEOUT
from sipdeploy.operation.events import Call, Refusal
from sipdeploy.operation.status.state import Traffic

SERVER_FAULT = 500
BUSY_EVERYWHERE = 600
LEAST_FAILURES = 3  # and a tenth of all calls: then a person should look
PHONES = ("phone", "asterisk")  # kinds of calls that people answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """Calls that ended in the last hour, and messages that were refused.

    `failed` are those that the system failed, not a person: `unanswered` has the others.
    """

    answered: int = 0
    unanswered: int = 0
    failed: int = 0
    refusals: int = 0
    addresses: int = 0  # that sent what was refused
    flooding: tuple[str, ...] = ()  # numbers that flood control refused
    is_whole: bool = True

    @property
    def calls(self) -> int:
        """All calls."""
        return self.answered + self.unanswered + self.failed

    @property
    def is_failing(self) -> bool:
        """Whether so many calls fail that it is no accident."""
        return self.failed >= LEAST_FAILURES and self.failed * 10 >= self.calls

    @property
    def needs_look(self) -> bool:
        """Whether a person should look: strangers are refused all day, users should not be."""
        return self.is_failing or bool(self.flooding)

    @property
    def text(self) -> str:
        """The figures in words."""
        least = "" if self.is_whole else "at least "
        calls = f"{least}{count(self.calls, 'call')}, {self.answered} answered"
        parts = [f"{calls}, {self.failed} failed", count(self.refusals, "refusal")]
        if self.refusals:
            parts[-1] += f" from {self.addresses} address{'' if self.addresses == 1 else 'es'}"
        if self.flooding:
            parts.append(f"flood control refused {listed(self.flooding, most=3)}")
        return "; ".join(parts)


def summary(traffic: Traffic) -> Hour:
    """The figures of an hour."""
    calls = [each for each in traffic.events if isinstance(each, Call)]
    refusals = [each for each in traffic.events if isinstance(each, Refusal)]
    answered = [each for each in calls if each.answered is not None or not each.kind]
    failed = [each for each in calls if each not in answered and is_failure(each)]
    flooding = {each.number for each in refusals if each.why == FLOOD and each.number}
    return Hour(
        answered=len(answered),
        failed=len(failed),
        unanswered=len(calls) - len(answered) - len(failed),
        refusals=len(refusals),
        addresses=len({each.address.rpartition(":")[0] for each in refusals}),
        flooding=tuple(sorted(flooding)),
        is_whole=traffic.is_whole,
    )


def is_failure(call: Call) -> bool:
    """Whether the system failed a call that nobody answered: a fault of a server, or silence."""
    if SERVER_FAULT <= call.status < BUSY_EVERYWHERE:
        return True
    return call.status == TIMEOUT and call.kind not in PHONES
