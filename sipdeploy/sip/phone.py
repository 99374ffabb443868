"""The SIP test phone, for signalling in bulk and for requests that no browser sends.

It owns the connection, the transactions and their replies. It sends no media.

    async with Phone("1001", "secret", domain="sip.example.test", address=(host, 8443)) as a:
        await a.connect()
        assert (await a.register()).status == 200
        call = await a.invite("1002")
        await call.answered()
        await call.ack()
        await call.bye()
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar, Unpack, cast

from sipdeploy.sip.agent import Options, UserAgent
from sipdeploy.sip.call import Call, CallRefusedError, Incoming, OnReply
from sipdeploy.sip.dialog import Dialog, Sdp
from sipdeploy.sip.inbox import Inbox
from sipdeploy.sip.message import MalformedMessage, Reply, Request, parameter, parse, token, uri_of
from sipdeploy.sip.wire import PING, PONG, HandshakeRefusedError, Traced, Wire, trusting_tls

__all__ = [
    "Call",
    "CallRefusedError",
    "Dialog",
    "HandshakeRefusedError",
    "Incoming",
    "MalformedMessage",
    "Options",
    "Phone",
    "RegisterOptions",
    "Reply",
    "Request",
    "Sdp",
    "Traced",
    "trusting_tls",
]

_T = TypeVar("_T")


class RegisterOptions(Options, total=False):
    """Additional options of a REGISTER."""

    expires: int  # seconds
    contact: str | None  # a complete Contact value, or "*"; None: that of the phone
    instance: str | None  # +sip.instance URN; None: that of the phone


@dataclass(slots=True, kw_only=True, eq=False)
class Phone(UserAgent):
    """One user agent on one WebSocket. Only one task at a time may send.

    The phone answers the methods in `automatic` with 200 (REFER: 202) by itself.
    """

    address: tuple[str, int]
    origin: str | None = None
    source: str | None = None
    source_port: int = 0  # 0: any
    path: str = "/ws"
    tls: ssl.SSLContext | None = None
    pin: str = ""
    keep_trace: bool = True
    timeout_seconds: float = 10
    automatic: set[str] = field(
        default_factory=lambda: {"OPTIONS", "NOTIFY", "BYE", "INFO", "UPDATE", "REFER"}
    )
    inbox: Inbox = field(init=False)
    unmatched: list[Reply] = field(default_factory=list, init=False)
    malformed: list[str] = field(default_factory=list, init=False)
    wire: Wire = field(init=False)
    _registration: str = field(default_factory=lambda: token(20), init=False)
    _transactions: dict[tuple[str, str], OnReply] = field(default_factory=dict, init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _reader: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.wire, self.inbox = self._new_wire(), Inbox(phone=self)

    def _new_wire(self) -> Wire:
        return Wire(
            address=self.address,
            server_name=self.domain,
            path=self.path,
            origin=self.origin,
            source=self.source,
            source_port=self.source_port,
            tls=self.tls,
            pin=self.pin,
            open_seconds=self.timeout_seconds,
            keep_trace=self.keep_trace,
        )

    # --- the connection --------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Open the WebSocket, also again after `reset()` or `close()`; dialogs and trace stay.

        Raises HandshakeRefusedError (its `status` is the HTTP one), TimeoutError or OSError.
        """
        trace, self.wire = self.wire.trace, self._new_wire()
        self.wire.trace = trace
        await self.wire.open()
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(self._announce)

    async def close(self) -> None:
        """Close the WebSocket, as a browser does when it leaves the page; does not unregister."""
        await self.wire.close()
        await self._stop()

    async def reset(self) -> None:
        """Cut the connection with a TCP RST (SO_LINGER 0)."""
        self.wire.reset()
        await self._stop()

    async def _stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    @property
    def is_closed(self) -> bool:
        """Whether there is no connection: never opened, closed by either side, or reset."""
        return self._reader is None or self._reader.done()

    @property
    def trace(self) -> list[Traced]:
        """Every frame sent and received, oldest first."""
        return self.wire.trace

    def received(self, what: str | int) -> list[Request | Reply]:
        """The messages received so far: requests of a method, or replies of a status."""
        texts = [t.text for t in self.trace if t.direction == "received" and t.text.strip()]
        messages = [parse(text) for text in texts if text not in self.malformed]
        return [m for m in messages if what == (m.method if isinstance(m, Request) else m.status)]

    async def send(self, message: Request | Reply) -> None:
        """Send a message outside a transaction."""
        await self.wire.send(str(message))

    async def send_raw(self, text: str) -> None:
        """Send any text as one frame; `stray()` returns the replies."""
        await self.wire.send(text)

    async def stray(self, timeout_seconds: float | None = None) -> Reply:
        """The next reply that matches no transaction, for requests of `send_raw()`."""
        await self.until(lambda: self.unmatched or None, "a reply", timeout_seconds)
        return self.unmatched.pop(0)

    async def silence(self, seconds: float = 1) -> None:
        """AssertionError if a frame arrives within that time; a close is allowed."""
        before = self.wire.frames_received
        await asyncio.sleep(seconds)
        if came := self.wire.frames_received - before:
            lines = [t.text.split("\r\n")[0] for t in self.trace if t.direction == "received"]
            raise AssertionError(f"silence expected, but came: {lines[-came:]}")

    async def until(
        self, event: Callable[[], _T | None], what: str, timeout_seconds: float | None = None
    ) -> _T:
        """Wait until `event()` is not None; TimeoutError, or ConnectionError after a close."""
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                while (value := event()) is None:
                    self._check_alive(what)
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.number}: no {what} in {seconds} s{self._last()}") from None
        return value

    def _check_alive(self, what: str) -> None:
        if self._reader is None or not self._reader.done():
            return
        broken = None if self._reader.cancelled() else self._reader.exception()
        how = f" ({self.wire.end})" if self.wire.end else ""
        text = f"{self.number}: closed before {what}{how}{self._last()}"
        raise ConnectionError(text) from broken

    def _announce(self, _: object = None) -> None:
        """Wake all tasks that wait in `until()`."""
        self._news.set()
        self._news = asyncio.Event()

    def _last(self) -> str:
        lines = [f"{t.direction} {t.text.split(chr(13))[0]}" for t in self.trace[-4:]]
        return f"; last: {lines}" if lines else ""

    # --- requests --------------------------------------------------------------------------------

    async def register(self, **options: Unpack[RegisterOptions]) -> Reply:
        """REGISTER, by default the contact of the phone for 600 s; returns the final reply."""
        expires = options.pop("expires", 600)
        contact = options.pop("contact", None) or self._registered(options.pop("instance", None))
        usual: dict[str, str | None] = {
            "Call-ID": self._registration,
            "Contact": contact,
            "Expires": str(expires),
            "Supported": "path, gruu, outbound" if self.gruu else "path",
        }
        general = cast("Options", options)
        general["headers"] = usual | dict(options.get("headers", {}))
        general.setdefault("to_user", options.get("from_user", self.number))
        reply = await self.request("REGISTER", f"sip:{self.domain}", **general)
        self._take_gruu(reply)
        return reply

    def _registered(self, instance: str | None) -> str:
        own = f"<sip:{self._user}@{self._host};transport=ws>"
        if self.gruu:
            own += f';reg-id=1;+sip.instance="<{instance or self.instance}>"'
        return own

    def _take_gruu(self, reply: Reply) -> None:
        for contact in reply.items("Contact"):
            if self.gruu and uri_of(contact).startswith(f"sip:{self._user}@"):
                self.pub_gruu = parameter(contact, "pub-gruu")

    async def request(self, method: str, target: str, **options: Unpack[Options]) -> Reply:
        """Send a request to a number or URI, answer a challenge, and return the final reply."""
        request = self.initial(method, target, options)
        if method == "SUBSCRIBE":
            self.inbox.subscriptions.add((request.call_id, request.from_tag))
        return await self._authenticated(request, options)

    async def invite(self, target: str, sdp: str = "", **options: Unpack[Options]) -> Call:
        """Send an INVITE with `sdp` or a new WebRTC offer, and return without waiting."""
        options["body"] = sdp or options.get("body", "") or str(Sdp())
        authenticate = options.get("authenticate", True)
        request = self.initial("INVITE", target, options)
        request = self.signed(request) if authenticate else request
        call = Call(phone=self, request=request, authenticate=authenticate)
        await self.start(request, call.on_reply)
        return call

    async def request_in_dialog(
        self, dialog: Dialog, method: str, **options: Unpack[Options]
    ) -> Reply:
        """Send a request in any dialog, also a copied one (`call.established.copy()`)."""
        reply = await self._authenticated(self.in_dialog(dialog, method, **options), options)
        dialog.sequence = max(dialog.sequence, reply.cseq[0])  # a challenge used another number
        if method in {"INVITE", "UPDATE"} and reply.status // 100 == 2:  # noqa: PLR2004
            dialog.refresh(reply)
        if method == "INVITE" and reply.status // 100 == 2:  # noqa: PLR2004
            ack = self.in_dialog(dialog, "ACK")
            await self.send(self.changed(ack, {"CSeq": f"{reply.cseq[0]} ACK"}))
        return reply

    async def _authenticated(self, request: Request, options: Options) -> Reply:
        seconds = options.get("timeout_seconds")
        if not options.get("authenticate", True):
            return await self.exchange(request, seconds)
        # In a dialog only after a challenge, because no proxy would remove the credentials there.
        first = request if request.to_tag else self.signed(request)
        reply, attempts = await self.exchange(first, seconds), 1
        while self.takes_challenge(reply, attempts):
            request, attempts = self.again(request), attempts + 1
            reply = await self.exchange(request, seconds)
        return reply

    def keep(self, call: Call) -> None:
        """Keep a call, so that the phone finds it for incoming requests."""
        self.inbox.calls.append(call)

    async def start(self, request: Request, on_reply: OnReply) -> None:
        """Start a client transaction: send, and pass each reply to `on_reply`."""
        self._transactions[request.branch, request.method] = on_reply
        await self.send(request)

    async def exchange(self, request: Request, timeout_seconds: float | None = None) -> Reply:
        """Run one transaction without authentication; returns the final reply, after its ACK."""
        finals: list[Reply] = []

        async def on_reply(reply: Reply) -> None:
            if reply.status >= 200:  # noqa: PLR2004
                finals.append(reply)
                if request.method == "INVITE" and reply.status >= 300:  # noqa: PLR2004
                    await self.send(self.on_transaction(request, "ACK", reply))

        await self.start(request, on_reply)
        try:
            await self.until(
                lambda: finals or None, f"final reply to {request.method}", timeout_seconds
            )
        finally:
            self._transactions.pop((request.branch, request.method), None)
        return finals[0]

    # --- incoming messages -----------------------------------------------------------------------

    async def incoming(
        self, timeout_seconds: float | None = None, *, method: str | None = None
    ) -> Incoming:
        """The next received request (of `method`), also one that the phone has answered."""

        def first() -> Incoming | None:
            return next((one for one in self.inbox.requests if method in {None, one.method}), None)

        one = await self.until(first, method or "request", timeout_seconds)
        self.inbox.requests.remove(one)
        return one

    async def _read(self) -> None:
        while (text := await self.wire.receive()) is not None:
            with contextlib.suppress(ConnectionError):  # closed during a reply: receive reports it
                await self._take(text)
            self._announce()

    async def _take(self, text: str) -> None:
        if not text.strip("\r\n"):
            if text == PING:
                await self.wire.send(PONG)
            return
        try:
            message = parse(text)
        except MalformedMessage:
            self.malformed.append(text)
            return
        if isinstance(message, Request):
            await self.inbox.take(message)
        elif on_reply := self._transactions.get((message.branch, message.cseq[1])):
            await on_reply(message)
        else:
            self.unmatched.append(message)
