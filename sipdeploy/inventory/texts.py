"""Files to text, and what is wrong with those that are none. Knows nothing of YAML."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Span
from sipdeploy.inventory import reading
from sipdeploy.inventory.places import BREAK

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, *, is_trusted: bool = True) -> tuple[str | None, list[Diagnostic]]:
    """Read a file as text. SD110 when it cannot be read, SD102 when it is not UTF-8.

    One that is not trusted may be no link: problems show lines, and it could lead to any file.
    """
    try:
        raw = reading.named(path) if is_trusted else reading.regular(path, is_linked=False).raw
    except OSError as failure:
        return None, [unreadable(path, failure)]
    return decode(raw, str(path))


def unreadable(path: Path, failure: OSError) -> Diagnostic:
    """Say that a file cannot be read, and why (SD110)."""
    reason = (failure.strerror or str(failure)).lower()
    is_absent = isinstance(failure, FileNotFoundError)
    advice = "`sipdeploy init` writes an inventory; `-i FILE` names another" * is_absent
    if failure.errno == errno.ELOOP:
        advice = "name the file itself; `--trusted` follows a link of your own"
    return error("SD110", f"cannot read `{path}`: {reason}", None, advice)


def decode(raw: bytes, path: str) -> tuple[str | None, list[Diagnostic]]:
    """Turn bytes into text; a UTF-8 byte order mark is dropped."""
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as failure:
        span = after(raw[: failure.start].decode("utf-8", "replace"), path)
        message = f"the file is not UTF-8: byte 0x{raw[failure.start]:02x} is not part of a letter"
        return None, [error("SD102", message, span, "save the file as UTF-8")]


def error(code: str, message: str, span: Span | None, advice: str = "") -> Diagnostic:
    """One error."""
    return Diagnostic(code=code, severity="error", message=message, span=span, help=advice)


def after(text: str, path: str) -> Span:
    """Give the place where a text ends."""
    lines = BREAK.split(text)
    return Span(path=path, line=len(lines), column=len(lines[-1]) + 1)
