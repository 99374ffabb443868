"""What an apply shows while it runs: one line for each host and step, the present one alive.

Plain lines where nobody watches. Writes to the one stream that output.py gives it.
"""

import shutil
import threading
import time
from types import TracebackType
from typing import Self, TextIO

import click

from sipdeploy.steps import Event

WIDTH = 52
TICK_SECONDS = 0.2
SPINNER = "|/-\\"
COLOURS = {"ok": "green", "failed": "red"}


class Progress:
    """Takes events and shows them; a context, so that the present line is always finished."""

    def __init__(self, stream: TextIO, *, is_live: bool, verbose: bool = False) -> None:
        self._stream = stream
        self._is_live = is_live
        self._verbose = verbose
        self._lock = threading.Lock()
        self._present: Event | None = None
        self._text = ""
        self._began = 0.0
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
            self._write("\r\x1b[K" if self._present else "")

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            if event.state == "start":
                self._present, self._text = event, ""
                self._began = time.monotonic()
                self._draw()
            elif event.state == "line":
                self._text = event.text.strip()
                if self._verbose and not self._is_live:
                    self._write(f"{event.host}  | {self._text}\n")
            else:
                self._present = None
                self._finish(event)

    def _finish(self, event: Event) -> None:
        verdict = (
            click.style(event.state, fg=COLOURS[event.state]) if self._is_live else event.state
        )
        clear = "\r\x1b[K" if self._is_live else ""
        said = f"  {event.text}" if event.text else ""
        self._write(f"{clear}{_dotted(event)} {verdict}  {event.seconds:.1f}s{said}\n")

    def _tick(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            with self._lock:
                self._ticks += 1
                self._draw()

    def _draw(self) -> None:
        if not self._is_live or self._present is None:
            return
        seconds = time.monotonic() - self._began
        line = f"{_dotted(self._present)} {SPINNER[self._ticks % 4]}  {seconds:.0f}s  {self._text}"
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\r\x1b[K{line[:width]}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _dotted(event: Event) -> str:
    """`sip1  swap 3 files ......`: name and step first, so that a slow step names itself."""
    return f"{event.host}  {event.title} ".ljust(WIDTH, ".")
