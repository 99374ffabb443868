"""Users as tables: CSV import and export, and registrations as text and JSON. Pure."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Span, listed, named, printable
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A user in a CSV file: the place, and the cells that are not empty, by column."""

    span: Span
    cells: Mapping[str, str] = field(repr=False)  # can contain a password

    def user(self, before: User) -> User:
        """The user with the values of this row; for empty cells, those of `before`."""
        cells = self.cells
        values = {
            "name": cells.get("name", before.name),
            "voicemail": fields.boolean(cells.get("voicemail", before.voicemail)),
            "max_contacts": int(cells.get("max_contacts", before.max_contacts)),
        }
        return before.model_copy(update=values)

    @property
    def password(self) -> Secret | None:
        """The password, if the row has one."""
        return Secret(self.cells["password"]) if "password" in self.cells else None


def read_csv(text: str, path: str) -> dict[str, Row]:
    """Read users by number. Columns are separated by commas, semicolons or tabs.

    The first line names the columns: `number`, and any of the others. InvalidFiles names every
    line that does not describe a user (SD707), without showing it: it can contain a password.
    """
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    problems: list[tuple[int, str, str]] = []
    rows: dict[str, Row] = {}
    line = 1
    try:
        names = [_column(cell) for cell in next(reader, [])]
        problems += ((1, *problem) for problem in _columns(names))
        for values in reader if not problems else ():
            start, line = line + 1, reader.line_num
            cells = {
                name: value if name == "password" else value.strip()
                for name, value in zip(names, values, strict=False)
            }
            if any(cells.values()):
                faults = [*_faults(cells, rows, len(values) - len(names))]
                problems += ((start, *fault) for fault in faults)
                if not faults:
                    span = Span(path=path, line=start, column=1)
                    given = {name: cell for name, cell in cells.items() if cell}
                    rows[cells["number"]] = Row(span=span, cells=given)
    except csv.Error as failure:
        told = _CSV_FAULTS.get(str(failure), str(failure))
        problems.append((reader.line_num, f"the file is not valid CSV: {told}", _EXAMPLE))
    if problems:
        raise InvalidFiles([_problem(path, *problem) for problem in problems])
    return rows


def _problem(path: str, line: int, message: str, advice: str) -> Diagnostic:
    return Diagnostic("SD707", message, span=Span(path=path, line=line, column=1), help=advice)


_CSV_FAULTS = {
    "unexpected end of data": "a quotation mark has no second one",
    "',' expected after '\"'": "text follows a closing quotation mark",
}
_EXAMPLE = "`sipdeploy users export` prints an example of the format"


def _column(cell: str) -> str:
    """The name of a column as spreadsheets and people write it: `Max contacts`."""
    return re.sub(r"[\s-]+", "_", cell.strip().lower())


def _columns(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The problem of the first line and its fix. Shows only names of columns, not a user."""
    advice = f"write a first line with the names of the columns: `{','.join(COLUMNS)}`"
    unknown = [name for name in names if name not in COLUMNS]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not set(names) & set(COLUMNS):
        yield "the first line does not name the columns", advice
    elif "number" not in names:
        others = f"; the first line has {listed(names)}"
        yield f"the column `number` is missing{others}", advice
    elif unknown:
        one = len(unknown) == 1
        verb, them = ("is", "it") if one else ("are", "them")
        fix = f"delete {them}, or rename {them}: the columns are {listed(COLUMNS)}"
        yield f"{named('column', unknown)} {verb} unknown", fix
    elif twice:
        yield f"{named('column', twice)} occurs twice", "delete one of the columns"


def _faults(
    cells: Mapping[str, str], rows: Mapping[str, Row], surplus: int
) -> Iterator[tuple[str, str]]:
    """The problems of a line and their fixes. They show none of it, except a number."""
    if surplus:
        more = "more" if surplus > 0 else "fewer"
        yield f"the line has {more} columns than the first line", _EXAMPLE
        return
    number = cells["number"]
    checks = (
        ("number", fields.user_number, number, "this is not the number of a user"),
        ("name", fields.name, cells.get("name", ""), "it has a control character, or is too long"),
        ("voicemail", fields.boolean, cells.get("voicemail") or "no", "neither `yes` nor `no`"),
        ("max_contacts", fields.whole(1, 100), cells.get("max_contacts") or "5", "no such number"),
    )
    for column, check, value, message in checks:
        for fault in fields.faults([(check, value)]):
            is_flag = check is fields.boolean
            told = f"column `{column}`: {message}"
            yield told, "write `yes` or `no`, or nothing" if is_flag else fault.advice
    if fields.CONTROL.search(cells.get("password", "")):
        yield "column `password`: it has a control character", "delete the character"
    if number in rows:
        yield f"duplicate number `{number}`", "delete one of the lines"


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
    """A table of the users, one line per phone. `present` is empty if no host was asked.

    Marks the numbers that are registered and not in the inventory.
    """
    heads = ["NUMBER", "NAME", "VOICEMAIL"] + ["REGISTERED", "FROM", "DEVICE"] * bool(present)
    rows = [heads]
    for number in dict.fromkeys((*site.users, *present)):
        state = present.get(number, Presence())
        user = site.users.get(number, User(name="(not in the inventory)"))
        box = "-" if not user.voicemail else str(state.messages) if present else "yes"
        first = [printable(number), printable(user.name), box]
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
    """The users as JSON; the state on the hosts only if these were asked."""
    rows = []
    for number in dict.fromkeys((*site.users, *present)):
        user = site.users.get(number, User())
        row: dict[str, object] = {
            "number": number,
            "name": user.name,
            "voicemail": user.voicemail,
            "max_contacts": user.max_contacts,
        }
        if present:
            state = present.get(number, Presence())
            row["in_inventory"] = number in site.users
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
