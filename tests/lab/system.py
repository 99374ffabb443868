"""A running calling system in the tests: its address, its users, its state."""

import contextlib
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from sipdeploy.inventory.site import load_site
from sipdeploy.services import SERVICES
from sipdeploy.sip.phone import Phone

DOMAIN = "sip.example.test"
NUMBERS = ("1001", "1002", "1003", "1004", "1005", "1006")

# Only 1002 has a mailbox, 1005 may register two phones, 1006 is the victim of attacks.
INVENTORY = """\
domain: sip.example.test
email: ops@example.test
hosts: {{{name}: {{address: {address}}}}}
authentication: {mode}
tls: {{provider: self-signed}}
users:
  1001: {{name: Alice}}
  1002: {{name: Bob, voicemail: true}}
  1003: {{name: 'Eve; "the" <third>'}}
  1004: {{}}
  1005: {{name: Carol, max_contacts: 2}}
  1006: {{name: Dan}}
services:
  6000: {{kind: ivr-test}}
  6001: {{kind: voicemail}}
  6002: {{kind: echo}}
"""


def packages_of(suite: str) -> tuple[str, ...]:
    """The Debian packages that a host of that suite needs for INVENTORY."""
    text = INVENTORY.format(name="host", address="192.0.2.1", mode="kamailio")
    site, problems, _ = load_site(text, "inventory.yaml")
    assert site, problems
    names = (each.packages(site, "debian", suite) for each in SERVICES.values())
    return tuple(dict.fromkeys(name for some in names for name in some))


def password(number: str) -> str:
    return f"lab-only-{number}-Zq8Kd2"


def passwords() -> str:
    lines = [f'  "{number}": {password(number)}\n' for number in NUMBERS]
    return "users:\n" + "".join(lines)


@dataclass
class System:
    mode: str
    host: Any
    deployer: Any = None
    apply_seconds: float = 0.0

    @property
    def address(self) -> str:
        return self.host.address

    def run(self, command: str) -> str:
        return self.host.run(command).stdout

    def phone(self, number: str, secret: str | None = None, **options: Any) -> Phone:
        return Phone(
            number,
            password(number) if secret is None else secret,
            **{"domain": DOMAIN, "address": (self.address, 8443)} | options,
        )

    def contacts(self, number: str) -> int:
        """The number of contacts that Kamailio has for a number."""
        output = self.run(f"kamcmd ul.lookup location {number}@{DOMAIN} 2>&1 || true")
        return output.count("Address:")


@contextlib.contextmanager
def dropped(system, direction, protocol, port):
    """A firewall between this machine and the host drops packets: `out`, `in` or `both`.

    The table is that of the host, because tests of other hosts run at the same time.
    """
    chains = []
    for name, side, end in (("output", "daddr", "dport"), ("input", "saddr", "sport")):
        if direction in ("both", name.removesuffix("put")):
            rule = f"ip {side} {system.address} {protocol} {end} {port} drop"
            chains.append(f"chain {name} {{ type filter hook {name} priority 0; {rule}; }}\n")
    table = f"table ip sipdeploy_lab_{system.host.name.replace('-', '_')}"
    rules = f"{table} {{\n{''.join(chains)}}}\n"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", *table.split()], check=True)


def within(seconds, is_so, pause=0.2):
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True
