"""What can be wrong when users are changed, told as diagnostics (SD7xx). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, listed
from sipdeploy.diagnostics.errors import InvalidFiles, SipdeployError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sipdeploy.diagnostics import Span


def told(code: str, message: str, help_: str = "", span: Span | None = None) -> Diagnostic:
    """One error."""
    return Diagnostic(code=code, severity="error", message=message, span=span, help=help_)


def taken(number: str, name: str, span: Span | None) -> Diagnostic:
    """The number is a user's."""
    whose = f" ({name})" if name else ""
    advice = f"take another number, or `sipdeploy set-password {number}`"
    return told("SD701", f"`{number}` is a user already{whose}", advice, span)


def unknown(number: str, near: Sequence[str]) -> Diagnostic:
    """The number is nobody's."""
    advice = f"did you mean {listed(near)}?" if near else "`sipdeploy users` lists them"
    return told("SD702", f"`{number}` is not a user", advice)


def not_editable(path: Path | str, why: str, what: Sequence[str]) -> InvalidFiles:
    """The file has to be edited by hand; `what` says what to write, without passwords."""
    advice = f"edit it by hand: {'; '.join(what)}; then `sipdeploy init` makes the passwords"
    return InvalidFiles([told("SD703", f"`{path}` cannot be edited here: {why}", advice)])


def changed(path: str) -> InvalidFiles:
    """The file is not what it was."""
    message = f"`{path}` was changed by somebody else in the meantime"
    return InvalidFiles([told("SD704", message, "nothing was written: run the command again")])


def not_written(failure: OSError) -> InvalidFiles:
    """The system refuses."""
    reason = (failure.strerror or str(failure)).lower()
    message = f"cannot change `{failure.filename}`: {reason}"
    return InvalidFiles([told("SD705", message, "nothing was written")])


def busy(folder: str) -> InvalidFiles:
    """Another process has the lock."""
    message = f"another sipdeploy is changing the users in `{folder}`, and does not end"
    return InvalidFiles([told("SD705", message, "run the command again when it has ended")])


def unfinished(path: Path, hosts: Sequence[str]) -> Diagnostic:
    """What was written did not come to all hosts."""
    message = (
        f"`{path}` has the change, {listed(hosts)} {'has' if len(hosts) == 1 else 'have'} not"
    )
    return Diagnostic(
        code="SD710",
        severity="warning",
        message=message,
        help=f"`sipdeploy apply {' '.join(hosts)}` completes it",
    )


def more_than_users(host: str) -> Diagnostic:
    """Somebody has to say yes to the rest."""
    return told(
        "SD711",
        f"more than users would change on `{host}`, and nobody can be asked",
        f"`sipdeploy plan {host}` shows it; `--yes` agrees to it",
    )


def bad_password(why: str) -> SipdeployError:
    """What was given as a password is none."""
    return WrongUsage([told("SD708", f"the password {why}", "one line, as it is to be typed")])
