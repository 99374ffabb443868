"""Carries out the edits of problems in the text of a file. Pure.

An edit replaces exactly the text that it was made for. Of edits that overlap, only the first is
carried out; the next run finds the other one again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sipdeploy.diagnostics import Diagnostic, Fix, ordered
from sipdeploy.inventory.reading import BREAK

_MOST_ROUNDS = 5  # an edit can uncover the next problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A problem that is gone from the text, with the edit that removed it."""

    problem: Diagnostic
    old: str
    new: str

    def __str__(self) -> str:
        change = f"`{self.old.strip()}` is now `{self.new}`" if self.new else "comment deleted"
        return f"{change} ({self.problem.code})"


def fixed(text: str, judge: Callable[[str], Sequence[Diagnostic]]) -> tuple[str, list[Fixed]]:
    """Return the text without the problems that have one right edit, and what was edited.

    `judge` finds the problems of a text. A round of edits that makes it worse is dropped.
    """
    done: list[Fixed] = []
    problems = judge(text)
    for _ in range(_MOST_ROUNDS):
        edits = list(_edits(text, problems))
        if not edits:
            break
        changed = _edited(text, edits)
        after = judge(changed)
        if _is_worse(problems, after):
            break
        done += (Fixed(problem=p, old=text[start:end], new=new) for p, start, end, new in edits)
        text, problems = changed, after
    return text, done


def _is_worse(before: Iterable[Diagnostic], after: Iterable[Diagnostic]) -> bool:
    """Whether there are more errors than before, or the text is no longer YAML."""
    old, new = (
        [each.code for each in some if each.severity == "error"] for some in (before, after)
    )
    return len(new) > len(old) or any(code.startswith("SD1") for code in set(new) - set(old))


_Edit = tuple[Diagnostic, int, int, str]


def _edits(text: str, problems: Iterable[Diagnostic]) -> Iterator[_Edit]:
    starts = [0, *(match.end() for match in BREAK.finditer(text))]
    ends = [*(match.start() for match in BREAK.finditer(text)), len(text)]
    last = 0
    for problem in ordered(problems):
        place = _place(problem.fix, starts, ends) if problem.fix else None
        if problem.fix is None or place is None or place[0] < last:
            continue
        start, end = place
        if not problem.fix.text:  # a comment goes with the spaces before it
            while start > last and text[start - 1] in " \t":
                start -= 1
        last = end
        yield problem, start, end, problem.fix.text


def _place(fix: Fix, starts: Sequence[int], ends: Sequence[int]) -> tuple[int, int] | None:
    """The offsets of an edit; None if it is not within a line of the text."""
    span = fix.span
    if not 1 <= span.line <= len(starts) or span.end_column is None:
        return None
    start, end = (starts[span.line - 1] + column - 1 for column in (span.column, span.end_column))
    return (start, end) if start <= end <= ends[span.line - 1] else None


def _edited(text: str, edits: Iterable[_Edit]) -> str:
    parts, done = [], 0
    for _, start, end, new in edits:
        parts += [text[done:start], new]
        done = end
    return "".join([*parts, text[done:]])
