"""What an apply shows while it runs: one line for each host and step, the present one alive.

Plain lines where nobody watches. Writes to the one stream that output.py gives it.
"""

import shutil
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

import click

from sipdeploy.transaction.steps import Event

WIDTH = 52
TICK_SECONDS = 0.2
SPINNER = "|/-\\"
COLOURS = {"ok": "green", "failed": "red"}


class Progress:
    """Takes events and shows them; a context, so that the view is always finished.

    On a terminal the hosts at work stand below what is done, a line for each.
    """

    def __init__(self, stream: TextIO, *, is_live: bool, verbose: bool = False) -> None:
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
        if self._is_live:
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._is_live:
            self._ticker.join()
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
        said = f"  {event.text}" if event.text else ""
        return f"{_dotted(event)} {verdict}  {event.seconds:.1f}s{said}\n"

    def _tick(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            with self._lock:
                self._ticks += 1
                self._draw("")

    def _draw(self, finished: str) -> None:
        """Put what is done above, and the hosts at work below it anew."""
        if not self._is_live:
            self._write(finished)
            return
        size = shutil.get_terminal_size()
        room = max(1, size.lines - 2)
        rows = [self._row(present) for present in self._present.values()]
        if len(rows) > room:
            rows = [*rows[: room - 1], f"... and {len(rows) - room + 1} hosts more"]
        view = "\n".join(row[: size.columns - 1] for row in rows)
        cleared = self._cleared()
        self._drawn = len(rows)
        self._write(f"{cleared}{finished}{view}")

    def _cleared(self) -> str:
        """What takes the present rows away again: to the first of them, and all below it."""
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        cleared = f"\r{up}\x1b[J" if self._drawn else ""
        self._drawn = 0
        return cleared

    def _row(self, present: "_Present") -> str:
        seconds = time.monotonic() - present.began
        spinner = SPINNER[self._ticks % len(SPINNER)]
        return f"{_dotted(present.event)} {spinner}  {seconds:.0f}s  {present.text}"

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


@dataclass(slots=True)
class _Present:
    """The step that a host is at, since when, and what it said last."""

    event: Event
    began: float
    text: str = ""


def _dotted(event: Event) -> str:
    """`sip1  swap 3 files ......`: name and step first, so that a slow step names itself."""
    return f"{event.host}  {event.title} ".ljust(WIDTH, ".")
