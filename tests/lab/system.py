"""A running calling system in the tests: its address, its users, its state."""

from dataclasses import dataclass
from typing import Any

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
            domain=DOMAIN,
            address=(self.address, 8443),
            **options,
        )

    def contacts(self, number: str) -> int:
        """The number of contacts that Kamailio has for a number."""
        output = self.run(f"kamcmd ul.lookup location {number}@{DOMAIN} 2>&1 || true")
        return output.count("Address:")
