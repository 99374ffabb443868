"""A connection that mutants go out on, opened again whenever the other side has had enough of it.

Owns the connection and the memory of what was sent. Never judges what came of it.
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

_MESSAGES = 800  # of one connection: below the flood limit, whatever the pace
_PONG_SECONDS = 10
_REPLY_SECONDS = 0.25  # after the pong; what takes longer was dropped by Asterisk
_UNAUTHORIZED = {401, 407}
Build = Callable[[Phone], "Request"]


@dataclass(slots=True)
class Sent:
    """Everything that went out in a batch, by the Call-ID it was given and by its branch."""

    by_call_id: dict[str, tuple[Mutant, bytes]] = field(default_factory=dict)
    by_branch: dict[str, tuple[Mutant, bytes]] = field(default_factory=dict)
    _number: int = 0

    def call_id(self) -> str:
        """A new one."""
        self._number += 1
        return f"fuzz-{self._number}"

    def note(self, request: Request, mutant: Mutant, raw: bytes) -> None:
        """Remember what a request became."""
        self.by_call_id[request.call_id] = self.by_branch[request.branch] = mutant, raw

    def forget(self) -> None:
        """A new batch begins."""
        self.by_call_id.clear()
        self.by_branch.clear()

    def of_call(self, call_id: str) -> tuple[Mutant | None, bytes]:
        """What had this Call-ID, or one that is in this text."""
        found = re.search(r"fuzz-\d+", call_id)
        return self.by_call_id.get(found[0] if found else call_id, (None, b""))


class _Every(set[tuple[str, str]]):
    """All dialogs: a NOTIFY is answered with 200, whatever a mutant has subscribed to."""

    def __contains__(self, _: object) -> bool:
        return True


@dataclass(slots=True)
class Office:
    """Whose phones these are and where they connect; one nonce for each kind of request."""

    address: tuple[str, int]
    domain: str
    password: Callable[[str], str]
    registers: bool  # a connection has to, before it may call
    tls: ssl.SSLContext = field(default_factory=trusting_tls)
    sent: Sent = field(default_factory=Sent)

    def phone(self, number: str, login: str = "") -> Phone:
        """A phone, not connected; `login` is another number whose credentials it uses."""
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
        """A phone that has proved itself."""
        phone = self.phone(number)
        await phone.connect()
        await self.register(phone)
        return phone

    async def register(self, phone: Phone) -> None:
        """Let a connection prove its number."""
        reply = await phone.register(contact=contact(phone.number))
        if reply.status != 200:  # noqa: PLR2004
            raise RuntimeError(f"{phone.number} cannot register: {reply.status} {reply.reason}")


def contact(number: str) -> str:
    """The Contact of all connections of a number: there is room for one."""
    return f"<sip:{number}@fuzz.invalid;transport=ws>"


@dataclass(slots=True)
class Line:
    """One connection of a number that has proved itself; `build` makes what is mutated."""

    office: Office
    number: str
    build: Build
    phone: Phone | None = None
    used: int = 0

    async def __aenter__(self) -> Self:
        """Connect."""
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        await self._close()

    async def _open(self) -> None:
        """Connect, again if need be: the phone keeps its nonces."""
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
        """Send one mutant of the request, signed before it is changed; the final replies to it.

        A message that Kamailio cannot parse costs the connection, and all that was sent behind
        it: hence one at a time, on many connections.
        """
        if self.phone is None or self.phone.is_closed or self.used >= _MESSAGES:
            await self._open()
        assert self.phone is not None  # noqa: S101  # for mypy: opened above
        phone, self.used = self.phone, self.used + 1
        raw = written(self.office.sent, phone, self.build(phone), mutant, names)
        phone.unmatched.clear()
        phone.malformed.clear()  # a reply that repeats what was sent may be
        with contextlib.suppress(ConnectionClosed):
            await transmit(phone, raw, self.used)
        await settled(phone)
        self._take_challenge(finals(phone))
        return finals(phone)


async def settled(phone: Phone) -> None:
    """Wait until Kamailio has done with what was sent, and for a reply to it, if one comes."""
    with contextlib.suppress(ConnectionClosed, ConnectionError, TimeoutError):
        pong = await phone.wire.connection.ping()
        await asyncio.wait_for(pong, _PONG_SECONDS)
        await phone.until(
            lambda: finals(phone) or phone.malformed or None, "a reply", _REPLY_SECONDS
        )


def finals(phone: Phone) -> list[Reply]:
    """The final replies that belong to no request of the phone's own."""
    return [reply for reply in phone.unmatched if reply.status >= 200]  # noqa: PLR2004


def written(sent: Sent, phone: Phone, request: Request, mutant: Mutant, names: Names) -> bytes:
    """The bytes of a mutant, with a Call-ID of its own outside of dialogs."""
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
    """As a binary frame, as a text frame, or in fragments, by turns."""
    connection = phone.wire.connection
    if turn % 3 == 0:
        await connection.send(raw.decode())
    elif turn % 10 == 1:
        half = len(raw) // 2
        await connection.send([raw[:half], raw[half:]])
    else:
        await connection.send(raw)
