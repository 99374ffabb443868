"""Diagnostics: problems as values, and the output formats that show them.

Pure: takes values, returns text. Never prints, never reads a file, never shows a hidden part of a
line.
"""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]

HIDDEN = "[hidden]"
_WIDTH = 160  # of an excerpt; a file in one line must not flood the terminal
_COLOURS: Mapping[str, str] = {"error": "1;31", "warning": "1;33", "note": "1;36"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A place in a file. Lines and columns count from 1, in characters; the end is exclusive."""

    path: str
    line: int
    column: int
    end_column: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Another place that matters for a problem, often in another file, and what is there."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """The one right edit of a problem: `text` replaces the text of the span, on its line."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem: what is wrong, where, and the command or edit that fixes it."""

    code: str
    message: str
    _: KW_ONLY
    severity: Severity = "error"
    span: Span | None = None
    label: str = ""
    notes: tuple[str, ...] = ()
    help: str = ""
    related: tuple[Related, ...] = ()
    fix: Fix | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The lines of a file for excerpts.

    `hidden` maps a line number to column ranges (start, exclusive end) that are never shown.
    """

    lines: Sequence[str]
    hidden: Mapping[int, Sequence[tuple[int, int]]] = field(default_factory=dict)
    _masked: dict[int, _Masked] = field(default_factory=dict, compare=False, repr=False)

    def excerpt(self, span: Span) -> tuple[str, int, int] | None:
        """Return the line of the span without its hidden parts, and the columns of the span."""
        if not 1 <= span.line <= len(self.lines):
            return None
        text = self.lines[span.line - 1]
        end = max(span.end_column or span.column + 1, span.column + 1)
        start, end = min(span.column, len(text) + 1), min(end, len(text) + 2)
        ranges = self.hidden.get(span.line, ())
        if not ranges:
            return text, start, end
        if span.line not in self._masked:  # once a line, which can have a problem at every word
            self._masked[span.line] = _mask(text, _merged(ranges, len(text) + 1))
        masked = self._masked[span.line]
        return masked.text, masked.moved(start), masked.moved(end)


Sources = Mapping[str, Source]


def _merged(ranges: Sequence[tuple[int, int]], last: int) -> list[tuple[int, int]]:
    """Merge overlapping ranges, and cut those that exceed the line."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low < merged[-1][1]:
            low, high = merged[-1][0], max(high, merged.pop()[1])  # noqa: PLW2901
        merged.append((low, min(high, last)))
    return merged


@dataclass(frozen=True, slots=True)
class _Masked:
    """A line with `[hidden]` in place of some columns, and the shifts of the other columns."""

    text: str
    lows: Sequence[int]
    highs: Sequence[int]
    shifts: Sequence[int]  # by the number of ranges before a column

    def moved(self, column: int) -> int:
        before = bisect.bisect_right(self.highs, column)
        is_inside = before < len(self.lows) and self.lows[before] < column
        return (self.lows[before] if is_inside else column) + self.shifts[before]


def _mask(text: str, ranges: Sequence[tuple[int, int]]) -> _Masked:
    parts: list[str] = []
    done, shifts = 1, [0]
    for low, high in ranges:
        parts += [text[done - 1 : low - 1], HIDDEN]
        shifts.append(shifts[-1] + len(HIDDEN) - (high - low))
        done = high
    return _Masked(
        text="".join([*parts, text[done - 1 :]]),
        lows=[low for low, _ in ranges],
        highs=[high for _, high in ranges],
        shifts=shifts,
    )


def ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sort by file, line and column, those without a place last; drop duplicates."""
    unique = dict.fromkeys(diagnostics)
    return sorted(unique, key=_place)


def _place(diagnostic: Diagnostic) -> tuple[bool, str, int, int, str]:
    span = diagnostic.span
    if span is None:
        return (True, "", 0, 0, diagnostic.code)
    return (False, span.path, span.line, span.column, diagnostic.code)


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether any diagnostic is an error; warnings and notes stop nothing."""
    return any(diagnostic.severity == "error" for diagnostic in diagnostics)


def summary(diagnostics: Sequence[Diagnostic]) -> str:
    """The counts as text: `2 errors, 1 warning`; empty without diagnostics."""
    counts = (
        (sum(diagnostic.severity == severity for diagnostic in diagnostics), severity)
        for severity in ("error", "warning", "note")
    )
    return ", ".join(count(number, severity) for number, severity in counts if number)


def full(
    diagnostics: Iterable[Diagnostic], sources: Sources | None = None, *, colour: bool = False
) -> str:
    """Show each diagnostic with its source line, its notes and its help, as rustc does."""
    shown = ordered(diagnostics)
    blocks = [_block(diagnostic, sources or {}, _Paint(colour)) for diagnostic in shown]
    return "\n\n".join([*blocks, summary(shown)] if shown else [])


@dataclass(frozen=True, slots=True)
class _Paint:
    on: bool

    def __call__(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.on else text


def _block(diagnostic: Diagnostic, sources: Sources, paint: _Paint) -> str:
    style = _COLOURS[diagnostic.severity]
    head = paint(f"{diagnostic.severity}[{diagnostic.code}]", style)
    span = diagnostic.span
    spans = [*([span] if span else []), *(each.span for each in diagnostic.related)]
    margin = " " * max([2, *(len(str(each.line)) for each in spans)])
    lines = [f"{head}: {paint(printable(diagnostic.message), '1')}"]
    if span is not None:
        lines += _located("-->", span, diagnostic.label, sources, (margin, paint, style))
    elif diagnostic.label:
        lines.append(f"{margin} = {paint('note', '1')}: {printable(diagnostic.label)}")
    for each in diagnostic.related:
        lines += _located(":::", each.span, each.text, sources, (margin, paint, _COLOURS["note"]))
    rest = [f"{margin} = {paint('note', '1')}: {printable(note)}" for note in diagnostic.notes]
    if diagnostic.help:
        rest.append(f"{margin} = {paint('help', '1')}: {printable(diagnostic.help)}")
    if rest and lines[-1].startswith(f"{margin} {paint('|', '1;34')}"):
        lines.append(f"{margin} {paint('|', '1;34')}")
    return "\n".join(lines + rest)


def _located(
    arrow: str, span: Span, label: str, sources: Sources, layout: tuple[str, _Paint, str]
) -> list[str]:
    """A place, its line and what to say about it."""
    margin, paint, _ = layout
    place = f"{margin}{paint(arrow, '1;34')} {printable(str(span))}"
    return [place, *_excerpt(span, label, sources, layout)]


def _excerpt(
    span: Span, label: str, sources: Sources, layout: tuple[str, _Paint, str]
) -> list[str]:
    margin, paint, style = layout
    excerpt = sources[span.path].excerpt(span) if span.path in sources else None
    if excerpt is None:
        return [f"{margin} = {paint('note', '1')}: {printable(label)}"] if label else []
    text, start, end = _clipped(*excerpt)
    before = _columns(text[: start - 1])
    carets = "^" * max(_columns(text[start - 1 : end - 1]), 1)
    bar = paint("|", "1;34")
    pointer = f"{carets} {printable(label)}".rstrip()
    return [
        f"{margin} {bar}",
        f"{paint(str(span.line).rjust(len(margin)), '1;34')} {bar} {printable(text)}".rstrip(),
        f"{margin} {bar} {' ' * before}{paint(pointer, style)}",
    ]


def _clipped(text: str, start: int, end: int) -> tuple[str, int, int]:
    """Shorten a long line to a window around the span."""
    if len(text) <= _WIDTH:
        return text, start, end
    low = max(0, min(start - 1 - _WIDTH // 2, len(text) - _WIDTH))
    lead, tail = ("..." if low else ""), ("..." if low + _WIDTH < len(text) else "")
    window = lead + text[low : low + _WIDTH] + tail
    shift = len(lead) - low
    return window, start + shift, min(end + shift, len(window) + 1)


def _columns(text: str) -> int:
    """Count terminal columns; East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


# Commands of CI runners, at any position in a line of output: `##[set-output ...]` and
# `##vso[...]`. A `::` is a command only at the start of a line.
_COMMAND = re.compile(r"##(?=\w{0,40}\[)")


def printable(text: str) -> str:
    """Replace text that a terminal or a CI job would execute: escapes, line breaks, `##[`."""
    if not text.isprintable():
        text = "".join(
            character if character.isprintable() else " " if character in "\t\r\n" else "\ufffd"
            for character in text
        )
    return _COMMAND.sub("#\ufffd", text) if "##" in text else text


def concise(diagnostics: Iterable[Diagnostic]) -> str:
    """One line per diagnostic, for grep and for editors."""
    return "\n".join(
        (f"{_shown(diagnostic.span)}: " if diagnostic.span else "")
        + f"{diagnostic.severity}[{diagnostic.code}] {printable(diagnostic.message)}"
        for diagnostic in ordered(diagnostics)
    )


def _shown(span: Span) -> str:
    """A place at the start of a line, where `::` would start a command of a CI job."""
    text = printable(str(span))
    return f"./{text}" if text.lstrip().startswith("::") else text


def listed(items: Iterable[str], *, most: int = 10) -> str:
    """Format names for a sentence: backticks, commas, and the number of names left out."""
    names = list(items)
    shown = ", ".join(f"`{name}`" for name in itertools.islice(names, most))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def reason_of(failure: Exception) -> str:
    """Say why something failed, as the end of a sentence: `permission denied`."""
    text = getattr(failure, "strerror", None) or str(failure)  # without `[Errno 13]`
    return text[:1].lower() + text[1:]


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def named(noun: str, items: Sequence[str]) -> str:
    """A noun with its names: "user `1001`", "users `1001`, `1002`"."""
    return f"{noun}{'' if len(items) == 1 else 's'} {listed(items)}"
