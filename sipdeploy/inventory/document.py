"""Parses YAML text into plain data and the position of each part.

The only module that knows YAML. Every scalar stays text (`0101` is not 65).
Never raises for invalid text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

from sipdeploy.diagnostics import Diagnostic, Source, Span
from sipdeploy.inventory.reading import BREAK, after

_FORBIDDEN = re.compile(
    "[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_MOST_EVENTS = 3_000_000  # 100,000 users with all their keys have 1.4 million
_DEEPEST = 32  # an inventory has 4 levels; unlimited nesting would take quadratic time
_TOO_DEEP = f"lists and mappings are nested more than {_DEEPEST} levels deep"
_TOO_DEEP_HELP = "close the brackets and braces before it; an inventory has at most 4 levels"
_TOO_LARGE_HELP = "check whether this is the right file: `sipdeploy -i FILE` selects another one"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TEXT_TAG = "tag:yaml.org,2002:str"
# Messages of libyaml, and the edit that fixes each.
_HELP: Mapping[str, str] = {
    "mapping values are not allowed": "quote the value if it contains `: `, or indent the line"
    " like its neighbours",
    "did not find expected key": "indent the line like its neighbours, and close each list with"
    " `]` and each mapping with `}`",
    "could not find expected ':'": "write `key: value`",
    "found unexpected ':'": "write a space after the colon, or quote the value",
    "cannot start any token": "quote the value",
    "unexpected end of stream": "close the quotation marks opened before",
    "did not find expected ',' or": "separate the parts with commas and close the bracket",
    "block sequence entries are not allowed": "put the list on its own lines, below its key",
}
_OTHER_HELP = "quote the value if it contains punctuation, and check the lines above"


def parse(text: str, path: str) -> tuple[Document, list[Diagnostic]]:
    """Parse YAML text; return the document and every problem of SD1xx.

    With errors other than SD104 the document has no data. Takes linear time. The last results are
    cached, so callers must not change them.
    """
    parsed, problems = _parsed(text.removeprefix("\ufeff"), path)
    return parsed, list(problems)


@lru_cache(maxsize=4)  # a change of users parses inventory and secrets, before and after
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
    message = f"YAML does not allow the character U+{ord(text[offset]):04X}"
    advice = 'delete it, or write it as an escape in double quotes, such as "\\x07"'
    return Diagnostic("SD102", message, span=after(text[:offset], path), help=advice)


def _feed(builder: _Builder, text: str) -> None:
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)(text)
    try:
        for count, event in enumerate(iter(loader.get_event, None)):
            builder.take(event)
            if count >= _MOST_EVENTS:
                message = f"the file contains more than {_MOST_EVENTS:,} keys and values"
                start = Span(path=builder.path, line=1, column=1)
                builder.problem("SD109", message, start, advice=_TOO_LARGE_HELP)
            if builder.is_too_deep or count >= _MOST_EVENTS:
                break
    except yaml.MarkedYAMLError as failure:
        builder.problems.append(_syntax_error(failure, text, builder.path))
    except yaml.YAMLError as failure:
        message = " ".join(str(failure).split())
        start = Span(path=builder.path, line=1, column=1)
        builder.problem("SD101", message, start, advice=_OTHER_HELP)
    finally:
        loader.dispose()


def _syntax_error(failure: yaml.MarkedYAMLError, text: str, path: str) -> Diagnostic:
    mark = failure.problem_mark or failure.context_mark
    if "quoted scalar" in (failure.context or ""):
        mark = failure.context_mark  # the opening quotation mark, not the end of the file
    problem = failure.problem or "not YAML"
    lines = BREAK.split(text)
    line, column = (mark.line, mark.column) if mark else (0, 0)
    indent = lines[line] if line < len(lines) else ""
    stop = len(indent) - len(indent.lstrip())
    span = Span(path=path, line=line + 1, column=column + 1)
    if "nesting depth" in problem:  # libyaml reads ahead and has its own limit
        return Diagnostic("SD109", _TOO_DEEP, span=span, help=_TOO_DEEP_HELP)
    if "\t" in indent[: max(stop, column + 1)] and "token" in problem:
        message = "the line is indented with a tab"
        return Diagnostic("SD103", message, span=span, help="indent it with spaces")
    start = failure.context_mark
    context = f"{failure.context}, which starts at line {start.line + 1}" if start else ""
    return Diagnostic(
        "SD101",
        "the file is not valid YAML",
        span=span,
        label=problem,
        notes=(context,) if context else (),
        help=next((advice for part, advice in _HELP.items() if part in problem), _OTHER_HELP),
    )


@dataclass(slots=True)
class _Frame:
    """A mapping or list during parsing; `key` is set until its value is read."""

    container: dict[str, Any] | list[Any]
    path: Path
    mark: tuple[int, int]
    key: str | None = None
    place: tuple[int, int, int] = (0, 0, 0)  # of the key
    is_key: bool = False  # the mapping or list is in the position of a key
    is_repeated: bool = False  # a duplicate key; its value is dropped


class _Builder:
    """Processes parser events one by one; its own stack avoids recursion."""

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
        self.problems.append(Diagnostic(code, message, span=span, notes=tuple(notes), help=advice))

    def check_shape(self) -> None:
        """Report an empty file, or one whose top level is not a mapping."""
        start = Span(path=self.path, line=1, column=1)
        if self.problems or isinstance(self.data, dict):
            return
        if self.data is None:
            self.problem(
                "SD108",
                "the file is empty",
                start,
                advice="delete it; `sipdeploy init` writes a complete one",
            )
        else:
            self.problem(
                "SD109",
                "the file is not a mapping of keys to values",
                start,
                advice="start with a line such as `domain: sip.example.com`",
            )

    def _span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        last = end.column + 1 if end.line == start.line else None
        return Span(path=self.path, line=start.line + 1, column=start.column + 1, end_column=last)

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents == 2:  # noqa: PLR2004  # report only the second
            self.problem(
                "SD107",
                "a second document starts here",
                self._span(event),
                advice="delete the line `---`, or move the second document to its own file",
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
        # Do not show its name: it can be the start of a password without quotes.
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
            advice = "write the keys out in this mapping"
            self.problem("SD105", message, self._span(event), advice=advice)
        elif key in frame.container:
            first = self.marks[(*frame.path, key)]
            self.problem(
                "SD104",
                f"duplicate key `{key}`",
                self._span(event),
                notes=[f"first used at {self.path}:{first[0]}:{first[1]}"],
                advice="delete one of them",
            )
            frame.is_repeated = True
            key = f"{key}#{len(self.problems)}"
        frame.key = key

    def _take_value(self, value: Any, event: Any) -> None:
        start, end = event.start_mark, event.end_mark
        self._place(value, (start.line + 1, start.column + 1, end.line + 1, end.column + 1))

    def _place(self, value: Any, where: tuple[int, int, int, int]) -> None:
        """Store a complete value in its container; of duplicate keys, keep the first."""
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
            self.problem("SD109", _TOO_DEEP, self._span(event), advice=_TOO_DEEP_HELP)
        start = event.start_mark
        path: Path = ()
        frame = self._stack[-1] if self._stack else None
        is_key = frame is not None and frame.key is None and isinstance(frame.container, dict)
        if is_key:
            self.problem(
                "SD109",
                "a key must be a word or a number",
                self._span(event),
                advice='if it is text, quote it: "{{ name }}"',
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


Path = tuple[str | int, ...]
# The position of a node: its key (line, column, end column) and its value (line, column, end line,
# end column), all from 1. Plain tuples, because a large inventory has half a million of them.
Mark = tuple[int, int, int, int, int, int, int]


# Bounded, so that a line with many partial matches does not take quadratic time.
_PASSWORD = re.compile(r"(?i)(pass|pwd|secret)[\w-]{0,80}[\"']?\s{0,80}:\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file: its data (dict, list, str, None; None also if invalid) and its positions."""

    path: str
    text: str
    data: Any = None
    marks: Mapping[Path, Mark] = field(default_factory=dict)

    def key_span(self, path: Path) -> Span | None:
        """Span of the key at `path`, or of its nearest existing parent."""
        while path and path not in self.marks:
            path = path[:-1]
        if not path:
            return self.start
        line, column, end, *_ = self.marks[path]
        return Span(path=self.path, line=line, column=column, end_column=end)

    def value_span(self, path: Path) -> Span | None:
        """Span of the value at `path`; of its key if the value is empty or has several lines."""
        if path not in self.marks:
            return self.key_span(path)
        *_, line, column, end_line, end = self.marks[path]
        if end_line != line or end <= column:
            return self.key_span(path)
        return Span(path=self.path, line=line, column=column, end_column=end)

    @property
    def start(self) -> Span:
        """The start of the file."""
        return Span(path=self.path, line=1, column=1)

    def source(self, is_secret: Callable[[Path], bool] = lambda _: False) -> Source:
        """Return the lines for excerpts, without the values at secret paths.

        An invalid file has no positions, so everything that looks like a password is hidden.
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
    """Hide the text after `password:` and the like, or the next line if there is none."""
    hidden = {}
    continues = False
    for number, line in enumerate(lines, 1):
        match = _PASSWORD.search(line)
        if match or continues:
            hidden[number] = [(match.end() + 1 if match else 1, 1 << 30)]
        continues = (
            bool(match) and line[match.end() :].strip() in {"", "|", ">"} if match else False
        )
    return hidden
