"""The steps of SIP without sound: register, call, hang up, cancel, transfer, services."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.editing.problems import weak
from sipdeploy.lint.secrets import weakness
from sipdeploy.proof.outside import network
from sipdeploy.proof.outside.calls import hang_up, invite_of, next_invite, pair, ring, talk
from sipdeploy.proof.outside.step import ACCOUNTS, PHONES, Step, StepFailed, StepSkipped
from sipdeploy.proof.outside.subject import REGISTER_SECONDS, NotRegisteredError
from sipdeploy.sip.message import parameter, parse, uri_of

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject
    from sipdeploy.sip.call import Call
    from sipdeploy.sip.phone import Phone, Reply

BUSY, DECLINED, ABSENT, CANCELLED = 486, 603, 480, 487
UNPROVEN = {401, 403}
SURPLUS_SECONDS = 2.0
# Services that answer everybody and call nobody, the quickest to judge first.
KINDS = ("ivr-test", "echo")


# --- accounts ------------------------------------------------------------------------------------


async def accounts(subject: Subject) -> str:
    """Two probe accounts are set on the host, or a user's own account is given."""
    if subject.probes is None:
        return f"{subject.accounts[0].number}, with the given password"
    try:
        subject.fingerprint = await asyncio.to_thread(subject.probes.set)
    except HostFailed as failure:
        raise StepFailed(*failure.diagnostics) from failure
    subject.accounts = subject.probes.accounts
    return "two, for the length of this proof"


# --- registration --------------------------------------------------------------------------------


async def register(subject: Subject) -> str:
    """The accounts register."""
    try:
        phones = await asyncio.gather(
            *(subject.phone(number) for number in range(len(subject.accounts)))
        )
    except NotRegisteredError as refusal:
        raise StepFailed(refused(subject, refusal)) from refusal
    seconds = [granted(subject, phone) for phone in phones]
    return f"200 for {seconds[0]} s"


async def password(subject: Subject) -> str:
    """The accounts have registered only with their password."""
    for number, account in enumerate(subject.accounts):
        user = subject.site.users.get(account.number)
        if user and weakness(account.password, account.number, user.name):
            subject.warnings["password"] = (weak(account.number),)
        if not _is_open(await subject.phone(number)):
            continue
        raise StepFailed(
            Diagnostic(
                "SD906",
                f"`{subject.name}` accepts a REGISTER without a password: everybody can take "
                "over every number",
                help=f"`sipdeploy plan {subject.name}` shows what differs on the host; "
                f"`sipdeploy apply {subject.name}` restores its configuration",
            )
        )
    return "401 without it"


def _is_open(phone: Phone) -> bool:
    """Whether the first REGISTER, without a password, was accepted.

    A 401 alone says nothing: where a proxy stores phones before the registrar answers, both reply.
    """
    first = next(parse(each.text) for each in phone.trace if each.direction == "sent")
    accepted = any(reply.cseq == first.cseq for reply in phone.received(200))
    return accepted or not phone.received(401)


def refused(subject: Subject, refusal: NotRegisteredError) -> Diagnostic:
    """SD906 with the likely reason of a final reply."""
    name, status = subject.name, refusal.reply.status
    if status in UNPROVEN and len(subject.accounts) == 1:
        fix = f"check the password; `sipdeploy set-password {refusal.number} --apply {name}` sets "
        fix += "a new one"
    elif status in UNPROVEN:
        fix = f"the host has the account and does not accept it: {subject.logs}"
    else:
        fix = subject.logs
    return Diagnostic(
        "SD906", f"{refusal.number} cannot register on `{name}`: {refusal.status}", help=fix
    )


def granted(subject: Subject, phone: Phone) -> int:
    """The seconds that the registrar granted; StepFailed if they are none, or more than asked."""
    reply = next(each for each in reversed(phone.received(200)) if each.cseq[1] == "REGISTER")
    own = f"sip:{phone._user}@"  # noqa: SLF001 - the phone of this proof
    contact = next((c for c in reply.items("Contact") if uri_of(c).startswith(own)), "")
    seconds = parameter(contact, "expires") or reply.header("Expires")
    if not contact or not seconds.isdigit() or not 0 < int(seconds) <= REGISTER_SECONDS:
        what = f"for {seconds} s" if contact and seconds else "without binding the phone"
        raise StepFailed(
            Diagnostic(
                "SD906",
                f"`{subject.name}` accepts the REGISTER of {phone.number} {what}",
                notes=(f"asked for {REGISTER_SECONDS} s",),
                help=f"`max_contacts` of {phone.number} may be reached: `sipdeploy users` shows "
                "the phones of each number"
                if not contact
                else subject.logs,
            )
        )
    return int(seconds)


# --- calls between two phones --------------------------------------------------------------------


async def call(subject: Subject) -> str:
    """A call rings, is answered, and the caller ends it."""
    caller, callee = await pair(subject)
    outgoing, incoming = await talk(caller, callee)
    await hang_up(outgoing, incoming)
    return "INVITE, 180, 200, ACK, BYE of the caller"


async def call_back(subject: Subject) -> str:
    """A call in the other direction, which the callee ends."""
    callee, caller = await pair(subject)
    outgoing, incoming = await talk(caller, callee)
    await hang_up(incoming, outgoing)
    return "in the other direction, BYE of the callee"


async def cancel(subject: Subject) -> str:
    """The caller hangs up while it rings."""
    caller, callee = await pair(subject)
    outgoing, ringing = await ring(caller, callee)
    reply = await outgoing.cancel()
    await ringing.cancelled()
    _expect(subject, "the CANCEL", reply, 200)
    _expect(subject, "the cancelled INVITE", await outgoing.final(), CANCELLED)
    return "CANCEL reaches the phone that rings"


async def busy(subject: Subject) -> str:
    """The callee is busy."""
    return await _rejected(subject, BUSY)


async def declined(subject: Subject) -> str:
    """The callee declines."""
    return await _rejected(subject, DECLINED)


async def _rejected(subject: Subject, status: int) -> str:
    caller, callee = await pair(subject)
    outgoing, ringing = await ring(caller, callee)
    await ringing.reject(status)
    reply = await outgoing.final()
    _expect(subject, f"an INVITE that the phone answers with {status}", reply, status)
    return f"{status} reaches the caller"


async def absent(subject: Subject) -> str:
    """The callee has no phone: 480, at once. A probe account has no mailbox."""
    caller, _ = await pair(subject)
    await subject.hang_up([(1, 0)])
    outgoing = await caller.invite(subject.accounts[1].number)
    _expect(subject, "an INVITE to a number without a phone", await outgoing.final(), ABSENT)
    return "480 without a phone"


async def two_devices(subject: Subject) -> str:
    """Both phones of a number ring, and answer at once: the caller talks to exactly one."""
    caller, first = await pair(subject)
    second = await subject.phone(1, 1)
    outgoing = await caller.invite(first.number)
    ringing = await asyncio.gather(*(next_invite(phone) for phone in (first, second)))
    await asyncio.gather(*(each.ring() for each in ringing))
    answered = await asyncio.gather(*(each.answer() for each in ringing))
    await outgoing.answered()
    await outgoing.ack()
    await _until_settled(subject, answered)
    await asyncio.sleep(0.05)
    successes = [each for each in outgoing.replies if each.status == 200]  # noqa: PLR2004
    if len(successes) != 1:
        raise _broken(subject, "the caller got the answers of both phones, not of one")
    kept = next(each for each in answered if each.acks)
    await hang_up(outgoing, kept)
    await subject.hang_up([(1, 1)])
    return "both ring and answer; one is connected, the other gets a BYE"


async def _until_settled(subject: Subject, answered: list[Call]) -> None:
    """Wait until one phone has the ACK, and the other a BYE."""
    end = asyncio.get_running_loop().time() + SURPLUS_SECONDS
    while sorted(_got(each) for each in answered) != ["ACK", "BYE"]:
        if asyncio.get_running_loop().time() > end:
            seen = " and ".join(_got(each) or "nothing" for each in answered)
            raise _broken(
                subject, f"two phones answered at once, and got {seen}, not one ACK and one BYE"
            )
        await asyncio.sleep(0.01)


def _got(call: Call) -> str:
    return "ACK" * bool(call.acks) + "BYE" * bool(call.bye_received)


async def blind_transfer(subject: Subject) -> str:
    """The callee sends the caller elsewhere: REFER arrives, and so does its NOTIFY."""
    caller, callee = await pair(subject)
    outgoing, incoming = await talk(caller, callee)
    target = f"<sip:{subject.accounts[1].number}@{subject.site.domain}>"
    reply = await incoming.request_in_dialog("REFER", headers={"Refer-To": target})
    _expect(subject, "a REFER in a call", reply, 202)
    refer = await caller.incoming(method="REFER")
    if refer.request.header("Refer-To") != target:
        raise _broken(subject, "the REFER arrived with another Refer-To")
    reply = await outgoing.request_in_dialog(
        "NOTIFY",
        headers={"Event": "refer", "Subscription-State": "terminated;reason=noresource"},
        body="SIP/2.0 200 OK\r\n",
        content_type="message/sipfrag",
    )
    _expect(subject, "the NOTIFY of a REFER", reply, 200)
    await callee.incoming(method="NOTIFY")
    await hang_up(outgoing, incoming)
    return "REFER and its NOTIFY arrive"


async def attended_transfer(subject: Subject) -> str:
    """The callee connects its caller with a third phone, which it has called meanwhile."""
    caller, callee = await pair(subject)
    third, other = await subject.phone(0, 1), await subject.phone(1, 1)
    outgoing, incoming = await talk(caller, callee)
    asking, asked = await talk(other, third)
    dialog = asking.established
    replaces = f"{dialog.call_id};to-tag={dialog.key[2]};from-tag={dialog.key[1]}"
    uri, _ = dialog.next_hop()
    target = f"<{uri}?Replaces={quote(replaces)}>"
    reply = await incoming.request_in_dialog("REFER", headers={"Refer-To": target})
    _expect(subject, "a REFER with Replaces", reply, 202)
    await caller.incoming(method="REFER")
    new = await caller.invite(uri, headers={"Replaces": replaces})
    arriving = await invite_of(new, third)
    if arriving.request.header("Replaces") != replaces:
        raise _broken(subject, "the INVITE of a transfer arrives without its Replaces")
    connected = await arriving.answer()
    await new.answered()
    await new.ack()
    await connected.acknowledged()
    for first, second in ((new, connected), (asking, asked), (outgoing, incoming)):
        await hang_up(first, second)
    await subject.hang_up()
    return "an INVITE with Replaces reaches the third phone"


# --- services ------------------------------------------------------------------------------------


async def service(subject: Subject) -> str:
    """A service answers, with media at the address that the inventory says."""
    number = service_number(subject)
    phone = await subject.phone(0)
    outgoing = await phone.invite(number)
    reply = await outgoing.final()
    if reply.status != 200:  # noqa: PLR2004
        raise StepFailed(
            Diagnostic(
                "SD908",
                f"the service {number} on `{subject.name}` answers with {reply.status} "
                f"{reply.reason}",
                help=f"on `{subject.name}`: `journalctl -b -u asterisk` shows why",
            )
        )
    await outgoing.ack()
    ended = await outgoing.bye()
    _expect(subject, f"the BYE to {number}", ended, 200)
    _check_media(subject, number, reply)
    return f"{number} answers, media at {subject.entry.media_address}"


def service_number(subject: Subject) -> str:
    """The service to call; StepSkipped if the inventory has none that suits."""
    services = subject.site.services
    for kind in KINDS:
        for number, item in services.items():
            if item.kind == kind:
                return number
    raise StepSkipped(f"the inventory has no service of the kind {' or '.join(KINDS)}")


def _check_media(subject: Subject, number: str, reply: Reply) -> None:
    """SD908 unless the answer has a candidate with the address of the host."""
    announced = candidates(reply.body)
    public = subject.entry.media_address
    if public not in announced:
        where = ", ".join(announced) or "nowhere"
        raise StepFailed(
            Diagnostic(
                "SD908",
                f"the service {number} on `{subject.name}` expects media at {where}, "
                f"not at {public}",
                help=f"correct `hosts.{subject.name}.public_address`, or run "
                f"`sipdeploy apply {subject.name}`",
            )
        )


def candidates(sdp: str) -> list[str]:
    """The addresses of the ICE candidates in a description (RFC 8839, section 5.1)."""
    lines = re.findall(r"^a=candidate:\S+ \d+ \S+ \d+ (\S+) \d+ typ", sdp, re.MULTILINE)
    return list(dict.fromkeys(lines))


# --- parts ---------------------------------------------------------------------------------------


def _expect(subject: Subject, what: str, reply: Reply, status: int) -> None:
    if reply.status != status:
        text = f"{what} is answered with {reply.status} {reply.reason}, not with {status}"
        raise _broken(subject, text)


def _broken(subject: Subject, what: str) -> StepFailed:
    return StepFailed(Diagnostic("SD907", f"on `{subject.name}`, {what}", help=subject.logs))


def _step(
    name: str,
    run: Callable[[Subject], Awaitable[str]],
    *,
    needs: tuple[str, ...] = ("call",),
    code: str = "SD907",
) -> Step:
    return Step(name=name, level="quick", run=run, code=code, needs=needs, lane=PHONES)


STEPS: tuple[Step, ...] = (
    Step(name=ACCOUNTS, level="quick", run=accounts, code="SD909", seconds=30),
    Step(
        name="certificate",
        level="quick",
        run=network.deployed,
        code="SD904",
        needs=("TLS", ACCOUNTS),
    ),
    _step("REGISTER", register, needs=("WebSocket", ACCOUNTS), code="SD906"),
    _step("password", password, needs=("REGISTER",), code="SD906"),
    _step("call", call, needs=("REGISTER",)),
    _step("call back", call_back),
    _step("CANCEL", cancel),
    _step("busy", busy),
    _step("declined", declined),
    _step("blind transfer", blind_transfer),
    _step("two devices", two_devices),
    _step("attended transfer", attended_transfer),
    _step("absent", absent),
    _step("service", service, needs=("REGISTER",), code="SD908"),
)
