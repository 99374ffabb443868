"""`python -m bench`: no-op and one-user applies at three distances; medians and ratios."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab import Lab
from lab.distance import distance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.hosts import Host

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".bench-venv" / "bin"
ROUND_TRIPS = (0.0, 0.05, 0.1)  # seconds
RUNS = 5
INVENTORY = """\
domain: sip.example.test
email: ops@example.test
hosts: {{sip1: {{address: {address}}}}}
tls: {{provider: self-signed}}
users:
  1001: {{name: Alice}}
"""


class Desk:
    """A person's machine: an inventory, keys, and every tool with what it needs."""

    def __init__(self, lab: Lab, host: Host, folder: Path) -> None:
        self.folder = folder
        self._lab, self._host, self._users = lab, host, 1001
        ssh = folder / "home" / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        shutil.copy(lab.ssh_config, ssh / "config")
        # An installed program has its bytecode, the peers have; this checkout may keep it too.
        left_out = ("SSH_AUTH_SOCK", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        self.environment = {**kept, "HOME": str(ssh.parent), "PYTHONPATH": str(HERE.parent)}
        # OpenSSH looks for its files in the home of the account, whatever HOME says.
        stays = "-o ControlMaster=auto -o ControlPersist=60s"
        self.environment["ANSIBLE_SSH_ARGS"] = f"-F {lab.ssh_config} {stays}"
        (folder / "inventory.yaml").write_text(INVENTORY.format(address=host.address))
        (folder / "hosts.ini").write_text(f"{host.address} ansible_user=root\n")
        (folder / "inventory.py").write_text(
            f'hosts = [("{host.address}", {{"ssh_user": "root", "tree": "rendered/sip1",'
            f' "ssh_config_file": "{lab.ssh_config}"}})]\n'
        )
        shutil.copy(HERE / "peers" / "ansible.cfg", folder)
        self.sipdeploy("init")

    def sipdeploy(self, *words: str) -> None:
        """Run sipdeploy."""
        self._run([sys.executable, "-m", "sipdeploy", *words])

    def bare(self) -> None:
        """Connect and run `true`."""
        files = (str(self._lab.known_hosts), str(self._lab.identity_file))
        self._run([sys.executable, str(HERE / "bare.py"), self._host.address, *files])

    def ansible(self) -> None:
        """Run the playbook."""
        playbook = str(HERE / "peers" / "playbook.yml")
        tree = f"tree={self.folder}/rendered/sip1"
        self._run([str(PEERS / "ansible-playbook"), "-i", "hosts.ini", "-e", tree, playbook])

    def pyinfra(self) -> None:
        """Run the deploy."""
        deploy = str(HERE / "peers" / "deploy.py")
        self._run([str(PEERS / "pyinfra"), "-y", "inventory.py", deploy])

    def add_user(self) -> None:
        """One more in the inventory, with a password, rendered for the peers."""
        self._users += 1
        with (self.folder / "inventory.yaml").open("a") as stream:
            stream.write(f"  {self._users}: {{name: Somebody}}\n")
        self.sipdeploy("init")
        shutil.rmtree(self.folder / "rendered", ignore_errors=True)
        self.sipdeploy("render")

    def _run(self, argv: Sequence[str]) -> None:
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"{argv[:3]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )


def timed(act: Callable[[], None]) -> float:
    """Seconds of one run."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def measure(
    desk: Desk, tools: Mapping[str, Callable[[], None]], *, adds: bool
) -> dict[str, float]:
    """Medians of the tools, one run of each after the other, so that all see the same noise."""
    times: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(RUNS):
        for name, act in tools.items():
            if adds and name != "bare Paramiko":
                desk.add_user()
            times[name].append(timed(act))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Print a table for each job; nothing is kept."""
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        host = lab.boot("bench1")
        desk = Desk(lab, host, Path(folder))
        desk.add_user()
        desk.sipdeploy("apply", "--yes")
        tools: dict[str, Callable[[], None]] = {
            "bare Paramiko": desk.bare,
            "sipdeploy": lambda: desk.sipdeploy("apply", "--yes", "--overwrite"),
        }
        for name, act in (("pyinfra", desk.pyinfra), ("ansible-playbook", desk.ansible)):
            if (PEERS / name).exists():
                tools[name.removesuffix("-playbook")] = act
                act()  # what it sets up once is not counted
            else:
                sys.stdout.write(f"{name} is not installed: left out\n")
        for job, adds in (("no-op apply", False), ("one user added, applied", True)):
            _table(desk, host, tools, (job, adds))


def _table(
    desk: Desk, host: Host, tools: Mapping[str, Callable[[], None]], job: tuple[str, bool]
) -> None:
    sys.stdout.write(f"\n{job[0]}: median of {RUNS} runs, seconds (times the bare process)\n")
    sys.stdout.write("round trip  " + "".join(f"{name:>20}" for name in tools) + "\n")
    for seconds in ROUND_TRIPS:
        with distance(host, round_trip_seconds=seconds):
            found = measure(desk, tools, adds=job[1])
        base = found["bare Paramiko"]
        cells = "".join(f"{value:>12.2f} ({value / base:4.1f})" for value in found.values())
        sys.stdout.write(f"{seconds * 1000:>7.0f} ms  {cells}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
