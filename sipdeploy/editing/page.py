"""A document as characters: the offsets of its lines, keys and values, and changes of them.

Pure. Knows positions, and nothing about the meaning of an edit.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.inventory.reading import BREAK

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Span
    from sipdeploy.inventory.document import Document, Path

_REST = re.compile(r"[ \t]*(,?)[ \t]*(#.*)?")  # the rest of a line after an entry


class NotEditable(Exception):  # noqa: N818  # a verdict, not a failure
    """The style of the text does not permit an edit that leaves the rest unchanged.

    `span` is the place that a person has to edit.
    """

    def __init__(
        self, span: Span | None, reason: str = "the edit would change other parts"
    ) -> None:
        super().__init__(reason)
        self.span = span


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """Replaces the characters from `start` to `end` (exclusive) with `text`."""

    start: int
    end: int
    text: str


class Page:
    """A document as characters: the offsets of its lines, keys and values."""

    def __init__(self, document: Document) -> None:
        self.span = document.key_span
        self.text = document.text
        self.data = document.data if isinstance(document.data, dict) else {}
        self.marks = document.marks
        breaks = list(BREAK.finditer(self.text))
        self.starts = [0, *(match.end() for match in breaks)]
        self.ends = [*(match.start() for match in breaks), len(self.text)]

    def changed(self, changes: Iterable[Change]) -> str:
        """Return the text after changes that do not overlap."""
        parts, done = [], 0
        for change in sorted(changes):
            parts += [self.text[done : change.start], change.text]
            done = change.end
        return "".join([*parts, self.text[done:]])

    def offset(self, line: int, column: int) -> int:
        """The offset of a position."""
        if line > len(self.starts):  # the parser places the end of a block after the text
            return len(self.text)
        return min(self.starts[line - 1] + column - 1, len(self.text))

    def key(self, path: Path) -> int:
        """The start of a key."""
        line, column, *_ = self.marks[path]
        return self.offset(line, column)

    def key_end(self, path: Path) -> int:
        """The end of a key, including its quotation marks."""
        line, _, end, *_ = self.marks[path]
        return self.offset(line, end)

    def value(self, path: Path) -> tuple[int, int]:
        """The start and end of a value; a block text (`|`, `>`) ends after its last letter."""
        *_, line, column, end_line, end = self.marks[path]
        start, stop = self.offset(line, column), self.offset(end_line, end)
        if self.text[start : start + 1] in {"|", ">"} and end == 1 and end_line > line:
            stop = start + len(self.text[start:stop].rstrip("\r\n\x85\u2028\u2029 "))
        return start, stop

    def is_flow(self, path: Path) -> bool:
        """Whether a value is in braces or brackets."""
        start = self.value(path)[0]
        return self.text[start : start + 1] in {"{", "["}

    def end(self, path: Path) -> int:
        """The end of an entry's text; the parser's own end of a block comes later."""
        value = self.node(path)
        if not isinstance(value, dict | list) or not value or self.is_flow(path):
            start, end = self.value(path)
            return end if end > start else max(self.key_end(path), start)
        return self.end(
            (*path, len(value) - 1 if isinstance(value, list) else next(reversed(value)))
        )

    def node(self, path: Path) -> object:
        """The data at a path."""
        data: object = self.data
        for part in path:
            data = data[part] if isinstance(data, dict | list) else None  # type: ignore[index]
        return data

    def line(self, offset: int) -> int:
        """The index, from 0, of the line of an offset."""
        return bisect.bisect_right(self.starts, offset) - 1

    def is_first(self, offset: int) -> bool:
        """Whether only spaces precede the offset on its line."""
        return not self.text[self.starts[self.line(offset)] : offset].strip(" \t")

    def rest(self, offset: int) -> re.Match[str] | None:
        """The rest of the line, if it is only a comma and a comment."""
        return _REST.fullmatch(self.text[offset : self.ends[self.line(offset)]])

    def after(self, line: int, lines: Sequence[str]) -> Change:
        """Insert lines after the line of that index, with the same line break."""
        if line + 1 < len(self.starts):
            ending = self.text[self.ends[line] : self.starts[line + 1]]
            return Change(self.starts[line + 1], self.starts[line + 1], _ended(lines, ending))
        match = BREAK.search(self.text)
        ending = match[0] if match else "\n"
        return Change(len(self.text), len(self.text), ending + ending.join(lines))

    def section(self, name: str, lines: Sequence[str]) -> list[Change]:
        """Append a new section."""
        if self.is_in_braces:
            raise NotEditable(self.span(()), f"`{name}:` is missing, and the file is in braces")
        new = [f"{name}:", *lines]
        if self.ends[-1] == self.starts[-1]:  # the text is empty, or ends with a line break
            match = BREAK.search(self.text)
            ending = match[0] if match else "\n"
            return [Change(len(self.text), len(self.text), _ended(new, ending))]
        return [self.after(len(self.starts) - 1, new)]

    @property
    def is_in_braces(self) -> bool:
        """Whether the mapping of the whole file is in flow style, as in JSON."""
        first = min((self.key(path) for path in self.marks if len(path) == 1), default=0)
        return "{" in re.sub("#.*", "", self.text[:first])

    def comments(self, line: int, least: int) -> int:
        """The last comment line after a line with an indentation of at least `least`."""
        last = line
        for index in range(line + 1, len(self.starts)):
            text = self.text[self.starts[index] : self.ends[index]]
            content = text.lstrip(" \t")
            if content and (not content.startswith("#") or len(text) - len(content) < least):
                break
            last = index if content else last
        return last


def _ended(lines: Iterable[str], ending: str) -> str:
    return "".join(f"{line}{ending}" for line in lines)
