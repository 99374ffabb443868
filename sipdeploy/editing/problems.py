"""What can be wrong when users are changed, told as diagnostics (SD7xx). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, listed
from sipdeploy.diagnostics.errors import InvalidFiles, SipdeployError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sipdeploy.diagnostics import Span

EXPLAIN: Mapping[str, str] = {
    "SD701": "A number can be given once. `sipdeploy users` lists those that are taken.",
    "SD702": "Only users of the inventory can be changed or removed.",
    "SD703": "The file is written in a way that an edit would not leave the rest of it alone,"
    " such as `? 1001` for a key. Nothing was written; the change is to be made by hand.",
    "SD704": "Somebody else changed the file while the change of it was being worked out, an"
    " editor for one. Nothing was written.",
    "SD705": "The file cannot be read or written, or another sipdeploy has it for too long.",
    "SD706": "The password of this user comes from where sipdeploy cannot put a new one: a"
    " variable, or a command without a `store` beside it.",
    "SD707": "A line of the CSV file is not a user. All such lines are told, and none is taken.",
    "SD708": "A password is one line of text without control characters.",
    "SD709": "A host does not let a user register who was just added or has a new password; the"
    " host went back to what it was before.",
    "SD710": "The inventory has the change and the host does not: nothing is lost, and the next"
    " `sipdeploy apply` brings it there.",
    "SD711": "The host lacks more than the change of users, and that may restart a service or"
    " install packages: nobody has agreed to it.",
    "SD712": "The user is gone, and messages of its box are still on the host.",
    "SD713": "The user is gone, and a call that it has with a service may still go on.",
}


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
