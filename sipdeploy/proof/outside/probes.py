"""Probe accounts: two numbers that exist on a host for the length of a proof.

Numbers and passwords are random. The host forgets them by itself, also when this machine dies.
"""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import ask, host_failed
from sipdeploy.inventory import secret
from sipdeploy.proof.outside.subject import Account
from sipdeploy.proof.probe_numbers import new_number
from sipdeploy.services import certificates

if TYPE_CHECKING:
    from sipdeploy.host import Host

LIFETIME_SECONDS = 105


def new_accounts() -> tuple[Account, Account]:
    """Two accounts that nobody can guess."""
    return (
        Account(number=new_number(), password=secrets.token_urlsafe(24), title="1st phone"),
        Account(number=new_number(), password=secrets.token_urlsafe(24), title="2nd phone"),
    )


@dataclass(slots=True, kw_only=True)
class Probes:
    """The probe accounts of one proof. `set` and `remove` block; call them in a thread.

    failures: what attacks add to the failures of an address or a connection, as Kamailio counts
    them; the host takes them back at the end.
    """

    name: str
    domain: str
    connect: Callable[[], Host]
    accounts: tuple[Account, Account] = field(default_factory=new_accounts)
    failures: Counter[str] = field(default_factory=Counter)
    _host: Host | None = None

    def set(self) -> str:
        """Set the accounts; the SHA-256 of the certificate file of the host, or empty.

        HostFailed if the host cannot be reached, or SD909 if it does not take them.
        """
        self._host = self.connect()
        ha1 = secret.credentials(
            self.domain, {each.number: secret.Secret(each.password) for each in self.accounts}
        )
        lines = "".join(f"{number} {value}\n" for number, value in ha1.items())
        problem = ("SD909", "the probe accounts cannot be set")
        argv = ("probes", "set", str(LIFETIME_SECONDS), self.domain)
        found = ask(self._host, argv, problem, data=lines.encode())
        if "failed" in found:
            raise self._not_set(found["failed"])
        if "set" not in found:
            raise host_failed("SD909", f"the probe accounts cannot be set on `{self.name}`")
        served = certificates.parse(found.get("certificate", "").encode(), b"")
        return served.fingerprint if served else ""

    def _not_set(self, text: str) -> HostFailed:
        daemon, *lines = [line for line in text.splitlines() if line.strip()]
        if "o such htable" in text or "table not found" in text.lower():
            return host_failed(
                "SD909",
                f"`{self.name}` was configured by an older sipdeploy, without probe accounts",
                help_=f"`sipdeploy apply {self.name}` updates it; `--user NUMBER` needs none",
            )
        return host_failed(
            "SD909",
            f"{daemon.capitalize()} on `{self.name}` does not take the probe accounts",
            notes=tuple(lines[-3:]),
            help_=f"on `{self.name}`: `journalctl -b -u {daemon}` shows why",
        )

    def remove(self) -> None:
        """Remove the accounts; if that fails, the timer of the host does it."""
        if self._host is None:
            return
        lines = "".join(f"{each.number}\n" for each in self.accounts)
        lines += "".join(f"failures {key} {count}\n" for key, count in self.failures.items())
        argv = ("probes", "remove", "-", self.domain)
        problem = ("SD909", "the probe accounts cannot be removed")
        with contextlib.suppress(HostFailed):
            ask(self._host, argv, problem, data=lines.encode(), timeout_seconds=30)
        self._host = None
