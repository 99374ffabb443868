"""Escapes control characters and bidirectional overrides, so that a terminal only shows them."""

import re

_OTHER = re.compile(r"[^\n\t -~]+")


def shown(text: str) -> str:
    """The text with all terminal control characters escaped, except line feeds and tabs."""
    return _OTHER.sub(_escaped, text)


def shown_line(text: str) -> str:
    """Like `shown`, for a single line: also escapes line feeds and tabs."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(match: re.Match[str]) -> str:
    part = match[0]
    if part.isprintable():
        return part
    return "".join(c if c.isprintable() else _escape(c) for c in part)


def _escape(character: str) -> str:
    """The escape as in Python, always with the code point."""
    number = ord(character)
    if number < 0x100:  # noqa: PLR2004 - one byte
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004
