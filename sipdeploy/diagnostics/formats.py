"""Diagnostics for machines: CI services, code scanning, test reports. Pure."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape  # the five characters that XML escapes too
from typing import Any, Literal
from urllib.parse import quote

from sipdeploy import __version__
from sipdeploy.diagnostics import (
    Diagnostic,
    Severity,
    Sources,
    Span,
    concise,
    full,
    ordered,
    printable,
)

FailOn = Literal["error", "warning", "note"]
_RANK: Mapping[str, int] = {"error": 0, "warning": 1, "note": 2}
_GITHUB: Mapping[str, str] = {"error": "error", "warning": "warning", "note": "notice"}
_GITLAB: Mapping[str, str] = {"error": "major", "warning": "minor", "note": "info"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a report needs besides the problems: the manuals of their codes, and what fails."""

    manuals: Mapping[str, str] = field(default_factory=dict)
    fail_on: FailOn = "error"


def fails(severity: Severity, fail_on: FailOn) -> bool:
    """Whether a problem of this severity makes the run fail."""
    return _RANK[severity] <= _RANK[fail_on]


def github(
    diagnostics: Iterable[Diagnostic],
    sources: Sources | None = None,
    context: Context | None = None,
) -> str:
    """Workflow commands, which GitHub shows next to the lines of a pull request."""
    del sources, context
    return "\n".join(_github(diagnostic) for diagnostic in ordered(diagnostics))


def _github(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    place = {"file": span.path, "line": span.line, "col": span.column} if span else {}
    properties = ",".join(
        f"{key}={_github_escape(printable(str(value)), ',:')}"
        for key, value in (place | {"title": diagnostic.code}).items()
    )
    text = "\n".join(_texts(diagnostic))
    text = "\n".join(printable(line) for line in text.split("\n"))
    return f"::{_GITHUB[diagnostic.severity]} {properties}::{_github_escape(text, '')}"


def _texts(diagnostic: Diagnostic) -> list[str]:
    """The message, the related places and the help, without what is empty."""
    related = (f"{each.span}: {each.text}" for each in diagnostic.related)
    texts = (_sentence(diagnostic), *related, *diagnostic.notes, diagnostic.help)
    return [text for text in texts if text]


def _sentence(diagnostic: Diagnostic) -> str:
    return f"{diagnostic.message}: {diagnostic.label}" if diagnostic.label else diagnostic.message


def _github_escape(text: str, also: str) -> str:
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def as_json(
    diagnostics: Iterable[Diagnostic],
    sources: Sources | None = None,
    context: Context | None = None,
) -> str:
    """A JSON list of the diagnostics, sorted."""
    del sources, context
    return json.dumps([asdict(diagnostic) for diagnostic in ordered(diagnostics)], indent=2)


def gitlab(
    diagnostics: Iterable[Diagnostic],
    sources: Sources | None = None,
    context: Context | None = None,
) -> str:
    """A code quality report of GitLab, which shows it in a merge request."""
    del sources, context
    seen: Counter[tuple[str, str, str]] = Counter()
    issues = []
    for diagnostic in ordered(diagnostics):
        span = diagnostic.span or Span(path=".", line=1, column=1)
        # Without the line: an issue stays the same one when lines are added above it.
        key = (diagnostic.code, os.path.normpath(span.path), diagnostic.message)
        seen[key] += 1
        mark = "\0".join([*key, str(seen[key])]).encode("utf-8", "surrogateescape")
        issues.append(
            {
                "description": " ".join(printable(text) for text in _texts(diagnostic)),
                "check_name": diagnostic.code,
                "fingerprint": hashlib.sha256(mark).hexdigest(),
                "severity": _GITLAB[diagnostic.severity],
                "location": {"path": printable(key[1]), "lines": {"begin": span.line}},
            }
        )
    return json.dumps(issues, indent=2)


def junit(
    diagnostics: Iterable[Diagnostic],
    sources: Sources | None = None,
    context: Context | None = None,
) -> str:
    """A test report in JUnit's XML: a case for each problem, or one that has passed."""
    shown, context = ordered(diagnostics), context or Context()
    cases = [
        _junit(each, sources, is_failure=fails(each.severity, context.fail_on)) for each in shown
    ]
    failed = sum(fails(each.severity, context.fail_on) for each in shown)
    return xml_report("sipdeploy lint", cases or ['<testcase name="no problems"/>'], failed)


def _junit(diagnostic: Diagnostic, sources: Sources | None, *, is_failure: bool) -> str:
    span = diagnostic.span
    name = f"{diagnostic.code} {span}" if span else diagnostic.code
    text = full([diagnostic], sources).rpartition("\n\n")[0]
    if is_failure:
        message = attribute(_sentence(diagnostic))
        inner = f'<failure type="{diagnostic.severity}" message={message}>{escape(text)}</failure>'
    else:
        inner = f"<system-out>{escape(text)}</system-out>"
    place = f" file={attribute(span.path)}" if span else ""
    return (
        f'<testcase name={attribute(name)} classname="{diagnostic.code}"{place}>{inner}</testcase>'
    )


def attribute(text: str) -> str:
    """A text as the value of an attribute of XML, with its quotation marks."""
    return f'"{escape(printable(text))}"'


def xml_report(name: str, cases: Sequence[str], failed: int) -> str:
    """A JUnit report of one suite from the XML of its cases."""
    counts = f'tests="{len(cases)}" failures="{failed}"'
    lines = [f"    {case}" for case in cases]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f"<testsuites {counts}>",
            f"  <testsuite name={attribute(name)} {counts}>",
            *lines,
            "  </testsuite>",
            "</testsuites>",
        ]
    )


def sarif(
    diagnostics: Iterable[Diagnostic],
    sources: Sources | None = None,
    context: Context | None = None,
) -> str:
    """SARIF 2.1.0 (OASIS), for code scanning services, with the manual of each code."""
    del sources
    shown, manuals = ordered(diagnostics), (context or Context()).manuals
    codes = sorted({diagnostic.code for diagnostic in shown})
    levels = {diagnostic.code: diagnostic.severity for diagnostic in reversed(shown)}
    driver = {
        "name": "sipdeploy",
        "version": __version__,
        "rules": [_sarif_rule(code, manuals.get(code, ""), levels[code]) for code in codes],
    }
    results = [_sarif_result(diagnostic, codes) for diagnostic in shown]
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
        ],
    }
    return json.dumps(log, indent=2)


def _sarif_rule(code: str, manual: str, level: str) -> dict[str, Any]:
    """A rule with its manual, as text and as Markdown: code scanning shows the latter."""
    rule: dict[str, Any] = {"id": code, "defaultConfiguration": {"level": level}}
    if manual:
        first, _, rest = manual.partition("\n")
        rule["shortDescription"] = {"text": first}
        rule["fullDescription"] = {"text": first}
        markdown = f"**{first}**\n\n```text\n{rest.strip()}\n```"
        rule["help"] = {"text": manual, "markdown": markdown}
    return rule


def _sarif_result(diagnostic: Diagnostic, codes: list[str]) -> dict[str, Any]:
    texts = (_sentence(diagnostic), *diagnostic.notes, diagnostic.help)
    # code scanning refuses a whole report for one result without a place
    span = diagnostic.span or Span(path=".", line=1, column=1)
    result: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": codes.index(diagnostic.code),
        "level": diagnostic.severity,
        "message": {"text": "\n".join(text for text in texts if text)},
        "locations": [{"physicalLocation": _sarif_place(span)}],
    }
    if diagnostic.related:
        result["relatedLocations"] = [
            {"physicalLocation": _sarif_place(each.span), "message": {"text": each.text}}
            for each in diagnostic.related
        ]
    return result


def _sarif_place(span: Span) -> dict[str, Any]:
    region = {"startLine": span.line, "startColumn": span.column}
    if span.end_column is not None:
        region["endColumn"] = span.end_column
    uri = quote(os.fsencode(span.path))
    return {"artifactLocation": {"uri": uri}, "region": region}


def _full(
    diagnostics: Iterable[Diagnostic],
    sources: Sources | None = None,
    context: Context | None = None,
) -> str:
    del context
    return full(diagnostics, sources)


def _concise(
    diagnostics: Iterable[Diagnostic],
    sources: Sources | None = None,
    context: Context | None = None,
) -> str:
    del sources, context
    return concise(diagnostics)


Format = Literal["full", "concise", "github", "gitlab", "sarif", "junit", "json"]
FORMATS: Mapping[Format, Callable[[Iterable[Diagnostic], Sources | None, Context | None], str]] = {
    "full": _full,
    "concise": _concise,
    "github": github,
    "gitlab": gitlab,
    "sarif": sarif,
    "junit": junit,
    "json": as_json,
}
