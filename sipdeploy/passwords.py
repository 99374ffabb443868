"""Passwords of a site: fetched from where the inventory says that they are.

Reads files, the environment and commands that the inventory names. Never makes up a password.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from sipdeploy import document
from sipdeploy.diagnostics import Diagnostic, Span, listed
from sipdeploy.fields import CONTROL
from sipdeploy.paths import expanded
from sipdeploy.secret import PasswordSource, Secret, SecretsCommand

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sipdeploy.site import Site

COMMAND_SECONDS = 10.0
_AT_ONCE = 8

EXPLAIN: Mapping[str, str] = {
    "SD230": "Every user needs a password: in the inventory, from a source named there, or in the"
    " secrets file. None is ever made up by `apply`: a lost secrets file would lock every phone"
    " out. `sipdeploy init` makes the missing ones.",
    "SD231": "A source of passwords named in the inventory gives nothing: a variable that is not"
    " set, a file that cannot be read, a command that fails or takes longer than 10 seconds.",
    "SD232": "The secrets file holds one mapping, `users`, from numbers to passwords.",
    "SD304": "The secrets file holds every password in clear text; nobody but its owner may read"
    " it (mode 0600).",
}


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


class NoPasswordError(Exception):
    """A source gives nothing; the text says why."""


def resolve_passwords(
    site: Site, directory: Path, *, inventory: document.Document | None = None
) -> tuple[dict[str, Secret], list[Diagnostic]]:
    """Fetch the password of every user of the site.

    Files are relative to `directory`, that of the inventory; commands run there, without a shell.
    `inventory` gives the diagnostics their places. Every problem is told: SD230 (no password),
    SD231 (a source gives nothing), SD232 and SD304 (the secrets file).
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
    fetched, problems = _fetch_all(asked, directory, inventory)
    shared = read_secrets(site.secrets, directory) if absent else SecretsFile(passwords={})
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


def _fetch_all(
    asked: Mapping[str, PasswordSource], directory: Path, inventory: document.Document | None
) -> tuple[dict[str, Secret], list[Diagnostic]]:
    found: dict[str, Secret] = {}
    problems: list[Diagnostic] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda source: _attempt(source, directory), asked.values())
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


def _attempt(source: PasswordSource, directory: Path) -> Secret | str:
    """Fetch one password; text is the reason why there is none."""
    try:
        return Secret(_fetch(source, directory))
    except NoPasswordError as failure:
        return str(failure)


def _fetch(source: PasswordSource, directory: Path) -> str:
    if source.env is not None:
        text, where = os.environ.get(source.env), f"the variable `{source.env}`"
        if text is None:
            raise NoPasswordError(f"{where} is not set")
    elif source.file is not None:
        text, where = _file(directory / expanded(source.file)), f"`{source.file}`"
    else:
        command = str(source.command)
        text, where = run(command, directory), f"`{_program(command)}`"
    line = text.split("\n", 1)[0].rstrip("\r")
    if not line:
        raise NoPasswordError(f"{where} gives an empty one")
    if CONTROL.search(line):
        raise NoPasswordError(f"{where} gives one with control characters")
    return line


def _file(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as failure:
        reason = (failure.strerror or "").lower()
        raise NoPasswordError(f"cannot read `{path}`: {reason}") from failure
    except UnicodeDecodeError as failure:
        raise NoPasswordError(f"`{path}` is not UTF-8") from failure


def run(
    command: str, directory: Path, *, given: str = "", seconds: float = COMMAND_SECONDS
) -> str:
    """Run a command without a shell and give what it prints, as text; `given` is its input.

    What it says on standard error belongs to the reason; what it prints never does.
    """
    program = _program(command)
    try:
        done = subprocess.run(  # noqa: S603  # the inventory's owner asked for this command
            shlex.split(command),
            cwd=directory,
            input=given.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")
            reason = f"`{program}` exits with status {done.returncode}"
            raise NoPasswordError(f"{reason}: {said}" if said else reason)
        return done.stdout.decode("utf-8")
    except subprocess.TimeoutExpired as failure:
        raise NoPasswordError(f"`{program}` takes more than {seconds:g} seconds") from failure
    except UnicodeDecodeError as failure:
        raise NoPasswordError(f"`{program}` prints what is not UTF-8") from failure
    except OSError as failure:
        reason = (failure.strerror or "cannot run").lower()
        raise NoPasswordError(f"cannot run `{program}`: {reason}") from failure
    except (ValueError, IndexError) as failure:  # shlex: quotation marks; an empty command
        raise NoPasswordError("the command is not a line of words") from failure


def _program(command: str) -> str:
    """Name a command by its first word: the rest may hold what is not to be shown."""
    return (command.split() or [""])[0]


def read_secrets(secrets: str | SecretsCommand, directory: Path) -> SecretsFile:
    """Read the secrets file, or what the command in its place prints."""
    if isinstance(secrets, SecretsCommand):
        try:
            text = run(secrets.command, directory)
        except NoPasswordError as failure:
            problem = Diagnostic(
                code="SD231", severity="error", message=f"the `secrets` command: {failure}"
            )
            return SecretsFile(passwords={}, diagnostics=(problem,), found=False)
        return parse_secrets(text, f"the output of `{_program(secrets.command)}`")
    path = directory / expanded(secrets)
    if not path.exists():
        return SecretsFile(passwords={}, found=False)
    text_or_none, problems = document.read(path)
    if text_or_none is None:
        return SecretsFile(passwords={}, diagnostics=tuple(problems))
    parsed = parse_secrets(text_or_none, str(path))
    problems = [*exposure(path, path.stat().st_mode), *parsed.diagnostics]
    return replace(parsed, diagnostics=tuple(problems))


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
        return SecretsFile(passwords={}, diagnostics=tuple(problems))
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


def _bad_secret(parsed: document.Document, place: document.Path) -> Diagnostic:
    if place == ("users",):
        message = "`users` is not a mapping of numbers to passwords"
    elif len(place) == 1:
        message = f"`{place[0]}` is not a key of a secrets file"
    else:
        message = f"the password of `{place[1]}` is empty, or not text of one line"
    return Diagnostic(
        code="SD232",
        severity="error",
        message=message,
        span=parsed.key_span(place),
        help='write `users:` and below it, indented, lines such as `"1001": "password"`',
    )
