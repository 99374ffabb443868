"""A diagnosis as text and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import count, printable

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.proof.doctor.rung import Diagnosis

WIDTH = 24
BROKEN = {"ok": "ok", "failed": "broken", "skipped": "skipped"}


def as_text(diagnosis: Diagnosis, *, has_shown: bool = False) -> str:
    """A line for each rung unless they were shown before, then the verdict."""
    rungs = () if has_shown else rung_lines(diagnosis)
    return printable_lines([*rungs, *verdict_lines(diagnosis)])


def printable_lines(lines: list[str]) -> str:
    """Lines of which no part moves the cursor of a terminal."""
    return "\n".join(printable(line).rstrip() for line in lines)


def rung_lines(diagnosis: Diagnosis) -> Iterator[str]:
    """A line for each rung that was climbed."""
    for each in diagnosis.results:
        dots = f"{each.name} ".ljust(WIDTH, ".")
        message = each.message if each.status != "failed" else ""
        yield f"{diagnosis.host}  {dots} {BROKEN[each.status]:<7} {message}"


def verdict_lines(diagnosis: Diagnosis) -> Iterator[str]:
    """What is wrong, the evidence, and what to type; or that nothing was found."""
    if diagnosis.verdict is not None:
        yield from _verdict(diagnosis, diagnosis.verdict)
    else:
        held = sum(each.status == "ok" for each in diagnosis.results)
        what = f" with {diagnosis.topic}" if diagnosis.topic else ""
        if diagnosis.unasked:
            yield f"{diagnosis.host}  nothing is wrong{what} as far as this machine can see"
        else:
            verb = "holds" if held == 1 else "hold"
            yield f"{diagnosis.host}  nothing is wrong{what}: {count(held, 'rung')} {verb}"
    if diagnosis.unasked:
        yield f"  not asked  {diagnosis.unasked[0].message}"
        if diagnosis.unasked[0].help:
            yield f"  type       {diagnosis.unasked[0].help}"


def _verdict(diagnosis: Diagnosis, verdict: Diagnostic) -> Iterator[str]:
    yield f"{diagnosis.host}  [{verdict.code}] {verdict.message}"
    for number, note in enumerate(verdict.notes):
        yield f"  {'' if number else 'evidence':<10} {note}"
    yield f"  {'type':<10} {verdict.help}"


def as_json(diagnosis: Diagnosis) -> str:
    """The diagnosis as JSON; `verdict` is null if nothing was found."""
    verdict = diagnosis.verdict
    broken = diagnosis.results[-1].name if verdict and diagnosis.results else None
    return json.dumps(
        {
            "host": diagnosis.host,
            "topic": diagnosis.topic,
            "asked": not diagnosis.unasked,
            "rungs": [
                {
                    "name": each.name,
                    "status": BROKEN[each.status],
                    "message": each.message,
                    "seconds": round(each.seconds, 3),
                }
                for each in diagnosis.results
            ],
            "verdict": verdict
            and {
                "rung": broken,
                "code": verdict.code,
                "message": verdict.message,
                "evidence": list(verdict.notes),
                "type": verdict.help,
            },
            "unasked": [each.message for each in diagnosis.unasked],
        },
        indent=2,
    )
