"""Tokens of kamailio.cfg, with their places. Reads any text in linear time and never raises."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sipdeploy.lint.stack.files import StackFile


class Token(NamedTuple):
    """A word, string, pseudo-variable, mark or directive, or a string whose quote is missing.

    `value` is the text that it stands for: without quotes, and with defines put in.
    """

    kind: str
    value: str
    file: StackFile
    start: int
    end: int

    def __hash__(self) -> int:
        return hash((self.start, self.value))  # the hash of a whole file takes time


_TOKEN = re.compile(
    r"""(?P<space>\s++|\#(?!!)[^\n]*+|//[^\n]*+|/\*(?s:.)*?(?:\*/|\Z))
    |(?P<directive>[#!]!(?:[^\n\\]++|\\(?s:.)?)*+)
    |(?P<string>"(?:[^"\\]++|\\(?s:.)?)*+"?|'[^']*+'?)
    |(?P<word>[A-Za-z0-9_](?:[\w.]|-(?=[A-Za-z]))*+)
    |(?P<pv>\$)
    |(?P<mark>&&|\|\||[=!<>]=|=~|!~|=>|(?s:.))""",
    re.VERBOSE,
)
_PAREN = re.compile(r"[()\n]")
_PV_NAME = re.compile(r"[A-Za-z_][\w.]*+")
_WORD = re.compile(r"[A-Za-z]")
_MOST_BROKEN = 20  # then a string is what its quotes say: each attempt reads far ahead
_LONGEST_PV = 2000
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL = {"n": "\n", "r": "\r", "t": "\t"}


def tokens(file: StackFile) -> Iterator[Token]:
    """Split a file into tokens, without spaces and comments."""
    text, at, end = file.text, 0, len(file.text)
    broken = 0
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            return
        kind, start, at = match.lastgroup or "mark", at, match.end()
        if kind == "space":
            continue
        value = match[0]
        if kind == "string" and broken < _MOST_BROKEN and _is_broken(text, start, at):
            # the next line is the first that can be read as it was meant
            broken += 1
            kind, value = "broken", value.partition("\n")[0]
            newline = text.find("\n", start)
            at = end if newline < 0 else newline
        elif kind == "string":
            value = _content(value)
        elif kind == "pv":
            at = _end_of_pv(text, start)
            value = text[start:at]
        yield Token(kind, value, file, start, at)


def _is_broken(text: str, start: int, end: int) -> bool:
    """Whether a quote is missing: no string ends the file, or has a word directly behind it."""
    is_closed = end - start > 1 and text[end - 1] == text[start]
    return not is_closed or bool(_WORD.match(text, end))


def _content(literal: str) -> str:
    quote = literal[0]
    inner = literal[1:-1] if len(literal) > 1 and literal[-1] == quote else literal[1:]
    if quote == '"' and "\\" in inner:
        return _ESCAPE.sub(lambda match: _SPECIAL.get(match[1], match[1]), inner)
    return inner


def _end_of_pv(text: str, start: int) -> int:
    """Return the end of the pseudo-variable at `start`: `$name`, `$name(...)`, `$(...)`."""
    name = _PV_NAME.match(text, start + 1)
    at = name.end() if name else start + 1
    if text[at : at + 1] != "(":
        return at
    depth = 0
    for match in _PAREN.finditer(text, at, at + _LONGEST_PV):
        if match[0] == "\n":
            return match.start()
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.end()
    return min(at + _LONGEST_PV, len(text))


def on_one_line(found: Iterable[Token]) -> str:
    """Join the values of tokens; a space stands where the file has one."""
    parts: list[str] = []
    last: Token | None = None
    for token in found:
        is_apart = last is not None and (last.file is not token.file or token.start > last.end)
        parts += [" ", token.value] if is_apart else [token.value]
        last = token
    return "".join(parts)
