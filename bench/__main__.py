"""`python -m bench`: the duration of applies, compared with other tools; medians and ratios.

Three tables: a no-op apply to 1, 4 and 8 hosts; a no-op apply and one with a new user, each at
three distances. In each row all tools run in turn, so that all see the same noise. `python -m
bench size` prints another table: render and lint of up to 100,000 users; `python -m bench sip`
measures the deployed servers, and `python -m bench relay` calls through the relay.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench import relay, sip, size
from lab import Lab
from lab.distance import distance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lab.hosts import Host

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".bench-venv" / "bin"
ROUND_TRIPS = (0.0, 0.05, 0.1)  # seconds
HOSTS = (1, 4, 8)
RUNS = 5
INVENTORY = """\
domain: sip.example.test
email: ops@example.test
tls: {{provider: self-signed}}
hosts: {{{hosts}}}
users:
  1001: {{name: Alice}}
"""
Tools = dict[str, "Callable[[], None]"]


class Desk:
    """A deploying machine: an inventory, keys, and the configuration of every tool."""

    def __init__(self, lab: Lab, hosts: Sequence[Host], folder: Path) -> None:
        self.folder = folder
        self._lab, self._hosts, self._users = lab, hosts, 1001
        ssh = folder / "home" / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        shutil.copy(lab.ssh_config, ssh / "config")
        # Installed programs have bytecode, so this checkout may write its own.
        left_out = ("SSH_AUTH_SOCK", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        self.environment = {**kept, "HOME": str(ssh.parent), "PYTHONPATH": str(HERE.parent)}
        # OpenSSH ignores HOME, and uses the home directory of the account.
        stays = "-o ControlMaster=auto -o ControlPersist=60s"
        self.environment["ANSIBLE_SSH_ARGS"] = f"-F {lab.ssh_config} {stays}"
        self.environment["ANSIBLE_FORKS"] = str(max(HOSTS))
        shutil.copy(HERE / "peers" / "ansible.cfg", folder)
        self.use(hosts)
        self.sipdeploy("init")
        self._render()

    def use(self, hosts: Sequence[Host]) -> None:
        """Write the inventories of all tools for these hosts."""
        entries = ", ".join(f"{host.name}: {{address: {host.address}}}" for host in hosts)
        users = [f"  {number}: {{name: Somebody}}\n" for number in range(1002, self._users + 1)]
        text = INVENTORY.format(hosts=entries) + "".join(users)
        (self.folder / "inventory.yaml").write_text(text)
        rows = [f"{host.name} ansible_host={host.address} ansible_user=root\n" for host in hosts]
        (self.folder / "hosts.ini").write_text("".join(rows))
        login = {"ssh_user": "root", "ssh_config_file": str(self._lab.ssh_config)}
        named = [(h.address, login | {"tree": f"rendered/{h.name}"}) for h in hosts]
        (self.folder / "inventory.py").write_text(f"hosts = {named!r}\n")

    def sipdeploy(self, *arguments: str) -> None:
        """Run sipdeploy."""
        self._run([sys.executable, "-m", "sipdeploy", *arguments])

    def bare(self) -> None:
        """Connect and run `true`, on the first host."""
        files = (str(self._lab.known_hosts), str(self._lab.identity_file))
        self._run([sys.executable, str(HERE / "bare.py"), self._hosts[0].address, *files])

    def ansible(self) -> None:
        """Run the playbook."""
        playbook = str(HERE / "peers" / "playbook.yml")
        tree = f"trees={self.folder}/rendered"
        self._run([str(PEERS / "ansible-playbook"), "-i", "hosts.ini", "-e", tree, playbook])

    def pyinfra(self) -> None:
        """Run the deploy."""
        self._pyinfra([str(PEERS / "pyinfra")])

    def pyinfra_nodelay(self) -> None:
        """Run the deploy with TCP_NODELAY."""
        self._pyinfra([str(PEERS / "python"), str(HERE / "peers" / "nodelay.py")])

    def add_user(self) -> None:
        """Add a user with a password, and render the files for the other tools."""
        self._users += 1
        with (self.folder / "inventory.yaml").open("a") as stream:
            stream.write(f"  {self._users}: {{name: Somebody}}\n")
        self.sipdeploy("init")
        self._render()

    def tools(self) -> Tools:
        """The measured commands by name; without installed peers only our own, with a notice."""
        own: Tools = {
            "bare Paramiko": self.bare,
            "sipdeploy": lambda: self.sipdeploy("apply", "--yes", "--overwrite"),
        }
        if not PEERS.exists():
            sys.stdout.write("the other tools are not installed: run `make bench`\n")
            return own
        return own | {
            "pyinfra": self.pyinfra,
            "pyinfra, nodelay": self.pyinfra_nodelay,
            "Ansible": self.ansible,
        }

    def _pyinfra(self, start: Sequence[str]) -> None:
        self._run([*start, "-y", "inventory.py", str(HERE / "peers" / "deploy.py")])

    def _render(self) -> None:
        shutil.rmtree(self.folder / "rendered", ignore_errors=True)
        self.sipdeploy("render")
        for tree in (self.folder / "rendered").iterdir():
            _pack(tree / "kamailio.tar", (tree / "etc/kamailio").glob("*.cfg"))
            _pack(tree / "asterisk.tar", (tree / "etc/asterisk").glob("*.conf"))

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
                f"{argv[:3]} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}"
            )


def _pack(archive: Path, files: Iterable[Path]) -> None:
    """Make equal archives of equal files, because Ansible would see a change otherwise."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime, info.mode = 0, 0o640
        return info

    with tarfile.open(archive, "w") as tar:
        for file in sorted(files):
            tar.add(file, file.name, filter=plain)


def timed(action: Callable[[], None]) -> float:
    """Run `action`; its duration in seconds."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def measure(desk: Desk, tools: Tools, *, adds: bool) -> dict[str, float]:
    """Median seconds of each tool; the tools run in turn."""
    times: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(RUNS):
        for name, action in tools.items():
            if adds and action != desk.bare:
                desk.add_user()
            times[name].append(timed(action))
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main() -> None:
    """Print the tables."""
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        hosts = [lab.boot(f"bench{number}") for number in range(1, max(HOSTS) + 1)]
        desk = Desk(lab, hosts, Path(folder))
        desk.sipdeploy("apply", "--yes", "--parallel", "2")
        tools = desk.tools()
        for action in tools.values():
            action()  # the first run includes the setup of a tool, and does not count
        many = {name: action for name, action in tools.items() if action != desk.bare}
        _head("no-op apply, no distance", many)
        for count in HOSTS:
            desk.use(hosts[:count])
            _row(f"{count} host{'s' if count > 1 else ''}", measure(desk, many, adds=False))
        desk.use(hosts[:1])
        with ExitStack() as stack:
            for job, adds in (("no-op apply", False), ("one user added, applied", True)):
                _head(job, tools)
                for seconds in ROUND_TRIPS:
                    stack.enter_context(distance(hosts[0], round_trip_seconds=seconds))
                    _row(f"{seconds * 1000:.0f} ms", measure(desk, tools, adds=adds))
                    stack.close()


def _head(job: str, tools: Mapping[str, object]) -> None:
    note = f"{job}: median of {RUNS} runs, seconds (times the first column)"
    sys.stdout.write(f"\n{note}\n{'':<8}" + "".join(f"{name:>20}" for name in tools) + "\n")


def _row(name: str, medians: Mapping[str, float]) -> None:
    first = next(iter(medians.values()))
    cells = "".join(f"{value:>12.2f} ({value / first:5.1f})" for value in medians.values())
    sys.stdout.write(f"{name:<8}{cells}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["size"]:
            size.main()
        case ["sip", *options]:
            sip.main(options)
        case ["relay", *options]:
            relay.main(options)
        case _:
            sys.exit("usage: python -m bench [size | sip [--help] | relay [--help]]")
