"""The door to an inventory: `open_inventory` returns text, site and passwords, or all problems.

Reads files and runs the password commands of the inventory; changes nothing.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, has_errors, listed
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.inventory import fields, passwords, reading, secret, site
from sipdeploy.inventory.commands import Outputs
from sipdeploy.inventory.own import files as own_files

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Sources
    from sipdeploy.inventory.document import Document
    from sipdeploy.inventory.document import Path as YamlPath
    from sipdeploy.inventory.own.files import Attachments
    from sipdeploy.inventory.secret import Secret
    from sipdeploy.inventory.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """An inventory without errors."""

    path: Path
    site: Site
    document: Document
    is_trusted: bool = True  # sipdeploy may run its commands and read its files anywhere
    outputs: Outputs = field(default_factory=Outputs, compare=False)  # of its commands

    @property
    def directory(self) -> Path:
        """The directory of relative paths in the inventory."""
        return self.path.parent

    @property
    def sources(self) -> Sources:
        """The lines of the inventory, for excerpts."""
        return {self.document.path: site.source(self.document)}


def open_inventory(path: Path, *, raw: bytes | None = None, is_trusted: bool = True) -> Inventory:
    """Read an inventory. Raises InvalidFiles with every problem of SD1xx and SD2xx.

    `raw` is the content of the file if the caller has already read it.
    """
    text, problems = (
        reading.read(path, is_trusted=is_trusted)
        if raw is None
        else reading.decode(raw, str(path))
    )
    if text is None:
        raise InvalidFiles(problems)
    loaded, problems, document = site.load_site(text, str(path))
    if loaded is None:
        raise InvalidFiles(problems, sources={str(path): site.source(document)})
    placed = _placed(loaded, path.parent)
    return Inventory(path=path, site=placed, document=document, is_trusted=is_trusted)


def open_for_host(path: Path, name: str) -> tuple[Inventory, list[Diagnostic]]:
    """Read an inventory of which only the entry of one host is needed, and return its errors.

    Raises InvalidFiles if an error may concern how that host is reached.
    """
    text, problems = reading.read(path)
    if text is None:
        raise InvalidFiles(problems)
    loaded, problems, document = site.load_site(text, str(path))
    errors = [problem for problem in problems if problem.severity == "error"]
    found = loaded or site.site_of_host(document, name)
    if found is None:
        raise InvalidFiles(problems, sources={str(path): site.source(document)})
    return Inventory(path=path, site=_placed(found, path.parent), document=document), errors


def _placed(found: Site, directory: Path) -> Site:
    """The site whose hosts know where the sources of their passwords are."""
    hosts = {
        name: entry.model_copy(
            update={"sudo_password": secret.PlacedSource.of(entry.sudo_password, directory)}
        )
        for name, entry in found.hosts.items()
        if entry.sudo_password is not None
    }
    return found.model_copy(update={"hosts": {**found.hosts, **hosts}}) if hosts else found


def placeholders(found: Site) -> dict[YamlPath, str]:
    """The names and addresses of the documentation that are left in a site, by their paths."""
    texts = {("domain",): found.domain, ("email",): found.email}
    left: dict[YamlPath, str] = {
        path: text for path, text in texts.items() if fields.EXAMPLE_NAME.fullmatch(text)
    }
    for name, host in found.hosts.items():
        for key in ("address", "public_address"):
            text = getattr(host, key)
            if text is not None and fields.is_documentation(text):
                left["hosts", name, key] = text
    return left


def refuse_placeholders(inventory: Inventory, names: Sequence[str]) -> None:
    """InvalidFiles (SD321) if hosts, or the certificate, can never work with what is written."""
    problems = [
        Diagnostic(
            "SD321",
            f"`{text}` is a placeholder of the documentation",
            span=inventory.document.value_span(path),
            help="write your own",
        )
        for path, text in placeholders(inventory.site).items()
        if (path[1] in names if path[0] == "hosts" else inventory.site.tls.is_public)
    ]
    if problems:
        raise InvalidFiles(problems, sources=inventory.sources)


def credentials(inventory: Inventory) -> tuple[dict[str, str], list[Diagnostic]]:
    """Return the HA1 of every user by number, and any warnings.

    Raises InvalidFiles if a password is missing or cannot be fetched (SD23x, SD304).
    """
    resolved, problems = _resolved(inventory)
    return secret.credentials(inventory.site.domain, resolved), problems


def attachments(inventory: Inventory) -> Attachments:
    """Return what services take from beside the inventory: dialplan, prompts, PINs.

    Raises InvalidFiles if a file cannot be used, or a PIN not be fetched (SD233, SD255 to SD259).
    """
    return own_files.attachments(
        inventory.site,
        inventory.directory,
        inventory.document,
        inventory.outputs,
        is_trusted=inventory.is_trusted,
        sources=inventory.sources,
    )


def secrets(inventory: Inventory) -> dict[str, Secret]:
    """Return the password of every user by number. Raises like `credentials`."""
    return _resolved(inventory)[0]


def _resolved(inventory: Inventory) -> tuple[dict[str, Secret], list[Diagnostic]]:
    resolved, problems = passwords.resolve_passwords(
        inventory.site,
        inventory.directory,
        inventory=inventory.document,
        outputs=inventory.outputs,
        is_trusted=inventory.is_trusted,
    )
    if has_errors(problems):
        raise InvalidFiles(problems, sources=inventory.sources)
    return resolved, problems


def chosen_hosts(inventory: Inventory, names: Sequence[str]) -> list[str]:
    """Return the named hosts, or all hosts in the order of the inventory.

    Raises WrongUsage if the inventory has no host of a name.
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
        "SD501",
        f"`{inventory.path}` has no host `{name}`",
        help=f"did you mean `{near[0]}`?" if len(near) == 1 else f"its hosts are {listed(known)}",
    )


def schema() -> str:
    """Return the JSON Schema of an inventory as text."""
    return json.dumps(site.json_schema(), indent=2)
