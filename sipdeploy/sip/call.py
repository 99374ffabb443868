"""Calls and requests that came in: what a test holds in its hand between two messages.

Owns the order of messages in one call (RFC 3261 sections 13 to 15). Never opens or reads a socket:
the phone does, and tells a call what came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from sipdeploy.sip.dialog import Dialog, Sdp
from sipdeploy.sip.message import Reply, Request, token, with_headers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

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
    """What a call needs of its phone: to build requests, to send them, and to wait."""

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
        """The CANCEL of an INVITE, or the ACK of its refusal."""
        ...

    def takes_challenge(self, reply: Reply, attempts: int) -> bool:
        """Whether to send the request again, with credentials."""
        ...

    def again(self, request: Request) -> Request:
        """The request with credentials."""
        ...

    def keep(self, call: Call) -> None:
        """Remember a call, for the requests that belong to it."""
        ...

    async def until(
        self, found: Callable[[], _T | None], what: str, timeout_seconds: float | None = None
    ) -> _T:
        """Wait till `found()` is not None."""
        ...

    async def send(self, message: Request | Reply) -> None:
        """Send one message."""
        ...

    async def start(self, request: Request, on_reply: OnReply) -> None:
        """Open a client transaction."""
        ...

    async def exchange(self, request: Request, timeout_seconds: float | None = None) -> Reply:
        """One transaction: the final reply."""
        ...

    async def request_in_dialog(
        self, dialog: Dialog, method: str, **options: Unpack[Options]
    ) -> Reply:
        """A request in a dialog, and its final reply."""
        ...


class CallRefusedError(Exception):
    """A call that should have been answered ended with another final reply: `reply`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status} {reply.reason}")
        self.reply = reply


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """A call of either direction. `replies` are those that came to our INVITE, challenges too."""

    phone: Line
    request: Request  # the INVITE, as it was sent last or as it came
    authenticate: bool = True
    replies: list[Reply] = field(default_factory=list)
    acks: list[Request] = field(default_factory=list)  # that came, when we are the callee
    dialog: Dialog | None = None
    bye_received: Request | None = None
    _attempts: int = 1
    _final: Reply | None = None

    async def ringing(self, timeout_seconds: float | None = None) -> Reply:
        """The first 101 to 199; CallRefusedError when the call failed before one came."""
        found = await self.phone.until(
            lambda: next((r for r in self.replies if 100 < r.status < 200), None) or self._final,  # noqa: PLR2004
            "a 180",
            timeout_seconds,
        )
        if found.status in _FAILURE:
            raise CallRefusedError(found)
        return found

    async def final(self, timeout_seconds: float | None = None) -> Reply:
        """The first final reply that is not a challenge which we answered."""
        return await self.phone.until(
            lambda: self._final, "a final reply to the INVITE", timeout_seconds
        )

    async def answered(self, timeout_seconds: float | None = None) -> Reply:
        """The 2xx; CallRefusedError when the call was refused. It is for the test to `ack()`."""
        reply = await self.final(timeout_seconds)
        if reply.status not in _SUCCESS:
            raise CallRefusedError(reply)
        return reply

    async def acknowledged(self, timeout_seconds: float | None = None) -> Request:
        """The ACK of the caller, when we are the callee."""
        return await self.phone.until(
            lambda: next(iter(self.acks), None), "an ACK", timeout_seconds
        )

    async def ended(self, timeout_seconds: float | None = None) -> Request:
        """The peer's BYE, which the phone has answered with 200 already."""
        return await self.phone.until(lambda: self.bye_received, "a BYE", timeout_seconds)

    @property
    def established(self) -> Dialog:
        """The dialog; RuntimeError while no reply with a To tag came."""
        if self.dialog is None:
            raise RuntimeError("the call has no dialog yet")
        return self.dialog

    async def ack(self, body: str = "") -> Request:
        """Acknowledge the 2xx: end to end, along the route set (section 13.2.2.4)."""
        return await self._ack(self.request.cseq[0], body)

    async def _ack(self, number: int, body: str = "") -> Request:
        request = self.phone.in_dialog(self.established, "ACK", body=body)
        request = self.phone.changed(request, {"CSeq": f"{number} ACK"})
        await self.phone.send(request)
        return request

    async def cancel(self) -> Reply:
        """CANCEL the INVITE (section 9.1) and return the reply to the CANCEL, not the 487."""
        cancel = self.phone.on_transaction(self.request, "CANCEL")
        return await self.phone.exchange(cancel)

    async def bye(self, **options: Unpack[Options]) -> Reply:
        """Hang up; the reply to the BYE."""
        return await self.request_in_dialog("BYE", **options)

    async def reinvite(self, sdp: str = "", **options: Unpack[Options]) -> Reply:
        """A re-INVITE, with a new offer unless one is given; a 2xx is acknowledged."""
        options["body"] = sdp or str(Sdp(version=2))
        return await self.request_in_dialog("INVITE", **options)

    async def request_in_dialog(self, method: str, **options: Unpack[Options]) -> Reply:
        """Any request in this dialog (INFO, UPDATE, REFER, ...) and its final reply."""
        return await self.phone.request_in_dialog(self.established, method, **options)

    async def on_reply(self, reply: Reply) -> None:
        """The phone's: a reply to our INVITE came."""
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
        if self._final is None:  # a later 2xx is a fork's: in `replies`, and the test's affair
            self.dialog = Dialog.of_caller(self.request, reply)
            self.phone.keep(self)


@dataclass(slots=True, kw_only=True, eq=False)
class Incoming:
    """A request that came to the phone, and the replies that were sent to it."""

    phone: Line
    request: Request
    call: Call | None = None  # of a request in a dialog, or once an INVITE was answered
    replies: list[Reply] = field(default_factory=list)
    cancel: Request | None = None
    tag: str = field(default_factory=token)

    @property
    def method(self) -> str:
        """The request's method."""
        return self.request.method

    @property
    def is_replied(self) -> bool:
        """Whether a final reply went out, by the test or by the phone itself."""
        return any(reply.status >= _SUCCESS.start for reply in self.replies)

    async def reply(
        self,
        status: int,
        reason: str = "",
        *,
        body: str = "",
        headers: Mapping[str, str | None] | None = None,
    ) -> Reply:
        """Send a reply; `headers` replace, add to, or (None) leave out what it would carry."""
        built = with_headers(self._headers(status, body), headers or {})
        reason = reason or _REASONS.get(status, "Reply")
        reply = Reply(status=status, reason=reason, headers=built, body=body)
        self.replies.append(reply)
        await self.phone.send(reply)
        return reply

    def _headers(self, status: int, body: str) -> tuple[tuple[str, str], ...]:
        """RFC 3261 section 8.2.6.2, and 12.1.1 for what makes a dialog."""
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
        """180 Ringing."""
        return await self.reply(180)

    async def reject(self, status: int = 486) -> Reply:
        """A final refusal."""
        return await self.reply(status)

    async def answer(self, sdp: str = "") -> Call:
        """200 with an answer; the call, whose `acknowledged()` waits for the ACK."""
        call = self.call or Call(phone=self.phone, request=self.request)
        if call.dialog is None:
            call.dialog = Dialog.of_callee(self.request, self.tag)
            self.phone.keep(call)
        self.call = call
        await self.reply(200, body=sdp or str(Sdp(setup="active")))
        return call

    async def cancelled(self, timeout_seconds: float | None = None) -> Request:
        """The CANCEL, which the phone has answered (200, and 487 to the INVITE) already."""
        return await self.phone.until(lambda: self.cancel, "a CANCEL", timeout_seconds)
