"""Many phones in one process that costs little: sockets, TLS, WebSocket frames, SIP as bytes.

It competes with the server for the processor, so it has no classes for messages, no event loop
but epoll, and a mask of zeros on its frames. It registers and calls as JsSIP does, with GRUU
where the server gives one, and proves itself wherever it is challenged. It never retries.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import select
import socket
import ssl
import struct
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPENING = 16  # connections that open at the same time, each in a thread
_REGISTERING = 64  # registrations at the same time
_CALLING = 48  # calls at the same time
_PATIENCE_SECONDS = 8.0
_STORM_SECONDS = 60.0
_READ_BYTES = 65536
_HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: {domain}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: sip\r\n\r\n"
)
_REQUEST = (
    "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/WSS {host};branch=z9hG4bK{branch}\r\n"
    "Max-Forwards: 69\r\nTo: {to}\r\nFrom: {sender}\r\nCall-ID: {call}\r\n"
    "CSeq: {number} {method}\r\n{more}User-Agent: bench\r\n"
)
_REGISTER = (
    'Contact: <sip:{user}@{host};transport=ws>;+sip.ice;reg-id=1;+sip.instance="<{instance}>"'
    ";expires=600\r\nExpires: 600\r\nAllow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,"
    "INFO,NOTIFY\r\nSupported: path,gruu,outbound\r\n"
)
_INVITE = (
    "Contact: {contact}\r\nContent-Type: application/sdp\r\nSession-Expires: 90\r\n"
    "Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY\r\n"
    "Supported: timer,gruu,ice,replaces,outbound\r\n"
)
# An offer of Chromium with one address. Only its length matters here.
_SDP = (
    b"v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    b"a=extmap-allow-mixed\r\na=msid-semantic: WMS 1\r\n"
    b"m=audio 50000 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 192.0.2.1\r\n"
    b"a=rtcp:9 IN IP4 0.0.0.0\r\n"
    b"a=candidate:1467250027 1 udp 2122260223 192.0.2.1 50000 typ host generation 0\r\n"
    b"a=candidate:435653019 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0\r\n"
    b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=ice-options:trickle\r\n"
    b"a=fingerprint:sha-256 D2:FA:0E:C3:22:59:5E:14:95:69:92:3D:13:B4:84:24:2C:C2:A2:C0:3E:FD:34"
    b":8E:5E:EA:6F:AF:52:CE:E6:0F\r\na=setup:actpass\r\na=mid:0\r\n"
    b"a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
    b"a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendrecv\r\na=msid:1 2\r\na=rtcp-mux\r\n"
    b"a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;"
    b"useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\n"
    b"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n"
    b"a=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n"
    b"a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6\r\na=ssrc:3570614608 msid:1 2\r\n"
)
_COPIED = (b"Via:", b"Record-Route:", b"From:", b"Call-ID:", b"CSeq:")
_branches = itertools.count(int(time.time() * 1000))


def _find(name: str) -> Callable[[bytes], bytes]:
    """Return a function that gets the first header of this name, or an empty value."""
    pattern = re.compile(rf"\r\n{name}: *([^\r]*)".encode(), re.IGNORECASE)

    def find(message: bytes) -> bytes:
        match = pattern.search(message)
        return match[1] if match else b""

    return find


_call_id, _to, _cseq, _contact = map(_find, ("Call-ID", "To", "CSeq", "Contact"))
_challenge = _find("(?:WWW|Proxy)-Authenticate")
_record_route = re.compile(rb"\r\nRecord-Route: *([^\r]*)", re.IGNORECASE)
_uri = re.compile(rb"<([^>]*)>")
_pub_gruu = re.compile(rb'pub-gruu="([^"]*)"')


@dataclass(slots=True, eq=False)
class Tally:
    """What happened in one phase."""

    began: float = field(default_factory=time.monotonic)
    done: int = 0  # connections, registrations, answered calls
    challenged: int = 0  # 401 and 407
    acknowledged: int = 0  # ACKs that the callees received
    ended: int = 0  # BYEs that the callees received
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    processor_seconds: float = field(default_factory=lambda: -time.process_time())  # of this
    delays: list[float] = field(default_factory=list)  # of a call: from the first INVITE to 180

    def end(self) -> Tally:
        """Stop its clock."""
        self.seconds = time.monotonic() - self.began
        self.processor_seconds += time.process_time()
        return self

    @property
    def rate(self) -> float:
        """Those done in a second."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def p99(self) -> float:
        """The delay that one of a hundred exceeds, in seconds."""
        ordered = sorted(self.delays)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0


@dataclass(slots=True, eq=False)
class _Transaction:
    """A request of a phone, until its final reply."""

    method: str
    uri: str
    to: str
    call: str
    more: str
    body: bytes
    done: Callable[[int, bytes], None]
    branch: str = ""
    number: int = 0
    is_proven: bool = False


class _Phone:
    """One connection and one user; at most one request of its own and one call at a time."""

    def __init__(self, swarm: Swarm, number: str, password: str) -> None:
        self.number = number
        self.swarm = swarm
        self.socket: ssl.SSLSocket | None = None
        self._secret = f"{number}:{swarm.domain}:{password}"
        self._host = f"p{number}.invalid"
        self._contact = f"<sip:u{number}@{self._host};transport=ws;ob>"
        self._own = f"<sip:{number}@{swarm.domain}>;tag=t{number}"
        self._buffer = b""
        self._cseq = 0
        self._sent: _Transaction | None = None

    # --- the connection --------------------------------------------------------------------------

    def open(self) -> float:
        """Connect; the seconds that it took."""
        began = time.monotonic()
        plain = socket.create_connection(self.swarm.address, timeout=_PATIENCE_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened = self.swarm.tls.wrap_socket(plain, server_hostname=self.swarm.domain)
        opened.sendall(_HANDSHAKE.format(domain=self.swarm.domain).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (more := opened.recv(_READ_BYTES)):
                raise ConnectionError("closed in the handshake")
            answer += more
        if not answer.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(answer.split(b"\r\n")[0].decode())
        opened.setblocking(False)
        self._buffer, self.socket = b"", opened
        return time.monotonic() - began

    def give_up(self) -> None:
        """Wait for no reply any more."""
        self._sent = None

    def close(self) -> None:
        """Close without a farewell, as the end of a process does."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def read(self) -> None:
        """Handle all frames that have arrived."""
        if self.socket is None:
            return
        try:
            data = self.socket.recv(_READ_BYTES)
            while waiting := self.socket.pending():
                data += self.socket.recv(waiting)
        except ssl.SSLWantReadError:
            return
        except OSError:
            data = b""
        if not data:
            self.swarm.lose(self)
            return
        buffer = self._buffer + data if self._buffer else data
        while (frame := _frame(buffer)) is not None:
            kind, start, end = frame
            payload, buffer = buffer[start:end], buffer[end:]
            if kind in {1, 2}:
                self._receive(payload)
            elif kind == 9:  # noqa: PLR2004  # a ping
                self._write(payload, 0x8A)
        self._buffer = buffer

    def _write(self, message: bytes, kind: int = 0x82) -> None:
        if self.socket is None:
            return
        size = len(message)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)  # noqa: PLR2004
        try:
            # less than a socket buffer is under way on a connection
            self.socket.send(bytes([kind]) + length + b"\0\0\0\0" + message)
        except OSError:
            self.swarm.lose(self)

    # --- requests --------------------------------------------------------------------------------

    def register(self, done: Callable[[int, bytes], None]) -> None:
        """REGISTER, and again with a digest if it is challenged."""
        instance = f"urn:uuid:00000000-0000-4000-8000-{int(self.number):012d}"
        more = _REGISTER.format(user=f"u{self.number}", host=self._host, instance=instance)

        def registered(status: int, reply: bytes) -> None:
            if gruu := _pub_gruu.search(reply):
                self._contact = f"<{gruu[1].decode()};ob>"
            done(status, reply)

        domain = self.swarm.domain
        call = f"registration{self.number}"
        aor = f"<sip:{self.number}@{domain}>"
        self._request(_Transaction("REGISTER", f"sip:{domain}", aor, call, more, b"", registered))

    def call(self, callee: str, call: str, done: Callable[[int, bytes], None]) -> None:
        """INVITE."""
        more = _INVITE.format(contact=self._contact)
        uri = f"sip:{callee}@{self.swarm.domain}"
        self._request(_Transaction("INVITE", uri, f"<{uri}>", call, more, _SDP, done))

    def finish(self, reply: bytes, call: str, done: Callable[[int, bytes], None]) -> None:
        """ACK the 200 of a call, and send BYE."""
        uri = _first_uri(_contact(reply))
        recorded = [value.decode() for value in _record_route.findall(reply)]
        routes = "".join(f"Route: {value}\r\n" for value in reversed(recorded))
        to = _to(reply).decode()
        ack = _Transaction("ACK", uri, to, call, routes, b"", done, number=self._cseq)
        self._send(ack)
        self._request(_Transaction("BYE", uri, to, call, routes, b"", done))

    def _request(self, transaction: _Transaction) -> None:
        self._cseq += 1
        transaction.number = self._cseq
        self._sent = transaction
        self._send(transaction)

    def _send(self, request: _Transaction, credentials: str = "") -> None:
        request.branch = f"{next(_branches):x}"
        self._write_request(request, f"{credentials}{request.more}")

    def _write_request(self, request: _Transaction, more: str) -> None:
        head = _REQUEST.format(
            method=request.method,
            uri=request.uri,
            host=self._host,
            branch=request.branch,
            to=request.to,
            sender=self._own,
            call=request.call,
            number=request.number,
            more=more,
        )
        self._write(f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body)

    # --- what arrives ----------------------------------------------------------------------------

    def _receive(self, message: bytes) -> None:
        if message.startswith(b"SIP/2.0 "):
            self._reply(message)
        elif message.startswith(b"INVITE "):
            body = b"Contact: " + self._contact.encode() + b"\r\nContent-Type: application/sdp\r\n"
            self._answer(message, b"180 Ringing", b"Contact: " + self._contact.encode() + b"\r\n")
            self._answer(message, b"200 OK", body, _SDP)
        elif message.startswith(b"ACK "):
            self.swarm.tally.acknowledged += 1
        elif message.startswith(b"BYE "):
            self.swarm.tally.ended += 1
            self._answer(message, b"200 OK")
        elif message.strip():
            self._answer(message, b"200 OK")

    def _answer(self, request: bytes, status: bytes, more: bytes = b"", body: bytes = b"") -> None:
        lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
        kept = [line for line in lines if line.startswith(_COPIED)]
        to = b"To: " + _to(request)
        if b";tag=" not in to:
            to += b";tag=c" + self.number.encode()
        head = b"\r\n".join([b"SIP/2.0 " + status, *kept, to, more])
        if not more:
            head = head[:-2] + b"\r\n"
        self._write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def _reply(self, reply: bytes) -> None:
        sent = self._sent
        if sent is None or _cseq(reply) != f"{sent.number} {sent.method}".encode():
            return
        status = int(reply[8:11])
        if status < 200:  # noqa: PLR2004
            if status == 180:  # noqa: PLR2004
                self.swarm.rings(self)
            return
        if status >= 300 and sent.method == "INVITE":  # noqa: PLR2004
            self._acknowledge(sent, reply)
        if status in {401, 407} and not sent.is_proven:
            self.swarm.tally.challenged += 1
            self._prove(sent, status, _challenge(reply).decode())
            return
        self._sent = None
        sent.done(status, reply)

    def _acknowledge(self, sent: _Transaction, reply: bytes) -> None:
        """ACK of a refusal: it has the branch of the INVITE."""
        to = _to(reply).decode()
        ack = _Transaction("ACK", sent.uri, to, sent.call, "", b"", sent.done)
        ack.branch, ack.number = sent.branch, sent.number
        self._write_request(ack, "")

    def _prove(self, sent: _Transaction, status: int, challenge: str) -> None:
        asked = dict(re.findall(r'(\w+)="?([^",]*)', challenge))
        secret = _md5(self._secret)
        proof = (
            f"{secret}:{asked['nonce']}:00000001:bench:auth:{_md5(f'{sent.method}:{sent.uri}')}"
        )
        opaque = f', opaque="{asked["opaque"]}"' if "opaque" in asked else ""
        header = "Authorization" if status == 401 else "Proxy-Authorization"  # noqa: PLR2004
        self._cseq += 1
        sent.number, sent.is_proven = self._cseq, True
        self._send(
            sent,
            f'{header}: Digest username="{self.number}", realm="{asked["realm"]}",'
            f' nonce="{asked["nonce"]}", uri="{sent.uri}", response="{_md5(proof)}",'
            f' algorithm=MD5, qop=auth, cnonce="bench", nc=00000001{opaque}\r\n',
        )


class Swarm:
    """All phones of one server, and the phases of a measurement; each returns its tally."""

    def __init__(
        self, address: tuple[str, int], domain: str, users: Sequence[tuple[str, str]]
    ) -> None:
        self.address = address
        self.domain = domain
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        self.tally = Tally()
        self.phones = [_Phone(self, number, password) for number, password in users]
        self._poll = select.epoll()
        self._open: dict[int, _Phone] = {}
        self._asked: dict[_Phone, float] = {}  # since when a phone waits for a reply
        self._ringing: dict[_Phone, float] = {}
        self._calls = 0

    def connect(self) -> Tally:
        """Open all connections."""
        self.tally = Tally()
        with ThreadPoolExecutor(_OPENING) as pool:
            for phone, opened in zip(self.phones, pool.map(_try, self.phones), strict=True):
                if isinstance(opened, str):
                    self.tally.failures[opened] += 1
                else:
                    self.tally.done += 1
                    self.tally.delays.append(opened)
                    self._watch(phone)
        return self.tally.end()

    def register(self) -> Tally:
        """Register all connected phones."""
        self.tally = Tally()
        waiting = deque(self._open.values())

        def fill() -> None:
            while waiting and len(self._asked) < _REGISTERING:
                self._register(waiting.popleft(), time.monotonic())

        self._run(fill, lambda: bool(waiting or self._asked))
        return self.tally.end()

    def talk(self, seconds: float) -> Tally:
        """Call for `seconds`, as many calls as the server can take; then let the last ones end."""
        self.tally = Tally()
        half = len(self.phones) // 2
        pairs = deque(zip(self.phones[:half], self.phones[half:], strict=False))
        is_time = _for(seconds)

        def fill() -> None:
            while pairs and is_time() and len(self._asked) < _CALLING:
                self._call(*pairs.popleft(), pairs)

        self._run(fill, lambda: is_time() or bool(self._asked))
        tally = self.tally.end()
        self._run(lambda: None, _for(0.5))  # requests without a reply may be under way
        return tally

    def storm(self) -> Tally:
        """After a restart of the server: all connect and register, and try again until it works.

        The delays are those from the beginning.
        """
        self.close()
        tally = self.tally = Tally()
        arrived: deque[_Phone] = deque()
        is_time = _for(_STORM_SECONDS)

        def come(phone: _Phone) -> None:
            while is_time() and isinstance(failure := _try(phone), str):
                tally.failures[failure] += 1
                time.sleep(0.02)
            arrived.append(phone)

        def fill() -> None:
            while arrived:
                self._watch(phone := arrived.popleft())
                self._register(phone, tally.began)

        with ThreadPoolExecutor(_OPENING) as pool:
            for phone in self.phones:
                pool.submit(come, phone)
            self._run(fill, lambda: is_time() and tally.done < len(self.phones))
        return tally.end()

    def close(self) -> None:
        """Close all connections."""
        for phone in self.phones:
            self._forget(phone)

    def lose(self, phone: _Phone) -> None:
        """The connection of a phone has ended."""
        self.tally.failures["connection lost"] += 1
        self._forget(phone)

    def rings(self, phone: _Phone) -> None:
        """A caller got 180."""
        if began := self._ringing.pop(phone, 0.0):
            self.tally.delays.append(time.monotonic() - began)

    def _register(self, phone: _Phone, began: float) -> None:
        def done(status: int, _: bytes) -> None:
            del self._asked[phone]
            if status == 200:  # noqa: PLR2004
                self.tally.done += 1
                self.tally.delays.append(time.monotonic() - began)
            else:
                self.tally.failures[f"REGISTER {status}"] += 1

        self._asked[phone] = time.monotonic()
        phone.register(done)

    def _call(self, caller: _Phone, callee: _Phone, free: deque[tuple[_Phone, _Phone]]) -> None:
        self._calls += 1
        call = f"call{self._calls}-{id(self):x}"

        def answered(status: int, reply: bytes) -> None:
            if status == 200:  # noqa: PLR2004
                caller.finish(reply, call, ended)
            else:
                over("INVITE", status)

        def ended(status: int, _: bytes) -> None:
            # a server without in-dialog routing answers the BYE by itself; the call was set up
            self.tally.done += 1
            over("BYE", status)

        def over(method: str, status: int) -> None:
            del self._asked[caller]
            if status != 200:  # noqa: PLR2004
                self.tally.failures[f"{method} {status}"] += 1
            free.append((caller, callee))

        self._asked[caller] = self._ringing[caller] = time.monotonic()
        caller.call(callee.number, call, answered)

    def _run(self, fill: Callable[[], None], is_unfinished: Callable[[], bool]) -> None:
        """Handle what arrives; `fill` sends the next requests."""
        checked = time.monotonic()
        while is_unfinished():
            fill()
            for number, _ in self._poll.poll(0.01):
                if phone := self._open.get(number):
                    phone.read()
            if (now := time.monotonic()) - checked > 1:
                checked = now
                for phone in [p for p, at in self._asked.items() if now - at > _PATIENCE_SECONDS]:
                    self.tally.failures["no reply"] += 1
                    self._give_up(phone)

    def _give_up(self, phone: _Phone) -> None:
        self._asked.pop(phone, None)
        phone.give_up()

    def _watch(self, phone: _Phone) -> None:
        if phone.socket is not None and phone.socket.fileno() not in self._open:
            self._open[phone.socket.fileno()] = phone
            self._poll.register(phone.socket, select.EPOLLIN)

    def _forget(self, phone: _Phone) -> None:
        if phone.socket is not None and phone.socket.fileno() in self._open:
            del self._open[phone.socket.fileno()]
            self._poll.unregister(phone.socket)
        phone.close()
        self._give_up(phone)


def _try(phone: _Phone) -> float | str:
    """Open a connection that is not open; its seconds, or the error."""
    if phone.socket is not None:
        return 0.0
    try:
        return phone.open()
    except OSError as error:
        return type(error).__name__


def _for(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def _frame(buffer: bytes) -> tuple[int, int, int] | None:
    """Kind, start and end of the first frame of a buffer, if it is complete."""
    if len(buffer) < 2:  # noqa: PLR2004
        return None
    size, start = buffer[1], 2
    if size == 126:  # noqa: PLR2004
        if len(buffer) < 4:  # noqa: PLR2004
            return None
        size, start = int.from_bytes(buffer[2:4], "big"), 4
    end = start + size
    return (buffer[0] & 0x0F, start, end) if len(buffer) >= end else None


def _first_uri(value: bytes) -> str:
    match = _uri.search(value)
    return match[1].decode() if match else ""


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
