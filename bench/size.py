"""`python -m bench size`: render and lint as processes by the number of users, what each takes.

The ratio is to ten times fewer users: 10 is linear. Processor time, for others may be at work.
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
    """Print the table; nothing is kept."""
    heads = "".join(f"{name:>14}{'ratio':>8}{'MiB':>7}" for name in COMMANDS)
    sys.stdout.write(f"{'users':>8}{heads}\n")
    before: dict[str, float] = {}
    for users in USERS:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), users)
            cells = ""
            for name, words in COMMANDS.items():
                seconds, mib = run(Path(folder), words)
                ratio = f"{seconds / before[name]:.1f}" if name in before else ""
                before[name] = seconds
                cells += f"{seconds:>12.2f} s{ratio:>8}{mib:>7.0f}"
        sys.stdout.write(f"{users:>8}{cells}\n")
        sys.stdout.flush()


def write(folder: Path, users: int) -> None:
    """An inventory with passwords; every second user has a box."""
    numbers = range(100_000, 100_000 + users)
    rows = (f"  {n}: {{name: Number {n}, voicemail: {n % 2 == 0}}}\n" for n in numbers)
    (folder / "inventory.yaml").write_text(INVENTORY + "".join(rows))
    secrets = folder / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text("users:\n" + "".join(f'  "{n}": bench{n}Zq8Kd2xW\n' for n in numbers))


def run(folder: Path, words: tuple[str, ...]) -> tuple[float, float]:
    """Processor time of a command in seconds, and the most memory it took in MiB."""
    argv = [sys.executable, "-m", "sipdeploy", *words]
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
        raise SystemExit(f"{words} ended with {started.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
