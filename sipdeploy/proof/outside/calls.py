"""Calls between the two phones of a proof, message by message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sipdeploy.proof.outside.step import StepSkipped
from sipdeploy.sip.call import CallRefusedError

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.call import Call, Incoming
    from sipdeploy.sip.phone import Phone


async def pair(subject: Subject) -> tuple[Phone, Phone]:
    """The phones of both accounts; StepSkipped with the one account of a user."""
    if len(subject.accounts) < 2:  # noqa: PLR2004
        raise StepSkipped("needs two probe accounts")
    return await subject.phone(0), await subject.phone(1)


async def next_invite(phone: Phone) -> Incoming:
    """The next INVITE that a phone receives."""
    return await phone.incoming(method="INVITE")


async def invite_of(outgoing: Call, callee: Phone) -> Incoming:
    """The INVITE of a call at the callee; CallRefusedError if a server refuses it before."""
    arriving = asyncio.create_task(next_invite(callee))
    final = asyncio.create_task(outgoing.final())
    try:
        await asyncio.wait({arriving, final}, return_when=asyncio.FIRST_COMPLETED)
        if arriving.done():
            return arriving.result()
        raise CallRefusedError(final.result())
    finally:
        for task in (arriving, final):
            task.cancel()
        await asyncio.gather(arriving, final, return_exceptions=True)


async def ring(caller: Phone, callee: Phone) -> tuple[Call, Incoming]:
    """A call that rings: both sides."""
    outgoing = await caller.invite(callee.number)
    ringing = await invite_of(outgoing, callee)
    await ringing.ring()
    await outgoing.ringing()
    return outgoing, ringing


async def talk(caller: Phone, callee: Phone) -> tuple[Call, Call]:
    """A call that is answered and acknowledged: both sides."""
    outgoing, ringing = await ring(caller, callee)
    incoming = await ringing.answer()
    await outgoing.answered()
    await outgoing.ack()
    await incoming.acknowledged()
    return outgoing, incoming


async def hang_up(first: Call, other: Call) -> None:
    """`first` sends the BYE, and `other` receives it."""
    reply = await first.bye()
    if reply.status != 200:  # noqa: PLR2004
        raise ConnectionError(f"BYE was answered with {reply.status} {reply.reason}")
    await other.ended()
