"""Creates a site: inventory, passwords, and the files for git, CI and editors.

Never overwrites a file; in a directory with an inventory it adds only the missing parts.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from sipdeploy import inventory
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.editing import vault
from sipdeploy.inventory import fields
from sipdeploy.inventory.files import expanded, replace_file
from sipdeploy.services.render import template_directory

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory

_CI = ".github/workflows"
_JOB = ("sipdeploy.yml", "sipdeploy-requirements.txt")
_SCHEMA = "inventory.schema.json"
_PLAIN = re.compile(r"(?!null$)[A-Za-z][A-Za-z0-9._@-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The values of a new inventory."""

    domain: str = "sip.example.com"
    email: str = "ops@example.com"
    host: str = "sip1"
    address: str = "203.0.113.10"


def init(directory: Path, answers: Answers) -> list[str]:
    """Write the missing files in `directory`; return one line for each change.

    Raises InvalidFiles if an existing file has errors, or a file cannot be written; WrongUsage for
    an answer that is not valid in an inventory.
    """
    _check(answers)
    path = directory / "inventory.yaml"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        changes = [] if path.exists() else [_create(path, _first_inventory(answers), 0o644)]
        loaded = inventory.open_inventory(path)
        changes += _secrets(loaded)
        changes += _gitignore(loaded)
        changes += _others(directory)
    except OSError as failure:
        reason = (failure.strerror or str(failure)).lower()
        message = f"cannot write `{failure.filename}`: {reason}"
        advice = f"`ls -ld {shlex.quote(str(directory))}` shows owner and mode of the directory"
        problem = Diagnostic("SD110", message, help=advice)
        raise InvalidFiles([problem]) from failure
    return changes


def _check(answers: Answers) -> None:
    checks = (
        (fields.domain, answers.domain),
        (fields.email, answers.email),
        (fields.host_name, answers.host),
        (fields.address, answers.address),
    )
    problems = [fault.at() for fault in fields.faults(checks)]
    if problems:
        raise WrongUsage(problems)


def _first_inventory(answers: Answers) -> str:
    template = Template((template_directory() / "init" / "inventory.yaml").read_text("utf-8"))
    return template.substitute(
        domain=_quoted(answers.domain),
        email=_quoted(answers.email),
        host=_quoted(answers.host),
        address=_quoted(answers.address),
    )


def _quoted(text: str) -> str:
    """The text in YAML, in quotes unless it is a plain word. JSON strings are YAML."""
    return text if _PLAIN.fullmatch(text) or re.fullmatch(r"[0-9.]+", text) else json.dumps(text)


def _create(path: Path, text: str, mode: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode(), mode)
    return f"{path}: created"


def _secrets(loaded: Inventory) -> list[str]:
    """Generate the missing passwords; existing passwords and comments stay."""
    place, users = loaded.site.secrets, loaded.site.users
    shared = [number for number, user in users.items() if user.password is None]
    if not isinstance(place, str) or not shared:
        return []
    known = vault.open_vault(loaded)
    missing = {n: vault.new_password() for n in shared if n not in known.passwords}
    if not missing or known.file is None:
        return []
    known.file.place.parent.mkdir(parents=True, exist_ok=True)
    is_new = known.file.raw is None
    replace_file(known.file.place, known.changed(missing).encode(), vault.MODE)
    added = (
        f"{len(missing)} passwords"
        if len(missing) > 1
        else f"a password for {next(iter(missing))}"
    )
    return [f"{known.file.path}: {'created with' if is_new else 'added'} {added}"]


def _gitignore(loaded: Inventory) -> list[str]:
    """Add the secrets file, the DNS credentials and the rendered trees to .gitignore."""
    places = (loaded.site.secrets, loaded.site.tls.dns_credentials)
    path = loaded.directory / ".gitignore"
    if path.is_symlink():  # never append lines to a file elsewhere
        message, advice = f"`{path}` is a symbolic link", "replace it with a regular file"
        problem = Diagnostic("SD110", message, help=advice)
        raise InvalidFiles([problem])
    old = path.read_text("utf-8") if path.exists() else ""
    wanted = [name for place in places if isinstance(place, str) for name in _inside(place)]
    present = {line.strip().lstrip("/").rstrip("/") for line in old.splitlines()}
    missing = [name for name in (*wanted, "rendered") if name not in present]
    if not missing:
        return []
    gap = "\n" if old and not old.endswith("\n") else ""
    lines = "".join(f"/{name}{'/' if name == 'rendered' else ''}\n" for name in missing)
    replace_file(path, (old + gap + lines).encode(), 0o644)
    return [f"{path}: {'added' if old else 'created with'} {', '.join(missing)}"]


def _inside(place: str) -> list[str]:
    """The path in git's form, without `.` and `..`; empty if it is outside the directory."""
    name = os.path.normpath(expanded(place))
    is_elsewhere = name.startswith("/") or name.split("/", 1)[0] in (".", "..")
    return [] if is_elsewhere else [name]


def _others(directory: Path) -> Iterator[str]:
    """Write the CI job if it is missing, and the schema of this version of sipdeploy."""
    for name in _JOB:
        place = directory / _CI / name
        if not place.exists():
            yield _create(place, (template_directory() / "init" / name).read_text("utf-8"), 0o644)
    schema = directory / _SCHEMA
    text = inventory.schema() + "\n"
    if not schema.exists():
        yield _create(schema, text, 0o644)
    elif schema.read_text("utf-8") != text:
        replace_file(schema, text.encode(), 0o644)
        yield f"{schema}: updated"
