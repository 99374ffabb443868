"""Calls with sound: the audio of a call, and the SIP that sets it up, holds it and hands it on."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack
from urllib.parse import quote, unquote

from sipdeploy.sip.media import MediaError
from sipdeploy.sip.message import parameter, uri_of

if TYPE_CHECKING:
    from sipdeploy.sip.agent import Options
    from sipdeploy.sip.call import Call, Incoming
    from sipdeploy.sip.media.audio import Audio
    from sipdeploy.sip.phone import Phone, Reply

CONNECT_SECONDS = 6.0
_SUCCESS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """One side of a call that has been answered."""

    call: Call
    audio: Audio

    async def hold(self) -> None:
        """Hold the call: from now on neither side sends (RFC 3264 section 8.4)."""
        await self._offer("inactive")

    async def resume(self) -> None:
        """Resume the call."""
        await self._offer("sendrecv")

    async def _offer(self, direction: str) -> None:
        reply = await self.call.reinvite(await self.audio.offer(direction))
        if reply.status != _SUCCESS:
            raise MediaError(f"a re-INVITE is answered with {reply.status} {reply.reason}")
        await self.audio.accept(reply.body)

    async def reoffered(self, phone: Phone, timeout_seconds: float | None = None) -> None:
        """Answer the next re-INVITE, which holds or resumes the call."""
        reinvite = await phone.incoming(timeout_seconds, method="INVITE")
        await reinvite.answer(await self.audio.answer(reinvite.request.body))

    async def refer(self, target: str, replaced: Call | None = None) -> Reply:
        """Ask the peer to call `target` instead, in place of the call `replaced` (RFC 5589)."""
        uri = target
        if replaced is not None:
            call_id, ours, theirs = replaced.established.key
            uri += "?Replaces=" + quote(f"{call_id};to-tag={theirs};from-tag={ours}", safe="")
        return await self.call.request_in_dialog("REFER", headers={"Refer-To": f"<{uri}>"})

    async def referred(self, refer: Incoming, status: str) -> Reply:
        """Tell the peer what became of its REFER (RFC 3515 section 2.4.4)."""
        event = f"refer;id={refer.request.cseq[0]}"
        return await self.call.request_in_dialog(
            "NOTIFY",
            headers={"Event": event, "Subscription-State": "terminated;reason=noresource"},
            body=f"SIP/2.0 {status}\r\n",
            content_type="message/sipfrag",
        )


async def dial(phone: Phone, target: str, audio: Audio, **options: Unpack[Options]) -> Call:
    """Send the INVITE of a call with sound; `connect()` continues when it is answered."""
    return await phone.invite(target, await audio.offer(), **options)


async def connect(call: Call, audio: Audio, timeout_seconds: float | None = None) -> Talk:
    """Wait for the answer, acknowledge it, and wait until the audio is connected."""
    reply = await call.answered(timeout_seconds)
    await call.ack()
    await audio.accept(reply.body)
    await audio.connected(CONNECT_SECONDS)
    return Talk(call=call, audio=audio)


async def answer(incoming: Incoming, audio: Audio) -> Talk:
    """Answer a call; does not wait for its ACK and its audio."""
    call = await incoming.answer(await audio.answer(incoming.request.body))
    return Talk(call=call, audio=audio)


async def join(call: Call, audio: Audio, callee: Talk) -> Talk:
    """Complete a call between two phones of this process; returns the side of the caller."""
    caller, _, _ = await asyncio.gather(
        connect(call, audio), callee.call.acknowledged(), callee.audio.connected(CONNECT_SECONDS)
    )
    return caller


def refer_target(refer: Incoming) -> tuple[str, dict[str, str | None]]:
    """The URI of a Refer-To, and the headers that it names for the INVITE (Replaces)."""
    uri, _, headers = uri_of(refer.request.header("Refer-To")).partition("?")
    pairs = (each.partition("=") for each in headers.split("&") if each)
    return uri, {unquote(name): unquote(value) for name, _, value in pairs}


def replaces(invite: Incoming, call: Call) -> bool:
    """Whether an INVITE names this call as the one that it replaces (RFC 3891 section 3)."""
    value = invite.request.header("Replaces")
    tags = parameter(value, "to-tag"), parameter(value, "from-tag")
    call_id, ours, theirs = call.established.key
    return re.split(r"\s*;", value)[0] == call_id and tags == (ours, theirs)
