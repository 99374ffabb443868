"""Attacks on a call of others: to end it, to answer it, to enter it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from sipdeploy.proof.outside.attack.attempt import (
    ARRIVAL_SECONDS,
    Kind,
    accomplice,
    answer,
    call_of_others,
    stranger,
)
from sipdeploy.proof.outside.calls import next_invite, pair, ring

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.call import Call
    from sipdeploy.sip.dialog import Dialog
    from sipdeploy.sip.message import Request
    from sipdeploy.sip.phone import Phone

CALL = Kind(code="SD942")
METHODS = ("INFO", "BYE")
PROVISIONAL = {100, 407}


async def foreign_request(subject: Subject) -> str:
    """Who knows Call-ID, tags and route of a call of others cannot send a request in it."""
    eve, _ = await pair(subject)
    seen = []
    async with call_of_others(subject) as sides, stranger(subject, 1) as nobody:
        for side in sides:
            for method in METHODS:
                dialog = side.established
                seen.append(await _entered(subject, eve, dialog, method, "of another number"))
        for method in ("PRACK", *METHODS):
            dialog = sides[0].established
            await _entered(subject, nobody, dialog, method, "of a stranger", authenticate=False)
        await _goes_on(subject, sides)
    return f"{', '.join(dict.fromkeys(seen))}, and the call goes on"


async def foreign_seal(subject: Subject) -> str:
    """The route of one call opens no other, and neither does a made-up one."""
    eve, victim = await pair(subject)
    seen = []
    async with call_of_others(subject) as sides:
        mine, ringing = await ring(eve, victim)
        other = await next_invite(await subject.phone(1, 1))
        dialog = sides[0].established
        for routes in (mine.established.routes, _without_seal(mine.established.routes)):
            for method in METHODS:
                stolen = dialog.copy()
                stolen.routes = routes
                seen.append(await _entered(subject, eve, stolen, method, "with another's route"))
        for each in (ringing, other):
            await each.reject(486)
        await mine.final()
        await _goes_on(subject, sides)
    return f"{', '.join(dict.fromkeys(seen))}, and the call goes on"


def _without_seal(routes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(re.sub(r"(;party=[^;>]*\.)[0-9a-f]+", rf"\g<1>{'0' * 32}", r) for r in routes)


async def _entered(
    subject: Subject, thief: Phone, dialog: Dialog, method: str, whose: str, **options: bool
) -> str:
    """Send a request in a dialog of others; StepFailed if the host forwards it."""
    stolen = dialog.copy()
    stolen.sequence += 50
    asked = thief.request_in_dialog(stolen, method, authenticate=options.get("authenticate", True))
    return CALL.refused(subject, f"a {method} {whose} in a call of others", await answer(asked))


async def _goes_on(subject: Subject, sides: tuple[Call, Call]) -> None:
    """StepFailed if a party of the call got a BYE; the call still works."""
    if any(side.bye_received for side in sides):
        raise CALL.succeeded(subject, "a call of others can be ended")
    reply = await sides[0].request_in_dialog("INFO")
    if reply.status != 200:  # noqa: PLR2004
        raise CALL.succeeded(subject, f"a call is broken: INFO gets {reply.status}")


async def forged_reply(subject: Subject) -> str:
    """Only the phone that rings answers: no reply of others, who know every value in it."""
    caller, callee = await pair(subject)
    eve = await accomplice(subject)
    async with stranger(subject) as nobody:
        outgoing = await caller.invite(callee.number)
        incoming = await next_invite(callee)
        for thief in (eve, nobody, caller):
            for status in (183, 603):
                await thief.send_raw(_forged(incoming.request, status))
        await asyncio.sleep(ARRIVAL_SECONDS)
        if forged := [r.status for r in outgoing.replies if r.status not in PROVISIONAL]:
            raise CALL.succeeded(
                subject, f"a caller gets the reply {forged[0]}, which another phone has forged"
            )
        await incoming.reject(486)
        await outgoing.final()
    return "dropped, and the phone that rings answers"


def _forged(request: Request, status: int) -> str:
    """The reply of a thief who has seen the request."""
    lines = [f"SIP/2.0 {status} Forged"]
    lines += [f"{name}: {value}" for name, value in request.headers if name == "Via"]
    lines += [f"{name}: {request.header(name)}" for name in ("From", "Call-ID", "CSeq")]
    lines += [f"To: {request.header('To')};tag=forged", "Content-Length: 0", "", ""]
    return "\r\n".join(lines)


async def foreign_cancel(subject: Subject) -> str:
    """Only the caller cancels, although each phone that rings knows all values of a CANCEL."""
    caller, callee = await pair(subject)
    outgoing, ringing = await ring(caller, callee)
    cancel = callee.on_transaction(outgoing.request, "CANCEL")
    seen = []
    async with stranger(subject) as nobody:
        for thief in (callee, nobody):
            reply = await answer(thief.exchange(cancel))
            seen.append(CALL.refused(subject, "a CANCEL of another number", reply))
    await asyncio.sleep(ARRIVAL_SECONDS)
    if ringing.cancel:
        raise CALL.succeeded(subject, "another number cancels a call")
    await ringing.reject(486)
    await outgoing.final()
    return f"{', '.join(dict.fromkeys(seen))}, and it rings on"


STEPS = (
    CALL.step("foreign request in a call", foreign_request),
    CALL.step("route of another call", foreign_seal),
    CALL.step("forged reply", forged_reply),
    CALL.step("foreign CANCEL", foreign_cancel),
)
