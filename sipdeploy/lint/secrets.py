"""Rules about passwords and where they are kept. Pure; never shows a password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipdeploy.diagnostics import listed
from sipdeploy.inventory.secret import Secret
from sipdeploy.lint.rules import Finding, Subject, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORTEST = 8
_COMMON = frozenset(
    [
        "password",
        "passw0rd",
        "secret",
        "asterisk",
        "kamailio",
        "sipdeploy",
        "changeme",
        "letmein",
        "welcome",
        "qwerty",
        "qwertyui",
        "qwerty123",
        "12345678",
        "123456789",
        "1234567890",
        "11111111",
        "00000000",
        "abcd1234",
        "password1",
        "admin123",
        "telephone",
    ]
)


@rule("SD302", "warning")
def weak_password(subject: Subject) -> Iterator[Finding]:
    """Weak password: short, close to the number or the name, or among those tried first.

    Why is told of a password in the inventory only; and of one in the secrets file the name, which
    whoever wrote the inventory chose, is no part.

    Scanners find a SIP server within hours of its start and try these; who guesses one calls at
    your cost. Passwords made by `sipdeploy init` have 128 bits.

    Bad:
        users: {1001: {password: "1234"}}
    Good:
        users: {1001: {password: "fmK4tXw9Rd2zHq7pVb3n"}}
    """
    for number, password in subject.passwords():
        user = subject.site.users[number]
        is_seen = user.password is not None
        reason = _weakness(password.reveal(), number, user.name if is_seen else "")
        if reason:
            yield Finding(
                message=f"the password of user `{number}` is weak",
                span=subject.password(number),
                label=reason if is_seen else "",
                help="delete it here, and `sipdeploy init` makes a strong one in the secrets file",
            )


def _weakness(password: str, number: str, name: str) -> str:
    plain = password.lower()
    reasons = (
        ("it is the number", plain == number),
        (f"shorter than {_SHORTEST} characters", len(plain) < _SHORTEST),
        ("it holds the number", number in plain and len(plain) - len(number) < _SHORTEST),
        ("it is among those tried first", plain in _COMMON),
        ("it repeats itself", len(set(plain)) <= 2),  # noqa: PLR2004
        ("digits only, and few", plain.isdigit() and len(plain) < 12),  # noqa: PLR2004
        ("it is the name", bool(name) and plain == name.lower().replace(" ", "")),
    )
    return next((reason for reason, holds in reasons if holds), "")


@rule("SD303", "note")
def password_in_inventory(subject: Subject) -> Iterator[Finding]:
    """Password in the inventory: it goes wherever the inventory goes, such as into git.

    Bad:
        users: {1001: {password: "fmK4tXw9Rd2zHq7pVb3n"}}
    Good:
        users: {1001: {password: {env: ALICE}}}
    """
    numbers = [n for n, user in subject.site.users.items() if isinstance(user.password, Secret)]
    if numbers:
        yield Finding(
            message=f"passwords stand in the inventory: users {listed(numbers)}",
            span=subject.key(("users", numbers[0], "password")),
            help="move them to the secrets file",
        )


@rule("SD306", "error")
def secrets_in_git(subject: Subject) -> Iterator[Finding]:
    """Secrets in git: everyone who has, or ever gets, the repository has every password."""
    if subject.tracked:
        name = subject.site.secrets
        yield Finding(
            message=f"git has `{name}`, the file with the passwords",
            span=subject.key(("secrets",)),
            help=f"`git rm --cached {name}`, ignore it, and give every user a new password",
        )


@rule("SD307", "warning")
def secrets_not_ignored(subject: Subject) -> Iterator[Finding]:
    """Secrets not ignored: the next `git add .` would take the file with the passwords."""
    if subject.unignored and not subject.tracked:
        name = subject.site.secrets
        yield Finding(
            message=f"git does not ignore `{name}`, the file with the passwords",
            span=subject.key(("secrets",)),
            help=f"`echo {name} >> .gitignore`",
        )


@rule("SD314", "warning")
def stray_passwords(subject: Subject) -> Iterator[Finding]:
    """Stray password: the secrets file has one for a number that is not a user."""
    for number in subject.shared.passwords:
        if number not in subject.site.users:
            yield Finding(
                message="a password is kept for a number that is not a user",
                span=subject.shared.span(number),
                help="delete the line, or add the user",
            )


@rule("SD318", "warning")
def shared_password(subject: Subject) -> Iterator[Finding]:
    """Shared password: who knows one of the users can be all of them.

    Passwords in the inventory are not compared with those in the secrets file: whoever writes a
    guess into the one would learn whether it is in the other.

    Bad:
        users: {1001: {password: "fmK4tXw9Rd2z"}, 1002: {password: "fmK4tXw9Rd2z"}}
    Good:
        users: {1001: {password: "fmK4tXw9Rd2z"}, 1002: {password: "zHq7pVb3nJs5"}}
    """
    first: dict[tuple[bool, Secret], str] = {}
    for number, password in subject.passwords():
        is_seen = subject.site.users[number].password is not None
        owner = first.setdefault((is_seen, password), number)
        if owner != number:
            yield Finding(
                message=f"users `{owner}` and `{number}` have the same password",
                span=subject.password(number),
                help="delete one, and `sipdeploy init` makes a new one",
            )
