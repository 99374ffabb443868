"""Text that a terminal only shows: control characters, bidirectional overrides become escapes."""

import re

_OTHER = re.compile(r"[^\n\t -~]+")


def shown(text: str) -> str:
    """The text with everything escaped that a terminal acts upon, but line feeds and tabs."""
    return _OTHER.sub(_escaped, text)


def shown_line(text: str) -> str:
    """As `shown`, for what is one line: line feeds and tabs are escaped too."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(match: re.Match[str]) -> str:
    part = match[0]
    if part.isprintable():
        return part
    return "".join(c if c.isprintable() else _escape(c) for c in part)


def _escape(character: str) -> str:
    """As Python writes it, but always with the number of the character."""
    number = ord(character)
    if number < 0x100:  # noqa: PLR2004 - one byte
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004
