"""Reads the secrets file of a site, or the output of the command that replaces it.

The only reader of the format `users: {"1001": password}`; `editing.vault` writes it. No diagnostic
shows any of its content.
"""

import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from sipdeploy.diagnostics import Diagnostic, Span
from sipdeploy.inventory import document, reading
from sipdeploy.inventory.commands import NoPasswordError, Outputs, program
from sipdeploy.inventory.fields import CONTROL
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.secret import Secret, SecretsCommand

TRUST_HELP = "add `--trusted`, but only if the inventory is your own"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsFile:
    """The content of a secrets file or of the output of its command, with positions.

    `raw` and `text` are None if nothing was read; the output of a command has no `raw`.
    """

    passwords: Mapping[str, Secret]
    raw: bytes | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
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


def read_secrets(
    secrets: str | SecretsCommand,
    directory: Path,
    *,
    outputs: Outputs | None = None,
    is_trusted: bool = True,
) -> SecretsFile:
    """Read the secrets file, or the output of the command that replaces it.

    `outputs` keeps the output of the command, which then runs only once.
    """
    if isinstance(secrets, str):
        return _read_file(secrets, directory, is_trusted=is_trusted)
    if not is_trusted:
        return _withheld("the `secrets` command does not run without `--trusted`")
    try:
        text = (outputs or Outputs()).of(secrets.command, directory)
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
    except FileNotFoundError:
        return SecretsFile(passwords={}, exists=False)
    except reading.OutsideError:
        return _withheld(f"`{secrets}` is not read: it is outside the inventory's directory")
    except OSError as failure:
        return SecretsFile(passwords={}, diagnostics=(reading.unreadable(path, failure),))
    text, unreadable = reading.decode(content.raw, str(path))
    if text is None:
        return SecretsFile(passwords={}, diagnostics=tuple(map(_without_content, unreadable)))
    parsed = parse_secrets(text, str(path))
    diagnostics = (*_exposure(path, content.mode), *parsed.diagnostics)
    return replace(parsed, raw=content.raw, diagnostics=diagnostics)


def _withheld(message: str) -> SecretsFile:
    problem = Diagnostic("SD233", message, help=TRUST_HELP)
    return SecretsFile(passwords={}, diagnostics=(problem,), exists=False)


def _exposure(path: Path, mode: int) -> list[Diagnostic]:
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
    if [problem.code for problem in problems] == ["SD108"]:  # empty, or only comments
        return SecretsFile(passwords={}, text=text, path=path)
    if problems:
        diagnostics = tuple(map(_without_content, problems))
        return SecretsFile(passwords={}, text=text, diagnostics=diagnostics)
    users = parsed.data.get("users")
    users = {} if users is None else users
    bad: list[document.Path] = [("users",)] if not isinstance(users, dict) else []
    bad += [(key,) for key in parsed.data if key != "users"]
    entries = users.items() if isinstance(users, dict) else ()
    bad += [("users", number) for number, value in entries if not _is_password(value)]
    return SecretsFile(
        passwords={n: Secret(value) for n, value in entries if _is_password(value)},
        text=text,
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
    return SecretsFile(passwords=entries, text=text, path=path, marks=marks)


def _is_password(value: object) -> bool:
    return isinstance(value, str) and value != "" and not CONTROL.search(value)


# Messages of the YAML parser quote keys and characters, which must not happen for this file.
_PLAIN: Mapping[str, str] = {
    "SD101": "the secrets file is not valid YAML",
    "SD102": "the secrets file is not UTF-8, or contains a control character",
    "SD104": "duplicate key",
    "SD108": "the secrets file is empty",
    "SD109": "the secrets file is not a mapping of numbers to passwords",
}
_SHAPE_HELP = 'write `users:` and below it, indented, lines such as `"1001": "password"`'


def _without_content(problem: Diagnostic) -> Diagnostic:
    """The diagnostic of a secrets file, without its content and without advice for inventories."""
    message = _PLAIN.get(problem.code, problem.message)
    advice = _SHAPE_HELP if problem.code in ("SD107", "SD108", "SD109") else problem.help
    return replace(problem, message=message, label="", notes=(), help=advice)


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
        help=_SHAPE_HELP,
    )
