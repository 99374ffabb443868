"""A document: the data of one file, where each part of it stands, and what of it may be shown.

Pure, and knows nothing of YAML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sipdeploy.diagnostics import Source, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Path = tuple[str | int, ...]
# Where a node stands: its key (line, column, end column), its value (line, column, end line and
# column), all from 1. Plain tuples: a large inventory has half a million of them.
Mark = tuple[int, int, int, int, int, int, int]


BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # what libyaml counts as the end of a line
# Bounded, so that a line full of beginnings does not take time that grows with its square.
_PASSWORD = re.compile(r"(?i)(pass|pwd|secret)[\w-]{0,80}[\"']?\s{0,80}:\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file: its data (dict, list, str, None; None also when unreadable) and its places."""

    path: str
    text: str
    data: Any = None
    marks: Mapping[Path, Mark] = field(default_factory=dict)

    def key_span(self, path: Path) -> Span | None:
        """Find the key that ends `path`; of what is not there, the nearest that holds it."""
        while path and path not in self.marks:
            path = path[:-1]
        if not path:
            return self.start
        line, column, end, *_ = self.marks[path]
        return Span(path=self.path, line=line, column=column, end_column=end)

    def value_span(self, path: Path) -> Span | None:
        """Find the value at `path`; its key when the value is empty or goes over several lines."""
        if path not in self.marks:
            return self.key_span(path)
        *_, line, column, end_line, end = self.marks[path]
        if end_line != line or end <= column:
            return self.key_span(path)
        return Span(path=self.path, line=line, column=column, end_column=end)

    @property
    def start(self) -> Span:
        """The beginning of the file."""
        return Span(path=self.path, line=1, column=1)

    def source(self, is_secret: Callable[[Path], bool] = lambda _: False) -> Source:
        """Give the lines for excerpts; values at secret paths are hidden.

        In a file that could not be read the places are unknown, so what looks like a password is.
        """
        lines = BREAK.split(self.text)
        if self.data is None:
            return Source(lines=lines, hidden=_suspects(lines))
        hidden: dict[int, list[tuple[int, int]]] = {}
        for path, mark in self.marks.items():
            if is_secret(path):
                _hide(mark, hidden)
        return Source(lines=lines, hidden=hidden)


def _hide(mark: Mark, hidden: dict[int, list[tuple[int, int]]]) -> None:
    *_, line, column, end_line, end = mark
    for number in range(line, end_line + 1):
        low = column if number == line else 1
        high = end if number == end_line else 1 << 30
        if high > low:
            hidden.setdefault(number, []).append((low, high))


def _suspects(lines: list[str]) -> dict[int, list[tuple[int, int]]]:
    """Hide what follows `password:` and the like, and the line after when nothing follows."""
    hidden = {}
    goes_on = False
    for number, line in enumerate(lines, 1):
        found = _PASSWORD.search(line)
        if found or goes_on:
            hidden[number] = [(found.end() + 1 if found else 1, 1 << 30)]
        goes_on = bool(found) and line[found.end() :].strip() in {"", "|", ">"} if found else False
    return hidden
