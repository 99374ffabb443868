"""Commands of the transaction: plan, apply, rollback."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from sipdeploy.cli.session import (
    FORMAT,
    Duration,
    Session,
    host_names,
    opened_ahead,
)
from sipdeploy.diagnostics import Diagnostic, count, reason_of
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.inventory import (
    chosen_hosts,
    files,
    open_for_host,
    open_inventory,
    refuse_placeholders,
)

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory
    from sipdeploy.plan import Plan
    from sipdeploy.transaction import Planned, Report

YES = click.option("--yes", "is_agreed", is_flag=True, help="Do not ask for confirmation.")
VERIFY = click.option(
    "--verify",
    "verify",
    type=click.Choice(["ports", "quick", "full", "none"]),
    default="quick",
    show_default=True,
    help="Level of the proof from this machine, see `sipdeploy verify`.",
)


def with_transaction(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that apply and rollback share."""
    options = (
        click.option(
            "--overwrite", "overwrites", is_flag=True, help="Replace files edited on the host."
        ),
        click.option(
            "--lock-wait",
            "lock_wait_seconds",
            type=click.IntRange(min=0),
            default=0,
            metavar="SECONDS",
            help="Wait up to SECONDS for another apply to finish.",
        ),
        click.option(
            "--break-lock",
            "breaks_lock",
            is_flag=True,
            help="Take over the lock of a dead apply.",
        ),
        click.option(
            "--confirm-timeout",
            "confirm_seconds",
            type=click.IntRange(min=5),
            default=120,
            show_default=True,
            metavar="SECONDS",
            help="Seconds until the host rolls back an unconfirmed apply.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


TAKE_OVER = click.option(
    "--take-over",
    "takes_over",
    is_flag=True,
    help="Also if HOST serves another domain, or if each of its users gets another password.",
)


def with_trial(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that keep a run unconfirmed for a while."""
    command = click.option(
        "--watch",
        "watch_seconds",
        type=Duration(),
        default=0,
        callback=_check_trial,
        metavar="TIME",
        help="Compare registrations and calls with before, for TIME (15m); go back if worse.",
    )(command)
    return click.option(
        "--try",
        "try_seconds",
        type=Duration(),
        default=0,
        is_eager=True,
        metavar="TIME",
        help="Go back after TIME (10m), unless `sipdeploy confirm HOST` says yes.",
    )(command)


def _check_trial(ctx: click.Context, option: click.Parameter, watch_seconds: int) -> int:
    """WrongUsage (SD002) for both options: one asks a person, the other decides by itself."""
    del option
    if ctx.params.get("try_seconds") and watch_seconds:
        advice = "take `--try`, after which you decide, or `--watch`, which decides by itself"
        message = "`--try` and `--watch` contradict each other"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])
    return watch_seconds


@click.command("plan", short_help="Show what `apply` would change and interrupt.")
@click.argument("hosts", metavar="[HOST...]", nargs=-1, shell_complete=host_names)
@click.option("--check", is_flag=True, help="Exit with 1 if there are changes.")
@click.option("--diff/--no-diff", "diffs", default=True, help="Show the differences in files.")
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the plan for `sipdeploy apply FILE`; the name must end in .json.",
)
@FORMAT
@click.pass_obj
def plan_command(
    session: Session,
    /,
    hosts: tuple[str, ...],
    form: str,
    *,
    file: Path | None,
    check: bool,
    diffs: bool,
) -> int:
    """Show what `apply` would change on HOSTS, or on all hosts, and what it would interrupt now.

    plan runs the code of apply, but neither locks a host nor changes its configuration. If
    packages are missing and the package lists of the host are older than a day, it updates these
    lists (`apt-get update`), and says so. It hides secrets.

    \b
    Examples:
      sipdeploy plan
      sipdeploy plan sip1 --check --no-diff        find edits made on the host
      sipdeploy plan -o plan.json && sipdeploy apply plan.json
    """
    if file is not None and file.suffix != ".json":
        raise WrongUsage(
            [Diagnostic("SD002", f"`{file}` does not end in .json", help="name it `plan.json`")]
        )
    if file is not None:
        _write(lambda: files.check_writable(file))
    loaded = open_inventory(session.inventory)
    names = chosen_hosts(loaded, hosts)
    refuse_placeholders(loaded, names)
    with opened_ahead(loaded, names) as ahead:
        from sipdeploy import transaction

        options = transaction.Options(folder=loaded.directory, connect=ahead.take, foreign="warn")
        credentials = session.credentials(loaded)
        with session.output.steps() as say:
            planned = transaction.plan(
                loaded.site, names, credentials=credentials, say=say, options=options
            )
    for each in planned:
        session.output.problems(each.diagnostics, each.sources)
    session.output.result(shown_plans(planned, form, diffs=diffs, is_whole=session.output.verbose))
    if failed := max(each.exit_code for each in planned):
        return failed
    plans = {each.host: each.plan for each in planned if each.plan is not None}
    if file is not None:
        _save(session, plans, file)
    return int(check and any(not plan.is_empty for plan in plans.values()))


def shown_plans(planned: Sequence[Planned], form: str, *, diffs: bool, is_whole: bool) -> str:
    """The plans of all hosts, as text or JSON."""
    from sipdeploy.plan import text

    rows = [(each.host, each.plan, each.present) for each in planned if each.plan is not None]
    if form == "json":
        return json.dumps({"hosts": [text.as_data(*row) for row in rows]}, indent=2)
    return "\n".join(
        text.as_text(*row, diffs=diffs, is_whole=is_whole, proof="quick") for row in rows
    )


def _save(session: Session, plans: Mapping[str, Plan], file: Path) -> None:
    from sipdeploy.plan import saved

    _write(lambda: files.replace_file(file, saved.dump(plans).encode(), 0o600))
    session.output.progress(
        f"saved; `sipdeploy apply {file}` carries out exactly this plan, or refuses"
    )


def _write(write: Callable[[], None]) -> None:
    """Write the file of `-o`, or check that this is possible; InvalidFiles (SD110) if not."""
    try:
        write()
    except OSError as failure:
        raise InvalidFiles([files.unwritable(failure)]) from failure


def _saved_plans(hosts: Sequence[str]) -> dict[str, dict[str, object]] | None:
    """The plans in a file (NAME.json), by host; None if `hosts` names hosts.

    InvalidFiles (SD529) if the file cannot be read.
    """
    if len(hosts) != 1 or not hosts[0].endswith(".json"):
        return None
    from sipdeploy.plan import saved

    try:
        content = Path(hosts[0]).read_text("utf-8")
    except (OSError, ValueError) as unreadable:
        problem = Diagnostic(
            "SD529",
            f"the plan `{hosts[0]}` cannot be read: {_why_unread(unreadable)}",
            help=f"`sipdeploy plan -o {hosts[0]}` writes one",
        )
        raise InvalidFiles([problem]) from unreadable
    return saved.load(content, hosts[0])


def _why_unread(failure: Exception) -> str:
    return "it is not text" if isinstance(failure, UnicodeError) else reason_of(failure)


@click.command("apply", short_help="Configure hosts as the inventory says.")
@click.argument("hosts", nargs=-1, metavar="[HOST...|PLAN.json]", shell_complete=host_names)
@YES
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Change N hosts at a time.",
)
@click.option("--all-or-nothing", is_flag=True, help="If one host fails, roll all hosts back.")
@VERIFY
@TAKE_OVER
@with_trial
@with_transaction
@FORMAT
@click.pass_obj
def apply_command(
    session: Session,
    /,
    hosts: tuple[str, ...],
    form: str,
    *,
    is_agreed: bool,
    verify: Literal["ports", "quick", "full", "none"],
    takes_over: bool,
    **values: Any,
) -> int:
    """Configure HOSTS, or all hosts of the inventory, as the inventory says.

    sipdeploy first stages the files on all hosts, where their own daemons validate them; then it
    changes one host after the other, and uses it from here, as phones do. If verification fails or
    the connection is lost, the host returns to its previous release. A second apply does nothing.

    \b
    Examples:
      sipdeploy apply sip1
      sipdeploy apply plan.json               what `plan -o plan.json` saved
      sipdeploy apply sip1 --try 10m          back after 10 min, unless confirmed
    """
    agreed = _saved_plans(hosts)
    if asks := not is_agreed and agreed is None:
        session.output.require_terminal("apply")
    loaded = open_inventory(session.inventory)
    names = chosen_hosts(loaded, list(agreed) if agreed is not None else hosts)
    refuse_placeholders(loaded, names)
    with opened_ahead(loaded, names) as ahead:
        from sipdeploy.cli import run
        from sipdeploy.transaction import Options

        options = Options(
            folder=loaded.directory,
            connect=ahead.take,
            purpose=f"apply {' '.join(hosts)}".strip(),
            saved=agreed,
            agree=partial(session.output.agree, proof=verify) if asks else None,
            verify=verify,
            foreign="warn" if takes_over else "refuse",
            **values,
        )
        code, reports = run.apply(session, loaded, names, options, form=form)
    return say_next(session, loaded, reports, code)


def say_next(session: Session, loaded: Inventory, reports: Sequence[Report], code: int = 0) -> int:
    """Name the next step after the first apply of a host, if it succeeded; its exit code."""
    if not code and any(each.state == "applied" and is_first(each.changes) for each in reports):
        session.output.progress(next_step(session, loaded))
    return code


def is_first(changes: Sequence[str]) -> bool:
    """Whether these changes made a calling system of a host that was none.

    Kamailio's package may have brought a kamailio.cfg before, but no file of sipdeploy's own.
    """
    return any(line.startswith("+ /etc/kamailio/credentials.sum") for line in changes)


def next_step(session: Session, loaded: Inventory) -> str:
    """The first call, or the first user."""
    from sipdeploy.services.phone import page

    named = session.named
    given = "" if named is None else f" -i {shlex.quote(str(named))}"
    numbers = " ".join(list(loaded.site.users)[:2])
    if not numbers:
        return f"next: `sipdeploy{given} add-user 1001 --apply`"
    if address := page.address(loaded.site):
        return (
            f"next: open {address} and sign in; `sipdeploy{given} phone {numbers}` prints numbers "
            "and passwords, `--sheet FILE` writes a page for each user"
        )
    return f"next: `sipdeploy{given} phone --open {numbers}` opens a phone in your browser"


def opened_for(session: Session, hosts: Sequence[str]) -> dict[str, Inventory]:
    """The inventory for each host, for a command that needs only how the hosts are reached."""
    opened, errors = {}, 0
    for host in hosts:
        loaded, problems = open_for_host(session.inventory, host)
        (name,) = chosen_hosts(loaded, [host])
        opened[name], errors = loaded, max(errors, len(problems))
    if errors:
        used = ", ".join(f"`hosts.{name}`" for name in opened)
        session.output.progress(
            f"{session.inventory} has {count(errors, 'error')} (see `sipdeploy lint`); "
            f"only {used} is used"
        )
    return opened


@click.command("rollback", short_help="Restore a release that HOST keeps.")
@click.argument("host", shell_complete=host_names)
@click.argument("release", required=False, type=click.IntRange(min=1))
@click.option(
    "--with-users",
    is_flag=True,
    help="Also restore its users and passwords: removed users and old passwords are valid again.",
)
@VERIFY
@click.option(
    "--keep-packages", "keeps_packages", is_flag=True, help="Do not take back an upgrade."
)
@YES
@with_transaction
@FORMAT
@click.pass_obj
def rollback_command(
    session: Session,
    /,
    host: str,
    release: int | None,
    form: str,
    *,
    with_users: bool,
    verify: Literal["ports", "quick", "full", "none"],
    keeps_packages: bool,
    is_agreed: bool,
    overwrites: bool,
    lock_wait_seconds: int,
    breaks_lock: bool,
    confirm_seconds: int,
) -> int:
    """Restore RELEASE on HOST, or the release before the current one.

    rollback is a transaction like apply: it stages, validates, verifies and confirms, and makes a
    new release. Users and passwords stay as they are on HOST, unless you add --with-users. It does
    not change the inventory: correct that, or the next apply returns to it.
    It needs only the entry of HOST, and works while the rest of the inventory has errors.

    \b
    Examples:
      sipdeploy history sip1 && sipdeploy rollback sip1 3
      sipdeploy rollback sip1 3 --with-users      names who comes back, and asks
    """
    if not is_agreed:
        session.output.require_terminal("roll back")
    ask = partial(session.output.agree, question="roll {} back to this?", proof=verify)
    ((name, loaded),) = opened_for(session, [host]).items()
    purpose = f"rollback {name} {release or ''}".strip()
    with opened_ahead(loaded, [name]) as ahead:
        from sipdeploy import transaction
        from sipdeploy.cli import run

        options = transaction.Options(
            folder=loaded.directory,
            connect=ahead.take,
            purpose=f"{purpose} --with-users" if with_users else purpose,
            agree=None if is_agreed and not with_users else partial(ask, is_agreed=is_agreed),
            verify=verify,
            overwrites=overwrites,
            lock_wait_seconds=lock_wait_seconds,
            breaks_lock=breaks_lock,
            confirm_seconds=confirm_seconds,
        )
        run.check_proof(options)
        restore = partial(transaction.rollback, loaded.site, name, release, options=options)
        chosen = partial(restore, with_users=with_users, keeps_packages=keeps_packages)
        code, reports = run.transact(session, lambda say: chosen(say=say), form=form)
    if not (code or with_users or any(report.changes for report in reports)):
        _say_same(session, purpose)
    return code


def _say_same(session: Session, purpose: str) -> None:
    advice = f"`sipdeploy {purpose} --with-users` restores its users and passwords"
    session.output.progress(f"that release does not differ, apart from users; {advice}")
