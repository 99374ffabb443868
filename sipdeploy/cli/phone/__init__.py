"""The command `phone`: the settings of users, a sheet to hand out, and a phone on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from sipdeploy import inventory
from sipdeploy.cli.output import is_terminal
from sipdeploy.cli.session import FORMAT, Session
from sipdeploy.diagnostics import Diagnostic, count
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.editing import private, problems
from sipdeploy.services.phone import page as web
from sipdeploy.services.phone import settings

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory
    from sipdeploy.services.phone.settings import Settings


def _page(ctx: click.Context, option: click.Parameter, value: str) -> str:
    """The address of a web phone; a browser gives no microphone to a page without https."""
    del ctx, option
    parts = urlsplit(value)
    if value and (parts.scheme != "https" or not parts.hostname or parts.fragment):
        raise click.BadParameter("write an address such as https://phone.example.com/")
    return value


@click.command("phone", short_help="Print what to type into a phone, or open one here.")
@click.argument("numbers", nargs=-1, metavar="[NUMBER...]")
@click.option("--open", "is_open", is_flag=True, help="Serve a phone on this machine, signed in.")
@click.option(
    "--port",
    type=click.IntRange(1024, 65535),
    default=None,
    help="With --open: the port on this machine; default: a free one.",
)
@click.option("--show-passwords", is_flag=True, help="Print passwords even without a terminal.")
@click.option(
    "--client",
    type=click.Choice(list(settings.CLIENTS)),
    help="Print the fields of this phone, or the code for this library.",
)
@click.option(
    "--qr", "has_qr", is_flag=True, help="Draw the address of the web phone as a QR code."
)
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page for each user to the new HTML file FILE, to print and hand out.",
)
@click.option(
    "--page",
    default="",
    metavar="URL",
    callback=_page,
    help="Where users open the web phone; default: the page that the host serves.",
)
@FORMAT
@click.pass_obj
def phone_command(
    session: Session,
    /,
    numbers: tuple[str, ...],
    *,
    is_open: bool,
    port: int | None,
    show_passwords: bool,
    client: str | None,
    has_qr: bool,
    sheet: Path | None,
    page: str,
    form: str,
) -> int:
    """Print the settings of users for their phones. Changes nothing.

    Without NUMBER, prints those of all users. Passwords are printed on a terminal; elsewhere add
    --show-passwords. With --open, sipdeploy serves a web phone on this machine until Ctrl-C,
    signed in as NUMBER, or as two numbers side by side.

    \b
    Examples:
      sipdeploy phone 1001
      sipdeploy phone --open 1001             a phone in your browser
      sipdeploy phone --open 1001 1002        two phones that can call each other
      sipdeploy phone 1001 --client browser-phone
      sipdeploy phone --sheet phones.html --show-passwords
    """
    loaded = inventory.open_inventory(session.inventory)
    if unknown := [number for number in numbers if number not in loaded.site.users]:
        raise InvalidFiles([problems.unknown(number) for number in unknown])
    if is_open:
        from sipdeploy.cli.phone.opening import open_phone

        return open_phone(session, loaded, numbers, port or 0)
    page = page or web.address(loaded.site)
    _check_usage(has_qr=has_qr, page=page, port=port)
    if sheet is not None:
        private.check(sheet)
    is_shown = show_passwords or (sheet is None and is_terminal(sys.stdout))
    every = _every(loaded, numbers, page, is_shown=is_shown)
    if sheet is not None:
        _write_sheet(session, sheet, every, has_passwords=is_shown)
        return 0
    if not is_shown:
        session.output.progress(
            "passwords are printed only on a terminal; `--show-passwords` prints them"
        )
    session.output.result(_shown(every, form, client, has_qr=has_qr))
    return 0


def _every(
    loaded: Inventory, numbers: Sequence[str], page: str, *, is_shown: bool
) -> list[Settings]:
    """The settings of the users, with passwords if these `is_shown`."""
    passwords = inventory.secrets(loaded) if is_shown else {}
    return [
        settings.settings(
            loaded.site, number, passwords[number].reveal() if is_shown else None, page=page
        )
        for number in dict.fromkeys(numbers) or loaded.site.users
    ]


def _check_usage(*, has_qr: bool, page: str, port: int | None) -> None:
    """WrongUsage (SD002) for options that have no effect together."""
    if port is not None:
        problem = Diagnostic("SD002", "`--port` needs `--open`", help="add `--open`")
        raise WrongUsage([problem])
    if has_qr and not page:
        message = "`--qr` needs the address of a web phone"
        advice = (
            "serve it on the host: write `phone: {port: 443}` into the inventory and apply; or"
        )
        advice += " add `--page https://phone.example.com/`"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])


def _shown(every: Sequence[Settings], form: str, client: str | None, *, has_qr: bool) -> str:
    if form == "json":
        return settings.as_json(every)
    parts = []
    for each in every:
        shown = settings.CLIENTS[client](each) if client else settings.as_text(each)
        parts.append("\n".join((shown, settings.qr(each.link))) if has_qr else shown)
    return "\n\n".join(parts)


def _write_sheet(
    session: Session, file: Path, every: Sequence[Settings], *, has_passwords: bool
) -> None:
    from sipdeploy.services.phone.sheet import sheet

    private.create(file, sheet(every))
    words = "with" if has_passwords else "without"
    note = "" if has_passwords else "; `--show-passwords` adds them"
    session.output.progress(f"{file}: {count(len(every), 'page')}, {words} passwords{note}")
