"""The work of the commands that reach hosts. Imported late, because its imports are slow."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy import inventory
from sipdeploy import transaction as application
from sipdeploy.cli import runlog, serving
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.plan import saved, text
from sipdeploy.services import acme
from sipdeploy.transaction import Interrupted, Options, Planned, Report, reports
from sipdeploy.transaction.runner import run_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sipdeploy.cli.session import Session
    from sipdeploy.host.connection import Ahead
    from sipdeploy.inventory import Inventory
    from sipdeploy.transaction.runner import Event

INTERRUPTED = 130


def plan(
    session: Session,
    loaded: Inventory,
    names: Sequence[str],
    options: Options,
    *,
    form: str,
    diffs: bool,
    check: bool,
    file: Path | None,
) -> int:
    """Show the plans, and save them to `file`.

    Returns the exit code, which is 1 if there are changes and `check` is set.
    """
    credentials = _credentials(session, loaded)
    with session.output.steps() as say:
        planned = application.plan(
            loaded.site,
            names,
            credentials=credentials,
            say=say,
            options=options,
        )
    for each in planned:
        session.output.problems(each.diagnostics, each.sources)
    session.output.result(_shown(planned, form, diffs=diffs))
    failed = max(each.exit_code for each in planned)
    if failed:
        return failed
    plans = {each.host: each.plan for each in planned if each.plan is not None}
    if file is not None:
        runlog.write_private(file, saved.dump(plans))
        session.output.progress(
            f"saved; `sipdeploy apply {file}` carries out exactly this plan, or refuses"
        )
    return int(check and any(not plan.is_empty for plan in plans.values()))


def _shown(planned: Sequence[Planned], form: str, *, diffs: bool) -> str:
    rows = [(each.host, each.plan, each.present) for each in planned if each.plan is not None]
    if form == "json":
        return json.dumps({"hosts": [text.as_data(*row) for row in rows]}, indent=2)
    return "\n".join(text.as_text(*row, diffs=diffs) for row in rows)


def apply(
    session: Session, loaded: Inventory, names: Sequence[str], options: Options, *, form: str
) -> int:
    """Carry out a transaction on the named hosts.

    `form` is `text` or `json`. If it is empty, the reports go to stderr, because the command has
    another result. Returns the exit code.
    """
    credentials = _credentials(session, loaded)

    def run(say: Callable[[Event], None]) -> tuple[Report, ...]:
        return application.apply(
            loaded.site, names, credentials=credentials, say=say, options=options
        )

    return _run(session, run, form, credentials.values())


def saved_plans(hosts: Sequence[str]) -> dict[str, dict[str, object]] | None:
    """The plans in a file (NAME.json), by host; None if `hosts` names hosts.

    InvalidFiles (SD529) if the file cannot be read.
    """
    if len(hosts) != 1 or not hosts[0].endswith(".json"):
        return None
    try:
        content = Path(hosts[0]).read_text("utf-8")
    except (OSError, ValueError) as unreadable:
        problem = Diagnostic(
            "SD529",
            f"the plan `{hosts[0]}` cannot be read: {unreadable}",
            help=f"`sipdeploy plan -o {hosts[0]}` writes one",
        )
        raise InvalidFiles([problem]) from unreadable
    return saved.load(content, hosts[0])


def rollback(
    session: Session,
    loaded: Inventory,
    name: str,
    options: Options,
    *,
    release: int | None,
    form: str,
) -> int:
    """Restore a release on a host; None is the one before the current release."""

    def run(say: Callable[[Event], None]) -> tuple[Report, ...]:
        return application.rollback(loaded.site, name, release, say=say, options=options)

    return _run(session, run, form, ())


def history(session: Session, loaded: Inventory, name: str, form: str) -> int:
    """Show the releases of a host."""
    kept = application.history(loaded.site, name)
    if form == "json":
        session.output.result(json.dumps({"releases": [asdict(row) for row in kept]}, indent=2))
        return 0
    rows = [
        f"{'*' if row.is_current else ' '} {row.number:>4}  {row.when}  {row.who:<24} "
        f"{row.purpose}: {_summary(row.what)}"
        for row in kept
    ]
    session.output.result("\n".join(rows) or "no releases yet")
    return 0


def cert(
    session: Session,
    loaded: Inventory,
    name: str,
    ahead: Ahead,
    *,
    form: str,
    days: int,
    is_renewal: bool,
    is_test: bool,
) -> int:
    """Show the certificates of a host, after a renewal or its rehearsal if requested.

    Returns 1 if there is a problem, or if fewer than `days` days are left; otherwise 0.
    """
    site = loaded.site
    order = acme.order(site)
    host = ahead.take(name, site.hosts[name])
    try:
        if order is not None and (is_renewal or is_test):
            action = "rehearse a renewal" if is_test else "renew"
            with session.output.steps() as say:
                run_step(
                    host,
                    f"{action} with {order.server}",
                    lambda machine, _: serving.renew(machine, order, is_test=is_test),
                    say,
                )
        current = serving.read(host, site)
    finally:
        host.close()
    problems = serving.problems(current, days)
    session.output.problems(problems)
    if form == "json":
        session.output.result(json.dumps(serving.as_data(current, problems), indent=2))
    else:
        session.output.result(serving.as_text(current))
    return int(bool(problems))


def _summary(what: Sequence[str]) -> str:
    first = ", ".join(what[:2])
    return f"{first} and {len(what) - 2} more" if len(what) > 2 else first  # noqa: PLR2004


def _credentials(session: Session, loaded: Inventory) -> dict[str, str]:
    credentials, problems = inventory.credentials(loaded)
    session.tell(problems, loaded)
    return credentials


def _run(
    session: Session,
    run: Callable[[Callable[[Event], None]], tuple[Report, ...]],
    form: str,
    secrets: Iterable[str],
) -> int:
    """Carry out a transaction, show its progress and log it; the exit code."""
    code = 0
    with runlog.RunLog(secrets) as log:
        try:
            with _terminable(), session.output.steps() as say:

                def both(event: Event) -> None:
                    log.event(event)
                    say(event)

                done = run(both)
        except Interrupted as interrupted:
            done, code = interrupted.reports, INTERRUPTED
        for report in done:
            session.output.problems(report.diagnostics, report.sources)
            log.report(report)
        if form:
            shape = reports.as_json if form == "json" else reports.as_text
            session.output.result(shape(done))
        else:  # the command prints another result
            session.output.progress(reports.as_text(done))
        code = code or max(report.exit_code for report in done)
        if code:
            session.output.progress(f"log of this run: {log.path}")
        else:
            session.output.detail(f"log: {log.path}")
    return code


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
