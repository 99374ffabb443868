"""Opens an inventory for commands that need it whole: text, site and passwords, or all problems.

Reads files and runs what the inventory names for its passwords; changes nothing.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, has_errors, listed
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.inventory import document, passwords, secret, site

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sipdeploy.diagnostics import Sources
    from sipdeploy.inventory.document import Document
    from sipdeploy.inventory.secret import Secret
    from sipdeploy.inventory.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """An inventory without errors."""

    path: Path
    site: Site
    document: Document
    is_trusted: bool = True  # what it names may be run, and read wherever it is

    @property
    def directory(self) -> Path:
        """Where the files that it names are looked for."""
        return self.path.parent

    @property
    def sources(self) -> Sources:
        """Its lines, for excerpts."""
        return {self.document.path: site.source(self.document)}


def load(path: Path, *, is_trusted: bool = True) -> Inventory:
    """Read an inventory. Raises InvalidFiles with every problem of SD1xx and SD2xx."""
    text, problems = document.read(path, is_trusted=is_trusted)
    if text is None:
        raise InvalidFiles(problems)
    found, problems, parsed = site.load_site(text, str(path))
    if found is None:
        raise InvalidFiles(problems, sources={str(path): site.source(parsed)})
    return Inventory(path=path, site=found, document=parsed, is_trusted=is_trusted)


def credentials(inventory: Inventory) -> tuple[dict[str, str], list[Diagnostic]]:
    """Give number to HA1 for every user, and the warnings on the way.

    Raises InvalidFiles when a password is missing or cannot be fetched (SD23x, SD304).
    """
    found, problems = _resolved(inventory)
    return secret.credentials(inventory.site.domain, found), problems


def secrets(inventory: Inventory) -> dict[str, Secret]:
    """Give number to password for every user. Raises as `credentials`."""
    return _resolved(inventory)[0]


def _resolved(inventory: Inventory) -> tuple[dict[str, Secret], list[Diagnostic]]:
    found, problems = passwords.resolve_passwords(
        inventory.site,
        inventory.directory,
        inventory=inventory.document,
        is_trusted=inventory.is_trusted,
    )
    if has_errors(problems):
        raise InvalidFiles(problems, sources=inventory.sources)
    return found, problems


def chosen_hosts(inventory: Inventory, names: Sequence[str]) -> list[str]:
    """Give the named hosts, or all of them in the order of the inventory.

    Raises WrongUsage for a name that the inventory does not have.
    """
    known = list(inventory.site.hosts)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise WrongUsage([_unknown_host(name, inventory) for name in unknown])
    return list(dict.fromkeys(names)) or known


def _unknown_host(name: str, inventory: Inventory) -> Diagnostic:
    known = list(inventory.site.hosts)
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    return Diagnostic(
        code="SD501",
        severity="error",
        message=f"no host is named `{name}` in `{inventory.path}`",
        help=f"did you mean `{near[0]}`?" if len(near) == 1 else f"it has {listed(known)}",
    )


def schema() -> str:
    """Give the JSON Schema of an inventory as text."""
    return json.dumps(site.json_schema(), indent=2)
