"""What the steps of a proof share: the host, the accounts, and the phones of the calls."""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipdeploy.proof.inside.verify import where_to_look
from sipdeploy.sip.phone import Phone, Reply
from sipdeploy.sip.wire import trusting_tls

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.inventory.site import HostEntry, Site
    from sipdeploy.proof.outside.probes import Probes
    from sipdeploy.proof.outside.step import Level, Sound
    from sipdeploy.sip.wire import Traced

REGISTER_SECONDS = 90  # a registration that nobody removes is gone in less than two minutes
PATIENCE_SECONDS = 4.0


class NotRegisteredError(ConnectionError):
    """A registrar refused a phone; `reply` is its final reply."""

    def __init__(self, number: str, reply: Reply) -> None:
        super().__init__(f"REGISTER was answered with {reply.status} {reply.reason}")
        self.number = number
        self.reply = reply

    @property
    def status(self) -> str:
        """The status line of the reply."""
        return f"{self.reply.status} {self.reply.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A number and its password; `title` is what diagrams and messages call it."""

    number: str
    password: str = field(repr=False)
    title: str


@dataclass(slots=True, kw_only=True)
class Subject:
    """The host that is proven, and what earlier steps have found about it.

    probes: sets two probe accounts on the host; None if a user's own account is given.
    accounts: the probe accounts once they are set, or one user.
    fingerprint: SHA-256 of the certificate file on the host; empty if it is not known.
    address: where this machine reaches the port of the phones; the step `TCP` sets it.
    chain: the certificates that the port serves, in PEM; the step `TLS` sets it.
    phones: the phones that are connected, by account and device.
    traces: what each phone sent and received, also those that are closed.
    sounds: what phones heard, where a step has listened.
    """

    name: str
    site: Site
    entry: HostEntry
    level: Level
    probes: Probes | None = None
    accounts: tuple[Account, ...] = ()
    fingerprint: str = ""
    address: str = ""
    chain: tuple[bytes, ...] = ()
    warnings: dict[str, tuple[Diagnostic, ...]] = field(default_factory=dict)  # by step
    phones: dict[tuple[int, int], Phone] = field(default_factory=dict)
    traces: list[tuple[str, list[Traced]]] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    tls: ssl.SSLContext = field(default_factory=trusting_tls)
    ends: float = math.inf  # the end of the whole proof, of the monotonic clock
    port: int = 0  # of the phones; default: that of the inventory

    def __post_init__(self) -> None:
        self.port = self.port or self.site.ports.wss

    @property
    def origin(self) -> str | None:
        """An origin that the host accepts; None where every origin is accepted."""
        return next(iter(self.site.origins), None)

    @property
    def logs(self) -> str:
        """The command that shows the log of the daemons."""
        return where_to_look(self.name)

    def new_phone(self, account: int, device: int = 0, *, password: str = "") -> Phone:
        """A phone of an account, not connected; its messages are traced.

        With another `password`, it is a stranger's.
        """
        owner = self.accounts[account]
        phone = Phone(
            owner.number,
            password or owner.password,
            domain=self.site.domain,
            address=(self.address, self.port),
            origin=self.origin,
            tls=self.tls,
            timeout_seconds=PATIENCE_SECONDS,
        )
        title = "a stranger" if password else f"{owner.title}{' on a 2nd device' * device}"
        self.traces.append((title, phone.wire.trace))
        return phone

    async def phone(self, account: int, device: int = 0) -> Phone:
        """The registered phone of an account, connected by the first step that needs it."""
        key = (account, device)
        if key not in self.phones:
            phone = self.new_phone(account, device)
            await phone.connect()
            self.phones[key] = phone
            await self.register(phone)
        return self.phones[key]

    async def register(self, phone: Phone) -> Reply:
        """Register a phone; NotRegisteredError with the reply if it is refused."""
        reply = await phone.register(expires=REGISTER_SECONDS)
        if reply.status != 200:  # noqa: PLR2004
            raise NotRegisteredError(phone.number, reply)
        return reply

    async def hang_up(self, keys: Iterable[tuple[int, int]] | None = None) -> None:
        """Unregister and disconnect phones, by default all of them."""
        chosen = list(self.phones if keys is None else keys)
        leaving = [self.phones.pop(key) for key in chosen if key in self.phones]
        await asyncio.gather(*(_leave(phone) for phone in leaving))


async def _leave(phone: Phone) -> None:
    with contextlib.suppress(OSError):
        await phone.register(expires=0, timeout_seconds=1)
    with contextlib.suppress(OSError):
        await phone.close()
