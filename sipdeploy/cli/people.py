"""Commands for all users: users, users import, users export, secrets rotate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sipdeploy import inventory
from sipdeploy.cli.changing import carry_out, changing
from sipdeploy.cli.session import FORMAT, Session, host_names
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.editing import draft, problems, tables
from sipdeploy.editing.vault import new_password
from sipdeploy.inventory import files, reading
from sipdeploy.inventory.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sipdeploy.editing.draft import Draft


@click.group(
    "users", short_help="List the users; import and export them.", invoke_without_command=True
)
@click.option(
    "--on",
    "hosts",
    multiple=True,
    metavar="HOST",
    shell_complete=host_names,
    help="Read registrations and waiting messages from HOST; repeatable.",
)
@FORMAT
@click.pass_context
def users_command(ctx: click.Context, /, hosts: tuple[str, ...], form: str) -> None:
    """List the users; with --on, also their registrations: address, time and device.

    \b
    Examples:
      sipdeploy users
      sipdeploy users --on sip1 --format json
      sipdeploy users import people.csv --apply sip1
      sipdeploy users export > people.csv
    """
    if ctx.invoked_subcommand is not None:
        return
    session: Session = ctx.obj
    loaded = inventory.open_inventory(session.inventory)
    present: Mapping[str, tables.Presence] = {}
    if hosts:
        names = inventory.chosen_hosts(loaded, hosts)
        from sipdeploy.cli import live

        present = live.presences(loaded.site, names)
    show = tables.as_json if form == "json" else tables.as_text
    session.output.result(show(loaded.site, present))


@users_command.command("import", short_help="Add all users of a CSV file.")
@click.argument("file", type=click.Path(path_type=Path))
@changing
@click.pass_obj
def import_command(
    session: Session, /, file: Path, *, hosts: tuple[str, ...], dry_run: bool, is_agreed: bool
) -> int:
    """Add all users of the CSV file FILE, or no user if a line is not valid.

    The first line names the columns: number, and optionally name, voicemail, max_contacts and
    password. sipdeploy generates a strong password for users without one.

    \b
    Example:
      sipdeploy users import people.csv --dry-run
    """
    text, unreadable = reading.read(file)
    if text is None:
        raise InvalidFiles(unreadable)
    rows = tables.read_csv(text, str(file))
    users = {number: user for number, (user, _) in rows.items()}
    passwords = {n: given or Secret(new_password()) for n, (_, given) in rows.items()}
    work = partial(draft.add, users=users, passwords=passwords)
    return carry_out(
        session,
        work,
        f"import of {len(rows)} user{'' if len(rows) == 1 else 's'}",
        hosts=hosts,
        dry_run=dry_run,
        is_agreed=is_agreed,
    )[1]


@users_command.command("export", short_help="Print all users as CSV.")
@click.option(
    "--passwords",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the CSV with the passwords to FILE, mode 0600.",
)
@click.pass_obj
def export_command(session: Session, file: Path | None) -> None:
    """Print all users as CSV for `users import`, without their passwords.

    \b
    Examples:
      sipdeploy users export > people.csv
      sipdeploy users export --passwords people.csv
    """
    loaded = inventory.open_inventory(session.inventory)
    if file is None:
        session.output.result(tables.as_csv(loaded.site).rstrip("\n"))
        return
    passwords = inventory.secrets(loaded)
    try:
        files.replace_file(file, tables.as_csv(loaded.site, passwords).encode(), 0o600)
    except OSError as failure:
        raise problems.not_written(failure) from failure
    session.output.progress(f"{file}: {len(passwords)} users with their passwords")


@click.group("secrets", short_help="Give all users new passwords.")
def secrets_command() -> None:
    """Manage the passwords of all users at once."""


@secrets_command.command("rotate")
@click.option(
    "--grace",
    "kept",
    multiple=True,
    metavar="NUMBER",
    help="Keep the password of NUMBER; repeatable.",
)
@changing
@click.pass_obj
def rotate_command(
    session: Session,
    /,
    kept: tuple[str, ...],
    *,
    hosts: tuple[str, ...],
    dry_run: bool,
    is_agreed: bool,
) -> int:
    """Give all users new passwords, except those named with --grace.

    With --apply, sipdeploy disconnects their phones, which can register only with the new
    passwords. `sipdeploy users export --passwords FILE` writes these to a file.

    \b
    Examples:
      sipdeploy secrets rotate --apply sip1
      sipdeploy secrets rotate --grace 1001 --grace 1002
    """

    def work(begun: Draft) -> Draft:
        draft.require_known(begun, kept)
        numbers = [number for number in begun.before.site.users if number not in kept]
        return draft.set_passwords(begun, {n: Secret(new_password()) for n in numbers})

    return carry_out(
        session, work, "new passwords", hosts=hosts, dry_run=dry_run, is_agreed=is_agreed
    )[1]
