"""Connections that send mutants, and reconnect when the server has closed them.

This module records the sent messages; it does not evaluate the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from websockets.exceptions import ConnectionClosed

from sipdeploy.sip.phone import MalformedMessage, Phone
from sipdeploy.sip.wire import trusting_tls

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from lab.differential.corpus import Mutant, Names
    from sipdeploy.sip.phone import Reply, Request

_MESSAGES = 800  # for each connection, below the flood limit at any rate
_PONG_SECONDS = 10
_REPLY_SECONDS = 0.25  # after the pong; without a reply by then, Asterisk has dropped the message
_UNAUTHORIZED = {401, 407}
Build = Callable[[Phone], "Request"]


@dataclass(slots=True)
class Sent:
    """The messages of a batch, by the Call-ID of the request and by its branch."""

    by_call_id: dict[str, tuple[Mutant, bytes]] = field(default_factory=dict)
    by_branch: dict[str, tuple[Mutant, bytes]] = field(default_factory=dict)
    _number: int = 0

    def call_id(self) -> str:
        """Return an unused Call-ID."""
        self._number += 1
        return f"fuzz-{self._number}"

    def note(self, request: Request, mutant: Mutant, raw: bytes) -> None:
        """Record the mutated form of a request."""
        self.by_call_id[request.call_id] = self.by_branch[request.branch] = mutant, raw

    def forget(self) -> None:
        """Clear the record for the next batch."""
        self.by_call_id.clear()
        self.by_branch.clear()

    def of_call(self, call_id: str) -> tuple[Mutant | None, bytes]:
        """Return the message with this Call-ID, or with a Call-ID that occurs in the text."""
        found = re.search(r"fuzz-\d+", call_id)
        return self.by_call_id.get(found[0] if found else call_id, (None, b""))


class _Every(set[tuple[str, str]]):
    """Contains every dialog, so that the phone answers every NOTIFY with 200."""

    def __contains__(self, _: object) -> bool:
        return True


@dataclass(slots=True)
class Office:
    """The settings of the phones, and their common TLS context and record."""

    address: tuple[str, int]
    domain: str
    password: Callable[[str], str]
    registers: bool  # a connection must register before it can call (mode `asterisk`)
    tls: ssl.SSLContext = field(default_factory=trusting_tls)
    sent: Sent = field(default_factory=Sent)

    def phone(self, number: str, login: str = "") -> Phone:
        """Return an unconnected phone; with `login`, it uses the credentials of that number."""
        phone = Phone(
            login or number,
            self.password(login or number),
            domain=self.domain,
            address=self.address,
            tls=self.tls,
            gruu=False,
            keep_trace=False,
        )
        phone.automatic.add("MESSAGE")
        phone.inbox.subscriptions = _Every()
        return phone

    async def registered(self, number: str) -> Phone:
        """Return a connected and registered phone."""
        phone = self.phone(number)
        await phone.connect()
        await self.register(phone)
        return phone

    async def register(self, phone: Phone) -> None:
        """Register a phone; RuntimeError if the server refuses."""
        reply = await phone.register(contact=contact(phone.number))
        if reply.status != 200:  # noqa: PLR2004
            raise RuntimeError(f"{phone.number} cannot register: {reply.status} {reply.reason}")


def contact(number: str) -> str:
    """Return the one Contact that all connections of a number share, because of max_contacts."""
    return f"<sip:{number}@fuzz.invalid;transport=ws>"


@dataclass(slots=True)
class Line:
    """A connection of an authenticated number; `build` makes the request to mutate."""

    office: Office
    number: str
    build: Build
    phone: Phone | None = None
    used: int = 0

    async def __aenter__(self) -> Self:
        """Connect, and register if the mode requires it."""
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self._close()

    async def _open(self) -> None:
        """Connect or reconnect; the phone keeps its nonces."""
        is_new = self.phone is None
        self.phone, self.used = self.phone or self.office.phone(self.number), 0
        await self._close()
        await self.phone.connect()
        if self.office.registers:
            await self.office.register(self.phone)
        if is_new:
            self._take_challenge([await self.phone.exchange(self.build(self.phone))])

    def _take_challenge(self, replies: list[Reply]) -> None:
        for reply in replies:
            if self.phone and reply.status in _UNAUTHORIZED:
                with contextlib.suppress(MalformedMessage):
                    self.phone.takes_challenge(reply, 1)

    async def _close(self) -> None:
        if self.phone is not None:
            with contextlib.suppress(ConnectionError, ConnectionClosed, TimeoutError):
                self.phone.wire.reset()
                await self.phone.close()

    async def turn(self, mutant: Mutant, names: Names) -> list[Reply]:
        """Sign a request, mutate and send it; return the final replies to it.

        Kamailio closes a connection after a message that it cannot parse, and drops everything
        sent after it. So each connection sends one message at a time.
        """
        if self.phone is None or self.phone.is_closed or self.used >= _MESSAGES:
            await self._open()
        assert self.phone is not None  # noqa: S101  # for mypy: opened above
        phone, self.used = self.phone, self.used + 1
        raw = written(self.office.sent, phone, self.build(phone), mutant, names)
        phone.unmatched.clear()
        phone.malformed.clear()  # replies quote the malformed message
        with contextlib.suppress(ConnectionClosed):
            await transmit(phone, raw, self.used)
        await settled(phone)
        self._take_challenge(finals(phone))
        return finals(phone)


async def settled(phone: Phone) -> None:
    """Wait until Kamailio has processed all messages, and briefly for a reply."""
    with contextlib.suppress(ConnectionClosed, ConnectionError, TimeoutError):
        pong = await phone.wire.connection.ping()
        await asyncio.wait_for(pong, _PONG_SECONDS)
        await phone.until(
            lambda: finals(phone) or phone.malformed or None, "a reply", _REPLY_SECONDS
        )


def finals(phone: Phone) -> list[Reply]:
    """Return the final replies to mutants, which match no request of the phone."""
    return [reply for reply in phone.unmatched if reply.status >= 200]  # noqa: PLR2004


def written(sent: Sent, phone: Phone, request: Request, mutant: Mutant, names: Names) -> bytes:
    """Return the bytes of a mutant; outside of dialogs it has a new Call-ID."""
    if not request.to_tag:
        request = phone.changed(request, {"Call-ID": sent.call_id()})
    request = phone.signed(request)
    if not request.values("Content-Length"):
        length = str(len(request.body.encode()))
        request = replace(request, headers=(*request.headers, ("Content-Length", length)))
    raw = mutant.apply(str(request), names)
    sent.note(request, mutant, raw)
    return raw


async def transmit(phone: Phone, raw: bytes, turn: int) -> None:
    """Send a message in turn as a binary frame, as a text frame, or in fragments."""
    connection = phone.wire.connection
    if turn % 3 == 0:
        await connection.send(raw.decode())
    elif turn % 10 == 1:
        half = len(raw) // 2
        await connection.send([raw[:half], raw[half:]])
    else:
        await connection.send(raw)
