"""A document as characters: where its lines, keys and values begin and end, and what may change.

Pure. Knows where things stand, and nothing of what an edit means.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.inventory.reading import BREAK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sipdeploy.inventory.document import Document, Path

_REST = re.compile(r"[ \t]*(,?)[ \t]*(#.*)?")  # of a line, behind an entry


class NotEditable(Exception):  # noqa: N818  # a verdict, not a failure
    """The text is written in a way that an edit would not leave the rest of it alone."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """The characters from `start` to `end`, exclusive, become `text`."""

    start: int
    end: int
    text: str


class Page:
    """A document as characters: where lines, keys and values begin and end."""

    def __init__(self, document: Document) -> None:
        self.text = document.text
        self.data = document.data if isinstance(document.data, dict) else {}
        self.marks = document.marks
        breaks = list(BREAK.finditer(self.text))
        self.starts = [0, *(found.end() for found in breaks)]
        self.ends = [*(found.start() for found in breaks), len(self.text)]

    def changed(self, changes: Iterable[Change]) -> str:
        """Give the text with changes that do not touch each other."""
        parts, done = [], 0
        for change in sorted(changes):
            parts += [self.text[done : change.start], change.text]
            done = change.end
        return "".join([*parts, self.text[done:]])

    def offset(self, line: int, column: int) -> int:
        """Count the characters before a place of a mark."""
        if line > len(self.starts):  # the parser's mark of the end of a block, behind the text
            return len(self.text)
        return min(self.starts[line - 1] + column - 1, len(self.text))

    def key(self, path: Path) -> int:
        """Where a key begins."""
        line, column, *_ = self.marks[path]
        return self.offset(line, column)

    def key_end(self, path: Path) -> int:
        """Where a key ends, its quotation marks too."""
        line, _, end, *_ = self.marks[path]
        return self.offset(line, end)

    def value(self, path: Path) -> tuple[int, int]:
        """Where a value begins and ends; a block text (`|`, `>`) ends with its last letter."""
        *_, line, column, end_line, end = self.marks[path]
        start, stop = self.offset(line, column), self.offset(end_line, end)
        if self.text[start : start + 1] in {"|", ">"} and end == 1 and end_line > line:
            stop = start + len(self.text[start:stop].rstrip("\r\n\x85\u2028\u2029 "))
        return start, stop

    def is_flow(self, path: Path) -> bool:
        """Whether a value stands in braces or brackets."""
        start = self.value(path)[0]
        return self.text[start : start + 1] in {"{", "["}

    def end(self, path: Path) -> int:
        """Where the last letter of an entry is; the parser's own mark of a block is far behind."""
        value = self.node(path)
        if not isinstance(value, dict | list) or not value or self.is_flow(path):
            start, end = self.value(path)
            return end if end > start else max(self.key_end(path), start)
        return self.end(
            (*path, len(value) - 1 if isinstance(value, list) else next(reversed(value)))
        )

    def node(self, path: Path) -> object:
        """The data at a path."""
        found: object = self.data
        for part in path:
            found = found[part] if isinstance(found, dict | list) else None  # type: ignore[index]
        return found

    def line(self, offset: int) -> int:
        """The index of the line, from 0, in which an offset is."""
        return bisect.bisect_right(self.starts, offset) - 1

    def is_first(self, offset: int) -> bool:
        """Whether nothing but spaces stands before it in its line."""
        return not self.text[self.starts[self.line(offset)] : offset].strip(" \t")

    def rest(self, offset: int) -> re.Match[str] | None:
        """What stands behind it in its line, if that is no more than a comma and a comment."""
        return _REST.fullmatch(self.text[offset : self.ends[self.line(offset)]])

    def after(self, line: int, lines: Sequence[str]) -> Change:
        """New lines behind the line of that index, ended as it is."""
        if line + 1 < len(self.starts):
            ending = self.text[self.ends[line] : self.starts[line + 1]]
            return Change(self.starts[line + 1], self.starts[line + 1], _ended(lines, ending))
        found = BREAK.search(self.text)
        ending = found[0] if found else "\n"
        return Change(len(self.text), len(self.text), ending + ending.join(lines))

    def section(self, name: str, lines: Sequence[str]) -> list[Change]:
        """A section that is not there yet, at the end."""
        if self.is_in_braces:
            raise NotEditable(f"`{name}:` is missing, and the file stands in braces")
        new = [f"{name}:", *lines]
        if self.ends[-1] == self.starts[-1]:  # the text is empty, or ends with a line break
            found = BREAK.search(self.text)
            return [
                Change(len(self.text), len(self.text), _ended(new, found[0] if found else "\n"))
            ]
        return [self.after(len(self.starts) - 1, new)]

    @property
    def is_in_braces(self) -> bool:
        """Whether the mapping of the whole file is in flow style, as in JSON."""
        first = min((self.key(path) for path in self.marks if len(path) == 1), default=0)
        return "{" in re.sub("#.*", "", self.text[:first])

    def comments(self, line: int, least: int) -> int:
        """The last of the comment lines, indented by `least` or more, that follow a line."""
        last = line
        for index in range(line + 1, len(self.starts)):
            text = self.text[self.starts[index] : self.ends[index]]
            word = text.lstrip(" \t")
            if word and (not word.startswith("#") or len(text) - len(word) < least):
                break
            last = index if word else last
        return last


def _ended(lines: Iterable[str], ending: str) -> str:
    return "".join(f"{line}{ending}" for line in lines)
