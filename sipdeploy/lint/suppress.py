"""Suppressions: comments `sipdeploy: ignore[CODE]` in the comment syntax of each file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from sipdeploy.diagnostics import Diagnostic, Fix, Span

YAML = ("#",)
KAMAILIO = ("#", "//")
ASTERISK = (";",)

Place = tuple[str, int, str]  # path, line and code
Comments = Mapping[Place, Span]
Keys = AbstractSet[Place]


def comments(path: str, lines: Sequence[str], signs: Iterable[str]) -> dict[Place, Span]:
    """Map each suppression of a file, by path, line and code, to the span of its comment."""
    sign = "|".join(map(re.escape, signs))
    pattern = re.compile(rf"(?:^|(?<=\s))(?:{sign})\s*sipdeploy:\s*ignore(?:\[([^\]]*)\])?")
    places: dict[Place, Span] = {}
    for number, text in enumerate(lines, 1):
        match = pattern.search(text) if "sipdeploy:" in text else None
        if match:
            start, end = match.start() + 1, match.end() + 1
            span = Span(path=path, line=number, column=start, end_column=end)
            codes = [code.strip() for code in (match[1] or "").split(",")]
            places |= {(path, number, code): span for code in codes}
    return places


def suppressed(diagnostics: Iterable[Diagnostic], places: Comments) -> list[Diagnostic]:
    """Remove what a comment on the same line suppresses.

    Errors cannot be suppressed. A comment that suppresses nothing is SD301.
    """
    used: set[Place] = set()
    errors: set[Place] = set()
    kept = []
    for diagnostic in diagnostics:
        place = _place(diagnostic)
        if is_suppressed(diagnostic, places):
            used.add(place)
            continue
        kept.append(diagnostic)
        if place in places:
            errors.add(place)
    return [*kept, *_unused(places, used, errors)]


def is_suppressed(diagnostic: Diagnostic, places: Comments) -> bool:
    """Whether a comment on the same line suppresses a problem."""
    return diagnostic.severity != "error" and _place(diagnostic) in places


def _place(diagnostic: Diagnostic) -> Place:
    span = diagnostic.span
    return (span.path, span.line, diagnostic.code) if span else ("", 0, diagnostic.code)


def _unused(places: Comments, used: Keys, errors: Keys) -> Iterator[Diagnostic]:
    """SD301 for each code that suppresses nothing; a comment that has no other can be deleted."""
    needed = {places[place] for place in used}
    for place, span in places.items():
        if place in used:
            continue
        code = place[2]
        message = f"`ignore[{code}]` suppresses nothing on this line"
        if place in errors:
            message = f"`ignore[{code}]` has no effect: an error cannot be suppressed"
        yield Diagnostic(
            "SD301",
            message if code else "`ignore` needs a code",
            severity="warning",
            span=span,
            help="delete the comment"
            if code
            else "write the code of the problem, such as `ignore[SD305]`",
            fix=Fix(span=span, text="") if code and span not in needed else None,
        )
