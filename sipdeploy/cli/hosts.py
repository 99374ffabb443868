"""Commands that reach hosts: plan, apply, rollback, history."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sipdeploy import apply as application
from sipdeploy import inventory, runlog
from sipdeploy.apply import Choices, Interrupted, Planned, Report, reports
from sipdeploy.cli.session import Session, host_names
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.errors import InvalidFiles, WrongUsage
from sipdeploy.plan import saved, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sipdeploy.inventory import Inventory
    from sipdeploy.steps import Event

INTERRUPTED = 130
_FORMAT = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to show it."
)
_YES = click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")


def _transaction(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every transaction has."""
    options = (
        click.option(
            "--overwrite", "overwrites", is_flag=True, help="Replace edits made on the host."
        ),
        click.option(
            "--lock-wait",
            "lock_wait_seconds",
            type=click.IntRange(min=0),
            default=0,
            metavar="SECONDS",
            help="Wait for another apply to end.",
        ),
        click.option(
            "--break-lock",
            "breaks_lock",
            is_flag=True,
            help="Take the lock from an apply that is dead.",
        ),
        click.option(
            "--confirm-timeout",
            "confirm_seconds",
            type=click.IntRange(min=5),
            default=120,
            show_default=True,
            metavar="SECONDS",
            help="When the host undoes by itself what nobody has confirmed.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("plan")
@click.argument("hosts", nargs=-1, shell_complete=host_names)
@click.option("--check", is_flag=True, help="Exit with 1 when there are changes.")
@click.option("--diff/--no-diff", "diffs", default=True, help="Show what changes inside files.")
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save it for `sipdeploy apply FILE`; the name must end in .json.",
)
@_FORMAT
@click.pass_obj
def plan_command(
    session: Session,
    /,
    hosts: tuple[str, ...],
    form: str,
    *,
    file: Path | None,
    **flags: bool,
) -> int:
    """Show what `apply` would do to HOSTS, or to all, and what it would cost right now.

    Works with the code of apply itself, locks nothing and changes nothing. Secrets are hidden.

    \b
    Examples:
      sipdeploy plan
      sipdeploy plan sip1 --check --no-diff        has anybody edited the host?
      sipdeploy plan -o plan.json && sipdeploy apply plan.json
    """  # noqa: D301  # click wants the character itself
    if file is not None and file.suffix != ".json":
        raise WrongUsage([_usage(f"`{file}` does not end in .json", "name it `plan.json`")])
    loaded = inventory.load(session.inventory)
    names = inventory.chosen_hosts(loaded, hosts)
    credentials = _credentials(session, loaded)
    with session.output.steps() as say:
        planned = application.plan(
            loaded.site,
            names,
            credentials=credentials,
            say=say,
            choices=Choices(folder=loaded.directory),
        )
    for each in planned:
        session.output.problems(each.diagnostics, each.sources)
    session.output.result(_shown(planned, form, diffs=flags["diffs"]))
    failed = max(each.exit_code for each in planned)
    if failed:
        return failed
    plans = {each.host: each.plan for each in planned if each.plan is not None}
    if file is not None:
        runlog.write_private(file, saved.dump(plans))
        session.output.progress(f"saved: `sipdeploy apply {file}` does just this, or refuses")
    return int(flags["check"] and any(not plan.is_empty for plan in plans.values()))


def _shown(planned: Sequence[Planned], form: str, *, diffs: bool) -> str:
    there = [(each.host, each.plan, each.look) for each in planned if each.plan is not None]
    if form == "json":
        return json.dumps({"hosts": [text.as_data(*row) for row in there]}, indent=2)
    return "\n".join(text.as_text(*row, diffs=diffs) for row in there)


@click.command("apply")
@click.argument("hosts", nargs=-1, metavar="[HOST...|PLAN.json]", shell_complete=host_names)
@_YES
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Change N hosts at the same time.",
)
@click.option(
    "--all-or-nothing", is_flag=True, help="When one host fails, roll back those done before it."
)
@_transaction
@_FORMAT
@click.pass_obj
def apply_command(
    session: Session, /, hosts: tuple[str, ...], form: str, *, is_agreed: bool, **options: Any
) -> int:
    """Bring HOSTS, or all of the inventory, to what it says.

    All hosts are staged, and validated by their own daemons, before the first is touched; then
    one by one. What does not answer afterwards is rolled back, by the host itself where it can no
    longer be reached. A second apply changes, reloads and restarts nothing.

    \b
    Examples:
      sipdeploy apply sip1
      sipdeploy apply --yes                   all hosts, without asking
      sipdeploy apply plan.json               what `sipdeploy plan -o plan.json` has shown
      sipdeploy apply --yes --parallel 4 --all-or-nothing
    """  # noqa: D301  # click wants the character itself
    agreed = _saved(hosts)
    if not is_agreed and agreed is None:
        session.output.require_somebody()
    loaded = inventory.load(session.inventory)
    names = inventory.chosen_hosts(loaded, list(agreed) if agreed is not None else hosts)
    credentials = _credentials(session, loaded)
    choices = Choices(
        folder=loaded.directory,
        purpose=f"apply {' '.join(hosts)}".strip(),
        saved=agreed,
        agree=None if is_agreed or agreed is not None else session.output.agree,
        **options,
    )

    def run(say: Callable[[Event], None]) -> tuple[Report, ...]:
        return application.apply(
            loaded.site, names, credentials=credentials, say=say, choices=choices
        )

    return _run(session, run, form, credentials.values())


def _saved(hosts: Sequence[str]) -> dict[str, dict[str, object]] | None:
    """The plans in a file, where a file is named instead of hosts."""
    if len(hosts) != 1 or not hosts[0].endswith(".json"):
        return None
    try:
        content = Path(hosts[0]).read_text("utf-8")
    except (OSError, ValueError) as unreadable:
        problem = Diagnostic(
            code="SD529",
            severity="error",
            message=f"the plan `{hosts[0]}` cannot be read: {unreadable}",
            help=f"`sipdeploy plan -o {hosts[0]}` writes one",
        )
        raise InvalidFiles([problem]) from unreadable
    return saved.load(content, hosts[0])


@click.command("rollback")
@click.argument("host", shell_complete=host_names)
@click.argument("release", required=False, type=click.IntRange(min=1))
@_YES
@_transaction
@_FORMAT
@click.pass_obj
def rollback_command(
    session: Session,
    /,
    host: str,
    release: int | None,
    form: str,
    *,
    is_agreed: bool,
    **options: Any,
) -> int:
    """Bring HOST back to RELEASE, or to the one before the present one.

    A transaction like any other: staged, validated, verified, confirmed, and a release itself.
    The inventory stays as it is: correct it, or the next apply goes forward again.

    \b
    Examples:
      sipdeploy rollback sip1
      sipdeploy history sip1 && sipdeploy rollback sip1 3
    """  # noqa: D301  # click wants the character itself
    if not is_agreed:
        session.output.require_somebody()
    loaded = inventory.load(session.inventory)
    (name,) = inventory.chosen_hosts(loaded, [host])
    choices = Choices(
        folder=loaded.directory,
        purpose=f"rollback {name} {release or ''}".strip(),
        agree=None if is_agreed else session.output.agree,
        **options,
    )

    def run(say: Callable[[Event], None]) -> tuple[Report, ...]:
        return application.rollback(loaded.site, name, release, say=say, choices=choices)

    return _run(session, run, form, ())


@click.command("history")
@click.argument("host", shell_complete=host_names)
@_FORMAT
@click.pass_obj
def history_command(session: Session, host: str, form: str) -> int:
    """Show the releases that HOST keeps: who made which, when, and what it changed.

    \b
    Example:
      sipdeploy history sip1
    """  # noqa: D301  # click wants the character itself
    loaded = inventory.load(session.inventory)
    (name,) = inventory.chosen_hosts(loaded, [host])
    kept = application.history(loaded.site, name)
    if form == "json":
        session.output.result(json.dumps({"releases": [asdict(row) for row in kept]}, indent=2))
        return 0
    rows = [
        f"{'*' if row.is_current else ' '} {row.number:>4}  {row.when}  {row.who:<24} "
        f"{row.purpose}: {_summary(row.what)}"
        for row in kept
    ]
    session.output.result("\n".join(rows) or "no release yet")
    return 0


def _summary(what: Sequence[str]) -> str:
    first = ", ".join(what[:2])
    return f"{first} and {len(what) - 2} more" if len(what) > 2 else first  # noqa: PLR2004


def _credentials(session: Session, loaded: Inventory) -> dict[str, str]:
    credentials, problems = inventory.credentials(loaded)
    session.output.problems(problems, loaded.sources)
    return credentials


def _run(
    session: Session,
    run: Callable[[Callable[[Event], None]], tuple[Report, ...]],
    form: str,
    secrets: Iterable[str],
) -> int:
    """Carry out a transaction, shown and logged; its exit code."""
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
        shape = reports.as_json if form == "json" else reports.as_text
        session.output.result(shape(done))
        code = code or max(report.exit_code for report in done)
        if code:
            session.output.progress(f"everything that was done is in {log.path}")
        else:
            session.output.detail(f"log: {log.path}")
    return code


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C: an undo comes first."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _usage(message: str, advice: str) -> Diagnostic:
    return Diagnostic(code="SD002", severity="error", message=message, help=advice)
