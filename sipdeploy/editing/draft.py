"""A change of users in memory: the new text of both files, and the resulting site.

Only `commit` writes, and it writes everything or nothing.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy import lint
from sipdeploy.diagnostics import Diagnostic, Span
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.editing import edit, problems
from sipdeploy.editing.vault import MODE, Vault, new_password, open_vault
from sipdeploy.inventory import files, open_inventory, reading, site
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.own.checks import uses_of
from sipdeploy.inventory.passwords import (
    init_command,
    lost_passwords,
    missing_passwords,
    resolve_passwords,
)
from sipdeploy.inventory.secret import PasswordSource, Secret
from sipdeploy.inventory.secrets_file import SecretsFile
from sipdeploy.inventory.site import User

if TYPE_CHECKING:
    from sipdeploy.editing.tables import Row
    from sipdeploy.inventory import Inventory
    from sipdeploy.inventory.document import Document
    from sipdeploy.inventory.document import Path as YamlPath
    from sipdeploy.inventory.files import TextFile

    Change = Callable[[Document], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An inventory and its passwords, before and after. `passwords` has only the new ones."""

    path: Path
    file: TextFile
    before: Inventory
    after: Inventory
    vault: Vault
    vault_text: str = field(repr=False)
    others: tuple[tuple[TextFile, str], ...] = field(default=(), repr=False)
    passwords: Mapping[str, Secret] = field(default_factory=dict)
    drops: bool = False  # removes passwords from the vault, after the change of the inventory

    def differences(self) -> str:
        """The change of the inventory as a unified diff without passwords."""
        old, new = _masked(self.before), _masked(self.after)
        name = str(self.path)
        return "\n".join(difflib.unified_diff(old, new, name, name, lineterm="", n=2))

    @property
    def summary(self) -> str:
        """The change of the passwords, in one line."""
        number = len(self.passwords)
        new = f"{number} new passwords" if number > 1 else "a new password"
        if self.vault_text == self.vault.text:
            return "the secrets file does not change" if not number else new
        return f"{self.vault.name}: {new if number else 'passwords are removed'}"

    @property
    def written(self) -> tuple[str, ...]:
        """The names of everything that `commit` writes."""
        has_new_inventory = self.after.document.text != self.before.document.text
        inventory = [str(self.path)] if has_new_inventory else []
        vault = [self.vault.shown] if self.vault_text != self.vault.text else []
        return (*inventory, *vault, *(str(file.path) for file, _ in self.others))

    def commit(self) -> None:
        """Write the change. InvalidFiles if that fails, or another program changed a file.

        A password without a user is harmless, a user without a password is not. Therefore new
        passwords are written before the inventory, and old ones are removed after it.
        """
        changes: list[tuple[TextFile, str]] = [*self.others]
        if self.after.document.text != self.before.document.text:
            changes.append((self.file, self.after.document.text))
        has_new_text = self.vault_text != self.vault.text
        if has_new_text and self.vault.file is not None:
            changes.insert(len(changes) if self.drops else 0, (self.vault.file, self.vault_text))
        try:
            if has_new_text and not self.drops:
                self.vault.store(self.vault_text)
            files.replace_all(changes)
        except files.ChangedError as failure:
            raise problems.changed(str(failure)) from failure
        except OSError as failure:
            raise problems.not_written(failure) from failure
        if has_new_text and self.drops:
            self.vault.store(self.vault_text)


def _masked(inventory: Inventory) -> list[str]:
    """The lines of an inventory without its passwords, and without the empty one at the end."""
    source = site.source(inventory.document)
    path = inventory.document.path
    excerpts = (
        source.excerpt(Span(path=path, line=number, column=1))
        for number in range(1, len(source.lines) + 1)
    )
    lines = [excerpt[0] for excerpt in excerpts if excerpt]
    return lines if not lines or lines[-1] else lines[:-1]


def begin(path: Path) -> Draft:
    """Read everything that a change of users needs; InvalidFiles with all its problems.

    Lints the site too: if git tracks the passwords, for example, no new one is generated.
    """
    try:
        file = files.read(path, 0o644)
    except OSError as failure:
        raise InvalidFiles([reading.unreadable(path, failure)]) from failure
    before = open_inventory(path, raw=file.raw)
    errors = [each for each in lint.lint_inventory(before) if each.severity == "error"]
    if errors:
        raise InvalidFiles(errors, sources=before.sources)
    vault = open_vault(before)
    return Draft(
        path=path, file=file, before=before, after=before, vault=vault, vault_text=vault.text
    )


def add(draft: Draft, users: Mapping[str, User], passwords: Mapping[str, Secret]) -> Draft:
    """Add users with unused numbers, and all `passwords` to the vault."""
    wrong = [*_taken(draft, users)]
    if wrong:
        raise InvalidFiles(wrong, sources=draft.before.sources)
    _require_store(draft, users)
    require_passwords(draft)
    entries = {number: _entry(user) for number, user in users.items()}
    wanted = {**draft.after.site.users, **users}
    advice = [f"add `{edit.flow(number, entry)}`" for number, entry in entries.items()]
    advice.append(f"then `{init_command(draft.before.document)}` generates the passwords")
    return _with_inventory(
        replace(
            draft,
            vault_text=_stored(draft, passwords),
            passwords={**draft.passwords, **passwords},
        ),
        lambda parsed: edit.with_entries(parsed, "users", entries),
        (wanted, advice),
    )


def _taken(draft: Draft, users: Mapping[str, User]) -> Iterator[Diagnostic]:
    known, parsed = draft.before.site, draft.before.document
    for number in users:
        if number in known.users:
            span = parsed.key_span(("users", number))
            yield problems.taken(number, known.users[number].name, span)
        if number in known.services:
            message = f"`{number}` is already a service ({known.services[number].kind})"
            span = parsed.key_span(("services", number))
            advice = "choose another number; `sipdeploy users` lists those in use"
            yield Diagnostic("SD216", message, span=span, help=advice)


def _entry(user: User) -> dict[str, edit.Scalar]:
    """The entry of a user in the inventory: all values other than the defaults."""
    fields: dict[str, edit.Scalar] = {}
    if user.name:
        fields["name"] = user.name
    if user.voicemail:
        fields["voicemail"] = True
    if user.max_contacts != User().max_contacts:
        fields["max_contacts"] = user.max_contacts
    return fields


def remove(draft: Draft, numbers: Sequence[str]) -> Draft:
    """Remove users, and their passwords from the vault."""
    require_known(draft, numbers)
    _require_unused(draft, numbers)
    wanted = {n: user for n, user in draft.before.site.users.items() if n not in numbers}
    is_writable = draft.vault.command is None or draft.vault.command.store is not None
    return _with_inventory(
        replace(
            draft,
            vault_text=draft.vault.changed({}, numbers) if is_writable else draft.vault.text,
            drops=True,
        ),
        lambda parsed: edit.without_entries(parsed, "users", numbers),
        (wanted, [f"delete the entry of `{number}`" for number in numbers]),
    )


def set_passwords(draft: Draft, passwords: Mapping[str, Secret]) -> Draft:
    """Replace passwords where they are stored: in the inventory, the vault, or their own file.

    InvalidFiles (SD706) names every user whose password comes from a variable or a command.
    """
    require_known(draft, passwords)
    users = draft.before.site.users
    inline = {n: p for n, p in passwords.items() if isinstance(users[n].password, Secret)}
    own = {n: p for n, p in passwords.items() if isinstance(users[n].password, PasswordSource)}
    shared = {n: p for n, p in passwords.items() if users[n].password is None}
    wrong = [_no_place(draft, n) for n in own if _source(users[n]).file is None]
    if wrong:
        raise InvalidFiles(wrong, sources=draft.before.sources)
    _require_store(draft, shared)
    if shared:
        require_passwords(draft, shared)
    wanted = {
        number: user.model_copy(update={"password": inline[number]}) if number in inline else user
        for number, user in users.items()
    }
    paths: dict[YamlPath, str] = {("users", n, "password"): p.reveal() for n, p in inline.items()}
    return _with_inventory(
        replace(
            draft,
            vault_text=_stored(draft, shared),
            others=tuple(_password_file(draft, users[n], p) for n, p in own.items()),
            passwords=passwords,
        ),
        lambda parsed: edit.with_values(parsed, paths),
        (wanted, [f"replace the password of `{number}`" for number in inline]),
    )


def _stored(draft: Draft, passwords: Mapping[str, Secret]) -> str:
    """The text of the vault with these passwords."""
    added = {number: password.reveal() for number, password in passwords.items()}
    return draft.vault.changed(added, text=draft.vault_text)


def merge(draft: Draft, rows: Mapping[str, Row], *, is_update: bool) -> Draft:
    """Add the users of a CSV file; with `is_update`, also change those that exist.

    Columns that the file lacks, and empty cells, change nothing. Passwords that the users already
    have are not written again.
    """
    known = draft.before.site.users
    old = {number: row for number, row in rows.items() if number in known}
    new = {number: row.user(User()) for number, row in rows.items() if number not in known}
    if old and not is_update:
        wrong = [problems.existing(old, next(iter(old.values())).span), *_taken(draft, new)]
        raise InvalidFiles(wrong, sources=draft.before.sources)
    given = {number: row.password for number, row in old.items()}
    current = _current(draft.before) if old else {}
    changed = {n: p for n, p in given.items() if p is not None and current.get(n) != p}
    begun = set_passwords(draft, changed) if changed else draft
    begun = _set_fields(begun, {number: row.user(known[number]) for number, row in old.items()})
    passwords = {number: rows[number].password or Secret(new_password()) for number in new}
    return add(begun, new, passwords) if new else begun


def _current(inventory: Inventory) -> Mapping[str, Secret]:
    site, directory = inventory.site, inventory.directory
    return resolve_passwords(site, directory, outputs=inventory.outputs)[0]


def _set_fields(draft: Draft, users: Mapping[str, User]) -> Draft:
    """Change the name, mailbox and number of phones of users."""
    known = draft.after.site.users
    fields = {
        number: {key: value for key, value in _fields(user).items() if value != old[key]}
        for number, user in users.items()
        if (old := _fields(known[number])) != _fields(user)
    }
    if not fields:
        return draft
    changed = {n: known[n].model_copy(update=values) for n, values in fields.items()}
    advice = [f"change `{edit.flow(number, values)}`" for number, values in fields.items()]
    return _with_inventory(
        draft,
        lambda parsed: edit.with_fields(parsed, "users", fields),
        ({**known, **changed}, advice),
    )


def _fields(user: User) -> dict[str, edit.Scalar]:
    """The values of a user that a CSV file has."""
    return {"name": user.name, "voicemail": user.voicemail, "max_contacts": user.max_contacts}


def _source(user: User) -> PasswordSource:
    return user.password if isinstance(user.password, PasswordSource) else PasswordSource()


def _no_place(draft: Draft, number: str) -> Diagnostic:
    source = _source(draft.before.site.users[number])
    where = f"the variable `{source.env}`" if source.env else "a command"
    return Diagnostic(
        "SD706",
        f"the password of `{number}` comes from {where}",
        span=draft.before.document.value_span(("users", number, "password")),
        help="change it at its source, then `sipdeploy apply`",
    )


def _password_file(draft: Draft, user: User, password: Secret) -> tuple[TextFile, str]:
    """The file of one password, and its text with the new password as the first line."""
    path = draft.before.directory / expanded(str(_source(user).file))
    try:
        file = files.read(path, MODE)
        old = (file.raw or b"").decode()
    except (OSError, UnicodeDecodeError) as failure:
        advice = f"`ls -l {shlex.quote(str(path))}` shows its mode"
        problem = Diagnostic("SD705", f"cannot read `{path}`", help=advice)
        raise InvalidFiles([problem]) from failure
    _, ending, rest = old.partition("\n")
    return file, f"{password.reveal()}{ending or chr(10)}{rest}"


def require_known(draft: Draft, numbers: Iterable[str]) -> None:
    """InvalidFiles (SD702) names every number that is not a user."""
    unknown = [number for number in numbers if number not in draft.before.site.users]
    if unknown:
        raise InvalidFiles([problems.unknown(number) for number in unknown])


def _require_unused(draft: Draft, numbers: Iterable[str]) -> None:
    """InvalidFiles (SD252) names every service that sends calls to one of these users."""
    before = draft.before
    found = [
        problems.used(number, str(path[1]), before.document.value_span(path))
        for number in numbers
        for path in uses_of(before.site, number)
    ]
    if found:
        raise InvalidFiles(found, sources=before.sources)


def _require_store(draft: Draft, numbers: Iterable[str]) -> None:
    command = draft.vault.command
    if command is None or command.store is not None or not list(numbers):
        return
    problem = Diagnostic(
        "SD706",
        "`secrets` has a `command` to read passwords, but no `store` to write them",
        span=draft.before.document.value_span(("secrets",)),
        help="add a command that stores its standard input, such as"
        ' `store: "age -e -r age1... -o secrets.age"`',
    )
    raise InvalidFiles([problem], sources=draft.before.sources)


def require_passwords(draft: Draft, given: Collection[str] = ()) -> None:
    """InvalidFiles (SD230) if the vault has lost its passwords, and not all get a new one.

    It would become a vault with few passwords, which looks like one that only lacks some.
    """
    site, vault = draft.before.site, draft.vault
    if not set(lost_passwords(site, vault.passwords)) - set(given):
        return
    exists = vault.file is None or vault.file.raw is not None
    shared = SecretsFile(passwords=vault.passwords, exists=exists)
    problem = missing_passwords(site, shared, draft.before.document)
    raise InvalidFiles([problem] if problem else [], sources=draft.before.sources)


def _with_inventory(
    draft: Draft, change: Change, expected: tuple[Mapping[str, User], Sequence[str]]
) -> Draft:
    """Edit the inventory, and verify that the edit makes exactly the intended change.

    `expected` is the resulting users, and the manual edits to suggest if that fails.
    """
    wanted, advice = expected
    before = draft.after
    try:
        after = _reopened(before, change(before.document), wanted)
    except edit.NotEditable as reason:
        raise problems.not_editable(draft.path, reason, advice, before.sources) from reason
    return replace(draft, after=after)


def _reopened(before: Inventory, text: str, users: Mapping[str, User]) -> Inventory:
    """The inventory with another text; NotEditable if anything but the users has changed."""
    span = before.document.key_span(("users",))
    try:
        after = open_inventory(before.path, raw=text.encode())
    except InvalidFiles as failure:
        raise edit.NotEditable(span) from failure
    meant = before.site.model_copy(update={"users": dict(users)})
    if after.site != meant or list(after.site.users) != list(users):
        raise edit.NotEditable(span)
    return replace(after, outputs=before.outputs)
