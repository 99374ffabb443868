"""A step of the proof from outside, and its result."""

from __future__ import annotations

import os
import ssl
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from sipdeploy.diagnostics import reason_of
from sipdeploy.diagnostics.errors import HostFailed

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.wire import Traced

Level = Literal["ports", "quick", "full", "attack"]
LEVELS: tuple[Level, ...] = get_args(Level)
# The levels whose steps a level has. Attacks need calls, and no sound.
INCLUDED: Mapping[Level, tuple[Level, ...]] = {
    "ports": ("ports",),
    "quick": ("ports", "quick"),
    "full": ("ports", "quick", "full"),
    "attack": ("ports", "quick", "attack"),
}
Status = Literal["ok", "failed", "skipped"]
ACCOUNTS = "probe accounts"  # the step that asks the host over SSH
PAGE = "web phone"  # the step of the page, without which phones work too
PHONES = "phones"  # the lane of all steps that use the phones of the subject


def cause(failure: Exception) -> str:
    """Why a connection failed, in the words of the system; empty if its time was over."""
    if isinstance(failure, ssl.SSLError):
        reason = getattr(failure, "reason", None) or reason_of(failure)
        return str(reason).lower().replace("_", " ")
    if isinstance(failure, OSError) and (failure.errno or 0) > 0:
        # asyncio writes its own text, `[Errno 111] Connect call failed ('192.0.2.1', 443)`
        return os.strerror(failure.errno or 0).lower()
    return reason_of(failure)


def _always(subject: Subject) -> bool:
    del subject
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a phone needs.

    `run` returns what it saw, and raises StepFailed or StepSkipped. A step is skipped unless all
    steps in `needs` were ok. The steps of a lane run one after the other, in the order of the
    ladder; all others run at the same time. `code` is the diagnostic of a failure that the step
    does not explain itself: a timeout, a lost connection. A subject that does not want the step
    has no result of it.
    """

    name: str
    level: Level
    run: Callable[[Subject], Awaitable[str]]
    code: str
    needs: tuple[str, ...] = ()
    lane: str = ""
    seconds: float = 6.0
    is_wanted: Callable[[Subject], bool] = _always


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The result of a step. `began` is in seconds of the monotonic clock.

    `message` is what was seen or why the step was skipped; `diagnostics` say what is wrong. A step
    that is ok may have warnings.
    """

    name: str
    status: Status
    seconds: float = 0.0
    began: float = 0.0
    message: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """The last half second that a phone heard, where a step has listened.

    `at` is in seconds of the monotonic clock, `hz` the tone that was expected, or 0 for speech;
    `state` says how the sound came.
    """

    at: float
    who: str
    hz: int
    samples: array[int] = field(repr=False)
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The results of all steps on one host, in the order of the ladder.

    `traces` has the messages of each phone by its title, `chain` the served certificates in PEM,
    and `sounds` what the phones of level `full` heard, for reports.
    """

    host: str
    level: Level
    results: tuple[StepResult, ...]
    seconds: float = 0.0
    began: float = 0.0  # Unix time
    traces: tuple[tuple[str, tuple[Traced, ...]], ...] = field(default=(), repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    sounds: tuple[Sound, ...] = field(default=(), repr=False)

    def during(self, result: StepResult, at: float) -> bool:
        """Whether a moment of the monotonic clock is in the time of a step."""
        return result.began <= at <= result.began + result.seconds

    @property
    def failed(self) -> tuple[StepResult, ...]:
        """The steps that failed; those that were skipped because of them are not among these."""
        return tuple(each for each in self.results if each.status == "failed")

    @property
    def exit_code(self) -> int:
        """0; 1 if something does not work; 4 if the host could not be asked for probe accounts."""
        names = {each.name for each in self.failed}
        return 0 if not names else HostFailed.exit_code if names == {ACCOUNTS} else 1

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The problems of all steps."""
        return tuple(problem for each in self.results for problem in each.diagnostics)


class StepFailed(Exception):  # noqa: N818 - named after the event, as in diagnostics/errors.py
    """What the step proves does not work; the diagnostics say why."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics = diagnostics
        super().__init__("; ".join(each.message for each in diagnostics))


class StepSkipped(Exception):  # noqa: N818
    """The step cannot be tried here, and that is no fault; the argument says why."""


def of_level(ladder: Sequence[Step], level: Level) -> tuple[Step, ...]:
    """The steps of a level and of those that it includes, in the order of the ladder."""
    return tuple(step for step in ladder if step.level in INCLUDED[level])
