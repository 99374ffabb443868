"""What all attacks share: the attackers, the verdict, and the traces that they leave."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.calls import hang_up, next_invite, pair
from sipdeploy.proof.outside.step import PHONES, Step, StepFailed
from sipdeploy.sip.message import parameter

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.call import Call
    from sipdeploy.sip.phone import Phone, Reply

GUESS = "sipdeploy-proof-of-a-wrong-password"
SILENCE_SECONDS = 1.5  # no reply within it counts as a refusal
SHORT_SECONDS = 0.6  # the same for messages that many hosts drop
ARRIVAL_SECONDS = 0.3  # a message that has not arrived by then does not
FAILURE = 400  # and above: a refusal
MESSAGE_FLOOD = 21  # failures that Kamailio counts for a flood: route[COUNT] of kamailio.cfg


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Attacks of one kind; `code` is the diagnostic of one that succeeds."""

    code: str

    def succeeded(self, subject: Subject, what: str) -> StepFailed:
        """The attack has an effect: `what`, as a clause."""
        name = subject.name
        return StepFailed(
            Diagnostic(
                self.code,
                f"on `{name}`, {what}",
                help=f"`sipdeploy plan {name}` shows what was edited on the host, and `sipdeploy "
                f"apply {name} --overwrite` restores it",
            )
        )

    def refused(self, subject: Subject, what: str, reply: Reply | None) -> str:
        """How the host refuses `what`; StepFailed if it does not."""
        if reply is None:
            return "no reply"
        if reply.status < FAILURE:
            raise self.succeeded(subject, f"{what} is answered with {reply.status} {reply.reason}")
        return f"{reply.status} {reply.reason}"

    def step(
        self,
        name: str,
        run: Callable[[Subject], Awaitable[str]],
        *,
        lane: str = PHONES,
        seconds: float = 10,
    ) -> Step:
        """A step, which needs a call that works and the certificate of the host itself."""
        needs = ("call", "certificate")
        return Step(
            name=name, level="attack", run=run, code="SD946", needs=needs, lane=lane,
            seconds=seconds,
        )  # fmt: skip


async def answer(asked: Awaitable[Reply], seconds: float = SILENCE_SECONDS) -> Reply | None:
    """The final reply; None if there is none, or the host closes the connection."""
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except (TimeoutError, ConnectionError):
        return None


async def final(calling: Awaitable[Call]) -> Reply | None:
    """The final reply to an INVITE, as `answer`; an answered call is ended."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            call = await calling
            reply = await call.final()
            if reply.status < FAILURE:
                await call.ack()
                await call.bye()
            return reply
    except (TimeoutError, ConnectionError):
        return None


@contextlib.asynccontextmanager
async def stranger(subject: Subject, account: int = 0) -> AsyncIterator[Phone]:
    """A connection that knows the number of an account, and not its password."""
    async with subject.new_phone(account, password=GUESS) as phone:
        await phone.connect()
        yield phone


async def accomplice(subject: Subject) -> Phone:
    """Another phone of the first account, which takes no part in the calls of the victims."""
    key = (0, 1)
    if key in subject.phones and subject.phones[key].is_closed:
        await subject.hang_up([key])
    return await subject.phone(*key)


@contextlib.asynccontextmanager
async def call_of_others(subject: Subject) -> AsyncIterator[tuple[Call, Call]]:
    """A call between two phones of the second account; the first account has no part in it."""
    _, caller = await pair(subject)
    callee = await subject.phone(1, 1)
    outgoing = await caller.invite(callee.number)
    await next_invite(caller)  # its own number rings here too, until the other phone answers
    incoming = await next_invite(callee)
    answered = await incoming.answer()
    await outgoing.answered()
    await outgoing.ack()
    await answered.acknowledged()
    yield outgoing, answered
    await hang_up(outgoing, answered)
    await subject.hang_up([(1, 1)])  # else it rings in the next calls


def seen_as(phone: Phone) -> tuple[str, int]:
    """The address and port of a phone as the host sees them (RFC 3581); after a reply."""
    for number in (401, 403, 404, 407, 200):
        for reply in reversed(phone.received(number)):
            via = next(iter(reply.items("Via")), "")
            address, port = parameter(via, "received").strip("[]"), parameter(via, "rport")
            if address and port.isdigit():
                return str(ipaddress.ip_address(address)), int(port)
    raise ConnectionError("no reply says which address the host sees")


async def charge(subject: Subject, phone: Phone, failures: int) -> None:
    """Note what an attack adds to the failures of this address, for the host to forget it."""
    if subject.probes is None:
        return
    address, _ = seen_as(await subject.phone(0))
    subject.probes.failures[counted(address)] += failures
    with contextlib.suppress(ConnectionError):
        address, port = seen_as(phone)
        source = f"[{_whole(address)}]:{port}" if ":" in address else f"{address}:{port}"
        subject.probes.failures[source] += failures


def counted(address: str) -> str:
    """The key by which Kamailio counts an address: route[ADDRESS] of kamailio.cfg."""
    return ":".join([*_whole(address).split(":")[:4], ""]) if ":" in address else address


def _whole(address: str) -> str:
    """An IPv6 address as Kamailio writes it, without `::`."""
    groups = ipaddress.ip_address(address).exploded.split(":")
    return ":".join(f"{int(group, 16):x}" for group in groups)
