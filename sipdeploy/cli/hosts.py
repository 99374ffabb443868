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
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format."
)
_YES = click.option("--yes", "is_agreed", is_flag=True, help="Do not ask for confirmation.")


def _transaction(command: Callable[..., Any]) -> Callable[..., Any]:
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


@click.command("plan", short_help="Show what `apply` would change and interrupt.")
@click.argument("hosts", nargs=-1, shell_complete=host_names)
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
    """Show what `apply` would change on HOSTS, or on all hosts, and what it would interrupt now.

    plan runs the code of apply, but neither locks nor changes a host. It hides secrets.

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
    loaded = inventory.open_inventory(session.inventory)
    names = inventory.chosen_hosts(loaded, hosts)
    with _ahead(loaded, names) as ahead:
        from sipdeploy.cli import work
        from sipdeploy.transaction import Options

        options = Options(folder=loaded.directory, connect=ahead.take)
        return work.plan(
            session, loaded, names, options, form=form, file=file, check=check, diffs=diffs
        )


@click.command("apply", short_help="Configure hosts as the inventory says.")
@click.argument("hosts", nargs=-1, metavar="[HOST...|PLAN.json]", shell_complete=host_names)
@_YES
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Change N hosts at a time.",
)
@click.option("--all-or-nothing", is_flag=True, help="If one host fails, roll all hosts back.")
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
    """Configure HOSTS, or all hosts of the inventory, as the inventory says.

    sipdeploy first stages the files on all hosts, where their own daemons validate them; then it
    changes one host after the other. If verification fails or the connection is lost, the host
    returns to its previous release. A second apply changes, reloads and restarts nothing.

    \b
    Examples:
      sipdeploy apply sip1
      sipdeploy apply --yes                   all hosts, without asking
      sipdeploy apply plan.json               a plan saved with `sipdeploy plan -o plan.json`
      sipdeploy apply --yes --parallel 4 --all-or-nothing
    """
    agreed = None
    if len(hosts) == 1 and hosts[0].endswith(".json"):
        from sipdeploy.cli import work

        agreed = work.saved_plans(hosts)
    if not is_agreed and agreed is None:
        session.output.require_terminal()
    loaded = inventory.open_inventory(session.inventory)
    names = inventory.chosen_hosts(loaded, list(agreed) if agreed is not None else hosts)
    with _ahead(loaded, names) as ahead:
        from sipdeploy.cli import work
        from sipdeploy.transaction import Options

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


@click.command("rollback", short_help="Restore a release that HOST keeps.")
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
    """Restore RELEASE on HOST, or the release before the current one.

    rollback is a transaction like apply: it stages, validates, verifies and confirms, and makes a
    new release. It does not change the inventory: correct that, or the next apply returns to it.

    \b
    Examples:
      sipdeploy rollback sip1
      sipdeploy history sip1 && sipdeploy rollback sip1 3
    """
    if not is_agreed:
        session.output.require_terminal()
    loaded = inventory.open_inventory(session.inventory)
    (name,) = inventory.chosen_hosts(loaded, [host])
    with _ahead(loaded, [name]) as ahead:
        from sipdeploy.cli import work
        from sipdeploy.transaction import Options

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
    """Show the releases that HOST keeps: number, time, author and changes.

    \b
    Example:
      sipdeploy history sip1
    """
    loaded = inventory.open_inventory(session.inventory)
    (name,) = inventory.chosen_hosts(loaded, [host])
    from sipdeploy.cli import work

    return work.history(session, loaded, name, form)


@click.command("cert", short_help="Show the certificate of each port and the state of renewal.")
@click.argument("host", shell_complete=host_names)
@click.option("--renew", "is_renewal", is_flag=True, help="Renew the certificate now.")
@click.option("--test", "is_test", is_flag=True, help="Rehearse a renewal; keep nothing.")
@click.option(
    "--days",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Exit with 1 if the certificate expires in fewer than N days.",
)
@_FORMAT
@click.pass_obj
def cert_command(
    session: Session, /, host: str, form: str, *, days: int, is_renewal: bool, is_test: bool
) -> int:
    """Show which certificate HOST serves on each port, and the state of its renewal.

    Exits with 1 if a port does not serve the certificate in the file, if the certificate expires
    soon, or if a renewal failed. certbot on the host renews without sipdeploy; `--renew` renews at
    once, and `--test` uses the test server of Let's Encrypt, which has no rate limits.

    \b
    Examples:
      sipdeploy cert sip1 --days 20
      sipdeploy cert sip1 --test && sipdeploy cert sip1 --renew
    """
    if is_renewal and is_test:
        raise WrongUsage(
            [Diagnostic("SD002", "`--renew` and `--test` exclude each other", help="choose one")]
        )
    loaded = inventory.open_inventory(session.inventory)
    (name,) = inventory.chosen_hosts(loaded, [host])
    if loaded.site.tls.provider != "letsencrypt" and (is_renewal or is_test):
        message = f"`tls.provider: {loaded.site.tls.provider}` has no renewal by certbot"
        advice = "`sipdeploy apply` installs a new certificate"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])
    with _ahead(loaded, [name]) as ahead:
        from sipdeploy.cli import work

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
    """Open the connections in the background while Python imports the rest."""
    from sipdeploy.host.connection import Ahead

    return Ahead((name, loaded.site.hosts[name]) for name in names)
