"""The errors that end a command, each with its exit code. Never prints and never exits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from sipdeploy.diagnostics import concise, ordered

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic, Source


class SipdeployError(Exception):
    """An error that the user can fix: each diagnostic says what is wrong, where, and the fix.

    `sources` maps paths to the lines for excerpts.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, diagnostics: Sequence[Diagnostic], *, sources: Mapping[str, Source] | None = None
    ) -> None:
        self.diagnostics = tuple(ordered(diagnostics))
        self.sources = dict(sources or {})
        super().__init__(concise(self.diagnostics))


class InvalidFiles(SipdeployError):  # noqa: N818  # named after the event, like the others
    """Problems in the user's own files; no host was changed."""

    exit_code = 1


class WrongUsage(SipdeployError):  # noqa: N818
    """Invalid arguments or options of a command."""

    exit_code = 2


class HostFailed(SipdeployError):  # noqa: N818
    """A step failed on a host; the host is unchanged, or was rolled back."""

    exit_code = 4


class RollbackFailed(SipdeployError):  # noqa: N818
    """A step failed on a host, and so did the rollback; a person has to repair the host."""

    exit_code = 5
