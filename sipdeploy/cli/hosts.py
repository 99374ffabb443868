"""Commands that reach hosts: plan, apply, rollback, history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sipdeploy import inventory
from sipdeploy.cli.session import Session, host_names
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sipdeploy.host.connection import Ahead
    from sipdeploy.inventory import Inventory

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


@click.command("plan", short_help="Show what `apply` would do, and what it costs right now.")
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
    check: bool,
    diffs: bool,
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
    with _ahead(loaded, names) as ahead:
        from sipdeploy.cli import work  # noqa: PLC0415 - while the connections are opened
        from sipdeploy.transaction import Options  # noqa: PLC0415 - the same

        options = Options(folder=loaded.directory, connect=ahead.take)
        return work.plan(
            session, loaded, names, options, form=form, file=file, check=check, diffs=diffs
        )


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
    session: Session,
    /,
    hosts: tuple[str, ...],
    form: str,
    *,
    is_agreed: bool,
    parallel: int,
    all_or_nothing: bool,
    overwrites: bool,
    lock_wait_seconds: int,
    breaks_lock: bool,
    confirm_seconds: int,
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
    agreed = None
    if len(hosts) == 1 and hosts[0].endswith(".json"):
        from sipdeploy.cli import work  # noqa: PLC0415 - the file says which hosts

        agreed = work.saved_plans(hosts)
    if not is_agreed and agreed is None:
        session.output.require_somebody()
    loaded = inventory.load(session.inventory)
    names = inventory.chosen_hosts(loaded, list(agreed) if agreed is not None else hosts)
    with _ahead(loaded, names) as ahead:
        from sipdeploy.cli import work  # noqa: PLC0415 - while the connections are opened
        from sipdeploy.transaction import Options  # noqa: PLC0415 - the same

        options = Options(
            folder=loaded.directory,
            connect=ahead.take,
            purpose=f"apply {' '.join(hosts)}".strip(),
            saved=agreed,
            agree=None if is_agreed or agreed is not None else session.output.agree,
            parallel=parallel,
            all_or_nothing=all_or_nothing,
            overwrites=overwrites,
            lock_wait_seconds=lock_wait_seconds,
            breaks_lock=breaks_lock,
            confirm_seconds=confirm_seconds,
        )
        return work.apply(session, loaded, names, options, form=form)


@click.command("rollback", short_help="Bring HOST back to a release that it keeps.")
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
    overwrites: bool,
    lock_wait_seconds: int,
    breaks_lock: bool,
    confirm_seconds: int,
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
    with _ahead(loaded, [name]) as ahead:
        from sipdeploy.cli import work  # noqa: PLC0415 - while the connection is opened
        from sipdeploy.transaction import Options  # noqa: PLC0415 - the same

        options = Options(
            folder=loaded.directory,
            connect=ahead.take,
            purpose=f"rollback {name} {release or ''}".strip(),
            agree=None if is_agreed else session.output.agree,
            overwrites=overwrites,
            lock_wait_seconds=lock_wait_seconds,
            breaks_lock=breaks_lock,
            confirm_seconds=confirm_seconds,
        )
        return work.rollback(session, loaded, name, options, form=form, release=release)


@click.command("history", short_help="Show the releases that HOST keeps.")
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
    from sipdeploy.cli import work  # noqa: PLC0415 - as with the others

    return work.history(session, loaded, name, form)


@click.command("cert", short_help="Show the certificate of each port, and how renewal stands.")
@click.argument("host", shell_complete=host_names)
@click.option("--renew", "is_renewal", is_flag=True, help="Have it renewed now.")
@click.option("--test", "is_test", is_flag=True, help="Rehearse a renewal; nothing is kept of it.")
@click.option(
    "--days",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Exit with 1 when fewer are left.",
)
@_FORMAT
@click.pass_obj
def cert_command(
    session: Session, /, host: str, form: str, *, days: int, is_renewal: bool, is_test: bool
) -> int:
    """Show which certificate HOST serves on each port, and how its renewal stands.

    Exits with 1 when something is amiss: a port that serves another one than the file, too few
    days left, a renewal that failed. certbot on the host renews by itself; `--renew` does not wait
    for that, and `--test` asks the test server of Let's Encrypt, which counts nothing.

    \b
    Examples:
      sipdeploy cert sip1 --days 20
      sipdeploy cert sip1 --test && sipdeploy cert sip1 --renew
    """  # noqa: D301  # click wants the character itself
    if is_renewal and is_test:
        raise WrongUsage([_usage("`--renew` and `--test` exclude each other", "choose one")])
    loaded = inventory.load(session.inventory)
    (name,) = inventory.chosen_hosts(loaded, [host])
    if loaded.site.tls.provider != "letsencrypt" and (is_renewal or is_test):
        message = f"certbot renews nothing with `tls.provider: {loaded.site.tls.provider}`"
        raise WrongUsage([_usage(message, "`sipdeploy apply` brings a new certificate to hosts")])
    with _ahead(loaded, [name]) as ahead:
        from sipdeploy.cli import work  # noqa: PLC0415 - while the connection is opened

        return work.cert(
            session,
            loaded,
            name,
            ahead,
            form=form,
            days=days,
            is_renewal=is_renewal,
            is_test=is_test,
        )


def _ahead(loaded: Inventory, names: Sequence[str]) -> Ahead:
    """Connections to be opened while all that is needed for the rest is imported."""
    from sipdeploy.host.connection import Ahead  # noqa: PLC0415 - no other command needs Paramiko

    return Ahead((name, loaded.site.hosts[name]) for name in names)


def _usage(message: str, advice: str) -> Diagnostic:
    return Diagnostic("SD002", message, help=advice)
