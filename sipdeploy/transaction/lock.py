"""Whose turn it is on a host: the lock, the confirmation, and what a dead apply left behind."""

import datetime as dt
import getpass
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed, RollbackFailed
from sipdeploy.facts import STATE
from sipdeploy.host import Host, ask, host_failed
from sipdeploy.host.incoming import OnLine, whole

AUDIT_LOG = "/var/log/sipdeploy.log"
POLICY = "/usr/sbin/policy-rc.d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who works on a host, what for, going by which facts; `breaks` is an owner to displace."""

    name: str
    purpose: str
    serial: str = ""
    breaks: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """As the scripts take it."""
        return self.name, self.purpose, self.serial, self.breaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One apply at a time, from before its packages; refuses to go by facts that are old."""

    has_undo: ClassVar[bool] = True
    owner: Owner
    state: str = STATE
    title: str = "lock"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Make the lock; HostFailed names who has it."""
        del on_line
        words = ("lock", self.state, *self.owner.words)
        raise_if_refused(host, ask(host, words, ("SD507", "the lock cannot be made")))

    def undo(self, host: Host) -> None:
        """Remove our lock, never another's, and the candidate."""
        unlock(host, self.owner, self.state)


def raise_if_refused(host: Host, found: Mapping[str, str]) -> None:
    """HostFailed when another has the lock, or was faster."""
    if "busy" in found:
        age = found.get("busy-seconds", "").strip()
        raise locked(
            host.name,
            found["busy"].strip(),
            found.get("busy-purpose", "").strip(),
            whole(age) if age.isdigit() else None,
        )
    if "changed" in found:
        raise host_failed(
            "SD507",
            f"another apply changed `{host.name}` in the meantime",
            help_="apply again: this one would have gone by old facts",
        )


def locked(name: str, owner: str, purpose: str, seconds: float | None) -> HostFailed:
    """Who has the lock of a host, what for, and since how many seconds, where that is known."""
    return host_failed(
        "SD507",
        f"`{name}` is locked by {owner or 'somebody'}",
        notes=(f"for `{purpose}`{_age_text(seconds)}",) if purpose else (),
        help_="wait for it with `--lock-wait 300`; if it is dead, `--break-lock`",
    )


def _age_text(seconds: float | None) -> str:
    """`, for 3 min`, or nothing where the age is not known."""
    if seconds is None:
        return ""
    number = max(0, int(seconds))
    return f", for {number} s" if number < 120 else f", for {number // 60} min"  # noqa: PLR2004


def unlock(host: Host, owner: Owner, state: str) -> None:
    """Remove our lock and the candidate; safe where there are none."""
    ask(host, ("unlock", state, owner.name), ("SD525", "the lock cannot be removed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Ends the run for good: keeps the release, notes who did what, and unlocks.

    With `is_new_connection` it also proves that the host can still be reached.
    """

    has_undo: ClassVar[bool] = False
    owner: Owner
    audit: tuple[str, ...]
    is_new_connection: bool = False
    state: str = STATE
    log: str = AUDIT_LOG
    policy: str = POLICY
    title: str = "confirm"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Safe twice, so a connection that is lost here is tried once more."""
        del on_line
        if self.is_new_connection:
            host.close()
        try:
            found = self._confirm(host)
        except HostFailed:
            found = self._confirm(host)
        if "late" in found:
            raise host_failed(
                "SD528",
                f"`{host.name}` has put the previous release back by itself before this confirmed",
                help_="apply again, with a longer `--confirm-timeout`",
            )

    def undo(self, host: Host) -> None:
        """Nothing: what stands before it in the script is undone by Swap."""

    def _confirm(self, host: Host) -> Mapping[str, str]:
        line = f"{self.owner.name}: {self.owner.purpose}: {'; '.join(self.audit)}\n".encode()
        words = ("confirm", self.state, self.owner.name, self.log, self.policy)
        return ask(host, words, ("SD525", "the run cannot be confirmed"), data=line)


def recover(host: Host, lock_owner: str, state: str = STATE, log: str = AUDIT_LOG) -> None:
    """Undo what an apply left that ended in the middle, as when its machine was switched off.

    `lock_owner` is whom its lock names; the lock goes too. RollbackFailed when the host may be
    half-way between two states.
    """
    problems = [
        *_tried(host, ("restore", state, "apply", "", log)),
        *_tried(host, ("unlock", state, lock_owner)),
    ]
    if problems:
        raise RollbackFailed(problems)


def _tried(host: Host, words: tuple[str, ...]) -> tuple[Diagnostic, ...]:
    mend = f"on `{host.name}`: `journalctl -b -u asterisk -u kamailio` tells why; then apply again"
    try:
        ask(
            host, words, ("SD525", "an unfinished apply could not be undone", mend),
            timeout_seconds=540,
        )  # fmt: skip
    except HostFailed as failure:
        return failure.diagnostics
    return ()


def this_owner() -> str:
    """Who holds the lock, with all that it takes to find them; one line."""
    began = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    run = secrets.token_hex(4)  # two runs of one process are two owners
    who = f"{_login()}@{socket.gethostname()}"
    machine = _machine() or "unknown"
    return f"{who} (pid {os.getpid()}, since {began}, run {run}, machine {machine})"


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return str(os.getuid())


def _machine() -> str:
    """What process numbers count in: the boot and the PID namespace; empty where none can tell.

    Not the host name, which virtual machines and containers often share (pid_namespaces(7)).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def stale_owner(owner: str) -> str:
    """The owner itself when it was a process of this machine that is no more, else empty."""
    match = re.fullmatch(r".* \(pid (\d+), .*, machine (\S+)\)", owner)
    if not match or match[2] != _machine():
        return ""
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return owner
    except OSError:
        return ""
    return ""
