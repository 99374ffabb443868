"""The diagnostics of changes of users (SD7xx). Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, listed
from sipdeploy.diagnostics.errors import InvalidFiles, SipdeployError, WrongUsage

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Sources, Span
    from sipdeploy.editing.page import NotEditable


def taken(number: str, name: str, span: Span | None) -> Diagnostic:
    """The number belongs to a user."""
    whose = f" ({name})" if name else ""
    advice = f"choose another number, or `sipdeploy set-password {number}`"
    return Diagnostic("SD701", f"`{number}` is already a user{whose}", span=span, help=advice)


def unknown(number: str) -> Diagnostic:
    """The number does not belong to a user. Suggests no other: numbers are not misspelt words."""
    advice = "`sipdeploy users` lists the users"
    return Diagnostic("SD702", f"`{number}` is not a user", help=advice)


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
    reason = (failure.strerror or str(failure)).lower()
    message = f"cannot change `{failure.filename}`: {reason}"
    advice = f"nothing was written; `ls -ld {shlex.quote(str(failure.filename))}` shows its mode"
    return InvalidFiles([Diagnostic("SD705", message, help=advice)])


def busy(folder: str) -> InvalidFiles:
    """Another process holds the lock."""
    message = f"another sipdeploy has been changing the users in `{folder}` for two minutes"
    advice = f"run the command again when it has ended; `fuser -v {shlex.quote(folder)}` shows it"
    return InvalidFiles([Diagnostic("SD705", message, help=advice)])


def unfinished(path: Path, hosts: Sequence[str]) -> Diagnostic:
    """Some hosts do not have the change of the inventory."""
    verb = "does" if len(hosts) == 1 else "do"
    message = f"`{path}` contains the change, and {listed(hosts)} {verb} not have it yet"
    advice = f"`sipdeploy apply {' '.join(hosts)}` completes the change"
    return Diagnostic("SD710", message, severity="warning", help=advice)


def more_than_users(host: str) -> Diagnostic:
    """The other changes need a confirmation."""
    message = f"cannot ask for confirmation: the apply to `{host}` would change more than users"
    advice = f"`sipdeploy plan {host}` shows the changes; add `--yes` to confirm them"
    return Diagnostic("SD711", message, help=advice)


def bad_password(why: str) -> SipdeployError:
    """The password is not valid."""
    advice = "write one line of text without control characters"
    return WrongUsage([Diagnostic("SD708", f"the password {why}", help=advice)])
