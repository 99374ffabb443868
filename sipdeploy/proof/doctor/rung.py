"""A rung of the ladder, the case that it is asked about, and the diagnosis at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed

if TYPE_CHECKING:
    from sipdeploy.facts import Facts
    from sipdeploy.host import Host
    from sipdeploy.proof.doctor.audio import Media
    from sipdeploy.proof.doctor.inside import Inside
    from sipdeploy.proof.outside.step import Status, Step, StepResult
    from sipdeploy.proof.outside.subject import Account, Subject

Topic = Literal["connect", "register", "call", "audio", "voicemail"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
# The topics whose rungs lead to the one that is asked about; none: all topics.
LADDERS: dict[Topic | None, tuple[Topic, ...]] = {
    "connect": TOPICS[:1],
    "register": TOPICS[:2],
    "call": TOPICS[:3],
    "audio": TOPICS[:4],
    "voicemail": (*TOPICS[:3], "voicemail"),
    None: TOPICS,
}


@dataclass(slots=True, kw_only=True)
class Case:
    """What is known about a host when a rung is asked.

    inside: what the host says; None if it could not be asked, for the reasons in `unasked`.
    account: the user whose trouble it is; None if nobody named one.
    result: what the step of the present rung has found from outside.
    media: the call with sound, once it was made.
    elsewhere: the address at which the port answers, if that is not the public one.
    connect: opens the connection to the host, or returns the one that is open.
    """

    subject: Subject
    connect: Callable[[], Host]
    inside: Inside | None = None
    unasked: tuple[Diagnostic, ...] = ()
    account: Account | None = None
    result: StepResult | None = None
    media: Media | None = None
    elsewhere: str = ""

    @property
    def name(self) -> str:
        """The name of the host."""
        return self.subject.name

    @property
    def number(self) -> str:
        """The number of the user whose trouble it is; empty if nobody named one."""
        return self.account.number if self.account else ""

    @property
    def facts(self) -> Facts | None:
        """The facts of the host, if it was asked."""
        return self.inside.facts if self.inside else None

    @property
    def problem(self) -> Diagnostic | None:
        """The first problem that the step of the present rung reports."""
        found = self.result.diagnostics if self.result else ()
        return next((each for each in found if each.severity == "error"), None)

    @property
    def said(self) -> str:
        """All that the step of the present rung says about its failure."""
        return self.problem.message if self.problem else ""


Verdict = Callable[[Case], Diagnostic | None]
Ask = Callable[[Case], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One thing that must hold.

    step: asks from outside, as a step of verify; or `ask` does, which may need the whole case, and
    within `seconds`. Without both, only the host itself can say.
    causes: what explains a failure of the step, the surest first; `code` is that of a failure that
    none of them explains.
    faults: what is broken although the step works, or without one.
    is_own: no other topic leads over it.
    """

    name: str
    topic: Topic
    code: str
    step: Step | None = None
    ask: Ask | None = None
    seconds: float = 20
    causes: tuple[Verdict, ...] = ()
    faults: tuple[Verdict, ...] = ()
    is_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RungResult:
    """What became of a rung: ok, failed (broken) or skipped, and what was seen."""

    name: str
    status: Status
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The rungs that were climbed, and the verdict about the last one if it is broken."""

    host: str
    topic: Topic | None
    results: tuple[RungResult, ...]
    verdict: Diagnostic | None = None
    unasked: tuple[Diagnostic, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """1 if something is broken, 4 if the host could not be asked, else 0."""
        if self.verdict is not None:
            return 1
        return HostFailed.exit_code if self.unasked else 0


def broken(code: str, message: str, *evidence: str, fix: str) -> Diagnostic:
    """A verdict: what is wrong, the evidence, and what to type."""
    return Diagnostic(code, message, notes=tuple(each for each in evidence if each), help=fix)


def first(verdicts: Sequence[Verdict], case: Case) -> Diagnostic | None:
    """The first verdict that applies."""
    return next((found for verdict in verdicts if (found := verdict(case)) is not None), None)
