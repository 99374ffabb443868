"""The Step protocol, and the runner that undoes all begun steps if one fails."""

import threading
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
    """Progress of a step; `text` is a line of its output, `seconds` its duration."""

    host: str
    title: str
    state: Literal["start", "ok", "failed", "skipped", "line"]
    seconds: float = 0.0
    text: str = ""


Say = Callable[[Event], None]


class Step(Protocol):
    """One reversible change of a host."""

    has_undo: ClassVar[bool]  # False: another step undoes it, or nothing needs an undo

    @property
    def title(self) -> str:
        """The step in the imperative: `swap 3 files`."""
        ...

    def run(self, host: Host, on_line: OnLine) -> None:
        """Carry out the step; HostFailed if that fails."""
        ...

    def undo(self, host: Host) -> None:
        """Undo the step; HostFailed if that fails."""
        ...


class UndoStack:
    """The steps begun on one host; it undoes them in reverse order.

    Between two steps, a run may work on other hosts.
    """

    def __init__(self, host: Host, say: Say) -> None:
        self.host = host
        self._say = say
        self._begun: list[Step] = []
        self._lock = threading.Lock()
        self._is_undoing = False  # an undo must not be interrupted

    def interrupt(self) -> bool:
        """End the running step, unless it is an undo; whether it did."""
        with self._lock:
            if not self._is_undoing:
                self.host.close()
            return not self._is_undoing

    def run(self, *steps: Step) -> None:
        """Run the steps in order; on any failure undo all begun steps.

        Raises the exception of the step, or RollbackFailed if an undo failed too.
        """
        for step in steps:
            self._begun.append(step)  # before it runs, so that a half-done step is undone too
            try:
                run_step(self.host, step.title, step.run, self._say)
            except BaseException as failure:
                problems = self._undone()
                if problems:
                    first = failure.diagnostics if isinstance(failure, SipdeployError) else ()
                    raise RollbackFailed([*first, *problems]) from failure
                raise

    def undo(self) -> None:
        """Undo all begun steps; RollbackFailed with the diagnostics of failed undos."""
        problems = self._undone()
        if problems:
            raise RollbackFailed(problems)

    def _undone(self) -> list[Diagnostic]:
        """Undo in reverse order, also after failures; the diagnostics of failed undos."""
        problems: list[Diagnostic] = []
        with self._lock:
            self._is_undoing = True
        while self._begun:
            step = self._begun.pop()

            def action(host: Host, _: OnLine, step: Step = step) -> None:
                step.undo(host)

            try:
                if step.has_undo:
                    run_step(self.host, f"undo: {step.title}", action, self._say)
            except SipdeployError as failure:
                problems += failure.diagnostics
        return problems


def run_step(host: Host, title: str, action: Callable[[Host, OnLine], None], say: Say) -> None:
    """Run `action` between its start and end events; its script may announce further parts."""
    parts = _Parts(host.name, title, say)
    try:
        action(host, parts.take)
    except BaseException:
        parts.end("failed")
        raise
    parts.end("ok")


class _Parts:
    """Turns the output of a script into events; the line `step TITLE` starts its next part."""

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
        """End the current part."""
        seconds = time.monotonic() - self._began
        self._say(Event(host=self._host, title=self._title, state=state, seconds=seconds))
