"""Commands that change and list users: add-user, remove-user, set-password, users, secrets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sipdeploy import inventory
from sipdeploy.cli.changing import applied_hosts, carry_out, changing
from sipdeploy.cli.output import is_terminal
from sipdeploy.cli.session import FORMAT, Session, described, host_names
from sipdeploy.diagnostics import Diagnostic, count
from sipdeploy.diagnostics.errors import HostFailed, InvalidFiles, WrongUsage
from sipdeploy.editing import draft, private, problems, tables
from sipdeploy.editing.vault import new_password
from sipdeploy.inventory import fields, reading
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.site import User
from sipdeploy.lint.secrets import weakness
from sipdeploy.services.phone import settings

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Span
    from sipdeploy.editing.draft import Draft
    from sipdeploy.services.phone.settings import Settings

_STDIN = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of stdin."
)


@click.command("add-user", short_help="Add a user, with a strong password.")
@click.argument("number")
@click.option("--name", default="", help="Name that phones show.")
@click.option("--voicemail", is_flag=True, help="Let callers leave messages.")
@click.option(
    "--max-contacts",
    type=click.IntRange(1, 100),
    default=User().max_contacts,
    show_default=True,
    metavar="N",
    help="Phones and browser tabs that can register at once.",
)
@_STDIN
@changing
@FORMAT
@click.pass_obj
def add_user_command(
    session: Session,
    /,
    number: str,
    *,
    name: str,
    voicemail: bool,
    max_contacts: int,
    password_stdin: bool,
    form: str,
    hosts: tuple[str, ...],
    dry_run: bool,
    is_agreed: bool,
) -> int:
    """Add the user NUMBER to the inventory, with a strong password in the secrets file.

    Nothing else in the inventory changes. With --apply, the command succeeds only if it could
    register as the new user on each host; it unregisters afterwards.

    \b
    Examples:
      sipdeploy add-user 1003 --name "Carol Smith" --apply
      pass show sip/1003 | sipdeploy add-user 1003 --password-stdin
      sipdeploy add-user 1003 --dry-run
    """
    user = _user(number, name=name, voicemail=voicemail, max_contacts=max_contacts)
    password = given_password() if password_stdin else Secret(new_password())

    def work(begun: Draft) -> Draft:
        done = draft.add(begun, {number: user}, {number: password})
        _warn(session, [(number, user, password, None)])
        return done

    done, code = carry_out(
        session,
        work,
        f"add-user {number}",
        hosts=hosts,
        dry_run=dry_run,
        is_agreed=is_agreed,
        form=form,
    )
    if not dry_run:
        shown = None if password_stdin else password.reveal()
        _show(session, settings.settings(done.after.site, number, shown), form)
    return code


@click.command("remove-user", short_help="Remove users, and end their registrations.")
@click.argument("numbers", nargs=-1, required=True, metavar="NUMBER...")
@click.option(
    "--delete-voicemail", is_flag=True, help="With --apply: also delete messages and greetings."
)
@click.option("--end-calls", is_flag=True, help="With --apply: also hang up calls with services.")
@changing
@click.pass_obj
def remove_user_command(
    session: Session,
    /,
    numbers: tuple[str, ...],
    *,
    delete_voicemail: bool,
    end_calls: bool,
    hosts: tuple[str, ...],
    dry_run: bool,
    is_agreed: bool,
) -> int:
    """Remove users from the inventory and the secrets file, and with --apply from the hosts.

    A host ends their registrations and closes their connections at once. Their messages stay there
    unless you add --delete-voicemail. Their calls with services continue unless you add
    --end-calls; calls between two phones continue until one of them hangs up. A host keeps the HA1
    of a removed user in its older releases, of which `history` shows five of each kind.

    \b
    Examples:
      sipdeploy remove-user 1003 --apply
      sipdeploy remove-user 1003 1004 --apply --delete-voicemail --end-calls
    """
    if (delete_voicemail or end_calls) and not hosts:
        option = "--delete-voicemail" if delete_voicemail else "--end-calls"
        message = f"`{option}` needs `--apply`"
        raise WrongUsage([Diagnostic("SD002", message, help="add `--apply`")])
    gone = list(dict.fromkeys(numbers))
    purpose = f"remove-user {' '.join(gone)}"
    done, code = carry_out(
        session,
        partial(draft.remove, numbers=gone),
        purpose,
        hosts=hosts,
        dry_run=dry_run,
        is_agreed=is_agreed,
    )
    if (delete_voicemail or end_calls) and not code and not dry_run:
        from sipdeploy.cli import live

        site, names = done.after.site, applied_hosts(done.after, hosts)
        with session.output.waiting(described(site, names)):
            if end_calls:
                live.end_calls(site, names, gone)
            if delete_voicemail:
                live.delete_boxes(site, names, gone)
    return code


@click.command("set-password", short_help="Give a user a new password.")
@click.argument("number")
@_STDIN
@changing
@FORMAT
@click.pass_obj
def set_password_command(
    session: Session,
    /,
    number: str,
    *,
    password_stdin: bool,
    form: str,
    hosts: tuple[str, ...],
    dry_run: bool,
    is_agreed: bool,
) -> int:
    """Give the user NUMBER a new password, in the file that holds the current one.

    With --apply, the hosts disconnect the phones of the user, which can register only with the new
    password.

    \b
    Examples:
      sipdeploy set-password 1003 --apply
      pass show sip/1003 | sipdeploy set-password 1003 --password-stdin
    """
    password = given_password() if password_stdin else Secret(new_password())

    def work(begun: Draft) -> Draft:
        done = draft.set_passwords(begun, {number: password})
        _warn(session, [(number, done.after.site.users[number], password, None)])
        return done

    done, code = carry_out(
        session,
        work,
        f"set-password {number}",
        hosts=hosts,
        dry_run=dry_run,
        is_agreed=is_agreed,
        form=form,
    )
    if not dry_run and (not password_stdin or form == "json"):
        shown = None if password_stdin else password.reveal()
        _show(session, settings.settings(done.after.site, number, shown), form)
    return code


def _user(number: str, *, name: str, voicemail: bool, max_contacts: int) -> User:
    """The user as the inventory describes it; WrongUsage lists every invalid value."""
    checks = ((fields.user_number, number), (fields.name, name))
    wrong = [fault.at() for fault in fields.faults(checks)]
    if wrong:
        raise WrongUsage(wrong)
    return User(name=name, voicemail=voicemail, max_contacts=max_contacts)


def _warn(session: Session, given: Iterable[tuple[str, User, Secret | None, Span | None]]) -> None:
    """Warn about weak passwords; generated ones never are. Shows neither password nor reason."""
    session.output.problems(
        [
            problems.weak(number, span)
            for number, user, password, span in given
            if password is not None and weakness(password.reveal(), number, user.name)
        ]
    )


def _show(session: Session, values: Settings, form: str) -> None:
    is_json = form == "json"
    text = json.dumps(settings.as_data(values), indent=2) if is_json else settings.as_text(values)
    session.output.result(text)


def given_password(*, is_new: bool = True) -> Secret:
    """The first line of standard input, not echoed on a terminal; WrongUsage if not valid.

    A terminal asks twice for a new password.
    """
    if is_terminal(sys.stdin):
        text = click.prompt("password", hide_input=True, confirmation_prompt=is_new, err=True)
    else:
        text = _first_line()
    if not text:
        raise problems.bad_password("is empty")
    if fields.CONTROL.search(text):
        raise problems.bad_password("contains a control character")
    return Secret(text)


def _first_line() -> str:
    """The first line of standard input as UTF-8, in whatever encoding the locale names."""
    line = sys.stdin.buffer.readline() if sys.stdin else b""
    try:
        return line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise problems.bad_password("is not UTF-8") from None


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
def users_command(ctx: click.Context, /, hosts: tuple[str, ...], form: str) -> int:
    """List the users; with --on, also their registrations: address, time and device.

    With --on, it also shows each number that is registered and not in the inventory.

    \b
    Examples:
      sipdeploy users
      sipdeploy users --on sip1 --format json
      sipdeploy users import people.csv --apply
      sipdeploy users export > people.csv
    """
    if ctx.invoked_subcommand is not None:
        return 0
    session: Session = ctx.obj
    loaded = inventory.open_inventory(session.inventory)
    show = tables.as_json if form == "json" else tables.as_text
    if not hosts:
        session.output.result(show(loaded.site, {}))
        return 0
    names = inventory.chosen_hosts(loaded, hosts)
    from sipdeploy.cli import live

    with session.output.waiting(described(loaded.site, names)):
        present, silent = live.presences(loaded.site, names)
    if present:
        session.output.result(show(loaded.site, present))
    session.output.problems(silent)
    return HostFailed.exit_code if silent else 0


@users_command.command("import", short_help="Add all users of a CSV file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--update", "is_update", is_flag=True, help="Also change the users that exist.")
@changing
@click.pass_obj
def import_command(
    session: Session,
    /,
    file: Path,
    *,
    is_update: bool,
    hosts: tuple[str, ...],
    dry_run: bool,
    is_agreed: bool,
) -> int:
    """Add all users of the CSV file FILE, or no user if a line is not valid.

    The first line names the columns: number, and optionally name, voicemail, max_contacts and
    password. sipdeploy generates a strong password for new users without one. With --update, it
    changes the users that exist; empty cells and missing columns change nothing, and no user is
    removed.

    \b
    Examples:
      sipdeploy users import people.csv --dry-run
      sipdeploy users import people.csv --update --apply
    """
    text, unreadable = reading.read(
        file, absent="name a CSV file that exists; `sipdeploy users export` prints an example"
    )
    if text is None:
        raise InvalidFiles(unreadable)
    rows = tables.read_csv(text, str(file))

    def work(begun: Draft) -> Draft:
        done = draft.merge(begun, rows, is_update=is_update)
        users = done.after.site.users
        _warn(session, ((n, users[n], row.password, row.span) for n, row in rows.items()))
        return done

    return carry_out(
        session,
        work,
        f"import of {count(len(rows), 'user')}",
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
    help="Write the CSV with the passwords to the new FILE, mode 0600.",
)
@click.pass_obj
def export_command(session: Session, file: Path | None) -> None:
    """Print all users as CSV for `users import`, without their passwords.

    With --passwords, writes the CSV to FILE instead. sipdeploy overwrites no file, and refuses one
    that git would add.

    \b
    Examples:
      sipdeploy users export > people.csv
      sipdeploy users export --passwords people.csv
    """
    loaded = inventory.open_inventory(session.inventory)
    if file is None:
        session.output.result(tables.as_csv(loaded.site).rstrip("\n").encode())
        return
    private.check(file)
    passwords = inventory.secrets(loaded)
    private.create(file, tables.as_csv(loaded.site, passwords).encode())
    session.output.progress(f"{file}: {count(len(passwords), 'user')}, with passwords")


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
      sipdeploy secrets rotate --apply
      sipdeploy secrets rotate --grace 1001 --grace 1002
    """

    def work(begun: Draft) -> Draft:
        draft.require_known(begun, kept)
        draft.require_passwords(begun)
        numbers = [number for number in begun.before.site.users if number not in kept]
        return draft.set_passwords(begun, {n: Secret(new_password()) for n in numbers})

    return carry_out(
        session, work, "new passwords", hosts=hosts, dry_run=dry_run, is_agreed=is_agreed
    )[1]
