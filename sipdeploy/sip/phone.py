"""The SIP test phone: signalling by the thousand, and what no honest browser does.

Owns the connection's life, transactions and their replies.
Never sends media: browsers prove that.

    async with Phone("1001", "secret", domain="sip.example.test", address=(host, 8443)) as a:
        await a.connect()
        assert (await a.register()).status == 200
        call = await a.invite("1002")
        await call.answered()
        await call.ack()
        await call.bye()
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar, Unpack, cast

from sipdeploy.sip.agent import Options, UserAgent
from sipdeploy.sip.call import Call, CallRefusedError, Incoming, OnReply
from sipdeploy.sip.dialog import Dialog, Sdp
from sipdeploy.sip.inbox import Inbox
from sipdeploy.sip.message import MalformedMessage, Reply, Request, parameter, parse, token, uri_of
from sipdeploy.sip.wire import PING, PONG, HandshakeRefusedError, Traced, Wire, trusting_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

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
    """What a REGISTER may be given besides."""

    expires: int  # seconds
    contact: str | None  # a whole Contact value, or "*"; None is the phone's own
    instance: str | None  # +sip.instance URN; None is the phone's own


@dataclass(slots=True, kw_only=True, eq=False)
class Phone(UserAgent):
    """One user agent on one WebSocket. Not safe for several tasks that send at once: none need to.

    `automatic` are the methods that it answers with 200 (REFER: 202) by itself.
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
        """Open the WebSocket, anew after `reset()` or `close()`; dialogs and the trace stay.

        Raises HandshakeRefusedError (its `status` is the HTTP one), TimeoutError or OSError.
        """
        trace, self.wire = self.wire.trace, self._new_wire()
        self.wire.trace = trace
        await self.wire.open()
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(self._announce)

    async def close(self) -> None:
        """Close cleanly, as a page that is left does; nothing is de-registered by it."""
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
        """Whether the connection is not there: never opened, closed by either side, or cut."""
        return self._reader is None or self._reader.done()

    @property
    def trace(self) -> list[Traced]:
        """Every frame sent and received, oldest first."""
        return self.wire.trace

    def received(self, what: str | int) -> list[Request | Reply]:
        """What came so far: requests of a method, or replies of a status."""
        texts = [t.text for t in self.trace if t.direction == "received" and t.text.strip()]
        messages = [parse(text) for text in texts if text not in self.malformed]
        return [m for m in messages if what == (m.method if isinstance(m, Request) else m.status)]

    async def send(self, message: Request | Reply) -> None:
        """Send a message outside of any transaction."""
        await self.wire.send(str(message))

    async def send_raw(self, text: str) -> None:
        """Send any text as one frame; replies to it end in `unmatched`, see `stray()`."""
        await self.wire.send(text)

    async def stray(self, timeout_seconds: float | None = None) -> Reply:
        """The next reply that belongs to no request of ours, for those sent raw."""
        await self.until(lambda: self.unmatched or None, "a reply", timeout_seconds)
        return self.unmatched.pop(0)

    async def silence(self, seconds: float = 1) -> None:
        """Raise AssertionError when anything comes within that time. A close is silence too."""
        before = self.wire.frames_received
        await asyncio.sleep(seconds)
        if came := self.wire.frames_received - before:
            lines = [t.text.split("\r\n")[0] for t in self.trace if t.direction == "received"]
            raise AssertionError(f"silence expected, but came: {lines[-came:]}")

    async def until(
        self, found: Callable[[], _T | None], what: str, timeout_seconds: float | None = None
    ) -> _T:
        """Wait till `found()` is not None; TimeoutError, or ConnectionError when it can't come."""
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                while (value := found()) is None:
                    self._check_alive(what)
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.number}: no {what} in {seconds} s{self._last()}") from None
        return value

    def _check_alive(self, what: str) -> None:
        if self._reader is None or not self._reader.done():
            return
        broken = None if self._reader.cancelled() else self._reader.exception()
        raise ConnectionError(f"{self.number}: closed before {what}{self._last()}") from broken

    def _announce(self, _: object = None) -> None:
        """Wake all that wait in `until()`; those that wait later get a new event."""
        self._news.set()
        self._news = asyncio.Event()

    def _last(self) -> str:
        lines = [f"{t.direction} {t.text.split(chr(13))[0]}" for t in self.trace[-4:]]
        return f"; last: {lines}" if lines else ""

    # --- requests --------------------------------------------------------------------------------

    async def register(self, **options: Unpack[RegisterOptions]) -> Reply:
        """REGISTER the phone's own contact for 600 s, unless told otherwise; the final reply."""
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
        """Send an INVITE with a WebRTC offer of its own unless given, and return at once."""
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
        """A request in any dialog, also in one that is not ours (`call.established.copy()`)."""
        reply = await self._authenticated(self.in_dialog(dialog, method, **options), options)
        dialog.sequence = max(dialog.sequence, reply.cseq[0])  # a challenge took one more
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
        # In a dialog only when challenged: no proxy would take the credentials out of there.
        first = request if request.to_tag else self.signed(request)
        reply, attempts = await self.exchange(first, seconds), 1
        while self.takes_challenge(reply, attempts):
            request, attempts = self.again(request), attempts + 1
            reply = await self.exchange(request, seconds)
        return reply

    def keep(self, call: Call) -> None:
        """Remember a call, for the requests that belong to it."""
        self.inbox.calls.append(call)

    async def start(self, request: Request, on_reply: OnReply) -> None:
        """Open a client transaction: send, and have each reply handed over."""
        self._transactions[request.branch, request.method] = on_reply
        await self.send(request)

    async def exchange(self, request: Request, timeout_seconds: float | None = None) -> Reply:
        """One transaction without authentication: the final reply, acknowledged if need be."""
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

    # --- what comes in ---------------------------------------------------------------------------

    async def incoming(
        self, timeout_seconds: float | None = None, *, method: str | None = None
    ) -> Incoming:
        """The next request that came, of that method if one is given; answered ones too."""

        def first() -> Incoming | None:
            return next((one for one in self.inbox.requests if method in {None, one.method}), None)

        one = await self.until(first, method or "request", timeout_seconds)
        self.inbox.requests.remove(one)
        return one

    async def _read(self) -> None:
        while (text := await self.wire.receive()) is not None:
            with contextlib.suppress(ConnectionError):  # gone while answering: receive says so
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
