"""`python -m bench sip`: connections, registrations and calls, beside the guide's configuration.

Three hosts: sipdeploy in both modes, and the configuration of bench/peers/guide.cfg. In each round
they are measured in turn, so that all see the same noise; the tables show medians and, in
brackets, the ratio to the guide. The servers have one processor of this machine and the phones
another, so a saturated server has all of its own, and does not compete with the phones.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.phones import Swarm, Tally
from lab import Lab
from sipdeploy.inventory.site import load_site
from sipdeploy.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab.hosts import Host

HERE = Path(__file__).resolve().parent
DOMAIN = "sip.example.test"
FIRST = 20_000
MOST_PHONES = 240
UNITS = ("kamailio", "asterisk")
_READY_SECONDS = 60
_INVENTORY = """\
domain: {domain}
email: ops@example.test
hosts: {{{name}: {place}}}
{more}authentication: {mode}
tls: {{provider: self-signed}}
services: {{6000: {{kind: ivr-test}}, 6001: {{kind: voicemail}}, 6002: {{kind: echo}}}}
users:
"""
# Services and users as in the tests of the lab, so that both boot the same image.
_LIKE_THE_TESTS = "  1002: {voicemail: true}\n"
# Gives a host the certificate, the memory and the daemons that bench/peers/guide.cfg needs.
GUIDE = """\
set -eu
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=$1 -addext subjectAltName=DNS:$1 \
    -keyout /etc/kamailio/server.key -out /etc/kamailio/server.crt 2>/dev/null
chgrp kamailio /etc/kamailio/server.key
chmod 0640 /etc/kamailio/server.key
cat >/etc/kamailio/tls.cfg <<'END'
[server:default]
method = TLSv1.2+
verify_certificate = no
require_certificate = no
certificate = /etc/kamailio/server.crt
private_key = /etc/kamailio/server.key
END
echo SHM_MEMORY=512 >>/etc/default/kamailio
systemctl restart kamailio asterisk
"""
_USER = """\
[{number}](user)
auth={number}
aors={number}
[{number}](secret)
username={number}
password={secret}
[{number}](place)
"""
# The memory that the processes of a unit really use; what they share counts once.
_MEMORY = (
    "for pid in $(cat /sys/fs/cgroup/system.slice/{}.service/cgroup.procs); do"
    " cat /proc/$pid/smaps_rollup; done | awk '/^Pss:/ {{ kib += $2 }} END {{ print kib }}'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured phase."""

    tally: Tally
    daemons_seconds: float  # processor time of Kamailio and Asterisk
    host_seconds: float  # of all processes of the host, the journal too
    memory_kib: float  # more than before

    def each(self, amount: float) -> float:
        """An amount for each thing done."""
        return amount / self.tally.done if self.tally.done else 0.0


class Server:
    """A host with one of the configurations, and its phones."""

    def __init__(self, name: str, host: Host, users: Sequence[tuple[str, str]]) -> None:
        self.name = name
        self._host = host
        self._swarm = Swarm((host.address, 8443), DOMAIN, users)

    def measure(self, seconds: float) -> Iterator[tuple[str, Figure]]:
        """Run all phases, from a fresh start of Kamailio."""
        self._restart()
        swarm = self._swarm
        yield "connections", self._phase(swarm.connect)
        yield "registrations", self._phase(swarm.register)
        yield "refreshes", self._phase(swarm.register)
        yield "calls", self._phase(lambda: swarm.talk(seconds))
        self._host.run("systemctl restart kamailio", check=True)
        yield "storm after a restart", self._phase(swarm.storm)
        swarm.close()

    def _phase(self, act: Callable[[], Tally]) -> Figure:
        memory, daemons, host = self._memory_kib(), *processor_seconds(self._host, UNITS)
        tally = act()
        daemons_after, host_after = processor_seconds(self._host, UNITS)
        return Figure(
            tally=tally,
            daemons_seconds=daemons_after - daemons,
            host_seconds=host_after - host,
            memory_kib=self._memory_kib() - memory,
        )

    def _restart(self) -> None:
        self._host.run("systemctl restart kamailio", check=True)
        end = time.monotonic() + _READY_SECONDS
        while self._host.run("ss -Htln sport = :8443").stdout.count("LISTEN") == 0:
            if time.monotonic() > end:
                log = self._host.run("journalctl -u kamailio -n 20 --no-pager").stdout
                raise SystemExit(f"{self.name}: port 8443 does not open\n{log}")
            time.sleep(0.1)
        time.sleep(1)  # the last of its processes start after the port is open

    def _memory_kib(self) -> float:
        return sum(float(self._host.run(_MEMORY.format(unit)).stdout) for unit in UNITS)


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench sip", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    # a quarter of the connections that sipdeploy accepts may be unregistered at the same time
    parser.add_argument(
        "--phones", type=int, default=MOST_PHONES, help="default and most %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=10, help="of calls, default %(default)s")
    options = parser.parse_args(arguments)
    _compare(options.rounds, min(options.phones, MOST_PHONES), options.seconds)


def _compare(rounds: int, phones: int, seconds: float) -> None:
    one, other = processors()
    os.sched_setaffinity(0, {one})  # for all processes of the hosts, which inherit it
    users = [(str(number), f"bench{number}Zq8Kd2xW") for number in range(FIRST, FIRST + phones)]
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        servers = [
            Server("sipdeploy, kamailio", _ours(lab, folder, "kamailio", users), users),
            Server("sipdeploy, asterisk", _ours(lab, folder, "asterisk", users), users),
            Server("guide", _guide(lab, users), users),
        ]
        os.sched_setaffinity(0, {other})
        measured: dict[str, dict[str, list[Figure]]] = {}
        for number in range(rounds):
            for server in servers:
                sys.stdout.write(f"\rround {number + 1} of {rounds}: {server.name:<24}")
                sys.stdout.flush()
                for phase, figure in server.measure(seconds):
                    measured.setdefault(phase, {}).setdefault(server.name, []).append(figure)
        sys.stdout.write(f"\r{_about(rounds, phones, seconds)}\n")
        for phase, figures in measured.items():
            _table(phase, figures)


def processor_seconds(host: Host, units: Sequence[str]) -> tuple[float, float]:
    """Of these units together, and of the whole host."""
    groups = [f"system.slice/{unit}.service/" for unit in units]
    files = [f"/sys/fs/cgroup/{group}cpu.stat" for group in [*groups, ""]]
    lines = host.run(["grep", "-h", "usage_usec", *files], check=True).stdout.split()
    *each, whole = (int(number) / 1e6 for number in lines[1::2])
    return sum(each), whole


def processors() -> tuple[int, int]:
    """One for the servers and one for the phones; SystemExit if there are fewer than two."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:  # noqa: PLR2004
        raise SystemExit("needs two processors: one for the servers, one for the phones")
    return available[0], available[1]


def _about(rounds: int, phones: int, seconds: float) -> str:
    return (
        f"{phones} phones, calls of {seconds:.0f} s, medians of {rounds} rounds, in brackets times"
        f" the guide\n{about_machine()}"
    )


def about_machine() -> str:
    """Its processor, how it is divided, and what else it does."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    load = os.getloadavg()[0]
    return f"{model}, one core for the servers, one for the phones, load {load:.1f}"


def _table(phase: str, figures: dict[str, list[Figure]]) -> None:
    rows: dict[str, Callable[[Figure], float]] = {
        "done per second": lambda figure: figure.tally.rate,
        "p99, ms": lambda figure: figure.tally.p99 * 1000,
        "processor time each, ms": lambda figure: figure.each(figure.daemons_seconds * 1000),
        "  of the whole host": lambda figure: figure.each(figure.host_seconds * 1000),
        # near 1000 / rate, the phones are the limit
        "  of the phones": lambda figure: figure.each(figure.tally.processor_seconds * 1000),
        "challenges each": lambda figure: figure.each(figure.tally.challenged),
    }
    if phase == "connections":
        rows["memory each, KiB"] = lambda figure: figure.each(figure.memory_kib)
    if phase == "calls":
        rows["ACK delivered, %"] = lambda figure: figure.each(100 * figure.tally.acknowledged)
        rows["BYE delivered, %"] = lambda figure: figure.each(100 * figure.tally.ended)
    if phase == "storm after a restart":
        rows["seconds until all are back"] = lambda figure: figure.tally.seconds
    sys.stdout.write(f"\n{phase:<34}" + "".join(f"{name:>24}" for name in figures) + "\n")
    for row, value in rows.items():
        medians = [statistics.median(map(value, several)) for several in figures.values()]
        cells = "".join(f"{_number(median, medians[-1]):>24}" for median in medians)
        sys.stdout.write(f"  {row:<32}{cells}\n")
    for name, several in figures.items():
        failed = sum(
            (figure.tally.failures for figure in several),
            start=several[0].tally.failures.__class__(),
        )
        if failed:
            shown = ", ".join(f"{what}: {count}" for what, count in failed.most_common(5))
            sys.stdout.write(f"  {name}, not done in all rounds: {shown}\n")


def _number(value: float, guide: float) -> str:
    return f"{value:.4g} ({value / guide:.2f})" if guide else f"{value:.4g}"


# --- the servers ---------------------------------------------------------------------------------


def _ours(lab: Lab, folder: str, mode: str, users: Sequence[tuple[str, str]]) -> Host:
    host = lab.boot(f"bench-{mode}", packages=packages())
    place = f"{{address: {host.address}}}"
    apply(lab, host, f"{folder}/{mode}", users, mode=mode, place=place)
    return host


def apply(
    lab: Lab,
    host: Host,
    folder: str,
    users: Sequence[tuple[str, str]],
    *,
    place: str,
    mode: str = "kamailio",
    more: str = "",
    proof: str = "quick",
) -> None:
    """Configure a host with sipdeploy; `place` is its entry in the inventory."""
    site = Path(folder)
    ssh = site / "home" / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    shutil.copy(lab.ssh_config, ssh / "config")
    rows = "".join(f"  {number}: {{}}\n" for number, _ in users)
    text = _inventory(host.name, place, more, mode)
    (site / "inventory.yaml").write_text(text + rows)
    secrets = site / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text("users:\n" + "".join(f'  "{n}": {secret}\n' for n, secret in users))
    kept = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    environment = {**kept, "HOME": str(ssh.parent), "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "sipdeploy", "apply", host.name, "--yes", "--verify", proof],
        cwd=site,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"sipdeploy apply failed:\n{done.stdout}{done.stderr}")


def _guide(lab: Lab, users: Sequence[tuple[str, str]]) -> Host:
    host = lab.boot("bench-guide", packages=packages())
    entries = "".join(_USER.format(number=number, secret=secret) for number, secret in users)
    pjsip = (HERE / "peers" / "guide.conf").read_text() + entries
    host.write("/etc/kamailio/kamailio.cfg", (HERE / "peers" / "guide.cfg").read_bytes())
    host.write("/etc/asterisk/pjsip.conf", pjsip.encode())
    host.run(["sh", "-c", GUIDE, "sh", DOMAIN], check=True)
    return host


def _inventory(name: str, place: str, more: str = "", mode: str = "kamailio") -> str:
    return _INVENTORY.format(domain=DOMAIN, name=name, place=place, more=more, mode=mode)


def packages(more: str = "") -> tuple[str, ...]:
    """The packages of the image, for all servers alike; `more` is added to the inventory."""
    text = _inventory("host", "{address: 192.0.2.1}", more) + _LIKE_THE_TESTS
    site, problems, _ = load_site(text, "inventory.yaml")
    if site is None:
        raise SystemExit(f"{problems}")
    names = (service.packages(site, "debian", "sid") for service in SERVICES.values())
    return tuple(dict.fromkeys(name for some in names for name in some))
