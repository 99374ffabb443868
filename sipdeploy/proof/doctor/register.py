"""The rungs of a registration: the daemons, the accounts, and a user's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import count
from sipdeploy.operation.calls import FLOOD
from sipdeploy.operation.events import PhoneChange, Refusal
from sipdeploy.operation.journal import clock
from sipdeploy.proof.doctor import causes
from sipdeploy.proof.doctor.causes import WHOLE_ASTERISK, WHOLE_KAMAILIO, down, stuck
from sipdeploy.proof.doctor.inside import ASTERISK, KAMAILIO
from sipdeploy.proof.doctor.rung import Case, Rung, broken
from sipdeploy.proof.outside import signalling
from sipdeploy.proof.outside.step import ACCOUNTS, StepFailed, StepSkipped
from sipdeploy.proof.outside.subject import NotRegisteredError
from sipdeploy.sip.digest import parse_challenge
from sipdeploy.sip.message import MalformedMessage

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.proof.outside.subject import Subject

STEPS = {step.name: step for step in signalling.STEPS}


# --- daemons -------------------------------------------------------------------------------------


def registrar_down(case: Case) -> Diagnostic | None:
    """With `authentication: asterisk`, Asterisk is the registrar."""
    is_needed = case.subject.site.authentication == "asterisk"
    return WHOLE_ASTERISK(case) if is_needed else None


def keeps_crashing(case: Case) -> Diagnostic | None:
    """Kamailio crashes again and again."""
    often = 3
    found = case.inside.daemons[KAMAILIO] if case.inside else None
    return causes.crashing(KAMAILIO)(case) if found and found.restarts >= often else None


# --- the registration ----------------------------------------------------------------------------


def open_registrar(case: Case) -> Diagnostic | None:
    """Everybody can register every number."""
    if "without a password" not in case.said:
        return None
    changed = causes.EDITED_KAMAILIO(case)
    return broken(
        "SD934",
        f"`{case.name}` stores registrations before it checks the password: everybody can take "
        "over every number",
        "a REGISTER without a password is answered with 200",
        *(changed.notes if changed else ()),
        fix=f"`sipdeploy apply {case.name} --overwrite`",
    )


def wrong_realm(case: Case) -> Diagnostic | None:
    """The challenge names another realm than the domain, which every password was made for."""
    realm = _realm(case.subject)
    domain = case.subject.site.domain
    if realm in ("", domain):
        return None
    changed = causes.EDITED_KAMAILIO(case) or causes.EDITED_ASTERISK(case)
    return broken(
        "SD934",
        f"`{case.name}` asks for passwords of the realm `{realm}`, and they are stored for "
        f"`{domain}`: nobody can register",
        f"WWW-Authenticate: Digest realm={realm}",
        *(changed.notes if changed else ()),
        fix=f"`sipdeploy apply {case.name} --overwrite`",
    )


def _realm(subject: Subject) -> str:
    """The realm of the last challenge of a phone of this examination."""
    for phone in subject.phones.values():
        for reply in phone.received(401):
            for value in reply.values("WWW-Authenticate"):
                try:
                    return parse_challenge(value).realm
                except MalformedMessage:
                    continue
    return ""


def no_answer(case: Case) -> Diagnostic | None:
    """Kamailio answers the WebSocket, and not SIP."""
    return stuck(ASTERISK)(case) or stuck(KAMAILIO)(case)


def connection_ends(case: Case) -> Diagnostic | None:
    """The connection ends in the middle: a proxy that cuts, or Kamailio that closes."""
    if case.inside is None or "closed" not in case.said:
        return None
    return broken(
        "SD934",
        f"the connection to `{case.name}` ends before the registration",
        case.said,
        fix=f"on `{case.name}`: `journalctl -n 50 -u kamailio` shows who closed it; a proxy in "
        "between that cuts WebSockets does the same",
    )


# --- the user ------------------------------------------------------------------------------------


async def user(case: Case) -> str:
    """The user of the trouble registers from here, with the password of the inventory."""
    subject, account = case.subject, case.account
    if account is None:
        raise StepSkipped("about one user: `--user NUMBER`")
    if account not in subject.accounts:
        subject.accounts = (*subject.accounts, account)
    try:
        phone = await subject.phone(subject.accounts.index(account))
        signalling.granted(subject, phone)
    except NotRegisteredError as refusal:
        raise StepFailed(signalling.refused(subject, refusal)) from refusal
    return f"{phone.number} registers with the password of the inventory"


def unknown_number(case: Case) -> Diagnostic | None:
    """The host does not know the number."""
    said = case.inside.texts.get("user") if case.inside and case.number else None
    if said is None or "value:" in said:
        return None
    return broken(
        "SD934",
        f"`{case.name}` does not know the number {case.number}",
        "it is in the inventory, and not in the table `users` of Kamailio",
        fix=f"`sipdeploy apply {case.name}`",
    )


def other_password(case: Case) -> Diagnostic | None:
    """The host has another password of the user than the inventory."""
    if not re.search(r": (401|403)\b", case.said):
        return None
    return broken(
        "SD934",
        f"`{case.name}` has another password for {case.number} than the inventory",
        case.said,
        fix=f"`sipdeploy apply {case.name}`; a new one: `sipdeploy set-password {case.number} "
        f"--apply {case.name}`",
    )


def too_many_phones(case: Case) -> Diagnostic | None:
    """The number has as many phones as it may have."""
    phones = case.inside.texts.get("phones", "") if case.inside else ""
    devices = re.findall(r"^\s*User-Agent: *(.+)$", phones, re.MULTILINE)
    most = case.subject.site.users[case.number].max_contacts
    if "without binding" not in case.said and len(devices) < most:
        return None
    return broken(
        "SD934",
        f"{case.number} has all {count(most, 'phone')} that `max_contacts` allows; a further one "
        "is refused",
        *(f"registered: {device.strip()}" for device in devices[:5]),
        fix=f"close a phone (each browser tab is one), or raise `users.{case.number}."
        "max_contacts` and apply",
    )


def must_wait(case: Case) -> Diagnostic | None:
    """The number has tried many wrong passwords from an address, and has to wait."""
    rows = [line.split() for line in case.inside.lines("failures")] if case.inside else []
    blocked = [(row[0], int(row[1])) for row in rows if row[1:] and row[1].isdigit()]
    least = 20
    worst = max(blocked, key=lambda each: each[1], default=("", 0))
    if worst[1] <= least:
        return None
    return broken(
        "SD934",
        f"a phone of {case.number} at {worst[0]} sends a wrong password again and again, and "
        "Kamailio makes it wait",
        f"{worst[1]} wrong passwords within five minutes",
        fix="correct the password in that phone; the wait ends by itself. A new one: "
        f"`sipdeploy set-password {case.number} --apply {case.name}`",
    )


def wrong_password(case: Case) -> Diagnostic | None:
    """The last thing heard of the user's phone is a wrong password."""
    mine = [
        each
        for each in (case.inside.events if case.inside and case.number else ())
        if (isinstance(each, PhoneChange) and each.number == case.number)
        or (isinstance(each, Refusal) and case.number in (each.number, each.claims))
    ]
    last = mine[-1] if mine else None
    if not isinstance(last, Refusal) or (last.method != "REGISTER" and last.why != FLOOD):
        return None
    same = [each for each in mine if isinstance(each, Refusal) and each.why == last.why]
    when = clock(last.when)
    if last.why in ("Wrong Password", "Unknown Number"):
        what = f"the phone of {case.number} at {last.address} sends a wrong password"
        fix = f"set its password as in the inventory: `sipdeploy phone {case.number}` shows what "
        fix += "to type; its authorization user must be the number"
    else:
        what = f"the phone of {case.number} at {last.address} is refused: {last.why}"
        fix = f"`sipdeploy logs {case.name} --user {case.number}` shows each attempt"
    return broken(
        "SD934",
        what,
        f"{count(len(same), 'time')} in the last day, the last at {when} "
        f"({last.status} {last.why})",
        fix=fix,
    )


RUNGS: tuple[Rung, ...] = (
    Rung(
        name="daemons",
        topic="register",
        code="SD933",
        faults=(
            *(down(KAMAILIO), stuck(KAMAILIO), causes.memory_full, causes.connections_full),
            *(registrar_down, keeps_crashing),
        ),
    ),
    Rung(
        name="accounts",
        topic="register",
        code="SD933",
        step=STEPS[ACCOUNTS],
        causes=(WHOLE_KAMAILIO, registrar_down),
    ),
    Rung(
        name="registration",
        topic="register",
        code="SD934",
        step=STEPS["REGISTER"],
        causes=(
            *(wrong_realm, WHOLE_KAMAILIO, registrar_down, causes.tables_differ),
            *(causes.EDITED_KAMAILIO, causes.EDITED_ASTERISK, no_answer, connection_ends),
        ),
        faults=(
            *(causes.tables_differ, causes.rows_missing),
            causes.edited("/etc/kamailio/sipdeploy.db", "/etc/asterisk/pjsip_users.conf"),
        ),
    ),
    Rung(
        name="password",
        topic="register",
        code="SD934",
        step=STEPS["password"],
        causes=(open_registrar,),
    ),
    Rung(
        name="user",
        topic="register",
        code="SD934",
        ask=user,
        causes=(unknown_number, too_many_phones, must_wait, other_password),
        faults=(must_wait, wrong_password),
    ),
)
