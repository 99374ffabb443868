"""The only module that prints: results to stdout, progress and diagnostics to stderr.

The output is plain text unless it goes to a terminal. The texts come from the callers. What
happens to the output never ends the work of a command: files and hosts matter more.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import click

from sipdeploy.diagnostics import Diagnostic, full, reason_of
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Sources
    from sipdeploy.diagnostics.formats import Context, Format
    from sipdeploy.plan import Plan
    from sipdeploy.plan.preview import Present
    from sipdeploy.transaction.runner import Event


WIDTH = 52
TICK_SECONDS = 0.2
SILENT_SECONDS = 5.0  # then a plain output says that a step runs; each further time takes longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How much to print: `quiet` leaves out progress, `verbose` adds details."""

    quiet: bool = False
    verbose: bool = False

    def result(self, text: str | bytes) -> None:
        """Print the result of the command to stdout; bytes are printed unchanged.

        InvalidFiles (SD110) if stdout cannot take it, unless its reader has closed the pipe.
        """
        try:
            if text:
                click.echo(text, color=True)
        except OSError as failure:
            _discard(sys.stdout)
            if not isinstance(failure, BrokenPipeError):
                message = f"cannot write the result to standard output: {reason_of(failure)}"
                advice = "everything else is done; free space, or send the output elsewhere"
                raise InvalidFiles([Diagnostic("SD110", message, help=advice)]) from failure

    def progress(self, text: str) -> None:
        """Print a line of progress to stderr, unless `quiet`."""
        if not self.quiet:
            _tell(text)

    def detail(self, text: str) -> None:
        """Print a detail to stderr, if `verbose`."""
        if self.verbose:
            _tell(text)

    def problems(self, diagnostics: Sequence[Diagnostic], sources: Sources | None = None) -> None:
        """Print diagnostics in full to stderr."""
        if diagnostics:
            text = full(diagnostics, sources, colour=has_colour(sys.stderr))
            _tell(text, has_colours=True)

    def agree(
        self,
        plans: Mapping[str, tuple[Plan, Present]],
        *,
        question: str = "apply this to {}?",
        is_agreed: bool = False,
        proof: str = "none",
    ) -> bool:
        """Show the plans of all hosts, and ask once for all of them unless it `is_agreed`."""
        from sipdeploy.plan.text import as_text

        for host, (plan, present) in plans.items():
            _tell(as_text(host, plan, present, diffs=self.verbose, proof=proof))
        return is_agreed or click.confirm(question.format(", ".join(plans)), err=True)

    def require_terminal(self, verb: str) -> None:
        """Raise WrongUsage (SD002) if standard input is not a terminal."""
        if not is_terminal(sys.stdin):
            message = "cannot ask for confirmation: standard input is not a terminal"
            advice = f"add `--yes` to {verb} without confirmation"
            problem = Diagnostic("SD002", message, help=advice)
            raise WrongUsage([problem])

    def steps(self) -> Progress:
        """A view of the steps of an apply: live on a terminal, plain lines elsewhere."""
        is_live = not self.quiet and is_terminal(sys.stderr) and has_colour(sys.stderr)
        stream = None if self.quiet else sys.stderr
        return Progress(stream, is_live=is_live, verbose=self.verbose)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say what sipdeploy waits for, if the work takes some seconds."""
        timer = threading.Timer(SILENT_SECONDS, self.progress, [f"waiting for {what}"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def findings(
        self,
        diagnostics: Sequence[Diagnostic],
        sources: Sources,
        form: Format | None,
        context: Context | None = None,
    ) -> None:
        """Print diagnostics as the result.

        Without `form`, the format is `github` in GitHub Actions, and otherwise `full`.
        """
        form = form or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "full")
        if form == "full":
            self.result(full(diagnostics, sources, colour=has_colour(sys.stdout)))
        else:
            from sipdeploy.diagnostics.formats import FORMATS

            self.result(FORMATS[form](diagnostics, sources, context))


def escape_unprintable() -> None:
    """Print characters that the encoding of a terminal or pipe lacks as escapes: `\\u0141`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is a terminal; Python has None for a closed one."""
    return stream is not None and stream.isatty()


def has_colour(stream: TextIO | None) -> bool:
    """Whether to use colours: on a terminal, unless NO_COLOR or FORCE_COLOR is set."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def _tell(text: str, *, has_colours: bool = False) -> None:
    """Print to stderr; if nobody can read it, continue."""
    try:
        click.echo(text, err=True, color=has_colours or None)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Send the rest of the output nowhere, because Python flushes the stream at the exit too."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


SPINNER = "|/-\\"
COLOURS = {"ok": "green", "failed": "red", "skipped": "yellow"}


class Progress:
    """Shows events. As a context manager it always removes the live rows at the end.

    On a terminal, one row for each active host is below the finished steps. Elsewhere a step that
    takes long gets a line now and then.
    """

    def __init__(self, stream: TextIO | None, *, is_live: bool, verbose: bool = False) -> None:
        self._stream = stream
        self._is_live = is_live
        self._verbose = verbose
        self._lock = threading.Lock()
        self._present: dict[str, _Present] = {}
        self._drawn = 0
        self._ticks = 0
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._ticker.join()
        if self._is_live:
            self._write(self._cleared())

    def __call__(self, event: Event) -> None:
        """Show one event; safe from several threads."""
        with self._lock:
            if event.state == "start":
                self._present[event.host] = _Present(event=event, began=time.monotonic())
                self._draw("")
            elif event.state == "line":
                self._take_line(event)
            else:
                self._present.pop(event.host, None)
                self._draw(self._finished(event))

    def _take_line(self, event: Event) -> None:
        present = self._present.get(event.host)
        if present is not None:
            present.text = event.text.strip()
        if self._verbose and not self._is_live:
            self._write(f"{event.host}  | {event.text.strip()}\n")

    def _finished(self, event: Event) -> str:
        verdict = (
            click.style(event.state, fg=COLOURS[event.state]) if self._is_live else event.state
        )
        output = f"  {event.text}" if event.text else ""
        return f"{_dotted(event)} {verdict}  {event.seconds:.1f}s{output}\n"

    def _tick(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            with self._lock:
                self._ticks += 1
                self._draw("" if self._is_live else self._silent())

    def _silent(self) -> str:
        """A line for each step that has been silent for long."""
        lines = ""
        for present in self._present.values():
            seconds = time.monotonic() - present.began
            if seconds > present.silent_until:
                present.silent_until *= 4
                lines += f"{_dotted(present.event)} {seconds:.0f}s  {present.text}\n"
        return lines

    def _draw(self, finished: str) -> None:
        """Print a finished step, and redraw the rows of the active hosts below it."""
        if not self._is_live:
            self._write(finished)
            return
        size = shutil.get_terminal_size()
        room = max(1, size.lines - 2)
        rows = [self._row(present) for present in self._present.values()]
        if len(rows) > room:
            rows = [*rows[: room - 1], f"... and {len(rows) - room + 1} more hosts"]
        view = "\n".join(row[: size.columns - 1] for row in rows)
        cleared = self._cleared()
        self._drawn = len(rows)
        self._write(f"{cleared}{finished}{view}")

    def _cleared(self) -> str:
        """The escape sequence that erases the live rows."""
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        cleared = f"\r{up}\x1b[J" if self._drawn else ""
        self._drawn = 0
        return cleared

    def _row(self, present: _Present) -> str:
        seconds = time.monotonic() - present.began
        spinner = SPINNER[self._ticks % len(SPINNER)]
        return f"{_dotted(present.event)} {spinner}  {seconds:.0f}s  {present.text}"

    def _write(self, text: str) -> None:
        if not text or self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            _discard(self._stream)


@dataclass(slots=True)
class _Present:
    """The current step of a host, its start (monotonic seconds), and its last line of output."""

    event: Event
    began: float
    text: str = ""
    silent_until: float = field(default_factory=lambda: SILENT_SECONDS)


def _dotted(event: Event) -> str:
    """`sip1  swap 3 files ......`."""
    return f"{event.host}  {event.title} ".ljust(WIDTH, ".")
