"""Whose turn it is on a host: the lock, the confirmation, and what a dead apply left behind."""

from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.errors import HostFailed, RollbackFailed
from sipdeploy.facts import STATE
from sipdeploy.hosts import Host, OnLine, host_failed
from sipdeploy.steps.files import RESTORE_SECONDS, tells_why
from sipdeploy.steps.runner import ask

AUDIT_LOG = "/var/log/sipdeploy.log"
POLICY = "/usr/sbin/policy-rc.d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One apply at a time; refuses when another one changed the host since the facts were read."""

    has_undo: ClassVar[bool] = True
    holder: str
    serial: str
    stale_holder: str = ""
    state: str = STATE
    title: str = "lock"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Make the lock; HostFailed names who has it."""
        del on_line
        words = ("lock", self.state, self.holder, self.serial, self.stale_holder)
        found = ask(host, words, ("SD507", "the lock cannot be made"))
        if "busy" in found:
            who = found["busy"].strip() or "somebody"
            raise host_failed(
                "SD507",
                f"`{host.name}` is locked by {who}",
                help_="wait for that apply to end; if it is dead, on the host as root: "
                f"`rm -r {self.state}/lock`",
            )
        if "changed" in found:
            raise host_failed(
                "SD507",
                f"another apply changed `{host.name}` in the meantime",
                help_="apply again: this one would have gone by old facts",
            )

    def undo(self, host: Host) -> None:
        """Remove our lock, never another's, and the candidate."""
        words = ("unlock", self.state, self.holder)
        ask(host, words, ("SD525", "the lock cannot be removed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Ends the run for good: keeps the previous release, notes who did what, and unlocks."""

    has_undo: ClassVar[bool] = False
    holder: str
    audit: tuple[str, ...]
    state: str = STATE
    log: str = AUDIT_LOG
    policy: str = POLICY
    title: str = "confirm"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Safe twice, so a connection that is lost here is tried once more."""
        del on_line
        try:
            self._confirm(host)
        except HostFailed:
            self._confirm(host)

    def undo(self, host: Host) -> None:
        """Nothing: what stands before it in the script is undone by Swap."""

    def _confirm(self, host: Host) -> None:
        line = f"{self.holder}: {'; '.join(self.audit)}\n".encode()
        words = ("confirm", self.state, self.holder, self.log, self.policy)
        ask(host, words, ("SD525", "the run cannot be confirmed"), data=line)


def recover(host: Host, holder: str, state: str = STATE) -> None:
    """Undo what an apply left that ended in the middle, as when its machine was switched off.

    `holder` is whom its lock names; the lock goes too. RollbackFailed when the host may be
    half-way between two states.
    """
    problems = [*_tried(host, ("restore", state)), *_tried(host, ("unlock", state, holder))]
    if problems:
        raise RollbackFailed(problems)


def _tried(host: Host, words: tuple[str, ...]) -> tuple[Diagnostic, ...]:
    problem = ("SD525", "an unfinished apply could not be undone", tells_why(host))
    try:
        ask(host, words, problem, timeout_seconds=RESTORE_SECONDS)
    except HostFailed as failure:
        return failure.diagnostics
    return ()
