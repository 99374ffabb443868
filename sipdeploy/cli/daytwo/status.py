"""The command status: how hosts are, and what needs a person."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sipdeploy.cli.output import has_colour, is_terminal
from sipdeploy.cli.proof.verify import interval, stopping, write_file
from sipdeploy.cli.session import Session, described, host_names
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed, WrongUsage
from sipdeploy.inventory import chosen_hosts, files, open_inventory

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.inventory import Inventory
    from sipdeploy.operation.status.values import Status, Verdict

AT_ONCE = 8
EVERY_SECONDS = 10
POLL_SECONDS = 0.1
CLEAR = "\x1b[H\x1b[2J"
_TWO_TIMES = Diagnostic(
    "SD002",
    f"`--watch` repeats every {EVERY_SECONDS} s, and `--every` at another time",
    help="leave out `--watch`: `--every` repeats too",
)
COLOURS = {"fine": "green", "look": "yellow", "broken": "red", "unknown": "magenta"}


@click.command("status", short_help="Show how hosts are, and what needs a person.")
@click.argument("hosts", metavar="[HOST...]", nargs=-1, shell_complete=host_names)
@click.option("--watch", "is_watch", is_flag=True, help="Repeat every 10 s, until Ctrl-C.")
@click.option(
    "--every",
    "every_seconds",
    metavar="TIME",
    callback=interval,
    help="Repeat as often as this, such as `1m`, until Ctrl-C.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "prometheus"]),
    default="text",
    help="Output format.",
)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Replace FILE with each result, for monitoring.",
)
@click.pass_obj
def status_command(
    session: Session,
    /,
    hosts: tuple[str, ...],
    form: str,
    *,
    is_watch: bool,
    every_seconds: int | None,
    file: Path | None,
) -> int:
    """Show how HOSTS, or all hosts, are: one screen for each, and what needs a person.

    sipdeploy asks each host itself, in one exchange over SSH, and changes nothing there. Every
    value is fine, or needs a look, or is broken, or is unknown because the host could not be
    asked. Whether phones can use a host from here is what `sipdeploy verify` proves; its last
    result is shown.

    Exits with 1 if something needs a person, and with 4 if something could not be asked.

    \b
    Examples:
      sipdeploy status
      sipdeploy status sip1 --watch
      sipdeploy status --every 1m --format prometheus -o status.prom
    """
    if is_watch and every_seconds:
        raise WrongUsage([_TWO_TIMES])
    if file is not None:
        write_file(lambda: files.check_writable(file))
    view = View(session=session, form=form, file=file)
    loaded = asked_for(session, hosts)
    seconds = every_seconds or (EVERY_SECONDS if is_watch else 0)
    watched = Hosts(session=session, loaded=loaded)
    try:
        with stopping(watched.stop, is_clean=bool(seconds)):
            if not seconds:
                return view(watched.read())
            repeat(watched, view, seconds)
    finally:
        watched.close()
    return 0


def asked_for(session: Session, hosts: Sequence[str]) -> Mapping[str, Inventory]:
    """The inventory for each host: named ones need only their own entry in it."""
    if hosts:
        from sipdeploy.cli.hosts import opened_for

        return opened_for(session, hosts)
    loaded = open_inventory(session.inventory)
    return dict.fromkeys(chosen_hosts(loaded, ()), loaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Asks all hosts at the same time, over connections that it keeps. `stop` ends it early."""

    session: Session
    loaded: Mapping[str, Inventory]
    stop: threading.Event = field(default_factory=threading.Event)
    _open: dict[str, Host] = field(default_factory=dict)

    def read(self) -> list[Status]:
        """The status of each host; of fewer if `stop` was set."""
        waiting = ", ".join(described(each.site, [name]) for name, each in self.loaded.items())
        pool = ThreadPoolExecutor(min(AT_ONCE, len(self.loaded)))
        try:
            tasks = [pool.submit(self._read, name) for name in self.loaded]
            with self.session.output.waiting(waiting):
                while not all(task.done() for task in tasks) and not self.stop.is_set():
                    time.sleep(POLL_SECONDS / 5)
            return [task.result() for task in tasks if task.done()]
        finally:
            if self.stop.is_set():
                self.close()  # ends what the threads wait for
            pool.shutdown(cancel_futures=True)

    def _read(self, name: str) -> Status:
        from sipdeploy.host.connection import connect
        from sipdeploy.operation.status import judging, state, values

        try:
            if name not in self._open:
                self._open[name] = connect(name, self.loaded[name].site.hosts[name])
            return judging.judge(state.read(self._open[name]))
        except HostFailed as failure:
            if host := self._open.pop(name, None):
                host.close()
            return values.unreached(name, failure.diagnostics)

    def close(self) -> None:
        """End all connections."""
        for host in list(self._open.values()):
            host.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Shows hosts: the result, then the problems; the exit code."""

    session: Session
    form: str
    file: Path | None

    def __call__(self, statuses: Sequence[Status], *, begin: str = "") -> int:
        """Show one round; `begin` goes before it."""
        from sipdeploy.operation.status import formats

        text, output = self._text(statuses), self.session.output
        if self.file is not None:
            target = self.file
            write_file(lambda: files.replace_file(target, f"{text}\n".encode(), 0o644))
            output.result("\n".join(f"{s.host}  {formats.headline(s)}" for s in statuses))
        else:
            output.result(begin + text)
        output.problems([problem for status in statuses for problem in status.problems])
        codes = {status.exit_code for status in statuses}
        return 1 if 1 in codes else max(codes, default=0)

    def _text(self, statuses: Sequence[Status]) -> str:
        from sipdeploy.operation.status import formats, metrics

        if self.form == "prometheus":
            return metrics.as_prometheus(statuses, time.time())
        if self.form == "json":
            return formats.as_json(statuses)
        is_painted = self.file is None and has_colour(sys.stdout)
        return formats.as_text(statuses, _painted if is_painted else formats.plain)


def _painted(verdict: Verdict, text: str) -> str:
    return click.style(text, fg=COLOURS[verdict])


def repeat(hosts: Hosts, view: Callable[..., int], seconds: int) -> None:
    """Ask again and again, until `stop` is set. A terminal shows only the newest result."""
    gc.enable()  # the start of sipdeploy has disabled it, which suits a short run
    begin = CLEAR if is_terminal(sys.stdout) else ""
    while not hosts.stop.is_set():
        due = time.monotonic() + seconds
        statuses = hosts.read()
        if not hosts.stop.is_set():
            view(statuses, begin=begin)
        hosts.stop.wait(max(0.0, due - time.monotonic()))
