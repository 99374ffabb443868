"""The values of a host in words, each with a verdict, and the verdict on the host. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sipdeploy.diagnostics import Diagnostic, listed
from sipdeploy.diagnostics.errors import HostFailed

if TYPE_CHECKING:
    from sipdeploy.operation.status.state import State

Verdict = Literal["fine", "look", "broken", "unknown"]
WORST: tuple[Verdict, ...] = ("broken", "look", "unknown", "fine")
FAILED = HostFailed.exit_code  # if a host, or a part of it, could not be asked
NOT_TOLD = "the host did not tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value of a host in words, its verdict, and the problem if it needs a person.

    One that is not vital is what `status` itself cannot ask: it may be unknown in a fine host.
    """

    name: str
    verdict: Verdict
    text: str
    problem: Diagnostic | None = None
    is_vital: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A host: all its values; `state` is None if it could not be asked, and `failure` says why."""

    host: str
    values: tuple[Value, ...]
    state: State | None = None
    failure: tuple[Diagnostic, ...] = field(default=(), repr=False)

    def named(self, verdict: Verdict) -> list[str]:
        """The names of the values with a verdict."""
        return [
            value.name
            for value in self.values
            if value.verdict == verdict and (value.is_vital or verdict != "unknown")
        ]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of a value."""
        return next((each for each in WORST if self.named(each)), "unknown")

    @property
    def exit_code(self) -> int:
        """0 fine, 1 if something needs a person, 4 if something could not be asked."""
        return {"fine": 0, "unknown": FAILED}.get(self.verdict, 1)

    @property
    def problems(self) -> tuple[Diagnostic, ...]:
        """What needs a person, and what the host did not tell without any of these as a reason."""
        found = tuple(value.problem for value in self.values if value.problem)
        silent = self.named("unknown")
        if self.failure or not silent or self.named("broken"):
            return (*self.failure, *found)
        problem = Diagnostic(
            "SD739",
            f"`{self.host}` did not tell everything: {listed(silent)}",
            notes=tuple(f"{v.name}: {v.text}" for v in self.values if v.name in silent),
            help=f"`sipdeploy apply {self.host}` updates what an older sipdeploy configured; on "
            f"`{self.host}`, `journalctl -b -p warning` may say why",
        )
        return (*found, problem)


def unreached(host: str, problems: Sequence[Diagnostic]) -> Status:
    """A host that could not be asked."""
    why = problems[0].message if problems else "no answer"
    value = Value(name="reachable", verdict="unknown", text=why)
    return Status(host=host, values=(value,), failure=tuple(problems))


def unknown(name: str, text: str = NOT_TOLD, *, is_vital: bool = True) -> Value:
    """A value that the host has not told."""
    return Value(name=name, verdict="unknown", text=text, is_vital=is_vital)


def fine(name: str, text: str) -> Value:
    """A value that needs nobody."""
    return Value(name=name, verdict="fine", text=text)


def needs(name: str, text: str, problem: Diagnostic) -> Value:
    """A value that needs a person: now if the problem is an error, or else soon."""
    verdict: Verdict = "broken" if problem.severity == "error" else "look"
    return Value(name=name, verdict=verdict, text=text, problem=problem)
