"""A running calling system, as the tests see it: where it is, who its users are, what to ask of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.sip import Phone

DOMAIN = "sip.example.test"

# 1003 and 1004 have no mailbox; 1005 may have two phones at once, 1006 is a victim.
USERS = """
  1001: {name: Alice}
  1002: {name: Bob, voicemail: true}
  1003: {name: 'Eve; "the" <third>'}
  1004: {}
  1005: {name: Carol, max_contacts: 2}
  1006: {name: Dan}
"""
SERVICES = """
  6000: {kind: ivr-test}
  6001: {kind: voicemail}
  6002: {kind: echo}
"""


def password(number: str) -> str:
    return f"lab-only-{number}-Zq8Kd2"


@dataclass
class System:
    mode: str
    address: str
    run: Callable[[str], str]

    def phone(self, number: str, secret: str | None = None, **options: Any) -> Phone:
        return Phone(
            number,
            password(number) if secret is None else secret,
            domain=DOMAIN,
            address=(self.address, 8443),
            **options,
        )

    def contacts(self, number: str) -> int:
        """How many contacts Kamailio holds for a number."""
        told = self.run(f"kamcmd ul.lookup location {number}@{DOMAIN} 2>&1 || true")
        return told.count("Address:")
