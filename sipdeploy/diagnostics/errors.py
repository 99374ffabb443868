"""The ways in which sipdeploy stops, each with its exit code. Never prints and never exits."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sipdeploy.diagnostics import concise, ordered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sipdeploy.diagnostics import Diagnostic, Source


class SipdeployError(Exception):
    """A stop that a user can do something about: every diagnostic says what, where, and what now.

    `sources` holds the lines for excerpts, path to source.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, diagnostics: Sequence[Diagnostic], *, sources: Mapping[str, Source] | None = None
    ) -> None:
        self.diagnostics = tuple(ordered(diagnostics))
        self.sources = dict(sources or {})
        super().__init__(concise(self.diagnostics))


class InvalidFiles(SipdeployError):  # noqa: N818  # named for what happened, as the others
    """Problems in the user's own files; no host was touched."""

    exit_code = 1


class WrongUsage(SipdeployError):  # noqa: N818
    """The command was asked for what it cannot do."""

    exit_code = 2


class HostFailed(SipdeployError):  # noqa: N818
    """A host could not do its part; nothing on it is left changed."""

    exit_code = 4


class RollbackFailed(SipdeployError):  # noqa: N818
    """A host could not do its part, nor be brought back; a human is needed."""

    exit_code = 5
