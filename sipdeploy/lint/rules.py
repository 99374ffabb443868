"""Lint rules of the inventory: their input, their output, and the table of all rules.

The table serves the rules of other files too (lint/stack/rules.py).

Pure: a rule is a generator over a `Subject`; its docstring is its manual, including snippets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.secrets_file import SecretsFile

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic, Severity, Span
    from sipdeploy.inventory.document import Document, Path
    from sipdeploy.inventory.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """A file with secrets in a repository; `key` is the key of the inventory that names it."""

    name: str
    key: Path = ()
    is_tracked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The input of a rule: the site, its text, and the state of the files next to it."""

    site: Site
    document: Document
    shared: SecretsFile = field(default_factory=lambda: SecretsFile(passwords={}, exists=False))
    tracked: bool = False  # git tracks the secrets file
    unignored: bool = False  # `git add` would add it
    certificate: tuple[Diagnostic, ...] = ()  # problems of the files of `tls`
    unread: tuple[Diagnostic, ...] = ()  # files of passwords and PINs that cannot be used
    exposed: tuple[Exposed, ...] = ()  # other files with secrets that git has, or would take

    def passwords(self) -> Iterator[tuple[str, Secret]]:
        """Number and password of each user whose password is known without running a command."""
        for number, user in self.site.users.items():
            if isinstance(user.password, Secret):
                yield number, user.password
            elif user.password is None and number in self.shared.passwords:
                yield number, self.shared.passwords[number]

    def password(self, number: str) -> Span | None:
        """Span of the password of a user, in the inventory or in the secrets file."""
        if self.site.users[number].password is None:
            return self.shared.span(number)
        return self.value(("users", number, "password"))

    def key(self, path: Path) -> Span | None:
        """Span of the key at `path`, or of its nearest existing parent."""
        return self.document.key_span(path)

    def value(self, path: Path) -> Span | None:
        """Span of the value at `path`, or of its nearest existing parent."""
        return self.document.value_span(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem that a rule reports; the rule itself adds code and severity."""

    message: str
    span: Span | None
    label: str = ""
    help: str = ""


S = TypeVar("S")  # what a rule judges
F = TypeVar("F")  # what it finds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Generic[S, F]):
    """A check with its code; the docstring of the check is its manual."""

    code: str
    severity: Severity
    check: Callable[[S], Iterable[F]]


class Rules(dict[str, Rule[S, F]]):
    """A table of rules, by code."""

    def rule(
        self, code: str, severity: Severity
    ) -> Callable[[Callable[[S], Iterable[F]]], Callable[[S], Iterable[F]]]:
        """Register a generator as a rule."""

        def enter(check: Callable[[S], Iterable[F]]) -> Callable[[S], Iterable[F]]:
            self[code] = Rule(code=code, severity=severity, check=check)
            return check

        return enter

    def manuals(self) -> dict[str, str]:
        """The manual of every rule."""
        return {code: inspect.getdoc(each.check) or "" for code, each in self.items()}


RULES: Rules[Subject, Finding] = Rules()
rule = RULES.rule
