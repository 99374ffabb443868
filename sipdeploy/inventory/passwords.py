"""Passwords of a site: fetched from where the inventory says that they are.

Reads files, the environment and commands that the inventory names: of an inventory that is not
trusted, files below its folder alone. Never makes up a password, and never shows one.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Span, listed
from sipdeploy.inventory import document, reading
from sipdeploy.inventory.commands import NoPasswordError, program, run
from sipdeploy.inventory.fields import CONTROL
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.secret import PasswordSource, Secret, SecretsCommand

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sipdeploy.inventory.site import Site

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsFile:
    """What a secrets file, or the command in its place, holds; `marks` are where numbers stand."""

    passwords: Mapping[str, Secret]
    diagnostics: tuple[Diagnostic, ...] = ()
    path: str = ""
    marks: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    found: bool = True

    def span(self, number: str) -> Span | None:
        """Find the number of a password; None when there is none for it."""
        if number not in self.marks:
            return None
        line, column, end = self.marks[number]
        return Span(path=self.path, line=line, column=column, end_column=end)


def resolve_passwords(
    site: Site,
    directory: Path,
    *,
    inventory: document.Document | None = None,
    is_trusted: bool = True,
) -> tuple[dict[str, Secret], list[Diagnostic]]:
    """Fetch the password of every user of the site.

    Files are relative to `directory`, that of the inventory; commands run there, without a shell.
    `inventory` gives the diagnostics their places. Every problem is told: SD230 (no password),
    SD231 (a source gives nothing), SD232 and SD304 (the secrets file), SD233 (not trusted).
    """
    own: dict[str, Secret] = {}
    asked: dict[str, PasswordSource] = {}
    absent: list[str] = []
    for number, user in site.users.items():
        if isinstance(user.password, Secret):
            own[number] = user.password
        elif user.password is not None:
            asked[number] = user.password
        else:
            absent.append(number)
    withheld = [] if is_trusted else [n for n, s in asked.items() if s.file is None]
    asked = {number: source for number, source in asked.items() if number not in withheld}
    fetched, problems = _fetch_all(asked, directory, inventory, is_trusted=is_trusted)
    problems += [withheld_passwords(withheld, inventory)] if withheld else []
    shared = SecretsFile(passwords={})
    if absent:
        shared = read_secrets(site.secrets, directory, is_trusted=is_trusted)
    own |= fetched | {n: shared.passwords[n] for n in absent if n in shared.passwords}
    problems += shared.diagnostics
    missing = [number for number in absent if number not in shared.passwords]
    if missing and not shared.diagnostics:
        problems.append(missing_passwords(missing, site.secrets, inventory))
    return {number: own[number] for number in site.users if number in own}, problems


def missing_passwords(
    numbers: list[str], secrets: str | SecretsCommand, inventory: document.Document | None
) -> Diagnostic:
    """Tell of the users without a password, in one diagnostic (SD230)."""
    where = f"`{secrets}`" if isinstance(secrets, str) else "what the `secrets` command prints"
    many = len(numbers) > 1
    return Diagnostic(
        code="SD230",
        severity="error",
        message=f"{len(numbers)} users have no password"
        if many
        else f"user `{numbers[0]}` has no password",
        span=inventory.key_span(("users", numbers[0])) if inventory else None,
        label=f"neither here nor in {where}",
        notes=(f"without a password: {listed(numbers)}",) if many else (),
        help="`sipdeploy init` makes the missing passwords in secrets.yaml"
        if isinstance(secrets, str)
        else "add the numbers to what the command prints",
    )


def withheld_passwords(numbers: list[str], inventory: document.Document | None) -> Diagnostic:
    """Tell of the users whose passwords a stranger's inventory would have us fetch (SD233)."""
    return Diagnostic(
        code="SD233",
        severity="error",
        message=f"passwords are not fetched: of users {listed(numbers)}",
        span=inventory.key_span(("users", numbers[0], "password")) if inventory else None,
        label="no command is run and no variable is read here",
        help=_TRUST,
    )


_TRUST = "`--trusted` does so; say it of your own inventory only"


def _fetch_all(
    asked: Mapping[str, PasswordSource],
    directory: Path,
    inventory: document.Document | None,
    *,
    is_trusted: bool,
) -> tuple[dict[str, Secret], list[Diagnostic]]:
    found: dict[str, Secret] = {}
    problems: list[Diagnostic] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda source: _attempt(source, directory, is_trusted), asked.values())
        for number, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Secret):
                found[number] = answer
            else:
                path = ("users", number, "password")
                problems.append(
                    Diagnostic(
                        code="SD231",
                        severity="error",
                        message=f"no password for user `{number}`: {answer}",
                        span=inventory.value_span(path) if inventory else None,
                    )
                )
    return found, problems


def _attempt(source: PasswordSource, directory: Path, is_trusted: bool) -> Secret | str:  # noqa: FBT001
    """Fetch one password; text is the reason why there is none."""
    try:
        return Secret(_fetch(source, directory, is_trusted))
    except NoPasswordError as failure:
        return str(failure)


def _fetch(source: PasswordSource, directory: Path, is_trusted: bool) -> str:  # noqa: FBT001
    if source.env is not None:
        text, where = os.environ.get(source.env), f"the variable `{source.env}`"
        if text is None:
            raise NoPasswordError(f"{where} is not set")
    elif source.file is not None:
        text, where = _file(directory, source.file, is_trusted), f"`{source.file}`"
    else:
        command = str(source.command)
        text, where = run(command, directory), f"`{program(command)}`"
    line = text.split("\n", 1)[0].rstrip("\r")
    if not line:
        raise NoPasswordError(f"{where} gives an empty one")
    if CONTROL.search(line):
        raise NoPasswordError(f"{where} gives one with control characters")
    return line


def _file(directory: Path, name: str, is_trusted: bool) -> str:  # noqa: FBT001
    most = reading.MOST_OF_A_KEY
    try:
        if is_trusted:
            return reading.regular(directory / expanded(name), most).raw.decode()
        return reading.below(directory, expanded(name), most).raw.decode()
    except OSError as failure:
        reason = (failure.strerror or "").lower()
        raise NoPasswordError(f"cannot read `{name}`: {reason}") from failure
    except UnicodeDecodeError as failure:
        raise NoPasswordError(f"`{name}` is not UTF-8") from failure


def read_secrets(
    secrets: str | SecretsCommand, directory: Path, *, is_trusted: bool = True
) -> SecretsFile:
    """Read the secrets file, or what the command in its place prints."""
    if isinstance(secrets, str):
        return _read_file(secrets, directory, is_trusted=is_trusted)
    if not is_trusted:
        return _withheld("the `secrets` command is not run here")
    try:
        text = run(secrets.command, directory)
    except NoPasswordError as failure:
        problem = Diagnostic(
            code="SD231", severity="error", message=f"the `secrets` command: {failure}"
        )
        return SecretsFile(passwords={}, diagnostics=(problem,), found=False)
    return parse_secrets(text, f"the output of `{program(secrets.command)}`")


def _read_file(secrets: str, directory: Path, *, is_trusted: bool) -> SecretsFile:
    name = expanded(secrets)
    path = directory / name
    try:
        found = reading.regular(path) if is_trusted else reading.below(directory, name)
    except (FileNotFoundError, NotADirectoryError):
        return SecretsFile(passwords={}, found=False)
    except reading.OutsideError:
        return _withheld(f"`{secrets}` is not read here: it is not below the inventory's folder")
    except OSError as failure:
        return SecretsFile(passwords={}, diagnostics=(reading.unreadable(path, failure),))
    text, unreadable = reading.decode(found.raw, str(path))
    if text is None:
        return SecretsFile(passwords={}, diagnostics=tuple(map(_without_content, unreadable)))
    parsed = parse_secrets(text, str(path))
    return replace(parsed, diagnostics=(*exposure(path, found.mode), *parsed.diagnostics))


def _withheld(why: str) -> SecretsFile:
    problem = Diagnostic(code="SD233", severity="error", message=why, help=_TRUST)
    return SecretsFile(passwords={}, diagnostics=(problem,), found=False)


def exposure(path: Path, mode: int) -> list[Diagnostic]:
    """Judge the mode of a secrets file (SD304): 0600 is right, readable by all is an error."""
    permissions = stat.S_IMODE(mode)
    if not permissions & 0o077:
        return []
    everyone = bool(permissions & 0o007)
    who = "everyone" if everyone else "the group"
    return [
        Diagnostic(
            code="SD304",
            severity="error" if everyone else "warning",
            message=f"{who} on this machine can read `{path.name}` (mode {permissions:04o})",
            span=Span(path=str(path), line=1, column=1),
            help=f"`chmod 600 {shlex.quote(str(path))}`",
        )
    ]


@lru_cache(maxsize=2)  # before and after a change of users: each is asked for several times
def parse_secrets(text: str, path: str) -> SecretsFile:
    """Read `users: {"1001": password}`; problems are SD1xx and SD232, and show no line."""
    if found := _as_written(text, path):
        return found
    parsed, problems = document.parse(text, path)
    if problems:
        return SecretsFile(passwords={}, diagnostics=tuple(map(_without_content, problems)))
    users = parsed.data.get("users")
    users = {} if users is None else users
    bad: list[document.Path] = [("users",)] if not isinstance(users, dict) else []
    bad += [(key,) for key in parsed.data if key != "users"]
    entries = users.items() if isinstance(users, dict) else ()
    bad += [("users", number) for number, value in entries if not _is_password(value)]
    return SecretsFile(
        passwords={n: Secret(value) for n, value in entries if _is_password(value)},
        diagnostics=tuple(_bad_secret(parsed, place) for place in bad),
        path=path,
        marks={n: parsed.marks["users", n][:3] for n, _ in entries},
    )


# A password is a plain word, or stands in double quotes and has neither those nor escapes in it.
_WRITTEN = re.compile(
    r"((?:#[ -~]*\n|\n)*)users:\n"
    r'(?:  "[0-9]+": (?:[A-Za-z0-9][A-Za-z0-9_-]{7,}|"[ !#-\[\]-~]+")\n)*\Z'
)


def _as_written(text: str, path: str) -> SecretsFile | None:
    """Read a file as `init` and `add-user` write it: ten times faster than any YAML."""
    written = _WRITTEN.match(text)
    if written is None:
        return None
    head = written[1].count("\n") + 1
    rows = [line.split('": ', 1) for line in text.splitlines()[head:]]
    found = {key[3:]: Secret(value.strip('"')) for key, value in rows}
    if len(found) != len(rows):
        return None  # a number stands twice, which is to be told
    marks = {key[3:]: (line, 3, len(key) + 2) for line, (key, _) in enumerate(rows, head + 1)}
    return SecretsFile(passwords=found, path=path, marks=marks)


def _is_password(value: object) -> bool:
    return isinstance(value, str) and value != "" and not CONTROL.search(value)


# What the reader of YAML says of a file quotes keys and characters of it; of this one it may not.
_PLAIN: Mapping[str, str] = {
    "SD101": "this is not YAML",
    "SD102": "this is not UTF-8, or a control character",
    "SD104": "a key stands twice",
}


def _without_content(problem: Diagnostic) -> Diagnostic:
    """What is wrong with a secrets file, without a word of it."""
    message = _PLAIN.get(problem.code, problem.message)
    return replace(problem, message=message, label="", notes=())


def _bad_secret(parsed: document.Document, place: document.Path) -> Diagnostic:
    # Keys are not told: what is no secrets file may be any file.
    if place == ("users",):
        message = "`users` is not a mapping of numbers to passwords"
    elif len(place) == 1:
        message = "this is not a key of a secrets file"
    else:
        message = "this password is empty, or not text of one line"
    return Diagnostic(
        code="SD232",
        severity="error",
        message=message,
        span=parsed.key_span(place),
        help='write `users:` and below it, indented, lines such as `"1001": "password"`',
    )
