"""The log of a run: every step with its time and output, in a file of mode 0600.

The log hides secrets, and stays on this machine.
"""

import contextlib
import datetime as dt
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from sipdeploy.diagnostics import full
from sipdeploy.inventory.files import own_folder
from sipdeploy.inventory.secret import hider
from sipdeploy.transaction.reports import Report
from sipdeploy.transaction.runner import Event

KEPT = 50


def folder() -> Path:
    """The directory of the logs: $XDG_STATE_HOME/sipdeploy/logs, or below ~/.local/state."""
    return own_folder("XDG_STATE_HOME", ".local/state", "logs")


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, and rename it into place."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with _private(unfinished) as stream:
        stream.write(text)
    unfinished.replace(path)


def _private(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a text stream
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(handle, "w", encoding="utf-8")


class RunLog:
    """The log file of one run; deletes old ones. Without a writable home, it writes nothing."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._hidden = hider(secrets)
        self._lock = threading.Lock()
        began = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        self.path = folder() / f"{began}-{os.getpid()}.log"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._stream = _private(self.path)
        except OSError:
            self.path = Path(os.devnull)
            self._stream = _private(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
        logs = sorted(self.path.parent.glob("*.log")) if self.path.suffix == ".log" else []
        for old in logs[:-KEPT]:
            with contextlib.suppress(OSError):
                old.unlink()

    def event(self, event: Event) -> None:
        """Write one event; several threads may call it."""
        took = f" {event.seconds:.3f}s" if event.state in ("ok", "failed") else ""
        text = f": {event.text}" if event.text else ""
        self._write(f"{event.host} {event.title} {event.state}{took}{text}")

    def report(self, report: Report) -> None:
        """Write the report of a host."""
        self._write(f"{report.host} {report.state} in {report.seconds:.3f}s")
        for line in report.changes:
            self._write(f"{report.host} {line}")
        if report.diagnostics:
            self._write(full(report.diagnostics, report.sources, colour=False))

    def _write(self, text: str) -> None:
        text = self._hidden(text)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        with self._lock:
            self._stream.write(f"{now} {text}\n")
            self._stream.flush()
