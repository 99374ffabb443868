"""The linter: takes an inventory, inspects the files next to it, applies rules and suppressions.

Runs no command of an untrusted inventory and reads nothing outside its directory, so linting a
stranger's file is safe. Never prints.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Span, codes
from sipdeploy.inventory import passwords
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.secrets_file import read_secrets
from sipdeploy.lint import git, network, secrets
from sipdeploy.lint import rendered as lint_rendered
from sipdeploy.lint.rules import RULES, Subject
from sipdeploy.services import certificates

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory
    from sipdeploy.inventory.document import Document


def lint_inventory(inventory: Inventory) -> list[Diagnostic]:
    """Check an inventory: every problem of SD3xx, and those of its certificate (SD6xx).

    Reads the secrets file and the certificate below the directory of the inventory, and the state
    of the first in git. Reads files elsewhere only if the inventory is trusted.
    """
    return judge(_survey(inventory))


def _survey(inventory: Inventory) -> Subject:
    """Collect the input of the rules: the secrets file and its state in git. Runs only git."""
    site, document, directory = inventory.site, inventory.document, inventory.directory
    certificate = tuple(certificates.lint(site, directory, is_trusted=inventory.is_trusted))
    if not isinstance(site.secrets, str):
        return Subject(site=site, document=document, certificate=certificate)
    name, is_trusted = expanded(site.secrets), inventory.is_trusted
    folder = (directory / name).parent if is_trusted else directory
    state = git.state_of(folder, Path(name.name) if is_trusted else name)
    return Subject(
        site=site,
        document=document,
        shared=read_secrets(site.secrets, directory, is_trusted=is_trusted),
        tracked=state.is_tracked,
        unignored=state.is_unignored,
        certificate=certificate,
    )


def judge(subject: Subject) -> list[Diagnostic]:
    """Apply every rule, then the suppressions in the inventory."""
    diagnostics = [
        Diagnostic(
            each.code,
            finding.message,
            severity=each.severity,
            span=finding.span,
            label=finding.label,
            help=finding.help,
        )
        for each in RULES.values()
        for finding in each.check(subject)
    ]
    diagnostics += (_placed(problem, subject) for problem in subject.shared.diagnostics)
    diagnostics += _missing_passwords(subject)
    diagnostics += (_at_tls(problem, subject) for problem in subject.certificate)
    return suppressed(diagnostics, subject.document)


def _placed(problem: Diagnostic, subject: Subject) -> Diagnostic:
    """Report an unread secrets file (SD233) as a note at the key `secrets`."""
    if problem.code != "SD233":
        return problem
    return replace(problem, severity="note", span=subject.value(("secrets",)))


def _at_tls(problem: Diagnostic, subject: Subject) -> Diagnostic:
    """Report a problem of a certificate or key at the key of `tls` that names the file."""
    is_key = problem.message.startswith(f"`{subject.site.tls.private_key}`")
    key = "private_key" if is_key else "certificate"
    return replace(problem, span=subject.value(("tls", key)))


def _missing_passwords(subject: Subject) -> Iterator[Diagnostic]:
    """Warn about users without a password, if the secrets file exists and is valid."""
    shared = subject.shared
    missing = passwords.missing_passwords(subject.site, shared, subject.document)
    if missing and shared.exists and not shared.diagnostics:
        yield replace(missing, severity="warning")


_RULE_MODULES = (network, secrets)  # their import registers their rules in RULES
_COMMENT = re.compile(r"(?:^|\s)#\s*sipdeploy:\s*ignore(?:\[([^\]]*)\])?")


def suppressed(diagnostics: list[Diagnostic], document: Document) -> list[Diagnostic]:
    """Remove what a comment `# sipdeploy: ignore[SD305]` on the same line suppresses.

    Errors cannot be suppressed. A comment that suppresses nothing is SD301.
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
    """Map each suppression, a line and a code, to the span of its comment."""
    if "sipdeploy:" not in document.text:
        return {}
    places: dict[tuple[int, str], Span] = {}
    for number, text in enumerate(document.source().lines, 1):
        match = _COMMENT.search(text)
        if match:
            start = match.start() + len(match[0]) - len(match[0].lstrip()) + 1
            span = Span(path=document.path, line=number, column=start, end_column=match.end() + 1)
            codes = [code.strip() for code in (match[1] or "").split(",")]
            places |= {(number, code): span for code in codes}
    return places


def _unused(code: str, span: Span) -> Diagnostic:
    message = (
        f"`ignore[{code}]` suppresses nothing on this line" if code else "`ignore` needs a code"
    )
    return Diagnostic(
        "SD301",
        message,
        severity="warning",
        span=span,
        help="delete the comment" if code else "write it as `# sipdeploy: ignore[SD305]`",
    )


def explanations() -> Mapping[str, str]:
    """Return the manual of every code."""
    rules = {code: inspect.getdoc(each.check) or "" for code, each in RULES.items()}
    return dict(sorted({**codes.EXPLAIN, **rules, **lint_rendered.explanations()}.items()))
