"""A small TURN client (RFC 8656) that also sends what no library would: for tests of the relay."""

import contextlib
import hashlib
import hmac
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

COOKIE = 0x2112A442
ALLOCATE, REFRESH, SEND, DATA, CREATE_PERMISSION, CHANNEL_BIND = 3, 4, 6, 7, 8, 9
BINDING = 1
USERNAME, INTEGRITY, ERROR, CHANNEL, LIFETIME = 0x06, 0x08, 0x09, 0x0C, 0x0D
PEER, CONTENT, REALM, NONCE, RELAYED, FAMILY, TRANSPORT = 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x19
SOFTWARE = 0x8022
UDP_RELAY, TCP_RELAY = 17, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A message of the server: its type, and its attributes (the first of each kind)."""

    kind: int
    transaction: bytes
    attributes: dict[int, bytes]

    @property
    def error(self) -> int:
        """The code of an error; 0 for a success."""
        code = self.attributes.get(ERROR)
        return code[2] * 100 + code[3] if code else 0


def address(value: bytes) -> tuple[str, int]:
    """The address in XOR-PEER-ADDRESS or XOR-RELAYED-ADDRESS; IPv4 only."""
    port, number = struct.unpack("!HI", value[2:8])
    return str(ipaddress.ip_address(number ^ COOKIE)), port ^ (COOKIE >> 16)


def peer(host: str, port: int, transaction: bytes) -> bytes:
    """XOR-PEER-ADDRESS in the form of its IP version, so an IPv4-mapped address stays IPv6."""
    parsed = ipaddress.ip_address(host)
    mask = struct.pack("!I", COOKIE) + (transaction if parsed.version == 6 else b"")  # noqa: PLR2004
    raw = bytes(a ^ b for a, b in zip(parsed.packed, mask, strict=False))
    family = {4: 1, 6: 2}[parsed.version]
    return struct.pack("!BBH", 0, family, port ^ (COOKIE >> 16)) + raw


@dataclass(slots=True, kw_only=True)
class Turn:
    """One connection to a TURN server; `transport` is udp, tcp or tls."""

    server: tuple[str, int]
    username: str = ""
    password: str = ""
    realm: str = ""
    transport: str = "udp"
    timeout: float = 3
    nonce: bytes = b""
    wire: socket.socket = field(init=False)
    inbox: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Connect."""
        family = socket.AF_INET6 if ":" in self.server[0] else socket.AF_INET
        kind = socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM
        self.wire = socket.socket(family, kind)
        self.wire.settimeout(self.timeout)
        self.wire.connect(self.server)
        if self.transport == "tls":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.wire = context.wrap_socket(self.wire)

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the allocation, so that the next client on this port can have one, and close."""
        if self.nonce and self.transport == "udp":
            with contextlib.suppress(OSError):
                self.refresh(0)
        self.wire.close()

    @property
    def key(self) -> bytes:
        """The long-term key of RFC 8489, section 9.2.2, for MD5."""
        text = f"{self.username}:{self.realm}:{self.password}"
        return hashlib.md5(text.encode(), usedforsecurity=False).digest()

    def request(
        self, method: int, attributes: list[tuple[int, bytes]], *, signed: bool = True
    ) -> Answer:
        """Send a request, and answer one challenge with the credential."""
        answer = self._ask(method, attributes, signed=signed and bool(self.nonce))
        if answer.error in (401, 438) and signed and NONCE in answer.attributes:
            is_first = not self.nonce or answer.error == 438  # noqa: PLR2004 - stale nonce
            self.nonce = answer.attributes[NONCE]
            self.realm = self.realm or answer.attributes[REALM].decode()
            if is_first:
                answer = self._ask(method, attributes, signed=True)
        return answer

    def allocate(self, *, relay: int = UDP_RELAY, family: int = 0, lifetime: int = 0) -> Answer:
        """Ask for a relayed address; `family` 1 or 2 asks for an IP version."""
        attributes = [(TRANSPORT, struct.pack("!B3x", relay))]
        attributes += [(FAMILY, struct.pack("!B3x", family))] if family else []
        attributes += [(LIFETIME, struct.pack("!I", lifetime))] if lifetime else []
        return self.request(ALLOCATE, attributes)

    def relayed(self) -> tuple[str, int]:
        """Allocate, and return the relayed address; PermissionError if the server refuses."""
        answer = self.allocate()
        if answer.error:
            raise PermissionError(f"the server refused an allocation: {answer.error}")
        return address(answer.attributes[RELAYED])

    def refresh(self, lifetime: int = 600) -> Answer:
        """Keep the allocation, or end it with 0."""
        return self.request(REFRESH, [(LIFETIME, struct.pack("!I", lifetime))])

    def permit(self, host: str, port: int = 9) -> int:
        """Ask for permission to send to a peer; the code of the error, 0 for success."""
        transaction = os.urandom(12)
        return self._to_peer(CREATE_PERMISSION, host, port, transaction).error

    def bind(self, host: str, port: int, channel: int = 0x4000) -> int:
        """Bind a channel to a peer; the code of the error, 0 for success."""
        transaction = os.urandom(12)
        extra = [(CHANNEL, struct.pack("!HH", channel, 0))]
        return self._to_peer(CHANNEL_BIND, host, port, transaction, extra).error

    def _to_peer(
        self,
        method: int,
        host: str,
        port: int,
        transaction: bytes,
        extra: list[tuple[int, bytes]] | None = None,
    ) -> Answer:
        attributes = [*(extra or []), (PEER, peer(host, port, transaction))]
        return self._ask(method, attributes, signed=True, transaction=transaction)

    def send(self, host: str, port: int, content: bytes) -> None:
        """Send a datagram to a peer through the relay (an indication, without an answer)."""
        transaction = os.urandom(12)
        attributes = [(PEER, peer(host, port, transaction)), (CONTENT, content)]
        self.wire.sendall(self._message(SEND | 0x10, attributes, transaction, signed=False))

    def receive(self) -> tuple[tuple[str, int], bytes]:
        """The next datagram that the relay received: its sender, its content."""
        while True:
            answer = self.inbox.pop(0) if self.inbox else self._read()
            if answer.kind == DATA | 0x10:
                return address(answer.attributes[PEER]), answer.attributes[CONTENT]

    def _ask(
        self,
        method: int,
        attributes: list[tuple[int, bytes]],
        *,
        signed: bool,
        transaction: bytes = b"",
    ) -> Answer:
        transaction = transaction or os.urandom(12)
        self.wire.sendall(self._message(method, attributes, transaction, signed=signed))
        while True:
            answer = self._read()
            if answer.transaction == transaction:
                return answer
            self.inbox.append(answer)

    def _message(
        self,
        kind: int,
        attributes: list[tuple[int, bytes]],
        transaction: bytes,
        *,
        signed: bool,
    ) -> bytes:
        if signed:
            attributes = [
                *attributes,
                (USERNAME, self.username.encode()),
                (REALM, self.realm.encode()),
                (NONCE, self.nonce),
            ]
        body = b"".join(_attribute(name, value) for name, value in attributes)
        if not signed:
            return struct.pack("!HHI", kind, len(body), COOKIE) + transaction + body
        head = struct.pack("!HHI", kind, len(body) + 24, COOKIE) + transaction
        digest = hmac.new(self.key, head + body, hashlib.sha1).digest()
        return head + body + _attribute(INTEGRITY, digest)

    def _read(self) -> Answer:
        if self.transport == "udp":
            return _answer(self.wire.recv(65536))
        head = self._exactly(4)
        return _answer(head + self._exactly(struct.unpack("!HH", head)[1] + 16))

    def _exactly(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            part = self.wire.recv(size - len(content))
            if not part:
                raise ConnectionError("the server closed the connection")
            content += part
        return content


def _attribute(name: int, value: bytes) -> bytes:
    return struct.pack("!HH", name, len(value)) + value + b"\0" * (-len(value) % 4)


def _answer(raw: bytes) -> Answer:
    kind, size = struct.unpack("!HH", raw[:4])
    found: dict[int, bytes] = {}
    for name, value in _attributes(raw[20 : 20 + size]):
        found.setdefault(name, value)
    return Answer(kind=kind, transaction=raw[8:20], attributes=found)


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    while len(body) >= 4:  # noqa: PLR2004 - the head of an attribute
        name, size = struct.unpack("!HH", body[:4])
        yield name, body[4 : 4 + size]
        body = body[4 + size + (-size % 4) :]
