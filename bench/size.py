"""`python -m bench size`: processor time and memory of render and lint by number of users.

The ratio compares with a tenth of the users: 10 is linear. It is processor time, because other
processes may run on the machine.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

USERS = (1_000, 10_000, 100_000)
COMMANDS = {"lint": ("lint",), "render": ("render", "-o", "rendered")}
INVENTORY = """\
domain: sip.example.test
email: ops@example.test
tls: {provider: self-signed}
hosts: {sip1: {address: 203.0.113.10}}
services: {60: {kind: voicemail}}
users:
"""


def main() -> None:
    """Print the table."""
    heads = "".join(f"{name:>14}{'ratio':>8}{'MiB':>7}" for name in COMMANDS)
    sys.stdout.write(f"{'users':>8}{heads}\n")
    before: dict[str, float] = {}
    for users in USERS:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), users)
            cells = ""
            for name, argv in COMMANDS.items():
                seconds, mib = run(Path(folder), argv)
                ratio = f"{seconds / before[name]:.1f}" if name in before else ""
                before[name] = seconds
                cells += f"{seconds:>12.2f} s{ratio:>8}{mib:>7.0f}"
        sys.stdout.write(f"{users:>8}{cells}\n")
        sys.stdout.flush()


def write(folder: Path, users: int) -> None:
    """Write an inventory with passwords; every second user has a mailbox."""
    numbers = range(100_000, 100_000 + users)
    rows = (f"  {n}: {{name: Number {n}, voicemail: {n % 2 == 0}}}\n" for n in numbers)
    (folder / "inventory.yaml").write_text(INVENTORY + "".join(rows))
    secrets = folder / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text("users:\n" + "".join(f'  "{n}": bench{n}Zq8Kd2xW\n' for n in numbers))


def run(folder: Path, arguments: tuple[str, ...]) -> tuple[float, float]:
    """Run a command; its processor time in seconds, and its peak memory in MiB."""
    argv = [sys.executable, "-m", "sipdeploy", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    started = subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise SystemExit(f"{arguments} failed with exit code {started.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
