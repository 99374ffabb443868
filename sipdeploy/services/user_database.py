"""The users of a large site in SQLite, from which Asterisk reads one user when it needs it.

Asterisk reads files completely, in a time that grows with the square of the number of users (see
docs/size.md). A view over a table finds one user by its key, whatever the number of users.
"""

import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from sipdeploy.services.render import asterisk_name, token

SECTION = re.compile(r"^\[([\w-]+)\](?:\(([^)]*)\))?", re.MULTILINE)
SETTING = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)


def settings(pjsip: str, template: str) -> dict[str, str]:
    """The settings of a template in `pjsip.conf` and of the templates it uses, without `type`.

    So a user in the database is the same endpoint as a user in a file.
    """
    marks = [*SECTION.finditer(pjsip)]
    ends = [*(mark.start() for mark in marks[1:]), len(pjsip)]
    merged: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=True):
        templates = [name.strip() for name in (mark[2] or "").split(",")]
        if mark[1] == template and "!" in templates:
            for name in templates:
                merged |= settings(pjsip, name) if name != "!" else {}
            rows = SETTING.findall(pjsip, mark.end(), end)
            merged |= {key: value.replace("\\;", ";") for key, value in rows}
    return {key: value for key, value in merged.items() if key != "type"}


def content(pjsip: str, users: Iterable[Mapping[str, Any]], values: Mapping[str, Any]) -> bytes:
    """The database for `users` with the settings of `pjsip.conf`; equal input, equal bytes."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA page_size=4096")
    connection.execute("BEGIN")
    connection.execute(
        "CREATE TABLE users (number TEXT PRIMARY KEY, name TEXT, voicemail INTEGER, digest TEXT)"
        " WITHOUT ROWID"
    )
    rows = sorted(_row(user, values["authentication"]) for user in users)
    connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", rows)
    for name, columns in _views(pjsip, values).items():
        chosen = ", ".join(f"{expression} AS {column}" for column, expression in columns.items())
        boxes = " WHERE voicemail" if name == "mailboxes" else ""
        connection.execute(f"CREATE VIEW {name} AS SELECT {chosen} FROM users{boxes}")  # noqa: S608
    connection.execute("COMMIT")
    return serialized(connection)


def _row(user: Mapping[str, Any], authentication: str) -> tuple[str, str, int, str]:
    digest = token(user["digest"]) if authentication == "asterisk" else ""
    name = asterisk_name(user["caller_name"])
    return token(user["number"]), name, int(user["voicemail"]), digest


def _views(pjsip: str, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The views that extconfig.conf names: view -> column -> SQL expression."""
    trunk = f"sip:{values['trunk']['address']}:{values['trunk']['port']};lr;number="
    named = "CASE name WHEN '' THEN '' ELSE '\"' || name || '\" ' END || '<' || number || '>'"
    contact = f"'sip:' || number || {_quoted('@' + values['domain'])}"
    is_judge = values["authentication"] == "asterisk"
    views = {
        "endpoints": {
            **_constants(pjsip, "user"),
            "id": "number",
            "aors": "number",
            **({"auth": "number"} if is_judge else {}),
            "outbound_proxy": f"{_quoted(trunk)} || number",
            "callerid": named,
            # at start Asterisk selects endpoints with mailboxes; without this column it hangs
            "mailboxes": "''",
        },
        "aors": {
            **_constants(pjsip, "contacts"),
            "id": "number",
            **({} if is_judge else {"contact": contact}),
            "mailboxes": "CASE WHEN voicemail THEN number || '@default' ELSE '' END",
            "voicemail_extension": _quoted(values["voicemail_number"] or ""),
            "qualify_frequency": "0",
        },
        "mailboxes": {
            "uniqueid": "number",
            "mailbox": "number",
            "context": "'default'",
            "password": "'-'",
            "fullname": "name",
        },
    }
    if is_judge:
        views["auths"] = {
            **_constants(pjsip, "password"),
            "id": "number",
            "username": "number",
            values["digest"]["key"]: "digest",
        }
    return views


def _constants(pjsip: str, template: str) -> dict[str, str]:
    return {key: _quoted(value) for key, value in settings(pjsip, template).items()}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def serialized(connection: sqlite3.Connection) -> bytes:
    """The bytes of a database, without the version of SQLite that wrote them; closes it."""
    content = bytearray(connection.serialize())
    connection.close()
    content[92:100] = bytes(8)  # fileformat2.html, 1.3.23
    return bytes(content)
