"""The command verify: the proof from outside."""

from __future__ import annotations

import contextlib
import gc
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sipdeploy.cli.output import is_terminal
from sipdeploy.cli.proof.progress import watch_of
from sipdeploy.cli.session import Session, host_names
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.inventory import chosen_hosts, files, open_inventory
from sipdeploy.proof.outside.step import LEVELS

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.inventory.site import Site
    from sipdeploy.proof.outside.step import Level, Proof
    from sipdeploy.proof.outside.subject import Account
    from sipdeploy.transaction.runner import Event

AT_ONCE = 8
POLL_SECONDS = 0.2
LEAST_SECONDS = 10
_UNITS = {"s": 1, "m": 60, "h": 3600}


def interval(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Read a time such as `30s`, `5m` or `1h`; click.BadParameter if it is none, or very short."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,6})([smh])", value)
    if match is None:
        raise click.BadParameter(f"`{value}` is not a time, such as `30s` or `5m`", ctx, option)
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds < LEAST_SECONDS:
        raise click.BadParameter(f"the least is `{LEAST_SECONDS}s`", ctx, option)
    return seconds


@click.command("verify", short_help="Prove from this machine that phones can use hosts.")
@click.argument("hosts", metavar="[HOST...]", nargs=-1, shell_complete=host_names)
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="quick",
    show_default=True,
    help="ports: name, port, certificate, WebSocket. quick: also calls without sound. full: also "
    "with sound. attack: quick, and attacks that the host must refuse.",
)
@click.option(
    "--user",
    "number",
    metavar="NUMBER",
    help="Use this account instead of probe accounts, and no SSH; password on standard input.",
)
@click.option(
    "--every", "every_seconds", metavar="TIME", callback=interval, help="Repeat, until Ctrl-C."
)
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page with steps, calls, certificate and sound.",
)
@click.option("--ladder", "has_diagrams", is_flag=True, help="Show the messages of each call.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit", "prometheus"]),
    default="text",
    help="Output format.",
)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Replace FILE with the result of each proof, for monitoring.",
)
@click.pass_obj
def verify_command(
    session: Session,
    /,
    hosts: tuple[str, ...],
    form: Literal["text", "json", "junit", "prometheus"],
    *,
    level: Level,
    number: str | None,
    every_seconds: int | None,
    has_diagrams: bool,
    file: Path | None,
    report: Path | None,
) -> int:
    """Prove from this machine that phones can use HOSTS, or all hosts.

    sipdeploy uses a host as phones do, over the network: it resolves the name, judges the
    certificate as browsers do, opens the WebSocket, registers two phones and lets them call each
    other and a service. For that it sets two probe accounts over SSH, which only reach each other
    and services, and which the host forgets after two minutes in any case.

    Exits with 1 if something does not work, and with 4 if the host could not be asked.

    \b
    Examples:
      sipdeploy verify sip1
      sipdeploy verify --level ports                 without SSH and accounts
      sipdeploy verify --level full --report sip1.html sip1
      sipdeploy verify --every 5m --format prometheus -o verify.prom
      pass show sip/1001 | sipdeploy verify --user 1001
    """
    if report is not None and report.suffix.lower() not in {".html", ".htm"}:
        raise WrongUsage([_no_page(report)])
    for path in filter(None, (file, report)):
        write_file(partial(files.check_writable, path))
    if number and level == "attack":
        raise WrongUsage([_needs_probes()])
    loaded = open_inventory(session.inventory)
    names = chosen_hosts(loaded, hosts)
    account = _account(loaded.site, number) if number else None
    round_ = Round(session=session, site=loaded.site, names=names, level=level, account=account)
    check_level(level)
    show = _Show(session=session, form=form, file=file, report=report, has_diagrams=has_diagrams)
    if every_seconds is None:
        with stopping(round_.stop):
            proofs = round_.run()
        return show(proofs)
    with stopping(round_.stop, is_clean=True):
        _repeat(round_, show, every_seconds)
    return 0


def check_level(level: Level) -> None:
    """WrongUsage if there are no steps of the level, or it needs an extra that is missing."""
    from sipdeploy.proof.outside.ladder import LADDER
    from sipdeploy.proof.outside.step import of_level
    from sipdeploy.sip import media

    if not any(step.level == level for step in LADDER):
        message = f"this version has no steps of level {level}"
        raise WrongUsage([Diagnostic("SD002", message, help="use level `quick`")])
    if any(step.level == "full" for step in of_level(LADDER, level)):
        media.require()


def _no_page(file: Path) -> Diagnostic:
    """SD002: browsers and mail programs show a page only under its own kind of name."""
    named = shlex.quote(str(file.with_suffix(".html")))
    return Diagnostic(
        "SD002", f"`{file}` does not end in .html", help=f"the page is HTML: `--report {named}`"
    )


def _needs_probes() -> Diagnostic:
    """SD940: only who may set probe accounts on a host may attack it."""
    return Diagnostic(
        "SD940",
        "level `attack` needs probe accounts, and `--user` sets none",
        help="leave out `--user`: sipdeploy sets the accounts over SSH, which shows that the host "
        "is yours",
    )


def _account(site: Site, number: str) -> Account:
    """The account of a user, whose password is on standard input."""
    from sipdeploy.cli.users import given_password
    from sipdeploy.proof.outside.subject import Account

    if number not in site.users:
        advice = "`sipdeploy users` lists them"
        message = f"the inventory has no user `{number}`"
        raise WrongUsage([Diagnostic("SD001", message, help=advice)])
    return Account(
        number=number, password=given_password(is_new=False).reveal(), title=f"phone of {number}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One proof of each host, at the same time. `stop` ends it early, without results."""

    session: Session
    site: Site
    names: Sequence[str]
    level: Level
    account: Account | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> list[Proof]:
        """The proofs of all hosts; fewer if `stop` was set."""
        with (
            self.session.output.steps() as say,
            ThreadPoolExecutor(min(AT_ONCE, len(self.names))) as pool,
        ):
            tasks = [pool.submit(self._prove, name, say) for name in self.names]
            while not all(task.done() for task in tasks):
                time.sleep(POLL_SECONDS / 4)
        return [proof for task in tasks if (proof := task.result()) is not None]

    def _prove(self, name: str, say: Callable[[Event], None]) -> Proof | None:
        from sipdeploy.host.connection import connect
        from sipdeploy.proof.outside.probes import Probes
        from sipdeploy.proof.outside.run import prove_host
        from sipdeploy.proof.outside.subject import Subject
        from sipdeploy.proof.record import keep

        entry = self.site.hosts[name]
        hosts: list[Host] = []
        with contextlib.ExitStack() as stack:

            def opened() -> Host:
                hosts.append(connect(name, entry))
                stack.callback(hosts[-1].close)
                return hosts[-1]

            needs_probes = self.account is None and self.level != "ports"
            subject = Subject(
                name=name,
                site=self.site,
                entry=entry,
                level=self.level,
                accounts=(self.account,) if self.account else (),
                probes=Probes(name=name, domain=self.site.domain, connect=opened)
                if needs_probes
                else None,
            )
            proof = prove_host(subject, watch=watch_of(name, say), stop=self.stop)
            if proof is not None and hosts:
                keep(hosts[-1], proof)
            return proof


@dataclass(frozen=True, slots=True, kw_only=True)
class _Show:
    """Shows the proofs of a round: diagnostics, diagrams, the result; the exit code."""

    session: Session
    form: Literal["text", "json", "junit", "prometheus"]
    file: Path | None
    report: Path | None
    has_diagrams: bool

    def __call__(self, proofs: Sequence[Proof]) -> int:
        from sipdeploy.proof.reports import diagram, formats

        output = self.session.output
        output.problems([problem for proof in proofs for problem in proof.diagnostics])
        if self.has_diagrams:
            for proof in proofs:
                output.result(diagram.as_text(proof))
        if self.report is not None:
            write_file(partial(files.replace_file, self.report, _page(proofs), 0o644))
        text = formats.FORMATS[self.form](proofs)
        if self.file is not None:
            write_file(partial(files.replace_file, self.file, f"{text}\n".encode(), 0o644))
        elif self.form != "text" or not self._has_shown:
            output.result(text)
        if self.form == "text" and (self.file is not None or self._has_shown):
            output.result("\n".join(formats.summary(proof) for proof in proofs))
        codes = {proof.exit_code for proof in proofs}
        return 1 if 1 in codes else max(codes, default=0)

    @property
    def _has_shown(self) -> bool:
        """Whether the reader of the result has already seen each step."""
        is_seen = is_terminal(sys.stdout) and is_terminal(sys.stderr)
        return is_seen and not self.session.output.quiet


def _page(proofs: Sequence[Proof]) -> bytes:
    from sipdeploy.proof.reports import page

    return page.as_html(proofs).encode()


def _repeat(round_: Round, show: Callable[[Sequence[Proof]], int], seconds: int) -> None:
    """Prove again and again, until `stop` is set."""
    gc.enable()  # the start of sipdeploy has disabled it, which suits a short run
    while not round_.stop.is_set():
        due = time.monotonic() + seconds
        proofs = round_.run()
        if not round_.stop.is_set():
            show(proofs)
        round_.stop.wait(max(0.0, due - time.monotonic()))


@contextlib.contextmanager
def stopping(stop: threading.Event, *, is_clean: bool = False) -> Iterator[None]:
    """Ctrl-C and SIGTERM set `stop`, so that a proof removes its accounts before it ends.

    Raises KeyboardInterrupt afterwards, unless the end `is_clean`.
    """

    def end(*_: object) -> None:
        stop.set()

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if stop.is_set() and not is_clean:
        raise KeyboardInterrupt


def write_file(write: Callable[[], None]) -> None:
    """Write the file of `-o`, or check that this is possible; InvalidFiles (SD110) if not."""
    try:
        write()
    except OSError as failure:
        raise InvalidFiles([files.unwritable(failure)]) from failure
