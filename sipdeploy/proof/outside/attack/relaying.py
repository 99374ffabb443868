"""Attacks by a destination: to use the host as a relay, or to reach what is out of reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipdeploy.proof.outside.attack.attempt import Kind, accomplice, answer, final, seen_as
from sipdeploy.proof.outside.calls import hang_up, pair, talk
from sipdeploy.proof.outside.step import StepSkipped
from sipdeploy.sip.message import uri_of

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject

PLACE = Kind(code="SD944")
FOREIGN = "192.0.2.1"  # of nobody (RFC 5737)
UNKNOWN = 404


async def open_relay(subject: Subject) -> str:
    """A registered phone sends nothing to other domains, nor to an address of its choice."""
    eve, victim = await pair(subject)
    address, port = seen_as(victim)
    host = f"[{address}]" if ":" in address else address
    targets = (f"sip:root@{FOREIGN}", f"sip:{victim.number}@{host}:{port};transport=ws")
    before = len(victim.received("MESSAGE"))
    seen = []
    for target in targets:
        reply = await answer(eve.request("MESSAGE", target, body="x"))
        seen.append(PLACE.refused(subject, "a MESSAGE to another domain", reply))
        reply = await final(eve.invite(target))
        PLACE.refused(subject, "an INVITE to another domain", reply)
    if len(victim.received("MESSAGE")) > before:
        raise PLACE.succeeded(subject, "a phone sends to addresses of its choice")
    return ", ".join(dict.fromkeys(seen))


async def third_phone(subject: Subject) -> str:
    """A request in a call reaches the other party, and no other connection or address."""
    caller, callee = await pair(subject)
    third = await accomplice(subject)
    address, port = seen_as(third)
    targets = (
        f"sip:any@any.invalid;alias={address}~{port}~6",
        uri_of(third.contact),
        f"sip:{FOREIGN}:5060",
        "sip:127.0.0.1:5038;transport=tcp",
    )
    outgoing, incoming = await talk(caller, callee)
    seen = []
    for target in targets:
        dialog = outgoing.established.copy()
        dialog.sequence += 50
        dialog.remote_target = target
        reply = await answer(caller.request_in_dialog(dialog, "INFO"))
        seen.append(PLACE.refused(subject, "an INFO to a place of the sender's choice", reply))
    outgoing.established.sequence += 60
    await hang_up(outgoing, incoming)
    if third.received("INFO"):
        raise PLACE.succeeded(subject, "a request in a call reaches a third phone")
    return ", ".join(dict.fromkeys(seen))


async def forged_contact(subject: Subject) -> str:
    """A Contact can be called only with the signature that the host gave it."""
    eve, victim = await pair(subject)
    before = len(victim.received("INVITE"))
    plain = uri_of(victim._registered(None))  # noqa: SLF001 - the Contact of this proof
    seen = []
    for owner in (f";owner={victim.number}.{'0' * 32}", f";owner={victim.number}", ""):
        target = plain.replace(";transport=ws", owner)
        seen.append(PLACE.refused(subject, "a call to a Contact", await final(eve.invite(target))))
    if len(victim.received("INVITE")) > before:
        raise PLACE.succeeded(subject, "a phone is called by a forged Contact")
    return ", ".join(dict.fromkeys(seen))


async def contact_elsewhere(subject: Subject) -> str:
    """A phone registers its own connection, and no other address."""
    await pair(subject)
    eve = await accomplice(subject)
    contact = f'{eve._registered(None)};received="sip:{FOREIGN}:5060"'  # noqa: SLF001
    reply = await answer(eve.register(contact=contact, expires=60))
    return PLACE.refused(subject, "a REGISTER for another address", reply)


async def out_of_reach(subject: Subject) -> str:
    """A probe account reaches no user. OPTIONS does not ring, whatever the host does with it."""
    eve, _ = await pair(subject)
    user = next(iter(subject.site.users), "")
    if not user:
        raise StepSkipped("the inventory has no users")
    reply = await answer(eve.request("OPTIONS", user))
    if reply is not None and reply.status != UNKNOWN:
        raise PLACE.succeeded(
            subject, f"a probe account reaches a user: {reply.status} {reply.reason}"
        )
    return f"{reply.status} {reply.reason}" if reply else "no reply"


STEPS = (
    PLACE.step("open relay", open_relay),
    PLACE.step("third phone", third_phone),
    PLACE.step("forged Contact", forged_contact),
    PLACE.step("Contact elsewhere", contact_elsewhere),
    PLACE.step("user out of reach", out_of_reach),
)
