"""The linter: loads an inventory, looks at what lies beside it, applies rules and suppressions.

Runs no command of the inventory, and reads nothing outside of its folder, unless it is trusted:
linting a stranger's file is safe. Never prints.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Span, codes
from sipdeploy.inventory import passwords, site
from sipdeploy.inventory.files import expanded
from sipdeploy.lint import git, network, secrets
from sipdeploy.lint import rendered as lint_rendered
from sipdeploy.lint.rules import RULES, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sipdeploy.inventory.document import Document
    from sipdeploy.inventory.site import Site


def lint_inventory(
    text: str, path: str, *, is_trusted: bool = False
) -> tuple[Site | None, list[Diagnostic], Document]:
    """Load an inventory and judge it: every problem of SD1xx, SD2xx and SD3xx.

    Reads the secrets file below the folder of `path` and asks git about it; elsewhere only that
    of an inventory which is trusted.
    """
    loaded, problems, document = site.load_site(text, path)
    if loaded is None:
        return None, problems, document
    subject = survey(loaded, document, Path(path).parent, is_trusted=is_trusted)
    return loaded, judge(subject), document


def survey(
    loaded: Site, document: Document, directory: Path, *, is_trusted: bool = False
) -> Subject:
    """Present at what lies beside the inventory; nothing is run but git."""
    if not isinstance(loaded.secrets, str):
        return Subject(site=loaded, document=document)
    name = expanded(loaded.secrets)
    folder = (directory / name).parent if is_trusted else directory
    found = git.state_of(folder, Path(name.name) if is_trusted else name)
    return Subject(
        site=loaded,
        document=document,
        shared=passwords.read_secrets(loaded.secrets, directory, is_trusted=is_trusted),
        tracked=found.is_tracked,
        unignored=found.is_unignored,
    )


def judge(subject: Subject) -> list[Diagnostic]:
    """Apply every rule, then the suppressions in the inventory."""
    found = [
        Diagnostic(
            code=each.code,
            severity=each.severity,
            message=finding.message,
            span=finding.span,
            label=finding.label,
            help=finding.help,
        )
        for each in RULES.values()
        for finding in each.check(subject)
    ]
    found += (_placed(problem, subject) for problem in subject.shared.diagnostics)
    found += _missing_passwords(subject)
    return suppressed(found, subject.document)


def _placed(problem: Diagnostic, subject: Subject) -> Diagnostic:
    """A file that is not looked at (SD233) is no fault of the inventory, and stands there."""
    if problem.code != "SD233":
        return problem
    return replace(problem, severity="note", span=subject.value(("secrets",)))


def _missing_passwords(subject: Subject) -> Iterator[Diagnostic]:
    """Warn of users without a password, where the secrets file is there to tell."""
    users, shared = subject.site.users.items(), subject.shared
    missing = [n for n, user in users if user.password is None and n not in shared.passwords]
    if missing and shared.found and not shared.diagnostics:
        diagnostic = passwords.missing_passwords(missing, subject.site.secrets, subject.document)
        yield replace(diagnostic, severity="warning")


_RULE_MODULES = (network, secrets)  # importing them has entered their rules into RULES
_COMMENT = re.compile(r"(?:^|\s)#\s*sipdeploy:\s*ignore(?:\[([^\]]*)\])?")


def suppressed(diagnostics: list[Diagnostic], document: Document) -> list[Diagnostic]:
    """Leave out what a comment `# sipdeploy: ignore[SD305]` on its line allows.

    Errors cannot be ignored. A comment that allows nothing is SD301.
    """
    allowed = _allowed(document)
    used: set[tuple[int, str]] = set()
    kept = []
    for diagnostic in diagnostics:
        span = diagnostic.span
        place = (span.line, diagnostic.code) if span and span.path == document.path else None
        if place in allowed and diagnostic.severity != "error":
            used.add(place)
        else:
            kept.append(diagnostic)
    unused = (span_code for span_code in allowed.items() if span_code[0] not in used)
    return kept + [_unused(code, span) for (_, code), span in unused]


def _allowed(document: Document) -> dict[tuple[int, str], Span]:
    """Find the suppressions: line and code, and where the comment stands."""
    if "sipdeploy:" not in document.text:
        return {}
    places: dict[tuple[int, str], Span] = {}
    for number, text in enumerate(document.source().lines, 1):
        found = _COMMENT.search(text)
        if found:
            start = found.start() + len(found[0]) - len(found[0].lstrip()) + 1
            span = Span(path=document.path, line=number, column=start, end_column=found.end() + 1)
            codes = [code.strip() for code in (found[1] or "").split(",")]
            places |= {(number, code): span for code in codes}
    return places


def _unused(code: str, span: Span) -> Diagnostic:
    message = f"nothing to ignore here: `{code}`" if code else "`ignore` needs a code"
    return Diagnostic(
        code="SD301",
        severity="warning",
        message=message,
        span=span,
        help="delete the comment" if code else "write it as `# sipdeploy: ignore[SD305]`",
    )


def explanations() -> Mapping[str, str]:
    """Give the manual of every code."""
    rules = {code: inspect.getdoc(each.check) or "" for code, each in RULES.items()}
    return dict(sorted({**codes.EXPLAIN, **rules, **lint_rendered.explanations()}.items()))
