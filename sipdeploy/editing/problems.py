"""The diagnostics of changes of users (SD7xx). Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, listed, named
from sipdeploy.diagnostics.errors import InvalidFiles, SipdeployError, WrongUsage
from sipdeploy.inventory import files

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Sources, Span
    from sipdeploy.editing.page import NotEditable


def taken(number: str, name: str, span: Span | None) -> Diagnostic:
    """The number belongs to a user."""
    whose = f" ({name})" if name else ""
    advice = f"choose another number, or `sipdeploy set-password {number}`"
    return Diagnostic("SD701", f"`{number}` is already a user{whose}", span=span, help=advice)


def existing(numbers: Collection[str], span: Span) -> Diagnostic:
    """Users of a CSV file exist already; the place is that of the first one."""
    verb = "exists" if len(numbers) == 1 else "exist"
    message = f"{named('user', list(numbers))} {verb} already"
    advice = "add `--update` to change them, or delete their lines"
    return Diagnostic("SD701", message, span=span, help=advice)


def weak(number: str, span: Span | None = None) -> Diagnostic:
    """A given password is easy to guess; the reason would tell too much of it."""
    return Diagnostic(
        "SD302",
        f"the password of user `{number}` is weak",
        severity="warning",
        span=span,
        help=f"`sipdeploy set-password {number}` generates a strong one",
    )


def unknown(number: str) -> Diagnostic:
    """The number does not belong to a user. Suggests no other: numbers are not misspelt words."""
    advice = "`sipdeploy users` lists the users"
    return Diagnostic("SD702", f"`{number}` is not a user", help=advice)


def used(number: str, service: str, span: Span | None) -> Diagnostic:
    """A service sends calls to a user who is to be removed."""
    message = f"the service `{service}` sends calls to user `{number}`"
    return Diagnostic("SD252", message, span=span, help="delete the number there first")


def not_editable(
    path: Path | str, reason: NotEditable, what: Sequence[str], sources: Sources | None = None
) -> InvalidFiles:
    """The user has to edit the file by hand; `what` lists the edits, without passwords."""
    message, advice = f"sipdeploy cannot edit `{path}`: {reason}", "; ".join(what)
    problem = Diagnostic("SD703", message, span=reason.span, help=f"edit it by hand: {advice}")
    return InvalidFiles([problem], sources=sources)


def changed(path: str) -> InvalidFiles:
    """Another program changed the file."""
    message = f"another program has changed `{path}` in the meantime"
    advice = "nothing was written; run the command again"
    return InvalidFiles([Diagnostic("SD704", message, help=advice)])


def not_written(failure: OSError) -> InvalidFiles:
    """The operating system refuses to write the file."""
    problem = files.unwritable(failure, "SD705")
    return InvalidFiles([replace(problem, help=f"nothing was written; {problem.help}")])


def exists(file: Path) -> Diagnostic:
    """A file for passwords must be new: it has mode 0600 from the start, and replaces nothing."""
    advice = f"name another file, or remove this one: `rm {shlex.quote(str(file))}`"
    return Diagnostic("SD110", f"cannot write `{file}`: it exists", help=advice)


def in_git(file: Path, *, is_tracked: bool, content: str = "all passwords") -> Diagnostic:
    """The next `git add` or `git commit` would take a file with secrets."""
    line, place = shlex.quote(f"/{file.name}"), shlex.quote(str(file.parent / ".gitignore"))
    verb = "tracks" if is_tracked else "does not ignore"
    advice = f"`echo {line} >> {place}`, then run the command again"
    advice = "name another file" if is_tracked else advice
    message = f"git {verb} `{file}`, which would contain {content}"
    return Diagnostic("SD307", message, help=advice)


def busy(folder: str) -> InvalidFiles:
    """Another process holds the lock."""
    message = f"another sipdeploy has been changing the users in `{folder}` for two minutes"
    advice = f"run the command again when it has ended; `fuser -v {shlex.quote(folder)}` shows it"
    return InvalidFiles([Diagnostic("SD705", message, help=advice)])


def unfinished(path: Path, hosts: Sequence[str], options: str = "") -> Diagnostic:
    """Some hosts do not have the change of the inventory; `options` are those that apply needs."""
    verb = "does" if len(hosts) == 1 else "do"
    message = f"`{path}` contains the change, and {listed(hosts)} {verb} not have it yet"
    given = "" if str(path) == "inventory.yaml" else f"-i {shlex.quote(str(path))} "
    advice = f"`sipdeploy {given}apply {' '.join(hosts)}{options}` completes the change"
    if "--overwrite" in options:
        advice += ", and replaces the edits on the host"
    return Diagnostic("SD710", message, severity="warning", help=advice)


def unexpected(host: str, reason: str) -> Diagnostic:
    """The other changes need a confirmation; the change of the inventory is already written."""
    message = f"cannot ask for confirmation: the apply to `{host}` {reason}"
    advice = f"`sipdeploy plan {host}` shows the changes"
    return Diagnostic("SD711", message, help=advice)


def bad_password(why: str) -> SipdeployError:
    """The password is not valid."""
    advice = "write one line of text without control characters"
    return WrongUsage([Diagnostic("SD708", f"the password {why}", help=advice)])
