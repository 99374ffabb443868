"""Calls and incoming requests, as the test controls them between two messages.

This module owns the order of messages in a call (RFC 3261 sections 13 to 15). It never uses a
socket: the phone does, and passes messages to the call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar, Unpack

from sipdeploy.sip.dialog import Dialog, Sdp
from sipdeploy.sip.message import Reply, Request, token, with_headers

if TYPE_CHECKING:
    from sipdeploy.sip.agent import Options

_SUCCESS, _FAILURE = range(200, 300), range(300, 700)
_REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    404: "Not Found",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    500: "Server Internal Error",
    603: "Decline",
}


_T = TypeVar("_T")
OnReply = Callable[[Reply], Awaitable[None]]


class Line(Protocol):
    """The part of a phone that a call uses: building, sending, waiting."""

    automatic: set[str]

    @property
    def contact(self) -> str:
        """The Contact of dialogs."""
        ...

    def in_dialog(self, dialog: Dialog, method: str, **options: Unpack[Options]) -> Request:
        """The next request of a dialog."""
        ...

    def changed(self, request: Request, changes: Mapping[str, str | None]) -> Request:
        """The request with some headers replaced."""
        ...

    def on_transaction(self, invite: Request, method: str, reply: Reply | None = None) -> Request:
        """The CANCEL of an INVITE, or the ACK of its failure."""
        ...

    def takes_challenge(self, reply: Reply, attempts: int) -> bool:
        """Whether to send the request again, with credentials."""
        ...

    def again(self, request: Request) -> Request:
        """The request with credentials."""
        ...

    def keep(self, call: Call) -> None:
        """Keep a call, so that the phone finds it for incoming requests."""
        ...

    async def until(
        self, event: Callable[[], _T | None], what: str, timeout_seconds: float | None = None
    ) -> _T:
        """Wait until `event()` is not None; return its value."""
        ...

    async def send(self, message: Request | Reply) -> None:
        """Send one message."""
        ...

    async def start(self, request: Request, on_reply: OnReply) -> None:
        """Start a client transaction."""
        ...

    async def exchange(self, request: Request, timeout_seconds: float | None = None) -> Reply:
        """Run one transaction and return the final reply."""
        ...

    async def request_in_dialog(
        self, dialog: Dialog, method: str, **options: Unpack[Options]
    ) -> Reply:
        """Send a request in a dialog and return the final reply."""
        ...


class CallRefusedError(Exception):
    """The callee or a server refused the call; `reply` is the final reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status} {reply.reason}")
        self.reply = reply


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """A call in either direction. `replies` are all replies to our INVITE, also challenges."""

    phone: Line
    request: Request  # the INVITE, as last sent or as received
    authenticate: bool = True
    replies: list[Reply] = field(default_factory=list)
    acks: list[Request] = field(default_factory=list)  # received as the callee
    dialog: Dialog | None = None
    bye_received: Request | None = None
    _attempts: int = 1
    _final: Reply | None = None

    async def ringing(self, timeout_seconds: float | None = None) -> Reply:
        """The first reply from 101 to 199; CallRefusedError if the call failed before."""
        reply = await self.phone.until(
            lambda: next((r for r in self.replies if 100 < r.status < 200), None) or self._final,  # noqa: PLR2004
            "a 180",
            timeout_seconds,
        )
        if reply.status in _FAILURE:
            raise CallRefusedError(reply)
        return reply

    async def final(self, timeout_seconds: float | None = None) -> Reply:
        """The first final reply, except challenges that the phone answered."""
        return await self.phone.until(
            lambda: self._final, "a final reply to the INVITE", timeout_seconds
        )

    async def answered(self, timeout_seconds: float | None = None) -> Reply:
        """The 2xx, which the caller must `ack()`; CallRefusedError after any other final reply."""
        reply = await self.final(timeout_seconds)
        if reply.status not in _SUCCESS:
            raise CallRefusedError(reply)
        return reply

    async def acknowledged(self, timeout_seconds: float | None = None) -> Request:
        """The ACK of the caller, received as the callee."""
        return await self.phone.until(
            lambda: next(iter(self.acks), None), "an ACK", timeout_seconds
        )

    async def ended(self, timeout_seconds: float | None = None) -> Request:
        """The BYE of the peer, which the phone has already answered with 200."""
        return await self.phone.until(lambda: self.bye_received, "a BYE", timeout_seconds)

    @property
    def established(self) -> Dialog:
        """The dialog; RuntimeError before the first reply with a To tag."""
        if self.dialog is None:
            raise RuntimeError("the call has no dialog yet")
        return self.dialog

    async def ack(self, body: str = "") -> Request:
        """Send the ACK of the 2xx along the route set (section 13.2.2.4)."""
        return await self._ack(self.request.cseq[0], body)

    async def _ack(self, number: int, body: str = "") -> Request:
        request = self.phone.in_dialog(self.established, "ACK", body=body)
        request = self.phone.changed(request, {"CSeq": f"{number} ACK"})
        await self.phone.send(request)
        return request

    async def cancel(self) -> Reply:
        """Send a CANCEL (section 9.1); returns the reply to the CANCEL, not the 487."""
        cancel = self.phone.on_transaction(self.request, "CANCEL")
        return await self.phone.exchange(cancel)

    async def bye(self, **options: Unpack[Options]) -> Reply:
        """Send a BYE and return the reply."""
        return await self.request_in_dialog("BYE", **options)

    async def reinvite(self, sdp: str = "", **options: Unpack[Options]) -> Reply:
        """Send a re-INVITE with `sdp` or a new offer, and the ACK of a 2xx; returns the reply."""
        options["body"] = sdp or str(Sdp(version=2))
        return await self.request_in_dialog("INVITE", **options)

    async def request_in_dialog(self, method: str, **options: Unpack[Options]) -> Reply:
        """Send any request in this dialog (INFO, UPDATE, REFER, ...); returns the final reply."""
        return await self.phone.request_in_dialog(self.established, method, **options)

    async def on_reply(self, reply: Reply) -> None:
        """Handle a reply to our INVITE; the phone calls this."""
        self.replies.append(reply)
        if reply.status in _FAILURE:
            await self.phone.send(self.phone.on_transaction(self.request, "ACK", reply))
            if self.authenticate and self.phone.takes_challenge(reply, self._attempts):
                self._attempts += 1
                self.request = self.phone.again(self.request)
                await self.phone.start(self.request, self.on_reply)
                return
        elif reply.to_tag and (self.dialog is None or reply.status in _SUCCESS):
            self._take_dialog(reply)
        if reply.status >= _SUCCESS.start:
            self._final = self._final or reply

    def _take_dialog(self, reply: Reply) -> None:
        if self._final is None:  # a later 2xx is of another fork: only in `replies`
            self.dialog = Dialog.of_caller(self.request, reply)
            self.phone.keep(self)


@dataclass(slots=True, kw_only=True, eq=False)
class Incoming:
    """A request that the phone received, and the replies to it."""

    phone: Line
    request: Request
    call: Call | None = None  # for a request in a dialog, or after the answer to an INVITE
    replies: list[Reply] = field(default_factory=list)
    cancel: Request | None = None
    tag: str = field(default_factory=token)

    @property
    def method(self) -> str:
        """The request's method."""
        return self.request.method

    @property
    def is_replied(self) -> bool:
        """Whether the test or the phone has sent a final reply."""
        return any(reply.status >= _SUCCESS.start for reply in self.replies)

    async def reply(
        self,
        status: int,
        reason: str = "",
        *,
        body: str = "",
        headers: Mapping[str, str | None] | None = None,
    ) -> Reply:
        """Send a reply; `headers` replace, add or (None) remove the usual headers."""
        built = with_headers(self._headers(status, body), headers or {})
        reason = reason or _REASONS.get(status, "Reply")
        reply = Reply(status=status, reason=reason, headers=built, body=body)
        self.replies.append(reply)
        await self.phone.send(reply)
        return reply

    def _headers(self, status: int, body: str) -> tuple[tuple[str, str], ...]:
        """The headers of a reply (RFC 3261 section 8.2.6.2; 12.1.1 for dialogs)."""
        copied = [
            (name, value)
            for name, value in self.request.headers
            if name.lower() in {"via", "from", "to", "call-id", "cseq", "record-route"}
        ]
        tagged = status > 100 and not self.request.to_tag  # noqa: PLR2004 - 100 has no tag
        changes: dict[str, str | None] = {}
        if tagged:
            changes["To"] = f"{self.request.header('To')};tag={self.tag}"
        if self.method in {"INVITE", "UPDATE", "SUBSCRIBE"} and 100 < status < 300:  # noqa: PLR2004
            changes["Contact"] = self.phone.contact
        if body:
            changes["Content-Type"] = "application/sdp"
        return with_headers(tuple(copied), changes)

    async def ring(self) -> Reply:
        """Send 180 Ringing."""
        return await self.reply(180)

    async def reject(self, status: int = 486) -> Reply:
        """Send a final reply that refuses the request."""
        return await self.reply(status)

    async def answer(self, sdp: str = "") -> Call:
        """Send 200 with an answer; returns the call, whose `acknowledged()` waits for the ACK."""
        call = self.call or Call(phone=self.phone, request=self.request)
        if call.dialog is None:
            call.dialog = Dialog.of_callee(self.request, self.tag)
            self.phone.keep(call)
        self.call = call
        await self.reply(200, body=sdp or str(Sdp(setup="active")))
        return call

    async def cancelled(self, timeout_seconds: float | None = None) -> Request:
        """The CANCEL, which the phone has already answered (200, and 487 to the INVITE)."""
        return await self.phone.until(lambda: self.cancel, "a CANCEL", timeout_seconds)
