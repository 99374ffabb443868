"""Users as tables: CSV import and export, and registrations as text and JSON. Pure."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Span, printable
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.inventory import fields
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.site import User

if TYPE_CHECKING:
    from sipdeploy.inventory.site import Site

COLUMNS = ("number", "name", "voicemail", "max_contacts", "password")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One phone of a user: its source address, last registration and User-Agent."""

    host: str
    source: str
    registered: int  # seconds since 1970; phones renew it every few minutes
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """The state of a user on the hosts. `messages` is None if no host was asked."""

    contacts: tuple[Contact, ...] = ()
    messages: int | None = None


def read_csv(text: str, path: str) -> dict[str, tuple[User, Secret | None]]:
    """Read users by number; a user without a password has None.

    The first line names the columns: `number`, and any of the others. InvalidFiles names every
    line that does not describe a user (SD707), without showing it: it can contain a password.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    diagnostics: list[Diagnostic] = []
    users: dict[str, tuple[User, Secret | None]] = {}
    try:
        diagnostics += _columns(reader.fieldnames or (), path)
        for row in reader if not diagnostics else ():
            span = Span(path=path, line=reader.line_num, column=1)
            faults = [*_faults(row, users)]
            diagnostics += [
                Diagnostic("SD707", message, span=span, help=advice) for message, advice in faults
            ]
            if not faults:
                users[row["number"].strip()] = _user(row)
    except csv.Error as failure:
        span = Span(path=path, line=reader.line_num, column=1)
        message = f"the file is not valid CSV: {failure}"
        diagnostics.append(Diagnostic("SD707", message, span=span, help=_EXAMPLE))
    if diagnostics:
        raise InvalidFiles(diagnostics)
    return users


_EXAMPLE = "`sipdeploy users export` prints an example of the format"


def _columns(names: Sequence[str], path: str) -> Iterator[Diagnostic]:
    span = Span(path=path, line=1, column=1)
    advice = f"write a first line with the names of the columns: `{','.join(COLUMNS)}`"
    if "number" not in names:
        yield Diagnostic("SD707", "the column `number` is missing", span=span, help=advice)
    for name in names:
        if name not in COLUMNS:
            yield Diagnostic("SD707", f"unknown column `{name[:40]}`", span=span, help=advice)


def _faults(row: Mapping[str, str], users: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The problems of a line and their fixes; they show no more of it than its number."""
    if None in row or None in row.values():
        yield "the line has more or fewer columns than the first line", _EXAMPLE
        return
    number = row["number"].strip()
    checks = (
        (fields.user_number, number),
        (fields.name, row.get("name", "").strip()),
        (fields.boolean, row.get("voicemail", "").strip() or "no"),
        (fields.whole(1, 100), row.get("max_contacts", "").strip() or "5"),
    )
    yield from ((fault.message, fault.advice) for fault in fields.faults(checks))
    if fields.CONTROL.search(row.get("password", "")):
        yield f"the password of `{number}` contains a control character", "delete the character"
    if number in users:
        yield f"duplicate number `{number}`", "delete one of the lines"


def _user(row: Mapping[str, str]) -> tuple[User, Secret | None]:
    password = row.get("password", "")
    user = User(
        name=row.get("name", "").strip(),
        voicemail=fields.boolean(row.get("voicemail", "").strip() or "no"),
        max_contacts=int(row.get("max_contacts", "").strip() or User().max_contacts),
    )
    return user, Secret(password) if password else None


def as_csv(site: Site, passwords: Mapping[str, Secret] | None = None) -> str:
    """The users of a site in the format of `read_csv`, with passwords if given."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS if passwords is not None else COLUMNS[:-1])
    for number, user in site.users.items():
        row = [number, user.name, "yes" if user.voicemail else "no", str(user.max_contacts)]
        if passwords is not None:
            row.append(passwords[number].reveal())
        writer.writerow(row)
    return out.getvalue()


def as_text(site: Site, present: Mapping[str, Presence]) -> str:
    """A table of the users, one line per phone. `present` is empty if no host was asked."""
    heads = ["NUMBER", "NAME", "VOICEMAIL"] + ["REGISTERED", "FROM", "DEVICE"] * bool(present)
    rows = [heads]
    for number, user in site.users.items():
        state = present.get(number, Presence())
        box = "-" if not user.voicemail else str(state.messages) if present else "yes"
        first = [number, printable(user.name), box]
        phones = [
            [_time(c.registered), f"{c.source} on {c.host}", printable(c.device)]
            for c in state.contacts
        ]
        rows.append([*first, *(phones[0] if phones else ["-", "", ""] if present else [])])
        rows += [["", "", "", *phone] for phone in phones[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _time(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def as_json(site: Site, present: Mapping[str, Presence]) -> str:
    """The users as JSON; messages and contacts only if hosts were asked."""
    rows = []
    for number, user in site.users.items():
        row: dict[str, object] = {
            "number": number,
            "name": user.name,
            "voicemail": user.voicemail,
            "max_contacts": user.max_contacts,
        }
        if present:
            state = present.get(number, Presence())
            row["messages"] = state.messages
            row["contacts"] = [
                {
                    "host": contact.host,
                    "source": contact.source,
                    "registered": _time(contact.registered),
                    "device": contact.device,
                }
                for contact in state.contacts
            ]
        rows.append(row)
    return json.dumps({"users": rows}, indent=2)
