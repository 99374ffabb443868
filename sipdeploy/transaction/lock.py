"""The lock of a host, the confirmation of an apply, and the undo of an unfinished one."""

import datetime as dt
import getpass
import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping
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
    """The owner of a lock: name, purpose, serial of the facts it read.

    `breaks` is the owner whose lock this one takes over.
    """

    name: str
    purpose: str
    serial: str = ""
    breaks: str = ""

    @property
    def argv(self) -> tuple[str, ...]:
        """The arguments of the scripts that take the lock."""
        return self.name, self.purpose, self.serial, self.breaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Takes the lock before packages change; refuses if the facts are out of date."""

    has_undo: ClassVar[bool] = True
    owner: Owner
    state: str = STATE
    title: str = "lock"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Create the lock; HostFailed (SD507) names the owner of an existing one."""
        del on_line
        argv = ("lock", self.state, *self.owner.argv)
        raise_if_refused(host, ask(host, argv, ("SD507", "the lock cannot be created")))

    def undo(self, host: Host) -> None:
        """Remove the candidate and our own lock."""
        unlock(host, self.owner, self.state)


def raise_if_refused(host: Host, sections: Mapping[str, str]) -> None:
    """HostFailed (SD507) if another apply has the lock, or changed the host meanwhile."""
    if "busy" in sections:
        age = sections.get("busy-seconds", "").strip()
        raise locked(
            host.name,
            sections["busy"].strip(),
            sections.get("busy-purpose", "").strip(),
            whole(age) if age.isdigit() else None,
        )
    if "changed" in sections:
        raise host_failed(
            "SD507",
            f"another apply changed `{host.name}` in the meantime",
            help_="apply again: the facts that this apply read are out of date",
        )


def locked(name: str, owner: str, purpose: str, seconds: float | None) -> HostFailed:
    """The error (SD507) for a locked host; `seconds` is the age of the lock, None if unknown."""
    return host_failed(
        "SD507",
        f"`{name}` is locked by {owner or 'somebody'}",
        notes=(f"running `{purpose}`{_age_text(seconds)}",) if purpose else (),
        help_="wait for it with `--lock-wait 300`; if it is dead, add `--break-lock`",
    )


def _age_text(seconds: float | None) -> str:
    """` for 3 min`, or empty if the age is unknown."""
    if seconds is None:
        return ""
    number = max(0, int(seconds))
    return f" for {number} s" if number < 120 else f" for {number // 60} min"  # noqa: PLR2004


def unlock(host: Host, owner: Owner, state: str) -> None:
    """Remove our lock and the candidate, if they exist."""
    ask(host, ("unlock", state, owner.name), ("SD525", "the lock cannot be removed"))


def ask_in_time(host: Host, question: Callable[[Host], Mapping[str, str]], what: str) -> None:
    """Ask a host to keep a release; once more after an error, as its scripts are idempotent.

    HostFailed (SD528) if the host has already rolled back.
    """
    try:
        sections = question(host)
    except HostFailed:
        sections = question(host)
    if "late" in sections:
        raise host_failed(
            "SD528",
            f"`{host.name}` restored the previous release by itself before {what}",
            help_="apply again, with a longer `--confirm-timeout`",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Stops the rollback timer, keeps the release, writes the audit log, and unlocks.

    With `is_new_connection` it confirms over a new connection, which proves that the firewall
    still lets us in. `line` is the line of the audit log if another run confirms this one.
    """

    has_undo: ClassVar[bool] = False
    owner: Owner
    audit: tuple[str, ...]
    line: str = ""
    is_new_connection: bool = False
    state: str = STATE
    log: str = AUDIT_LOG
    policy: str = POLICY
    title: str = "confirm"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Confirm; HostFailed (SD528) if the host has already rolled back."""
        del on_line
        if self.is_new_connection:
            host.close()
        ask_in_time(host, self._confirm, "the confirmation")

    def undo(self, host: Host) -> None:
        """Nothing: Swap undoes the changes that this step confirms."""

    def _confirm(self, host: Host) -> Mapping[str, str]:
        own = f"{self.owner.name}: {self.owner.purpose}: {'; '.join(self.audit)}"
        argv = ("confirm", self.state, self.owner.name, self.log, self.policy)
        data = f"{self.line or own}\n".encode()
        return ask(host, argv, ("SD525", "the apply cannot be confirmed"), data=data)


def recover(
    host: Host, lock_owner: str, state: str = STATE, log: str = AUDIT_LOG, *, only: str = ""
) -> None:
    """Undo an unfinished apply, and remove the lock of `lock_owner`.

    With `only`, it undoes no apply of another owner. RollbackFailed (SD525) if the state of the
    host is unknown.
    """
    problems = [
        *_attempt(host, ("restore", state, "apply", only, log)),
        *_attempt(host, ("unlock", state, lock_owner)),
    ]
    if problems:
        raise RollbackFailed(problems)


def _attempt(host: Host, argv: tuple[str, ...]) -> tuple[Diagnostic, ...]:
    fix = f"on `{host.name}`: `journalctl -b -u asterisk -u kamailio` shows why; then apply again"
    try:
        ask(
            host, argv, ("SD525", "an unfinished apply could not be undone", fix),
            timeout_seconds=540,
        )  # fmt: skip
    except HostFailed as failure:
        return failure.diagnostics
    return ()


def this_owner() -> str:
    """The name of this run as owner of a lock, in one line: login, process, start, machine."""
    began = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    run = secrets.token_hex(4)  # two runs of one process are different owners
    who = f"{_login()}@{socket.gethostname()}"
    machine = _machine() or "unknown"
    return f"{who} (pid {os.getpid()}, since {began}, run {run}, machine {machine})"


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user ID may have no name
        return str(os.getuid())


def _machine() -> str:
    """The boot and the PID namespace, in which a process number is unique; empty if unknown.

    Virtual machines and containers often share a host name; see pid_namespaces(7).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def stale_owner(owner: str) -> str:
    """`owner` if it was a process of this machine that has ended; otherwise empty."""
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
