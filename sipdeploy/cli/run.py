"""Carries out a transaction for a command: progress, the log of the run, reports, exit code.

Commands import this module late, because its imports are slow. The log has every step with its
time and output, in a file of mode 0600; it hides secrets, and stays on this machine.
"""

import contextlib
import datetime as dt
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sipdeploy import transaction
from sipdeploy.cli.session import Session
from sipdeploy.diagnostics import full
from sipdeploy.diagnostics.errors import RollbackFailed
from sipdeploy.inventory import Inventory
from sipdeploy.inventory.files import own_folder
from sipdeploy.inventory.secret import hider
from sipdeploy.transaction import Interrupted, Options, Report, reports
from sipdeploy.transaction.runner import Event

KEPT = 50
INTERRUPTED = 130


def apply(
    session: Session, loaded: Inventory, names: Sequence[str], options: Options, *, form: str
) -> tuple[int, tuple[Report, ...]]:
    """Apply to the named hosts, as `transact` says."""
    check_proof(options)
    credentials = session.credentials(loaded)
    return transact(
        session,
        lambda say: transaction.apply(
            loaded.site, names, credentials=credentials, say=say, options=options
        ),
        form=form,
        secrets=credentials.values(),
    )


def check_proof(options: Options) -> None:
    """WrongUsage if the proof from this machine needs an extra that is missing."""
    if options.verify == "full":
        from sipdeploy.cli.proof.verify import check_level

        check_level(options.verify)


def transact(
    session: Session,
    run: Callable[[Callable[[Event], None]], tuple[Report, ...]],
    *,
    form: str,
    secrets: Iterable[str] = (),
) -> tuple[int, tuple[Report, ...]]:
    """Carry out a transaction, show its progress and log it; the exit code and the reports.

    `form` is `text` or `json`. If it is empty, the reports go to stderr, because the command has
    another result.
    """
    code = 0
    with RunLog(secrets) as log:
        try:
            with _terminable(), session.output.steps() as say:

                def both(event: Event) -> None:
                    log.event(event)
                    say(event)

                done = run(both)
        except Interrupted as interrupted:
            done, code = interrupted.reports, INTERRUPTED
        with _uninterrupted():
            for report in done:
                session.output.problems(report.diagnostics, report.sources)
                log.report(report)
            worst = max(report.exit_code for report in done)
            code = worst if worst == RollbackFailed.exit_code else code or worst
            if code:
                session.output.progress(f"log of this run: {log.path}")
            else:
                session.output.detail(f"log: {log.path}")
            if form:
                shape = reports.as_json if form == "json" else reports.as_text
                session.output.result(shape(done))
            else:  # the command prints another result
                session.output.progress(reports.as_text(done))
    return code, done


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C: the hosts are done, and one more would lose what became of them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that sipdeploy undoes its changes before it exits."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def folder() -> Path:
    """The directory of the logs: $XDG_STATE_HOME/sipdeploy/logs, or below ~/.local/state."""
    return own_folder("XDG_STATE_HOME", ".local/state", "logs")


def _private(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a text stream
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace")


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
        with contextlib.suppress(OSError):
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
        with self._lock, contextlib.suppress(OSError):  # a full disk here undoes no host
            self._stream.write(f"{now} {text}\n")
            self._stream.flush()
