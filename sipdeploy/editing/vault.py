"""Where the passwords of a site are kept: read as text, edited in place, and stored again.

A file, or a command that prints one with another that takes it (sops, age, a vault).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, has_errors
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.editing import edit
from sipdeploy.editing.problems import not_editable, told
from sipdeploy.inventory import commands, document, files, passwords
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.secret import SecretsCommand, hider

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from sipdeploy.inventory.files import TextFile
    from sipdeploy.inventory.secret import Secret
    from sipdeploy.inventory.site import Site

# Without letters and digits that look alike: 56 of them, so 24 characters are 139 bits.
_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_LENGTH = 24
MODE = 0o600

HEAD = """\
# Passwords of the users, in clear text: mode 0600, never in git.
# `sipdeploy init` adds those that are missing and changes none.
users:
"""


def new_password() -> str:
    """Make a password of 139 random bits that can be read out and typed."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """The passwords of a site as text. `file` is None where a command prints them."""

    name: str
    text: str = field(repr=False)
    passwords: Mapping[str, Secret]
    directory: Path
    file: TextFile | None = None
    command: SecretsCommand | None = None

    def changed(self, added: Mapping[str, str], removed: Iterable[str] = ()) -> str:
        """Give the text with passwords put in, new ones and others, and some taken out.

        InvalidFiles when that would change anything else of it.
        """
        parsed = document.parse(self.text, self.shown)[0]
        gone = [number for number in removed if number in self.passwords]
        new: dict[str, edit.Entry] = {n: p for n, p in added.items() if n not in self.passwords}
        other = {n: added[n] for n in added if n in self.passwords}
        try:
            text = edit.with_values(parsed, {("users", n): p for n, p in other.items()})
            text = _edited(text, self.shown, gone=gone, new=new)
        except edit.NotEditable as failure:
            raise not_editable(self.shown, str(failure), self._advice) from failure
        wanted = {n: p.reveal() for n, p in self.passwords.items() if n not in gone} | dict(added)
        found = passwords.parse_secrets(text, self.shown)
        if found.diagnostics or {n: p.reveal() for n, p in found.passwords.items()} != wanted:
            raise not_editable(self.shown, "an edit would harm it", self._advice)
        return text

    @property
    def shown(self) -> str:
        """What diagnostics show as the file of the passwords."""
        return self.name if self.file is None else str(self.file.path)

    @property
    def _advice(self) -> tuple[str, ...]:
        return ('write `users:` and below it, indented, lines such as `"1001": "password"`',)

    def store(self, text: str) -> None:
        """Hand a new text to the store's command, and see that the other one gives it back."""
        if self.command is None or self.command.store is None:
            return
        try:
            commands.run(self.command.store, self.directory, stdin=text)
            kept = commands.run(self.command.command, self.directory)
        except commands.NoPasswordError as failure:
            reason = _without(str(failure), text)  # programs quote what they do not understand
            raise InvalidFiles([told("SD231", f"the `secrets` store: {reason}")]) from None
        if _passwords(kept) != _passwords(text):
            message = "the `secrets` store took the passwords, and does not give them back"
            advice = "`secrets.command` is to print what `secrets.store` got on standard input"
            raise InvalidFiles([told("SD231", message, advice)])


def _without(words: str, text: str) -> str:
    """Hide every password of a text in what a program said."""
    return hider(each.reveal() for each in _passwords(text).values())(words)


def _passwords(text: str) -> Mapping[str, Secret]:
    return passwords.parse_secrets(text, "").passwords


def _edited(text: str, name: str, *, gone: Iterable[str], new: Mapping[str, edit.Entry]) -> str:
    if left := tuple(gone):
        text = edit.without_entries(document.parse(text, name)[0], "users", left)
    if new:
        text = edit.with_entries(document.parse(text, name)[0], "users", new, quote='"')
    return text


def open_vault(site: Site, directory: Path) -> Vault:
    """Read the passwords of a site. InvalidFiles when they are there and cannot be used."""
    if isinstance(site.secrets, SecretsCommand):
        return _from_command(site.secrets, directory)
    path = directory / expanded(site.secrets)
    try:
        file = files.read(path, MODE)
    except OSError as failure:
        reason = (failure.strerror or str(failure)).lower()
        raise InvalidFiles([told("SD705", f"cannot read `{path}`: {reason}")]) from failure
    if file.raw is None:
        return Vault(name=site.secrets, text=HEAD, passwords={}, directory=directory, file=file)
    text, problems = document.decode(file.raw, str(path))
    if text is None:
        raise InvalidFiles(problems)
    exposed = passwords.exposure(path, path.stat().st_mode)
    return _checked(
        Vault(name=site.secrets, text=text, passwords={}, directory=directory, file=file),
        [*exposed],
    )


def _from_command(command: SecretsCommand, directory: Path) -> Vault:
    name = "what `secrets.command` prints"
    try:
        text = commands.run(command.command, directory)
    except commands.NoPasswordError as failure:
        raise InvalidFiles([told("SD231", f"the `secrets` command: {failure}")]) from failure
    return _checked(
        Vault(name=name, text=text, passwords={}, directory=directory, command=command), []
    )


def _checked(vault: Vault, problems: list[Diagnostic]) -> Vault:
    """The vault with the passwords that its text holds; only a bare one may hold none."""
    if not vault.text.strip():
        return _with(vault, HEAD, {})
    found = passwords.parse_secrets(vault.text, vault.shown)
    problems = [*problems, *found.diagnostics]
    if has_errors(problems):
        raise InvalidFiles(problems)
    return _with(vault, vault.text, found.passwords)


def _with(vault: Vault, text: str, found: Mapping[str, Secret]) -> Vault:
    return Vault(
        name=vault.name,
        text=text,
        passwords=found,
        directory=vault.directory,
        file=vault.file,
        command=vault.command,
    )
