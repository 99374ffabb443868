"""Attacks by what a message says: a false name, a header that programs read differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipdeploy.proof.outside.attack.attempt import SHORT_SECONDS, Kind, accomplice, answer
from sipdeploy.proof.outside.calls import invite_of, pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.message import Request

HEADER = Kind(code="SD943")
IDENTITY = ("P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID")
DIGEST = 'Digest username="0", realm="x", nonce="n", uri="sip:x", response="r"'
ROUTE = "<sip:192.0.2.1;lr>"  # of nobody (RFC 5737)


async def false_identity(subject: Subject) -> str:
    """The callee sees the number that the caller has proved, and the caller the callee's."""
    caller, callee = await pair(subject)
    lie = f'"Police" <sip:110@{subject.site.domain}>'
    lies: dict[str, str | None] = dict.fromkeys(IDENTITY, lie)
    outgoing = await caller.invite(callee.number, headers=lies)
    incoming = await invite_of(outgoing, callee)
    await incoming.reply(180, headers=lies)
    ringing = await outgoing.ringing()
    await incoming.reject(486)
    await outgoing.final()
    shown = [value for name in IDENTITY for value in incoming.request.values(name)]
    if lie in shown or any(lie in ringing.values(name) for name in IDENTITY):
        raise HEADER.succeeded(subject, "a phone shows the identity that another one claims")
    if shown != [f"<sip:{caller.number}@{subject.site.domain}>"]:
        raise HEADER.succeeded(subject, "a call does not say which number has proved itself")
    return "the callee sees the proven number alone"


async def digest_to_peer(subject: Subject) -> str:
    """Credentials never reach another phone, which could use them."""
    request = await _invite(subject, {"Authorization": DIGEST})
    if request.values("Authorization") or request.values("Proxy-Authorization"):
        raise HEADER.succeeded(subject, "a phone gets the digest of another one")
    return "removed"


async def preloaded_route(subject: Subject) -> str:
    """The sender of a call does not choose the way that it takes."""
    request = await _invite(subject, {"Route": ROUTE})
    if request.values("Route"):
        raise HEADER.succeeded(subject, "a Route that the sender has chosen stays in a request")
    return "removed"


async def _invite(subject: Subject, headers: Mapping[str, str | None]) -> Request:
    """The INVITE with these headers, as it arrives at the callee; the callee is busy."""
    caller, callee = await pair(subject)
    # not authenticated, because the phone would replace the digest in `headers` by its own
    outgoing = await caller.invite(callee.number, headers=headers, authenticate=False)
    incoming = await invite_of(outgoing, callee)
    await incoming.reject(486)
    await outgoing.final()
    return incoming.request


async def ambiguous(subject: Subject) -> str:
    """Messages that two programs may read differently go no further."""
    _, victim = await pair(subject)
    eve = await accomplice(subject)
    before = len(victim.received("MESSAGE"))
    refused, lies = 0, dict(_ambiguities(eve.number, victim.number, subject.site.domain))
    for what, headers in lies.items():
        eve = await accomplice(subject)
        asked = eve.request(
            "MESSAGE", victim.number, body="x", headers=headers, authenticate=False
        )
        reply = await answer(asked, SHORT_SECONDS)
        HEADER.refused(subject, f"a MESSAGE with {what}", reply)
        refused += 1
        if len(victim.received("MESSAGE")) > before:
            raise HEADER.succeeded(subject, f"a MESSAGE with {what} reaches another phone")
    return f"{refused} forms are refused"


def _ambiguities(
    number: str, other: str, domain: str
) -> Iterator[tuple[str, Mapping[str, str | None]]]:
    own, lie = f"<sip:{number}@{domain}>", f"<sip:{other}@{domain}>"
    yield "a folded header", {"X-A": f"x\r\n P-Asserted-Identity: {lie}"}
    yield "a bare CR", {"X-A": f"x\rP-Asserted-Identity: {lie}"}
    yield "a bare LF", {"X-A": f"x\nP-Asserted-Identity: {lie}"}
    yield "`&` before a header", {"X-A": f"x& From: {lie}"}
    yield "a second From", {"X-A": f"x\r\nFrom: {lie};tag=b"}
    yield "a second CSeq", {"X-A": "x\r\nCSeq: 99 MESSAGE"}
    yield "a second Content-Length", {"X-A": "x\r\nContent-Length: 0"}
    yield "two tags", {"From": f'{own};tag=a;tag="b"'}
    yield "a From without brackets", {"From": f"sip:{number}@{domain};tag=a"}
    yield "two values in From", {"From": f"{own}, {lie};tag=a"}


STEPS = (
    HEADER.step("false identity", false_identity),
    HEADER.step("digest to the peer", digest_to_peer),
    HEADER.step("preloaded Route", preloaded_route),
    HEADER.step("ambiguous message", ambiguous, seconds=15),
)
