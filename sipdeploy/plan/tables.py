"""Reads the SQLite databases of a host, which is not trusted. Pure."""

import re
import sqlite3
from collections.abc import Iterator

from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.host.incoming import MEBIBYTE

UNSHOWN = ("version", "loaded")  # tables that are derived from the others


def is_database(content: bytes) -> bool:
    """Whether the content is a database."""
    return content.startswith(b"SQLite format 3\0")


def rows(content: bytes) -> list[str]:
    """All rows, each as its table and its cells; of a htable's table only key and value."""
    connection = _opened()
    try:
        connection.deserialize(content)
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        names = [name for (name,) in connection.execute(query) if re.fullmatch(r"\w+", name)]
        return [row for name in names if name not in UNSHOWN for row in _cells(connection, name)]
    except sqlite3.DatabaseError:
        return ["(a damaged database)"]
    finally:
        connection.close()


def pairs(content: bytes, table: str, key: str, value: str) -> dict[str, str]:
    """Two columns of a table as text; ValueError if the database does not have them."""
    if not is_database(content):
        raise ValueError(f"its table `{table}` cannot be read")
    connection = _opened()
    try:
        connection.deserialize(content)
        found = connection.execute(f"SELECT {key}, {value} FROM {table}").fetchall()  # noqa: S608 - our names
    except sqlite3.DatabaseError as wrong:
        raise ValueError(f"its table `{table}` cannot be read") from wrong
    finally:
        connection.close()
    return {str(name): str(cell) for name, cell in found}


def _opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MEBIBYTE)
    return connection


def _cells(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    """The rows of a table; of a htable's table only key and value."""
    named = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    columns = [name for name in named if re.fullmatch(r"\w+", name)] or ["NULL"]
    chosen = "key_name, key_value" if "key_name" in columns else ", ".join(columns)
    for row in connection.execute(f"SELECT {chosen} FROM {table} ORDER BY 1"):  # noqa: S608 - \w+
        yield shown_line(" ".join((table, *(str(cell) for cell in row))))
