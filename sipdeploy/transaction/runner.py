"""What a step is, and the runner that undoes the steps it began when one of them fails."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import RollbackFailed, SipdeployError
from sipdeploy.host import MARK, Host
from sipdeploy.host.incoming import OnLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something to show while it happens. `line` events carry what moves inside a step."""

    host: str
    title: str
    state: Literal["start", "ok", "failed", "line"]
    seconds: float = 0.0
    text: str = ""


Say = Callable[[Event], None]


class Step(Protocol):
    """One reversible act on a host."""

    has_undo: ClassVar[bool]  # False: its undo is another step's, or there is nothing to undo

    @property
    def title(self) -> str:
        """What it does, in the imperative: `swap 3 files`."""
        ...

    def run(self, host: Host, on_line: OnLine) -> None:
        """Do it; HostFailed when it cannot be done."""
        ...

    def undo(self, host: Host) -> None:
        """Take it back; HostFailed when that cannot be done."""
        ...


class UndoStack:
    """The steps that were begun on one host, so that they can be undone, newest first.

    A course may stop between two steps, while other hosts are looked at, and go on later.
    """

    def __init__(self, host: Host, say: Say) -> None:
        self.host = host
        self._say = say
        self._begun: list[Step] = []
        self.is_undoing = False  # nothing may end what waits for the host then

    def run(self, *steps: Step) -> None:
        """Run the steps in order; on any failure undo all that was ever begun.

        Raises what the step raised, or RollbackFailed when an undo failed too.
        """
        for step in steps:
            self._begun.append(step)  # before it runs: a half-done step is undone too
            try:
                run_step(self.host, step.title, step.run, self._say)
            except BaseException as failure:
                problems = self._undone()
                if problems:
                    first = failure.diagnostics if isinstance(failure, SipdeployError) else ()
                    raise RollbackFailed([*first, *problems]) from failure
                raise

    def undo(self) -> None:
        """Undo all that was begun; RollbackFailed tells what could not be."""
        problems = self._undone()
        if problems:
            raise RollbackFailed(problems)

    def _undone(self) -> list[Diagnostic]:
        """Undo the newest first, going on past failures; what failed is given back."""
        problems: list[Diagnostic] = []
        self.is_undoing = True
        while self._begun:
            step = self._begun.pop()

            def act(host: Host, _: OnLine, step: Step = step) -> None:
                step.undo(host)

            try:
                if step.has_undo:
                    run_step(self.host, f"undo: {step.title}", act, self._say)
            except SipdeployError as failure:
                problems += failure.diagnostics
        return problems


def run_step(host: Host, title: str, act: Callable[[Host, OnLine], None], say: Say) -> None:
    """Do one thing between its two events; a script may tell that it consists of several."""
    parts = _Parts(host.name, title, say)
    try:
        act(host, parts.take)
    except BaseException:
        parts.end("failed")
        raise
    parts.end("ok")


class _Parts:
    """Makes events of what a script says while it runs: `step TITLE` begins its next part."""

    STEP = f"{MARK}step "

    def __init__(self, host: str, title: str, say: Say) -> None:
        self._host = host
        self._say = say
        self._start(title)

    def _start(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._say(Event(host=self._host, title=title, state="start"))

    def take(self, line: str) -> None:
        """Take the next line of output."""
        if line.startswith(self.STEP):
            self.end("ok")
            self._start(line.removeprefix(self.STEP))
        elif not line.startswith(MARK):
            self._say(Event(host=self._host, title=self._title, state="line", text=line))

    def end(self, state: Literal["ok", "failed"]) -> None:
        """End the present part."""
        seconds = time.monotonic() - self._began
        self._say(Event(host=self._host, title=self._title, state=state, seconds=seconds))


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
