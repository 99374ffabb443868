"""What a step is, and the runner that undoes the steps it began when one of them fails."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.errors import RollbackFailed, SipdeployError
from sipdeploy.facts import sections
from sipdeploy.hosts import Host, OnLine, host_failed, run_script


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


def run_steps(
    host: Host,
    steps: Sequence[Step],
    say: Say,
    *,
    on_begin: Callable[[Step], None] = lambda _: None,
) -> None:
    """Run the steps in order; on any failure undo what was begun, newest first.

    `on_begin` is told each step before it runs. Raises what the step raised, or RollbackFailed
    when an undo failed too.
    """
    begun: list[Step] = []
    for step in steps:
        begun.append(step)  # before it runs: a half-done step is undone too
        on_begin(step)
        try:
            run_step(host, step.title, step.run, say)
        except BaseException as failure:
            with _uninterrupted():
                problems = _undo(host, begun, say)
            if problems:
                first = failure.diagnostics if isinstance(failure, SipdeployError) else ()
                raise RollbackFailed([*first, *problems]) from failure
            raise


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let no second Ctrl-C end an undo half-way. Only the main thread may and need do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN: children inherit that
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


def run_step(host: Host, title: str, act: Callable[[Host, OnLine], None], say: Say) -> None:
    """Do one thing between its two events."""
    began = time.monotonic()
    say(Event(host=host.name, title=title, state="start"))

    def on_line(text: str) -> None:
        say(Event(host=host.name, title=title, state="line", text=text))

    try:
        act(host, on_line)
    except BaseException:
        seconds = time.monotonic() - began
        say(Event(host=host.name, title=title, state="failed", seconds=seconds))
        raise
    say(Event(host=host.name, title=title, state="ok", seconds=time.monotonic() - began))


def _undo(host: Host, begun: Sequence[Step], say: Say) -> list[Diagnostic]:
    """Undo the newest first, going on past failures; what failed is given back."""
    problems: list[Diagnostic] = []
    for step in reversed(begun):

        def act(host: Host, _: OnLine, step: Step = step) -> None:
            step.undo(host)

        try:
            if step.has_undo:
                run_step(host, f"undo: {step.title}", act, say)
        except SipdeployError as failure:
            problems += failure.diagnostics
    return problems


def ask(
    host: Host,
    words: Sequence[str],
    problem: tuple[str, ...],
    *,
    data: bytes = b"",
    timeout_seconds: float = 120,
) -> dict[str, str]:
    """Run a script and give its sections.

    `problem` is the code, message and, where there is one, help of the HostFailed that tells the
    script's last words.
    """
    result = run_script(host, words, input=data, timeout_seconds=timeout_seconds)
    if result.status == 0:
        return sections(result.text)
    said = result.stderr.decode(errors="replace").strip().splitlines()[-5:]
    full = "No space left" in "".join(said) or "disk full" in "".join(said)
    code, message, *mend = problem
    raise host_failed(
        code,
        f"{message} on `{host.name}`",
        notes=tuple(said) or (f"the script ended with status {result.status}",),
        help_=f"on `{host.name}`: `df -h /etc /var`, and make room" if full else "".join(mend),
    )


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
