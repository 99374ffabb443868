"""Commands for one user at a time: add-user, remove-user, set-password."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from sipdeploy import inventory
from sipdeploy.cli.changing import carry_out, changing
from sipdeploy.cli.session import FORMAT
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.editing import draft, problems
from sipdeploy.editing.vault import new_password
from sipdeploy.inventory import fields
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.site import User

if TYPE_CHECKING:
    from sipdeploy.cli.session import Session
    from sipdeploy.editing.draft import Draft

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
    register as the new user on HOST; it unregisters afterwards.

    \b
    Examples:
      sipdeploy add-user 1003 --name "Carol Smith" --apply sip1
      pass show sip/1003 | sipdeploy add-user 1003 --password-stdin
      sipdeploy add-user 1003 --dry-run
    """
    user = _user(number, name=name, voicemail=voicemail, max_contacts=max_contacts)
    password = _given_password() if password_stdin else Secret(new_password())

    def work(begun: Draft) -> Draft:
        return draft.add(begun, {number: user}, {number: password})

    done, code = carry_out(
        session, work, f"add-user {number}", hosts=hosts, dry_run=dry_run, is_agreed=is_agreed
    )
    if not dry_run:
        from sipdeploy.editing import settings

        shown = settings.settings(
            done.after.site, number, None if password_stdin else password.reveal()
        )
        is_seen = form == "text" and sys.stdout.isatty() and not password_stdin
        session.output.result(
            settings.as_json(shown) if form == "json" else settings.as_text(shown)
        )
        session.output.result(settings.qr(shown) if is_seen else "")
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
    """Remove users from the inventory and the secrets file, and with --apply from HOST.

    HOST ends their registrations and closes their connections at once. Their messages stay on the
    host unless you add --delete-voicemail. Their calls with services continue unless you add
    --end-calls; calls between two phones continue until one of them hangs up.

    \b
    Examples:
      sipdeploy remove-user 1003 --apply sip1
      sipdeploy remove-user 1003 1004 --apply sip1 --delete-voicemail --end-calls
    """
    if (delete_voicemail or end_calls) and not hosts:
        option = "--delete-voicemail" if delete_voicemail else "--end-calls"
        message = f"`{option}` needs a host"
        raise WrongUsage([Diagnostic("SD002", message, help="add `--apply HOST`")])
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

        site, names = done.after.site, inventory.chosen_hosts(done.after, hosts)
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

    With --apply, HOST disconnects the phones of the user, which can register only with the new
    password.

    \b
    Examples:
      sipdeploy set-password 1003 --apply sip1
      pass show sip/1003 | sipdeploy set-password 1003 --password-stdin
    """
    password = _given_password() if password_stdin else Secret(new_password())
    done, code = carry_out(
        session,
        lambda begun: draft.set_passwords(begun, {number: password}),
        f"set-password {number}",
        hosts=hosts,
        dry_run=dry_run,
        is_agreed=is_agreed,
    )
    if not dry_run and not password_stdin:
        from sipdeploy.editing import settings

        shown = settings.settings(done.after.site, number, password.reveal())
        session.output.result(
            settings.as_json(shown) if form == "json" else settings.as_text(shown)
        )
    return code


def _user(number: str, *, name: str, voicemail: bool, max_contacts: int) -> User:
    """The user as the inventory describes it; WrongUsage lists every invalid value."""
    checks = ((fields.user_number, number), (fields.name, name))
    wrong = [fault.at() for fault in fields.faults(checks)]
    if wrong:
        raise WrongUsage(wrong)
    return User(name=name, voicemail=voicemail, max_contacts=max_contacts)


def _given_password() -> Secret:
    """The first line of standard input, not echoed on a terminal; WrongUsage if not valid."""
    if sys.stdin.isatty():
        text = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise problems.bad_password("is empty")
    if fields.CONTROL.search(text):
        raise problems.bad_password("contains a control character")
    return Secret(text)
