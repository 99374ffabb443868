"""Fetches the passwords of a site from the sources that the inventory names.

Reads files, environment variables and the output of commands; for an untrusted inventory only
files below its directory. Never generates a password, and never shows one.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sipdeploy.diagnostics import Diagnostic, listed, named, reason_of
from sipdeploy.inventory import reading
from sipdeploy.inventory.commands import NoPasswordError, Outputs, program
from sipdeploy.inventory.fields import CONTROL
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.secret import PasswordSource, Secret
from sipdeploy.inventory.secrets_file import TRUST_HELP, SecretsFile, read_secrets

if TYPE_CHECKING:
    from sipdeploy.inventory.document import Document
    from sipdeploy.inventory.site import Site

_AT_ONCE = 8
_T = TypeVar("_T")
_DEFAULT = "inventory.yaml"


def resolve_passwords(
    site: Site,
    directory: Path,
    *,
    inventory: Document | None = None,
    outputs: Outputs | None = None,
    is_trusted: bool = True,
) -> tuple[dict[str, Secret], list[Diagnostic]]:
    """Fetch the password of every user of the site.

    Files are relative to `directory`, that of the inventory; commands run there, without a shell,
    and `outputs` keeps what they print. The diagnostics get their spans from `inventory`. Reports
    every problem: SD230 (no password), SD231 (a source fails), SD232 and SD304 (the secrets file),
    SD233 (not trusted).
    """
    outputs = outputs or Outputs()
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
    ask = partial(fetch, directory=directory, outputs=outputs, is_trusted=is_trusted)
    answers = _of_each(sources, ask)
    fetched = {n: a for n, s in sources.items() if isinstance(a := answers[s], Secret)}
    problems = [
        _unfetched(
            number, source, str(answers[source]), directory, inventory, is_trusted=is_trusted
        )
        for number, source in sources.items()
        if number not in fetched
    ]
    problems += [withheld_passwords(withheld, inventory)] if withheld else []
    shared = SecretsFile(passwords={})
    if absent:
        shared = read_secrets(site.secrets, directory, outputs=outputs, is_trusted=is_trusted)
    own |= fetched | {n: shared.passwords[n] for n in absent if n in shared.passwords}
    problems += shared.diagnostics
    missing = missing_passwords(site, shared, inventory)
    if missing and not shared.diagnostics:
        problems.append(missing)
    return {number: own[number] for number in site.users if number in own}, problems


def unread_files(
    site: Site, directory: Path, inventory: Document | None = None, *, is_trusted: bool = True
) -> list[Diagnostic]:
    """What is wrong with the files of passwords, for lint: SD231 as warnings, SD233 as notes.

    Warnings, because git often has no such file. Reads no variable and runs no command.
    """
    sources = {
        number: user.password
        for number, user in site.users.items()
        if isinstance(user.password, PasswordSource) and user.password.file is not None
    }
    answers = _of_each(sources, partial(_why_not, directory=directory, is_trusted=is_trusted))
    problems = (
        _unfetched(number, source, answers[source], directory, inventory, is_trusted=is_trusted)
        for number, source in sources.items()
        if answers[source]
    )
    return [as_lint(each) for each in problems]


def as_lint(problem: Diagnostic) -> Diagnostic:
    """The same problem for lint: what it may not read is a note."""
    return replace(problem, severity="note" if problem.code == "SD233" else "warning")


def lost_passwords(site: Site, shared: Mapping[str, Secret]) -> list[str]:
    """The users of the secrets file, if it has a password for none of them; otherwise empty.

    They had passwords before, unless the site is new: the file is in no clone of a repository.
    """
    numbers = [number for number, user in site.users.items() if user.password is None]
    return [] if any(number in shared for number in numbers) else numbers


def missing_passwords(
    site: Site, shared: SecretsFile, inventory: Document | None
) -> Diagnostic | None:
    """Report the users without a password in one diagnostic (SD230); None if all have one."""
    absent = [number for number, user in site.users.items() if user.password is None]
    numbers = [number for number in absent if number not in shared.passwords]
    if not numbers:
        return None
    secrets, many = site.secrets, len(numbers) > 1
    where = f"`{secrets}`" if isinstance(secrets, str) else "the output of the `secrets` command"
    init = init_command(inventory)
    span = inventory.key_span(("users", numbers[0])) if inventory else None
    named = (f"without a password: {listed(numbers)}",) if many else ()
    whose = f"{len(numbers)} users have" if many else f"user `{numbers[0]}` has"
    if not isinstance(secrets, str):
        advice = 'add lines such as `"1001": "password"` to the output of the command'
    elif lost_passwords(site, shared.passwords):
        return Diagnostic(
            "SD230",
            f"{_loss(shared, where)}, so {whose} no password",
            span=span,
            notes=(*named, "git never has this file: it is not in a clone of the repository"),
            help=f"copy {where} from a colleague who has it. If nobody ever had a phone of this "
            f"site, `{init} --new-passwords` generates the passwords",
        )
    else:
        advice = (
            f"if a colleague has added {'them' if many else 'it'}, copy {where} from there; "
            f"otherwise `{init}` generates what is missing"
        )
    label = f"neither here nor in {where}"
    return Diagnostic(
        "SD230", f"{whose} no password", span=span, label=label, notes=named, help=advice
    )


def _loss(shared: SecretsFile, where: str) -> str:
    if not shared.exists:
        return f"the secrets file {where} is missing"
    if not shared.passwords:
        return f"the secrets file {where} is empty"
    return f"the secrets file {where} has passwords, but only of numbers that are not users here"


def init_command(inventory: Document | None) -> str:
    """The command that completes a site."""
    path = inventory.path if inventory else _DEFAULT
    return "sipdeploy init" if path == _DEFAULT else f"sipdeploy -i {shlex.quote(path)} init"


def withheld_passwords(numbers: list[str], inventory: Document | None) -> Diagnostic:
    """Report the users whose passwords are not fetched for an untrusted inventory (SD233)."""
    return Diagnostic(
        "SD233",
        f"sipdeploy fetches no password for {named('user', numbers)}",
        span=inventory.key_span(("users", numbers[0], "password")) if inventory else None,
        label="without `--trusted`, no command runs and no variable is read",
        help=TRUST_HELP,
    )


def _of_each(
    sources: Mapping[str, PasswordSource], ask: Callable[[PasswordSource], _T]
) -> dict[PasswordSource, _T]:
    """Ask each source once, several at a time; users may share one."""
    chosen = set(sources.values())
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(chosen, pool.map(ask, chosen), strict=True))


def _unfetched(
    number: str,
    source: PasswordSource,
    reason: str,
    directory: Path,
    inventory: Document | None,
    *,
    is_trusted: bool,
) -> Diagnostic:
    is_kept = not is_trusted and is_outside(source, directory)
    return Diagnostic(
        "SD233" if is_kept else "SD231",
        f"cannot fetch the password of user `{number}`: {reason}",
        span=inventory.value_span(("users", number, "password")) if inventory else None,
        help=TRUST_HELP if is_kept else source_help(source, directory),
    )


def is_outside(source: PasswordSource, directory: Path) -> bool:
    """Whether a source is a file, or a link to one, outside the directory of the inventory."""
    if source.file is None:
        return False
    place = os.path.realpath(directory / expanded(source.file))
    return not reading.is_below(os.path.realpath(directory), place)


def source_help(source: PasswordSource, directory: Path) -> str:
    """How to make a source have its password."""
    if source.env is not None:
        return f"`export {source.env}=...`"
    if source.file is not None:
        return f"write the password into the first line of `{source.file}`"
    return f"run the command in `{directory}`: it must print the password within 10 seconds"


def fetch(
    source: PasswordSource, directory: Path, outputs: Outputs, *, is_trusted: bool
) -> Secret | str:
    """Fetch one password; a text is the reason of the failure."""
    try:
        return fetched(source, directory, outputs, is_trusted=is_trusted)
    except NoPasswordError as failure:
        return str(failure)


def _why_not(source: PasswordSource, directory: Path, *, is_trusted: bool) -> str:
    """Why a password cannot be fetched, or empty; the password itself is forgotten at once."""
    answer = fetch(source, directory, Outputs(), is_trusted=is_trusted)
    return answer if isinstance(answer, str) else ""


def fetched(
    source: PasswordSource, directory: Path, outputs: Outputs, *, is_trusted: bool
) -> Secret:
    """Fetch one password from its source; NoPasswordError says why that fails."""
    return Secret(_fetch(source, directory, outputs, is_trusted=is_trusted))


def _fetch(source: PasswordSource, directory: Path, outputs: Outputs, *, is_trusted: bool) -> str:
    if source.env is not None:
        text, where = os.environ.get(source.env), f"the variable `{source.env}`"
        if text is None:
            raise NoPasswordError(f"{where} is not set")
    elif source.file is not None:
        text, where = _file(directory, source.file, is_trusted), f"`{source.file}`"
    else:
        command = str(source.command)
        text, where = outputs.of(command, directory), f"`{program(command)}`"
    line = text.split("\n", 1)[0].rstrip("\r")
    if not line:
        raise NoPasswordError(f"the first line of {where} is empty")
    if CONTROL.search(line):
        raise NoPasswordError(f"{where} contains control characters")
    return line


def _file(directory: Path, name: str, is_trusted: bool) -> str:  # noqa: FBT001
    most = reading.MOST_OF_A_SECRET
    try:
        if is_trusted:
            return reading.regular(directory / expanded(name), most).raw.decode()
        return reading.below(directory, expanded(name), most).raw.decode()
    except OSError as failure:
        raise NoPasswordError(f"cannot read `{name}`: {reason_of(failure)}") from failure
    except UnicodeDecodeError as failure:
        raise NoPasswordError(f"`{name}` is not UTF-8") from failure
