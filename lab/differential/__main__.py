"""`python -m lab.differential`: the long run, with one host for each mode."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from lab import Lab, LabError, why_not
from lab.differential import Target, fuzz
from lab.differential.corpus import SEED
from lab.differential.traffic import ME, OTHER, THIRD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.differential.traffic import Report
    from lab.hosts import Host

_DOMAIN = "sip.example.test"
_MODES = ("kamailio", "asterisk")
_INVENTORY = """\
domain: {domain}
email: ops@example.test
hosts: {{{host.name}: {{address: {host.address}}}}}
authentication: {mode}
tls: {{provider: self-signed}}
users:
  {me}: {{name: Alice}}
  {other}: {{name: Bob, voicemail: true}}
  {third}: {{name: Carol}}
services:
  6000: {{kind: ivr-test}}
  6001: {{kind: voicemail}}
  6002: {{kind: echo}}
"""


def main() -> int:
    """Run the command line; the exit status is 1 if there is a difference, 2 without a lab."""
    parser = argparse.ArgumentParser(prog="python -m lab.differential", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="messages for each mode")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--mode", choices=_MODES, action="append", help="default: both")
    parser.add_argument("--suite", default="sid", help="Debian release of the host")
    arguments = parser.parse_args()
    if reason := why_not():
        sys.stderr.write(f"lab: {reason}\n")
        return 2
    with Lab() as lab:
        reports = [_run(lab, mode, arguments) for mode in arguments.mode or _MODES]
    return int(any(report.findings for report in reports))


def _run(lab: Lab, mode: str, arguments: argparse.Namespace) -> Report:
    with _system(lab, mode, arguments.suite) as host:
        target = Target(host, mode, _DOMAIN, _password)
        report = asyncio.run(fuzz(target, arguments.messages, seed=arguments.seed, progress=_line))
    _say(f"\n{mode}\n{report.table()}\n")
    return report


@contextlib.contextmanager
def _system(lab: Lab, mode: str, suite: str) -> Iterator[Host]:
    """A bare host, configured by `sipdeploy apply`; stopped afterwards."""
    host = lab.boot(f"fuzz-{mode}", suite=suite)
    try:
        _apply(lab, host, mode)
        yield host
    finally:
        host.stop()


def _apply(lab: Lab, host: Host, mode: str) -> None:
    folder: Path = lab.directory / f"fuzz-{mode}"
    ssh = folder / "home" / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    shutil.copy(lab.ssh_config, ssh / "config")
    numbers = {"me": ME, "other": OTHER, "third": THIRD}
    inventory = _INVENTORY.format(domain=_DOMAIN, host=host, mode=mode, **numbers)
    (folder / "inventory.yaml").write_text(inventory)
    secrets = folder / "secrets.yaml"
    secrets.touch(mode=0o600)
    lines = [f'  "{number}": {_password(number)}\n' for number in numbers.values()]
    secrets.write_text("users:\n" + "".join(lines))
    kept = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    argv = [sys.executable, "-m", "sipdeploy", "apply", host.name, "--yes"]
    environment = {**kept, "HOME": str(folder / "home"), "NO_COLOR": "1"}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(done.stdout + done.stderr)


def _password(number: str) -> str:
    return f"lab-only-{number}-Zq8Kd2"


def _line(text: str) -> None:
    _say(f"  {text}\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
