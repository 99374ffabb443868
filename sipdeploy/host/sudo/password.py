"""The password of sudo: where it comes from, and that a wrong one is tried once.

A directory may lock an account after a few failures, on all hosts at once. So as long as no host
has accepted a password, one host tries it at a time, and after a refusal no other one does.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sipdeploy.host import host_failed
from sipdeploy.host.incoming import HEAD_BYTES
from sipdeploy.inventory.commands import NoPasswordError

if TYPE_CHECKING:
    from sipdeploy.inventory.secret import Secret


class SudoPassword:
    """A password of sudo, fetched when the first host needs it; many hosts may share it."""

    def __init__(self, fetch: Callable[[], Secret], advice: str = "") -> None:
        self._fetch = fetch
        self._advice = advice
        self._turn = threading.Lock()
        self._secret: Secret | None = None
        self._is_accepted = False
        self._refused_by = ""
        self._passed: set[str] = set()

    @property
    def known(self) -> Secret | None:
        """The password, if a host has accepted it."""
        return self._secret if self._is_accepted else None

    @contextlib.contextmanager
    def tried(self, host_name: str) -> Iterator[Attempt]:
        """One command with the password; waits until no other host tries it for the first time.

        HostFailed (SD550) if a host has refused it, SD551 if it cannot be fetched.
        """
        attempt = Attempt(self, host_name)
        if not self._is_accepted:
            self._turn.acquire()
            attempt.has_turn = True
        try:
            self._require(host_name)
            attempt.secret = self._fetched(host_name)
            yield attempt
        finally:
            self.end(attempt)

    def end(self, attempt: Attempt) -> None:
        """Let the next host try. Safe to repeat, and from another thread."""
        if attempt.has_turn:
            attempt.has_turn = False
            self._turn.release()

    def passed(self, host_name: str, *, is_asked: bool) -> None:
        """Sudo on a host has let a command through; `is_asked`: it wanted the password."""
        self._passed.add(host_name)
        self._is_accepted = self._is_accepted or is_asked

    def refuse(self, host_name: str) -> None:
        """A host has asked for the password and refused it."""
        self._refused_by = self._refused_by or host_name

    def _require(self, host_name: str) -> None:
        # a host in the middle of an apply must be able to end it, whatever another one says
        if self._refused_by and host_name not in self._passed:
            raise host_failed(
                "SD550",
                f"sipdeploy does not try the password of sudo on `{host_name}`: sudo on "
                f"`{self._refused_by}` refused it",
                help_="run the command again with the right password: a few failures can lock the "
                "account",
            )

    def _fetched(self, host_name: str) -> Secret:
        try:
            self._secret = self._secret or self._fetch()
        except NoPasswordError as reason:
            raise host_failed(
                "SD551",
                f"cannot fetch the password of sudo for `{host_name}`: {reason}",
                help_=self._advice,
            ) from None
        return self._secret


class Attempt:
    """One command of one host with the password."""

    secret: Secret

    def __init__(self, password: SudoPassword, host_name: str) -> None:
        self.has_turn = False
        self._password = password
        self._host_name = host_name
        self._mark = b""
        self._head: bytes | None = b""

    def listen(self, mark: str) -> None:
        """Set the mark of the command: `MARK?` is the prompt, `MARK` and a line end is root."""
        self._mark = mark.encode()

    def heard(self, chunk: bytes) -> None:
        """Take the next bytes of standard error: after root's mark, other hosts may go on."""
        if self._head is None or len(self._head) > HEAD_BYTES:
            return
        self._head += chunk
        before, has_root, _ = self._head.partition(self._mark + b"\n")
        if has_root:
            self._head = None
            self._password.passed(self._host_name, is_asked=self._mark + b"?" in before)
            self._password.end(self)
