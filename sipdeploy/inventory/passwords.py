"""Fetches the passwords of a site from the sources that the inventory names.

Reads files, environment variables and the output of commands; for an untrusted inventory only
files below its directory. Never generates a password, and never shows one.
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
    """The content of a secrets file or of the output of its command, with positions."""

    passwords: Mapping[str, Secret]
    diagnostics: tuple[Diagnostic, ...] = ()
    path: str = ""
    marks: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    exists: bool = True

    def span(self, number: str) -> Span | None:
        """Span of the number in the file; None if the number has no password."""
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
    The diagnostics get their spans from `inventory`. Reports every problem: SD230 (no password),
    SD231 (a source fails), SD232 and SD304 (the secrets file), SD233 (not trusted).
    """
    own: dict[str, Secret] = {}
    sources: dict[str, PasswordSource] = {}
    absent: list[str] = []
    for number, user in site.users.items():
        if isinstance(user.password, Secret):
            own[number] = user.password
        elif user.password is not None:
            sources[number] = user.password
        else:
            absent.append(number)
    withheld = [] if is_trusted else [n for n, s in sources.items() if s.file is None]
    sources = {number: source for number, source in sources.items() if number not in withheld}
    fetched, problems = _fetch_all(sources, directory, inventory, is_trusted=is_trusted)
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
    """Report the users without a password in one diagnostic (SD230)."""
    where = f"`{secrets}`" if isinstance(secrets, str) else "the output of the `secrets` command"
    many = len(numbers) > 1
    return Diagnostic(
        "SD230",
        (
            f"{len(numbers)} users have no password"
            if many
            else f"user `{numbers[0]}` has no password"
        ),
        span=inventory.key_span(("users", numbers[0])) if inventory else None,
        label=f"neither here nor in {where}",
        notes=(f"without a password: {listed(numbers)}",) if many else (),
        help=(
            f"`sipdeploy init` generates the missing passwords in `{secrets}`"
            if isinstance(secrets, str)
            else 'add lines such as `"1001": "password"` to the output of the command'
        ),
    )


def withheld_passwords(numbers: list[str], inventory: document.Document | None) -> Diagnostic:
    """Report the users whose passwords are not fetched for an untrusted inventory (SD233)."""
    return Diagnostic(
        "SD233",
        f"the passwords of users {listed(numbers)} are not fetched",
        span=inventory.key_span(("users", numbers[0], "password")) if inventory else None,
        label="without `--trusted`, no command runs and no variable is read",
        help=_TRUST,
    )


_TRUST = "add `--trusted`, but only if the inventory is your own"


def _fetch_all(
    sources: Mapping[str, PasswordSource],
    directory: Path,
    inventory: document.Document | None,
    *,
    is_trusted: bool,
) -> tuple[dict[str, Secret], list[Diagnostic]]:
    fetched: dict[str, Secret] = {}
    problems: list[Diagnostic] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda each: _attempt(each, directory, is_trusted), sources.values())
        for number, answer in zip(sources, answers, strict=True):
            if isinstance(answer, Secret):
                fetched[number] = answer
            else:
                path = ("users", number, "password")
                problems.append(
                    Diagnostic(
                        "SD231",
                        f"cannot fetch the password of user `{number}`: {answer}",
                        span=inventory.value_span(path) if inventory else None,
                        help=_source_help(sources[number], directory),
                    )
                )
    return fetched, problems


def _source_help(source: PasswordSource, directory: Path) -> str:
    if source.env is not None:
        return f"`export {source.env}=...`"
    if source.file is not None:
        return f"write the password into the first line of `{source.file}`"
    return f"run the command in `{directory}`: it must print the password within 10 seconds"


def _attempt(source: PasswordSource, directory: Path, is_trusted: bool) -> Secret | str:  # noqa: FBT001
    """Fetch one password; a text is the reason of the failure."""
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
        raise NoPasswordError(f"the first line of {where} is empty")
    if CONTROL.search(line):
        raise NoPasswordError(f"{where} contains control characters")
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
    """Read the secrets file, or the output of the command that replaces it."""
    if isinstance(secrets, str):
        return _read_file(secrets, directory, is_trusted=is_trusted)
    if not is_trusted:
        return _withheld("the `secrets` command does not run without `--trusted`")
    try:
        text = run(secrets.command, directory)
    except NoPasswordError as failure:
        problem = Diagnostic(
            "SD231",
            f"the `secrets` command failed: {failure}",
            help=f"run it by hand in `{directory}`: it must print the text of a secrets file",
        )
        return SecretsFile(passwords={}, diagnostics=(problem,), exists=False)
    return parse_secrets(text, f"the output of `{program(secrets.command)}`")


def _read_file(secrets: str, directory: Path, *, is_trusted: bool) -> SecretsFile:
    name = expanded(secrets)
    path = directory / name
    try:
        content = reading.regular(path) if is_trusted else reading.below(directory, name)
    except (FileNotFoundError, NotADirectoryError):
        return SecretsFile(passwords={}, exists=False)
    except reading.OutsideError:
        return _withheld(f"`{secrets}` is not read: it is outside the inventory's directory")
    except OSError as failure:
        return SecretsFile(passwords={}, diagnostics=(reading.unreadable(path, failure),))
    text, unreadable = reading.decode(content.raw, str(path))
    if text is None:
        return SecretsFile(passwords={}, diagnostics=tuple(map(_without_content, unreadable)))
    parsed = parse_secrets(text, str(path))
    return replace(parsed, diagnostics=(*exposure(path, content.mode), *parsed.diagnostics))


def _withheld(message: str) -> SecretsFile:
    problem = Diagnostic("SD233", message, help=_TRUST)
    return SecretsFile(passwords={}, diagnostics=(problem,), exists=False)


def exposure(path: Path, mode: int) -> list[Diagnostic]:
    """Check the mode of a secrets file (SD304): it should be 0600; readable by all is an error."""
    permissions = stat.S_IMODE(mode)
    if not permissions & 0o077:
        return []
    everyone = bool(permissions & 0o007)
    who = "everyone" if everyone else "the group"
    return [
        Diagnostic(
            "SD304",
            f"{who} on this machine can read `{path.name}` (mode {permissions:04o})",
            severity="error" if everyone else "warning",
            span=Span(path=str(path), line=1, column=1),
            help=f"`chmod 600 {shlex.quote(str(path))}`",
        )
    ]


@lru_cache(maxsize=2)  # a change of users parses the old and the new text several times
def parse_secrets(text: str, path: str) -> SecretsFile:
    """Parse `users: {"1001": password}`; problems are SD1xx and SD232, without excerpts."""
    if content := _as_written(text, path):
        return content
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


# A password is a plain word, or is in double quotes and contains no quotes and no escapes.
_WRITTEN = re.compile(
    r"((?:#[ -~]*\n|\n)*)users:\n"
    r'(?:  "[0-9]+": (?:[A-Za-z0-9][A-Za-z0-9_-]{7,}|"[ !#-\[\]-~]+")\n)*\Z'
)


def _as_written(text: str, path: str) -> SecretsFile | None:
    """Parse the format that `init` and `add-user` write, ten times faster than as YAML."""
    written = _WRITTEN.match(text)
    if written is None:
        return None
    head = written[1].count("\n") + 1
    rows = [line.split('": ', 1) for line in text.splitlines()[head:]]
    entries = {key[3:]: Secret(value.strip('"')) for key, value in rows}
    if len(entries) != len(rows):
        return None  # a duplicate number: let the YAML parser report it
    marks = {key[3:]: (line, 3, len(key) + 2) for line, (key, _) in enumerate(rows, head + 1)}
    return SecretsFile(passwords=entries, path=path, marks=marks)


def _is_password(value: object) -> bool:
    return isinstance(value, str) and value != "" and not CONTROL.search(value)


# Messages of the YAML parser quote keys and characters, which must not happen for this file.
_PLAIN: Mapping[str, str] = {
    "SD101": "the file is not valid YAML",
    "SD102": "the file is not UTF-8, or contains a control character",
    "SD104": "duplicate key",
}


def _without_content(problem: Diagnostic) -> Diagnostic:
    """The diagnostic of a secrets file, without any of its content."""
    message = _PLAIN.get(problem.code, problem.message)
    return replace(problem, message=message, label="", notes=())


def _bad_secret(parsed: document.Document, place: document.Path) -> Diagnostic:
    # Do not show keys: a file with other keys can be any file.
    if place == ("users",):
        message = "`users` is not a mapping of numbers to passwords"
    elif len(place) == 1:
        message = "this is not a key of a secrets file"
    else:
        message = "this password is empty, or is not one line of text"
    return Diagnostic(
        "SD232",
        message,
        span=parsed.key_span(place),
        help='write `users:` and below it, indented, lines such as `"1001": "password"`',
    )
