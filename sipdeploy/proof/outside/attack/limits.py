"""Attacks by quantity: guesses, floods, large messages, connections that stay. All are small."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING

from sipdeploy.proof.outside.attack.attempt import (
    MESSAGE_FLOOD,
    SHORT_SECONDS,
    Kind,
    answer,
    charge,
    final,
    stranger,
)
from sipdeploy.proof.outside.calls import pair
from sipdeploy.proof.outside.signalling import service_number
from sipdeploy.sip.dialog import Sdp
from sipdeploy.sip.wire import PING

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.phone import Phone

LIMIT = Kind(code="SD945")
GUESSES, FLOOD = 12, 45  # the host cuts a connection after 10, and after 30 in ten seconds
CLOSE_SECONDS = 2.5
SILENT_SECONDS = 18  # the host gives 10, and looks every three
SCANNER = "friendly-scanner"
CANDIDATES = 41


async def guessing(subject: Subject) -> str:
    """Who guesses passwords loses the connection."""
    await pair(subject)
    tried = 0
    async with stranger(subject, 1) as guesser:
        while tried < GUESSES and not guesser.is_closed:
            await answer(guesser.register(expires=60))
            tried = sum("\r\nAuthorization: " in each.text for each in guesser.trace)
        await charge(subject, guesser, tried)
        if not await _closed(guesser):
            raise LIMIT.succeeded(subject, f"{tried} wrong passwords do not end a connection")
    return f"cut after {tried} wrong passwords"


async def flood(subject: Subject) -> str:
    """Who floods loses the connection, and the others keep theirs."""
    phone, _ = await pair(subject)
    async with stranger(subject) as flooder:
        text = str(flooder.initial("OPTIONS", flooder.number, {}))
        with contextlib.suppress(ConnectionError):
            for _ in range(FLOOD):
                await flooder.send_raw(text)
        await charge(subject, flooder, MESSAGE_FLOOD)
        if not await _closed(flooder):
            raise LIMIT.succeeded(
                subject, f"a stranger may send {FLOOD} messages within ten seconds"
            )
    await subject.register(phone)
    return f"cut before {FLOOD} messages, and other phones stay"


async def _closed(phone: Phone) -> bool:
    """Whether the host closes a connection soon."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        await phone.until(lambda: None, "the end of the connection", CLOSE_SECONDS)
    return phone.is_closed


async def too_large(subject: Subject) -> str:
    """The host keeps little of what a stranger sends."""
    await pair(subject)
    seen = []
    async with stranger(subject) as nobody:
        for what, headers in (
            ("a REGISTER of 9 KiB", {"X-Padding": "x" * 9000}),
            ("a Call-ID of 200 characters", {"Call-ID": "x" * 200}),
        ):
            reply = await answer(nobody.register(headers=headers, authenticate=False))
            if reply is not None and reply.status in {200, 401, 403}:
                raise LIMIT.succeeded(subject, f"{what} is processed: {reply.status}")
            seen.append(f"{reply.status} {reply.reason}" if reply else "no reply")
    return ", ".join(dict.fromkeys(seen))


async def many_candidates(subject: Subject) -> str:
    """A service sends packets to few of the addresses that a caller names."""
    phone, _ = await pair(subject)
    number = service_number(subject)
    offer = str(Sdp())
    line = re.search(r"a=candidate:.*\r\n", offer)
    assert line is not None  # noqa: S101 - an Sdp has one
    many = offer.replace(line[0], line[0] * CANDIDATES)
    reply = await final(phone.invite(number, many))
    return LIMIT.refused(subject, f"an INVITE with {CANDIDATES} media addresses", reply)


async def scanner(subject: Subject) -> str:
    """Who looks for SIP servers learns nothing."""
    await pair(subject)
    agent, number = {"User-Agent": SCANNER}, subject.accounts[0].number
    async with stranger(subject) as first, stranger(subject) as second:
        replies = await asyncio.gather(
            answer(first.register(authenticate=False, headers=agent), SHORT_SECONDS),
            answer(second.request("OPTIONS", number, authenticate=False), SHORT_SECONDS),
        )
    if reply := next((each for each in replies if each is not None), None):
        raise LIMIT.succeeded(subject, f"a scanner gets the reply {reply.status} {reply.reason}")
    return "no reply"


async def silent(subject: Subject) -> str:
    """A connection that proves no number does not stay, whatever it sends."""
    begun = time.monotonic()
    async with stranger(subject) as nobody:
        while not nobody.is_closed and time.monotonic() < begun + SILENT_SECONDS:
            with contextlib.suppress(ConnectionError):
                await nobody.send_raw(PING)
            await asyncio.sleep(0.5)
        if not nobody.is_closed:
            raise LIMIT.succeeded(
                subject, f"a connection stays for {SILENT_SECONDS} s without a password"
            )
    return f"cut after {time.monotonic() - begun:.0f} s"


STEPS = (
    LIMIT.step("message too large", too_large),
    LIMIT.step("many media addresses", many_candidates),
    LIMIT.step("scanner", scanner),
    LIMIT.step("guessing", guessing),
    LIMIT.step("flood", flood),
    LIMIT.step("silent connection", silent, lane="", seconds=SILENT_SECONDS + 4),
)
