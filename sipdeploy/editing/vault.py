"""The store of a site's passwords: reads it as text, edits it in place, and writes it.

It is a file, or a pair of commands that print and store its text (sops, age, a vault).
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, has_errors
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.editing import edit
from sipdeploy.editing.problems import not_editable
from sipdeploy.inventory import commands, document
from sipdeploy.inventory.commands import Outputs
from sipdeploy.inventory.files import TextFile, expanded
from sipdeploy.inventory.secret import SecretsCommand, hider
from sipdeploy.inventory.secrets_file import parse_secrets, read_secrets

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory
    from sipdeploy.inventory.secret import Secret

# Without characters that look alike: 56 remain, so 24 characters have 139 bits.
_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_LENGTH = 24
MODE = 0o600

HEAD = """\
# Passwords of the users in clear text: mode 0600, never in git.
# `sipdeploy init` adds the missing passwords and changes no others.
users:
"""


def new_password() -> str:
    """Generate a password of 139 random bits that people can read out and type."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """The passwords of a site as text. `file` is None if a command prints them."""

    name: str
    text: str = field(repr=False)
    passwords: Mapping[str, Secret]
    directory: Path
    file: TextFile | None = None
    command: SecretsCommand | None = None
    outputs: Outputs = field(default_factory=Outputs)

    def changed(
        self, added: Mapping[str, str], removed: Collection[str] = (), *, text: str | None = None
    ) -> str:
        """Return the text, or another one of this store, with passwords added and removed.

        InvalidFiles if the edit would change anything else.
        """
        try:
            return self._edited(self.text if text is None else text, added, removed)
        except edit.NotEditable as reason:
            raise not_editable(self.shown, reason, self._advice) from reason

    def _edited(self, before: str, added: Mapping[str, str], removed: Collection[str]) -> str:
        known, text = parse_secrets(before, self.shown).passwords, before
        obsolete = frozenset(removed) & known.keys()
        replaced: dict[document.Path, str] = {("users", n): added[n] for n in added if n in known}
        new: dict[str, edit.Entry] = {n: p for n, p in added.items() if n not in known}
        if replaced:
            text = edit.with_values(self._parsed(text), replaced)
        if obsolete:
            text = edit.without_entries(self._parsed(text), "users", obsolete)
        if new:
            text = edit.with_entries(self._parsed(text), "users", new, quote='"')
        kept = {n: p.reveal() for n, p in known.items() if n not in obsolete}
        edited = parse_secrets(text, self.shown)
        result = {n: p.reveal() for n, p in edited.passwords.items()}
        if edited.diagnostics or result != kept | dict(added):
            raise edit.NotEditable(self._parsed(before).key_span(("users",)))
        return text

    def _parsed(self, text: str) -> document.Document:
        return document.parse(text, self.shown)[0]

    @property
    def shown(self) -> str:
        """The name of the store in diagnostics."""
        return self.name if self.file is None else str(self.file.path)

    @property
    def _advice(self) -> tuple[str, ...]:
        return ('write `users:`, and below it indented lines such as `"1001": "password"`',)

    def store(self, text: str) -> None:
        """Pass a new text to the `store` command, and verify it with the `command`."""
        if self.command is None or self.command.store is None:
            return
        try:
            commands.run(self.command.store, self.directory, stdin=text)
            stored = self.outputs.again(self.command.command, self.directory)
        except commands.NoPasswordError as failure:
            message = f"the `secrets` store failed: {_masked(str(failure), text)}"
            advice = f"run `secrets.store` and `secrets.command` by hand in `{self.directory}`"
            raise InvalidFiles([Diagnostic("SD231", message, help=advice)]) from None
        if _passwords(stored) != _passwords(text):
            message = "the `secrets` store accepted the passwords and does not return them"
            advice = "`secrets.command` must print what `secrets.store` reads from standard input"
            raise InvalidFiles([Diagnostic("SD231", message, help=advice)])


def _masked(output: str, text: str) -> str:
    """Hide every password of a text in the output of a program, which can quote its input."""
    return hider(each.reveal() for each in _passwords(text).values())(output)


def _passwords(text: str) -> Mapping[str, Secret]:
    return parse_secrets(text, "").passwords


def open_vault(inventory: Inventory) -> Vault:
    """Read the passwords of a site. InvalidFiles if they exist and cannot be used."""
    site, directory, outputs = inventory.site, inventory.directory, inventory.outputs
    content = read_secrets(site.secrets, directory, outputs=outputs)
    if has_errors(content.diagnostics):
        raise InvalidFiles(content.diagnostics)
    command = site.secrets if isinstance(site.secrets, SecretsCommand) else None
    file = None
    if isinstance(site.secrets, str):
        path = directory / expanded(site.secrets)
        file = TextFile(path=path, raw=content.raw, mode=MODE)
    return Vault(
        name="the output of `secrets.command`" if command else str(site.secrets),
        text=content.text if content.text and content.text.strip() else HEAD,
        passwords=content.passwords,
        directory=directory,
        file=file,
        command=command,
        outputs=outputs,
    )
