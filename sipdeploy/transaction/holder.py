"""Who holds a lock: a line that finds them again, and tells whether they are still there."""

import datetime as dt
import getpass
import os
import re
import secrets
import socket
from pathlib import Path


def own_holder() -> str:
    """Who holds the lock, with all that it takes to find them; one line."""
    began = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    run = secrets.token_hex(4)  # two runs of one process are two holders
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


def stale_holder(holder: str) -> str:
    """The holder itself when it was a process of this machine that is no more, else empty."""
    match = re.fullmatch(r".* \(pid (\d+), .*, machine (\S+)\)", holder)
    if not match or match[2] != _machine():
        return ""
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return holder
    except OSError:
        return ""
    return ""
