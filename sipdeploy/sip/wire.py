"""One SIP-over-WebSocket connection (RFC 7118): open, frames, trace, close and reset.

This module owns the socket. It does not parse messages.
"""

import hashlib
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from typing import Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Origin, Subprotocol

PING, PONG = "\r\n\r\n", "\r\n"  # RFC 5626 section 3.5.1, which RFC 7118 section 6 allows too


class HandshakeRefusedError(ConnectionError):
    """The server did not upgrade to WebSocket. `status` is the HTTP status, or 0."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One frame on the wire; `at` is in seconds of the monotonic clock."""

    direction: Literal["sent", "received"]
    text: str
    at: float


def trusting_tls() -> ssl.SSLContext:
    """A client TLS context that accepts any certificate, for lab hosts; it can be shared."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True, kw_only=True)
class Wire:
    """The parameters of a connection and, after `open()`, the connection."""

    address: tuple[str, int]
    server_name: str
    path: str = "/ws"
    origin: str | None = None
    source: str | None = None
    source_port: int = 0
    tls: ssl.SSLContext | None = None
    pin: str = ""  # SHA-256 of the server's certificate in hex
    open_seconds: float = 10
    keep_trace: bool = True
    trace: list[Traced] = field(default_factory=list)
    frames_received: int = 0
    end: str = ""  # how the connection ended, once `receive` has returned None
    _connection: ClientConnection | None = None

    async def open(self) -> None:
        """Connect; HandshakeRefusedError, TimeoutError or OSError (also ssl.SSLError)."""
        host, port = self.address
        try:
            self._connection = await connect(
                f"wss://{self.server_name}:{port}{self.path}",
                host=host,
                port=port,
                ssl=self.tls or trusting_tls(),
                server_hostname=self.server_name,
                local_addr=self._local,
                origin=Origin(self.origin) if self.origin else None,
                subprotocols=[Subprotocol("sip")],
                compression=None,
                ping_interval=None,  # answers pings, and sends none
                open_timeout=self.open_seconds,
                proxy=None,  # ignore the proxy of the environment
            )
        except InvalidStatus as refusal:
            status = refusal.response.status_code
            raise HandshakeRefusedError(f"HTTP {status}", status) from refusal
        except (InvalidHandshake, EOFError) as refusal:
            raise HandshakeRefusedError(str(refusal)) from refusal
        self._check()

    @property
    def _local(self) -> tuple[str, int] | None:
        if not self.source and not self.source_port:
            return None
        return self.source or "0.0.0.0", self.source_port  # noqa: S104 - a client's own end

    @property
    def local_address(self) -> tuple[str, int]:
        """Our address and port, as the server sees them without NAT."""
        address, port, *_ = self.connection.transport.get_extra_info("sockname")
        return address, port

    def _check(self) -> None:
        if self.connection.subprotocol != "sip":
            self.reset()
            raise HandshakeRefusedError("the server did not choose the subprotocol sip")
        if self.pin and self.certificate_digest() != self.pin.lower().replace(":", ""):
            self.reset()
            raise HandshakeRefusedError("another certificate than the pinned one")

    @property
    def connection(self) -> ClientConnection:
        """The open connection; ConnectionError before `open()`."""
        if self._connection is None:
            raise ConnectionError("not connected")
        return self._connection

    def certificate_digest(self) -> str:
        """SHA-256 of the certificate of the server, in lower-case hex."""
        secured: ssl.SSLObject = self.connection.transport.get_extra_info("ssl_object")
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()

    async def send(self, text: str) -> None:
        """Send one text frame; ConnectionError if the connection is closed."""
        if self.keep_trace:
            self.trace.append(Traced(direction="sent", text=text, at=time.monotonic()))
        try:
            await self.connection.send(text)
        except ConnectionClosed as gone:
            raise ConnectionError("the connection is closed") from gone

    async def receive(self) -> str | None:
        """The next frame as text; None after the end of the connection."""
        try:
            frame = await self.connection.recv()
        except ConnectionClosed as gone:
            self.end = str(gone)
            return None
        text = frame if isinstance(frame, str) else frame.decode(errors="replace")
        self.frames_received += 1
        if self.keep_trace:
            self.trace.append(Traced(direction="received", text=text, at=time.monotonic()))
        return text

    async def close(self) -> None:
        """Close with the closing handshakes of WebSocket and TLS."""
        if self._connection is not None:
            await self._connection.close()

    def reset(self) -> None:
        """Reset the connection (TCP RST), without closing handshakes."""
        transport = self.connection.transport
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:  # None if the peer has closed it
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
