"""The machine under the lab: its requirements, missing tools, and running programs.

This module does not depend on hosts or networks.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Debian package -> a program or file of it.
LAB_TOOLS = {
    "debian-archive-keyring": str(KEYRING),
    "iproute2": "ip",
    "mmdebstrap": "mmdebstrap",
    "nftables": "nft",
    "openssh-client": "ssh-keygen",
    "systemd-container": "systemd-nspawn",
    "util-linux": "nsenter",
}
# Ubuntu has no package of some of them; the tests that need one are skipped there.
TEST_TOOLS = {
    "age": "age",
    "chromium": "chromium",
    "firefox-esr": "firefox-esr",
    "libnss3-tools": "certutil",
    "nodejs": "node",
    "npm": "npm",
    "pulseaudio": "pulseaudio",
}

_CAP_SYS_ADMIN = 21


class LabError(Exception):
    """The lab cannot do something; the text says why and what to do."""


def run(*argv: str | Path, input_text: str | None = None) -> str:
    """Run a program on this machine and return its output; LabError with its error output."""
    command = [str(argument) for argument in argv]
    done = subprocess.run(command, input=input_text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise LabError(f"`{shlex.join(command)}`: {complaint}")
    return done.stdout


def why_not() -> str | None:
    """Return the reason, in one line, why no lab can run here; None if it can."""
    if reason := why_not_install():
        return reason
    if not _has_capability(_CAP_SYS_ADMIN):
        return "the lab needs CAP_SYS_ADMIN to mount: run it on a machine, not in a container"
    if cgroup2() is None:
        return "the lab needs a mounted cgroup2 hierarchy"
    if lacking := missing_packages(LAB_TOOLS):
        return f"missing packages, see `python -m lab install`: {', '.join(lacking)}"
    return None


def why_not_install() -> str | None:
    """Return the reason, in one line, why the tools cannot be installed; None if they can."""
    if os.geteuid() != 0:
        return "the lab boots real hosts and needs root"
    return None if _is_debian_like() else "the lab needs a machine with Debian or Ubuntu"


def missing_packages(tools: dict[str, str]) -> list[str]:
    """Return the Debian packages of `tools` whose program or file is missing."""
    return [
        package
        for package, shown_by in tools.items()
        if not (Path(shown_by).exists() if shown_by.startswith("/") else shutil.which(shown_by))
    ]


def install() -> tuple[list[str], list[str]]:
    """Install the missing packages of the lab and its tests.

    Returns their names, and those of the tests that this system does not have.
    """
    lacking = missing_packages(LAB_TOOLS | TEST_TOOLS)
    if not lacking:
        return [], []
    if why_not_install():
        raise LabError(f"install these packages as root: {', '.join(lacking)}")
    _apt_get("update")
    absent = [name for name in lacking if name in TEST_TOOLS and not _is_available(name)]
    wanted = [name for name in lacking if name not in absent]
    if wanted:
        _apt_get("install", "--yes", "--no-install-recommends", *wanted)
    return wanted, absent


def _apt_get(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    argv = ["apt-get", "--quiet", *arguments]
    if subprocess.run(argv, env=environment, check=False).returncode:
        raise LabError(f"`{shlex.join(argv)}` failed")


def _is_available(package: str) -> bool:
    # apt knows names without a candidate, which other packages mention
    policy = run("apt-cache", "policy", package)
    return "Candidate:" in policy and "Candidate: (none)" not in policy


def cgroup2() -> Path | None:
    """Return the mount point of the unified control group hierarchy, if it is mounted."""
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def _is_debian_like() -> bool:
    try:
        lines = Path("/etc/os-release").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return False
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    family = f"{facts.get('ID', '')} {facts.get('ID_LIKE', '')}".replace('"', "").split()
    return "debian" in family or "ubuntu" in family


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
