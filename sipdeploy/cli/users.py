"""Commands for one user at a time: add-user, remove-user, set-password."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from sipdeploy import inventory
from sipdeploy.cli.changing import FORMAT, carry_out, changing
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.editing import draft, problems
from sipdeploy.editing.vault import new_password
from sipdeploy.inventory import fields
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.site import User

if TYPE_CHECKING:
    from sipdeploy.cli.session import Session
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.editing.draft import Draft

_STDIN = click.option(
    "--password-stdin", is_flag=True, help="Take the password from the first line of stdin."
)


@click.command("add-user", short_help="Add a user, with a strong password.")
@click.argument("number")
@click.option("--name", default="", help="As phones show it.")
@click.option("--voicemail", is_flag=True, help="Callers may leave a message.")
@click.option(
    "--max-contacts",
    type=click.IntRange(1, 100),
    default=User().max_contacts,
    show_default=True,
    metavar="N",
    help="Phones and browser tabs at once.",
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

    Nothing else in the inventory changes. With --apply the user can call when the command ends:
    it has registered as the new user, and unregistered.

    \b
    Examples:
      sipdeploy add-user 1003 --name "Carol Smith" --apply sip1
      pass show sip/1003 | sipdeploy add-user 1003 --password-stdin
      sipdeploy add-user 1003 --dry-run
    """  # noqa: D301  # click wants the character itself
    user = _user(number, name=name, voicemail=voicemail, max_contacts=max_contacts)
    password = _given_password() if password_stdin else Secret(new_password())

    def work(begun: Draft) -> Draft:
        return draft.add(begun, {number: user}, {number: password})

    done, code = carry_out(
        session, work, f"add-user {number}", hosts=hosts, dry_run=dry_run, is_agreed=is_agreed
    )
    if not dry_run:
        from sipdeploy.editing import settings  # noqa: PLC0415 - only where there is a new user

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
    "--delete-voicemail", is_flag=True, help="With --apply: delete messages and greetings too."
)
@click.option("--end-calls", is_flag=True, help="With --apply: hang up calls with services too.")
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
    """Remove users: from the inventory and the secrets file, and with --apply from HOST.

    There its registrations end at once and its connections are closed. Messages in its box stay
    on the host unless they are to be deleted. A call with a service goes on unless it is to be
    ended; one between two phones goes on until one of the two hangs up.

    \b
    Examples:
      sipdeploy remove-user 1003 --apply sip1
      sipdeploy remove-user 1003 1004 --apply sip1 --delete-voicemail --end-calls
    """  # noqa: D301  # click wants the character itself
    if (delete_voicemail or end_calls) and not hosts:
        what = "voicemail is" if delete_voicemail else "calls are"
        message = f"{what} on the hosts: none is named"
        raise WrongUsage([problems.told("SD002", message, "add `--apply HOST`")])
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
        from sipdeploy.cli import live  # noqa: PLC0415 - only where a host is reached

        site, names = done.after.site, inventory.chosen_hosts(done.after, hosts)
        if end_calls:
            live.end_calls(site, names, gone)
        if delete_voicemail:
            live.delete_boxes(site, names, gone)
    return code


@click.command("set-password", short_help="Give a user another password.")
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
    """Give the user NUMBER another password, where the present one is.

    With --apply its phones are disconnected, and come back with the new one only.

    \b
    Examples:
      sipdeploy set-password 1003 --apply sip1
      pass show sip/1003 | sipdeploy set-password 1003 --password-stdin
    """  # noqa: D301  # click wants the character itself
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
        from sipdeploy.editing import settings  # noqa: PLC0415 - only where it is shown

        shown = settings.settings(done.after.site, number, password.reveal())
        session.output.result(
            settings.as_json(shown) if form == "json" else settings.as_text(shown)
        )
    return code


def _user(number: str, *, name: str, voicemail: bool, max_contacts: int) -> User:
    """A user as the inventory would have it; WrongUsage tells all that is wrong with it."""
    wrong: list[Diagnostic] = []
    for check, value in ((fields.user_number, number), (fields.name, name)):
        try:
            check(value)
        except fields.Invalid as fault:
            wrong.append(problems.told(fault.code, fault.message, fault.advice))
    if wrong:
        raise WrongUsage(wrong)
    return User(name=name, voicemail=voicemail, max_contacts=max_contacts)


def _given_password() -> Secret:
    """The first line of standard input; hidden while somebody types it."""
    if sys.stdin.isatty():
        text = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise problems.bad_password("is empty")
    if fields.CONTROL.search(text):
        raise problems.bad_password("holds a control character")
    return Secret(text)
