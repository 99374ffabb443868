"""The linter: takes an inventory, inspects the files next to it, applies rules and suppressions.

Runs no command of an untrusted inventory and reads nothing outside its directory, so linting a
stranger's file is safe. Never prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, codes, count
from sipdeploy.inventory import passwords
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.own import files as own_files
from sipdeploy.inventory.secrets_file import read_secrets
from sipdeploy.lint import beside, git, names, network, secrets, suppress
from sipdeploy.lint import rendered as lint_rendered
from sipdeploy.lint.own import rules
from sipdeploy.lint.rules import RULES, Subject
from sipdeploy.lint.stack import judging
from sipdeploy.lint.suppress import comments, suppressed
from sipdeploy.services import certificates

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory
    from sipdeploy.inventory.site import Site


def lint_inventory(inventory: Inventory) -> list[Diagnostic]:
    """Check an inventory: every problem of SD3xx, and those of its certificate (SD6xx).

    Reads the secrets file, the certificate, and files of passwords and PINs, below the directory
    of the inventory, and the state of the first in git. Reads files elsewhere only if the
    inventory is trusted.
    """
    return judge(_survey(inventory))


def _survey(inventory: Inventory) -> Subject:
    """Collect the input of the rules: the secrets file and its state in git. Runs only git."""
    site, document, directory = inventory.site, inventory.document, inventory.directory
    certificate = tuple(certificates.lint(site, directory, is_trusted=inventory.is_trusted))
    exposed = tuple(beside.exposed(site, directory))
    subject = Subject(
        site=site,
        document=document,
        certificate=certificate,
        exposed=exposed,
        unread=_unread(inventory),
    )
    if not isinstance(site.secrets, str):
        return subject
    name, is_trusted = expanded(site.secrets), inventory.is_trusted
    folder = (directory / name).parent if is_trusted else directory
    state = git.state_of(folder, Path(name.name) if is_trusted else name)
    return replace(
        subject,
        shared=read_secrets(site.secrets, directory, is_trusted=is_trusted),
        tracked=state.is_tracked,
        unignored=state.is_unignored,
    )


def _unread(inventory: Inventory) -> tuple[Diagnostic, ...]:
    """The files of passwords and PINs that cannot be used."""
    given = (inventory.site, inventory.directory, inventory.document)
    is_trusted = inventory.is_trusted
    return (
        *passwords.unread_files(*given, is_trusted=is_trusted),
        *own_files.unread_pins(*given, is_trusted=is_trusted),
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
    diagnostics += subject.unread
    diagnostics += (_placed(problem, subject) for problem in subject.shared.diagnostics)
    diagnostics += _missing_passwords(subject)
    diagnostics += (_at_tls(problem, subject) for problem in subject.certificate)
    document = subject.document
    has_comments = "sipdeploy:" in document.text
    lines = document.source().lines if has_comments else ()
    return suppressed(diagnostics, comments(document.path, lines, suppress.YAML))


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


_RULE_MODULES = (names, network, secrets, rules)  # their import registers their rules in RULES


def sizes(site: Site) -> str:
    """How many hosts, users and services a site has."""
    parts = ((site.hosts, "host"), (site.users, "user"), (site.services, "service"))
    return ", ".join(count(len(items), noun) for items, noun in parts)


def explanations() -> Mapping[str, str]:
    """Return the manual of every code."""
    rendered, stack = lint_rendered.explanations(), judging.manuals()
    return dict(sorted({**codes.EXPLAIN, **RULES.manuals(), **rendered, **stack}.items()))
