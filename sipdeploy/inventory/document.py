"""YAML text to plain data, and where each part of it stands.

The only module that knows YAML. Every scalar stays text (`0101` is not 65).
Never raises for bad text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from sipdeploy.diagnostics import Diagnostic, Source, Span
from sipdeploy.inventory.reading import BREAK, after, decode, error, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


__all__ = ["Document", "Mark", "Path", "decode", "parse", "read"]


_FORBIDDEN = re.compile(
    "[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_MOST_EVENTS = 3_000_000  # that of 100,000 users with all their keys has 1.4 million
_DEEPEST = 32  # an inventory has 4; deeper ones would take quadratic time
_TOO_DEEP = f"lists and mappings stand more than {_DEEPEST} deep in each other"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TEXT_TAG = "tag:yaml.org,2002:str"
# What libyaml says, and the edit that mends it.
_HELP: Mapping[str, str] = {
    "mapping values are not allowed": "quote the value if it holds `: `, or indent the line as"
    " its neighbours are",
    "did not find expected key": "indent the line as its neighbours are, and end each list with"
    " `]` and each mapping with `}`",
    "could not find expected ':'": "write `key: value`",
    "found unexpected ':'": "write a space after the colon, or quote the value",
    "cannot start any token": "quote the value",
    "unexpected end of stream": "close the quotation marks that were opened before",
    "did not find expected ',' or": "divide the parts by a comma and close the bracket",
    "block sequence entries are not allowed": "put the list on its own lines, below its key",
}


def parse(text: str, path: str) -> tuple[Document, list[Diagnostic]]:
    """Read YAML text: the document, and every problem of SD1xx that it has.

    With errors other than SD104 the document has no data. Takes time linear in the text; the texts
    read last are not read again, so nobody may change what it gives.
    """
    parsed, problems = _parsed(text.removeprefix("\ufeff"), path)
    return parsed, list(problems)


@lru_cache(maxsize=4)  # a change of users: inventory and secrets, before and after
def _parsed(text: str, path: str) -> tuple[Document, tuple[Diagnostic, ...]]:
    builder = _Builder(path)
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        builder.problems.append(_control_character(text, forbidden.start(), path))
    else:
        _feed(builder, text)
        builder.check_shape()
    unusable = any(problem.code != "SD104" for problem in builder.problems)
    data = None if unusable else builder.data
    marks = {} if unusable else builder.marks
    return Document(path=path, text=text, data=data, marks=marks), tuple(builder.problems)


def _control_character(text: str, offset: int, path: str) -> Diagnostic:
    message = f"the character U+{ord(text[offset]):04X} may not stand in YAML"
    advice = 'delete it, or write it as an escape in double quotes, such as "\\x07"'
    return error("SD102", message, after(text[:offset], path), advice)


def _feed(builder: _Builder, text: str) -> None:
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)(text)
    try:
        for count, event in enumerate(iter(loader.get_event, None)):
            builder.take(event)
            if count >= _MOST_EVENTS:
                message = f"the file holds more than {_MOST_EVENTS:,} keys and values"
                builder.problem("SD109", message, Span(path=builder.path, line=1, column=1))
            if builder.is_too_deep or count >= _MOST_EVENTS:
                break
    except yaml.MarkedYAMLError as failure:
        builder.problems.append(_syntax_error(failure, text, builder.path))
    except yaml.YAMLError as failure:
        message = " ".join(str(failure).split())
        builder.problem("SD101", message, Span(path=builder.path, line=1, column=1))
    finally:
        loader.dispose()


def _syntax_error(failure: yaml.MarkedYAMLError, text: str, path: str) -> Diagnostic:
    mark = failure.problem_mark or failure.context_mark
    if "quoted scalar" in (failure.context or ""):
        mark = failure.context_mark  # where the quotation marks open, not where the file ends
    problem = failure.problem or "not YAML"
    lines = BREAK.split(text)
    line, column = (mark.line, mark.column) if mark else (0, 0)
    indent = lines[line] if line < len(lines) else ""
    stop = len(indent) - len(indent.lstrip())
    span = Span(path=path, line=line + 1, column=column + 1)
    if "nesting depth" in problem:  # libyaml has read ahead, and has a limit of its own
        return error("SD109", _TOO_DEEP, span)
    if "\t" in indent[: max(stop, column + 1)] and "token" in problem:
        return error("SD103", "a tab stands where YAML wants spaces", span, "indent with spaces")
    begun = failure.context_mark
    context = f"{failure.context}, begun at line {begun.line + 1}" if begun else ""
    return Diagnostic(
        code="SD101",
        severity="error",
        message="this is not YAML",
        span=span,
        label=problem,
        notes=(context,) if context else (),
        help=next((advice for words, advice in _HELP.items() if words in problem), ""),
    )


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read; `key` is set while its value is awaited."""

    container: dict[str, Any] | list[Any]
    path: Path
    mark: tuple[int, int]
    key: str | None = None
    place: tuple[int, int, int] = (0, 0, 0)  # of the key
    is_key: bool = False  # the mapping or list stands where a key belongs
    is_repeated: bool = False  # the key stood before; its value is read, and dropped


class _Builder:
    """Takes parser events one by one; keeps its own stack, so depth is only memory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.data: Any = None
        self.marks: dict[Path, Mark] = {}
        self.problems: list[Diagnostic] = []
        self._stack: list[_Frame] = []
        self._documents = 0
        self.is_too_deep = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: lambda event: self._start(event, {}),
            yaml.SequenceStartEvent: lambda event: self._start(event, []),
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }

    def take(self, event: Any) -> None:
        handler = self._handlers.get(type(event))
        if handler:
            handler(event)

    def problem(
        self, code: str, message: str, span: Span, *, advice: str = "", notes: Iterable[str] = ()
    ) -> None:
        found = error(code, message, span, advice)
        self.problems.append(replace(found, notes=tuple(notes)))

    def check_shape(self) -> None:
        """Say it when there is nothing at all, or no mapping at the top."""
        start = Span(path=self.path, line=1, column=1)
        if self.problems or isinstance(self.data, dict):
            return
        if self.data is None:
            self.problem(
                "SD108", "the file is empty", start, advice="`sipdeploy init` writes a first one"
            )
        else:
            self.problem(
                "SD109",
                "the file is not a mapping of keys to values",
                start,
                advice="begin with a line such as `domain: sip.example.com`",
            )

    def _span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        last = end.column + 1 if end.line == start.line else None
        return Span(path=self.path, line=start.line + 1, column=start.column + 1, end_column=last)

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents == 2:  # noqa: PLR2004  # the second one is told, once
            self.problem(
                "SD107",
                "a second document begins here",
                self._span(event),
                advice="keep one document, without `---` between its lines",
            )

    def _extras(self, event: Any) -> None:
        """Refuse anchors and tags."""
        tag = getattr(event, "tag", None)
        if event.anchor is not None:
            self._no_anchor(event)
        if tag is not None and tag not in {_TEXT_TAG, "!"}:
            advice = "delete the tag, or quote the value if `!` is part of it"
            message = "tags (`!name`) have no meaning here"
            self.problem("SD106", message, self._span(event), advice=advice)

    def _no_anchor(self, event: Any) -> None:
        # Its name is not told: it may be the beginning of a password that lacks quotes.
        is_alias = isinstance(event, yaml.AliasEvent)
        what, sign = ("aliases (`*name`)", "*") if is_alias else ("anchors (`&name`)", "&")
        advice = f"write the value out, or quote it if `{sign}` is part of it"
        self.problem("SD105", f"{what} are not supported", self._span(event), advice=advice)

    def _alias(self, event: Any) -> None:
        self._no_anchor(event)
        self._take_value(None, event)

    def _scalar(self, event: Any) -> None:
        if event.anchor is not None or event.tag is not None:
            self._extras(event)
        frame = self._stack[-1] if self._stack else None
        if frame and frame.key is None and isinstance(frame.container, dict):
            self._take_key(frame, event)
        else:
            value = None if event.value in _NULLS and event.implicit[0] else event.value
            self._take_value(value, event)

    def _take_key(self, frame: _Frame, event: Any) -> None:
        start = event.start_mark
        key = event.value
        frame.place = (start.line + 1, start.column + 1, event.end_mark.column + 1)
        if key == "<<" and event.implicit[0]:
            message = "the merge key `<<` is not supported"
            self.problem("SD105", message, self._span(event), advice="write the keys out")
        elif key in frame.container:
            first = self.marks[(*frame.path, key)]
            self.problem(
                "SD104",
                f"the key `{key}` stands twice",
                self._span(event),
                notes=[f"it first stands at {self.path}:{first[0]}:{first[1]}"],
                advice="delete one of them",
            )
            frame.is_repeated = True
            key = f"{key}#{len(self.problems)}"
        frame.key = key

    def _take_value(self, value: Any, event: Any) -> None:
        start, end = event.start_mark, event.end_mark
        self._place(value, (start.line + 1, start.column + 1, end.line + 1, end.column + 1))

    def _place(self, value: Any, where: tuple[int, int, int, int]) -> None:
        """Put a finished value where it belongs; of two equal keys the first one stays."""
        if not self._stack:
            if self._documents == 1:
                self.data = value
            return
        frame = self._stack[-1]
        container = frame.container
        if isinstance(container, list):
            place = (where[0], where[1], where[3])
            self.marks[(*frame.path, len(container))] = place + where
            container.append(value)
        elif frame.key is not None:
            self.marks[(*frame.path, frame.key)] = frame.place + where
            if not frame.is_repeated:
                container[frame.key] = value
            frame.key = None
            frame.is_repeated = False

    def _start(self, event: Any, container: Any) -> None:
        self._extras(event)
        if len(self._stack) >= _DEEPEST:
            self.is_too_deep = True
            self.problem("SD109", _TOO_DEEP, self._span(event))
        start = event.start_mark
        path: Path = ()
        frame = self._stack[-1] if self._stack else None
        is_key = frame is not None and frame.key is None and isinstance(frame.container, dict)
        if is_key:
            self.problem(
                "SD109",
                "a key has to be a word or a number",
                self._span(event),
                advice='quote it, as in "{{ name }}", if it is meant to be text',
            )
        elif frame:
            own = len(frame.container) if frame.key is None else frame.key
            path = (*frame.path, own)
        mark = (start.line + 1, start.column + 1)
        self._stack.append(_Frame(container, path, mark, is_key=is_key))

    def _end(self, event: Any) -> None:
        frame = self._stack.pop()
        end = event.end_mark
        if frame.is_key:
            self._stack[-1].key, self._stack[-1].place = "\0", (*frame.mark, frame.mark[1] + 1)
        else:
            self._place(frame.container, (*frame.mark, end.line + 1, end.column + 1))


# Places: where a part of a document stands.


Path = tuple[str | int, ...]
# Where a node stands: its key (line, column, end column), its value (line, column, end line and
# column), all from 1. Plain tuples: a large inventory has half a million of them.
Mark = tuple[int, int, int, int, int, int, int]


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
