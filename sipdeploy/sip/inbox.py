"""The incoming requests of a phone, and its automatic replies: 481, 487 and 200.

This module owns the match of a request to its call. It never reads a socket: the phone does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipdeploy.sip.call import Call, Incoming, Line

if TYPE_CHECKING:
    from sipdeploy.sip.message import Request


@dataclass(slots=True, kw_only=True, eq=False)
class Inbox:
    """Received requests that no test has taken yet, and the calls that they may belong to."""

    phone: Line
    requests: list[Incoming] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    served: list[Incoming] = field(default_factory=list)  # INVITEs, for their CANCEL
    subscriptions: set[tuple[str, str]] = field(default_factory=set)  # Call-ID and our tag

    async def take(self, request: Request) -> None:
        """Handle a received request: send an automatic reply if needed, and keep it."""
        call = self._call_of(request)
        if request.method == "ACK":
            if call:
                call.acks.append(request)
            return
        one = Incoming(phone=self.phone, request=request, call=call)
        if request.method == "CANCEL":
            await self._on_cancel(one)
        elif request.to_tag and not call and not self._is_subscribed(request):
            await one.reply(481)
        else:
            await self._on_request(one)

    def _call_of(self, request: Request) -> Call | None:
        key = (request.call_id, request.to_tag, request.from_tag)
        return next((c for c in self.calls if c.dialog is not None and c.dialog.key == key), None)

    def _is_subscribed(self, request: Request) -> bool:
        return (request.call_id, request.to_tag) in self.subscriptions

    async def _on_cancel(self, cancel: Incoming) -> None:
        branch = cancel.request.branch
        invite = next((one for one in self.served if one.request.branch == branch), None)
        if invite is None:
            await cancel.reply(481)
            return
        cancel.tag = invite.tag
        await cancel.reply(200)
        invite.cancel = cancel.request
        if not invite.is_replied:
            await invite.reply(487)

    async def _on_request(self, one: Incoming) -> None:
        if one.call and one.call.dialog and one.method in {"INVITE", "UPDATE"}:
            one.call.dialog.refresh(one.request)
        if one.method == "INVITE":
            self.served.append(one)
        if one.method == "BYE" and one.call:
            one.call.bye_received = one.request
        self.requests.append(one)
        if one.method in self.phone.automatic:
            await one.reply(202 if one.method == "REFER" else 200)
