"""The lines of the call log: calls, changes of registrations, refusals; and how to mask them."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.operation.journal import CALLS, KAMAILIO, Entry, mapping

MOST_LENGTH = 200
MOST_NUMBER = 10**12
REGISTRATIONS = {
    "registered": "registered",
    "unregistered": "unregistered",
    "lost": "lost its connection",
    "expired": "did not renew its registration",
}
_DIGITS = re.compile(r"[0-9]{2,}")
_HOST = re.compile(r"^(\[?[0-9a-fA-F.:]+?\]?)(:[0-9]+)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call, when it has ended. Times are in seconds since 1970; None is unknown."""

    when: float
    id: str
    caller: str
    callee: str
    status: int
    kind: str = ""  # phone, mailbox, asterisk, the kind of a service; "" if Kamailio restarted
    why: str = ""
    began: int | None = None
    rang: int | None = None
    answered: int | None = None
    phones: int | None = None  # that the call was sent to
    missed: int | None = None  # the status with which the phones refused it before the mailbox
    seconds: int | None = None  # from the answer to the end
    ended: str = ""  # caller, callee, or "" if neither
    address: str = ""  # of the phone that answered
    device: str = ""

    @property
    def start(self) -> float:
        """When it began, or else when its line was written."""
        return self.when if self.began is None else float(self.began)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneChange:
    """A phone that has registered, or is registered no longer; `what` is of REGISTRATIONS."""

    when: float
    what: str
    number: str
    address: str
    device: str
    seconds: int | None = None  # that it was registered


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A message that was refused. `number` is proved; `claims` and `callee` are what it says."""

    when: float
    method: str
    status: int
    why: str
    address: str
    number: str = ""
    claims: str = ""
    callee: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """From here on the log lacks lines of a number or an address, for half an hour."""

    when: float
    number: str


Event = Call | PhoneChange | Refusal | Limit


def events(entries: Iterable[Entry]) -> Iterator[Event]:
    """The events among entries, in their order."""
    for entry in entries:
        event = parse(entry)
        if event is not None:
            yield event


def parse(entry: Entry) -> Event | None:
    """The event of an entry; None if it has none."""
    if entry.program != CALLS or entry.unit != KAMAILIO:
        return None
    row = mapping(entry.text)
    what = row.get("event")
    if what == "call":
        return _call(entry.when, row)
    if what == "refused":
        return Refusal(
            when=entry.when,
            method=_text(row, "method"),
            status=_number(row, "status") or 0,
            why=_text(row, "why"),
            address=_text(row, "address"),
            number=_text(row, "number"),
            claims=_text(row, "from"),
            callee=_text(row, "to"),
            id=_text(row, "id"),
        )
    if what == "limit":
        return Limit(when=entry.when, number=_text(row, "number"))
    if isinstance(what, str) and what in REGISTRATIONS:
        return PhoneChange(
            when=entry.when,
            what=what,
            number=_text(row, "number"),
            address=_text(row, "address"),
            device=_text(row, "device"),
            seconds=_number(row, "seconds"),
        )
    return None


def _call(when: float, row: Mapping[str, Any]) -> Call:
    return Call(
        when=when,
        id=_text(row, "id"),
        caller=_text(row, "from"),
        callee=_text(row, "to"),
        status=_number(row, "status") or 0,
        kind=_text(row, "kind"),
        why=_text(row, "why"),
        began=_number(row, "began"),
        rang=_number(row, "rang"),
        answered=_number(row, "answered"),
        phones=_number(row, "phones"),
        missed=_number(row, "missed"),
        seconds=_number(row, "seconds"),
        ended=_text(row, "ended"),
        address=_text(row, "address"),
        device=_text(row, "device"),
    )


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return shown_line(value[:MOST_LENGTH]) if isinstance(value, str) else ""


def _number(row: Mapping[str, Any], key: str) -> int | None:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_NUMBER else None


def concerns(event: Event, number: str) -> bool:
    """Whether a number takes part in an event."""
    if isinstance(event, Call):
        return number in (event.caller, event.callee)
    if isinstance(event, Refusal):
        return number in (event.number, event.claims, event.callee)
    return number == event.number


def masked(event: Event) -> Event:
    """The event without numbers, addresses and devices; equal ones stay equal."""
    if isinstance(event, Call):
        return replace(
            event,
            caller=mask(event.caller),
            callee=mask(event.callee),
            address=mask_address(event.address),
            device="",
            id=_digest(event.id),
            why=_DIGITS.sub(_last_two, event.why),
        )
    if isinstance(event, PhoneChange):
        return replace(
            event, number=mask(event.number), address=mask_address(event.address), device=""
        )
    if isinstance(event, Refusal):
        return replace(
            event,
            number=mask(event.number),
            claims=mask(event.claims),
            callee=mask(event.callee),
            address=mask_address(event.address),
            id=_digest(event.id),
        )
    return replace(event, number=mask_address(mask(event.number)))


def mask(number: str) -> str:
    """`1001` as `**01`."""
    return "*" * (len(number) - 2) + number[-2:] if number.isdecimal() else number


def mask_address(address: str) -> str:
    """The network of an address: `203.0.113.7:5061` as `203.0.113.*`, IPv6 as its /48."""
    match = _HOST.match(address)
    host = match[1].strip("[]") if match else ""
    if "." in host:
        return host.rpartition(".")[0] + ".*"
    return ":".join(host.split(":")[:3]) + ":*" if ":" in host else address


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def _last_two(match: re.Match[str]) -> str:
    return mask(match[0])
