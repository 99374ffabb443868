"""Calls in words, as a table, as data and as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

from sipdeploy.operation.events import REGISTRATIONS, Call, Event, Limit, PhoneChange, Refusal
from sipdeploy.operation.journal import clock

KINDS = {"phone": "", "mailbox": "the mailbox", "asterisk": ""}
TIMEOUT, UNREACHABLE, CANCELLED = 408, 480, 487
FLOOD = "Flood"
_NO_PHONE = "no phone of {} was registered"
_STATUSES = {
    403: "refused",
    404: "{} is not a number",
    408: "no phone of {} replied",
    480: "{} was not reachable",
    484: "the number is incomplete",
    486: "{} was busy",
    487: "the caller cancelled",
    488: "the phones have no common media",
    503: "refused",
    600: "{} was busy",
    603: "{} declined",
}
_FORMULA = ("=", "+", "-", "@")
_COLUMNS = (
    *("began", "from", "to", "kind", "phones", "rang", "answered", "seconds", "ended"),
    *("status", "result", "address", "device", "id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A call, or an INVITE that was refused before it was one; and its result in words."""

    when: float
    caller: str
    callee: str
    result: str
    event: Call | Refusal


def rows(events: Sequence[Event], since: float = 0) -> list[Row]:
    """The calls since then, oldest first. Earlier events explain why a phone was missing."""
    known: dict[str, PhoneChange | Refusal] = {}
    lost = {
        each.id
        for each in events
        if isinstance(each, Refusal) and each.method == "BYE" and each.why == "Connection Lost"
    }
    found: list[Row] = []
    for event in sorted(events, key=_order):
        _learn(known, event)
        if isinstance(event, Call) and event.start >= since:
            found.append(_row_of_call(event, known.get(event.callee), is_lost=event.id in lost))
        elif isinstance(event, Refusal) and event.when >= since and is_attempt(event):
            found.append(_row_of_refusal(event))
    return found


def _order(event: Event) -> float:
    if isinstance(event, Call) and event.began is not None:
        return min(event.when, event.began + 0.999)  # Kamailio counts whole seconds
    return event.when


def _learn(known: dict[str, PhoneChange | Refusal], event: Event) -> None:
    """Keep the last thing that happened to the phone of each number."""
    if isinstance(event, PhoneChange):
        before = known.get(event.number)
        # a flood ends the connection
        if not (isinstance(before, Refusal) and before.address == event.address):
            known[event.number] = event
    elif isinstance(event, Refusal) and event.why == FLOOD and event.number:
        known[event.number] = event
    elif isinstance(event, Refusal) and event.method == "REGISTER":
        before = known.get(event.claims)
        if before is None or _is_gone(before):
            known[event.claims] = event


def _is_gone(event: PhoneChange | Refusal) -> bool:
    return isinstance(event, Refusal) or event.what != "registered"


def is_attempt(refusal: Refusal) -> bool:
    """Whether it was a call that was refused: an INVITE outside a call, or a flood."""
    return refusal.method == "INVITE" and refusal.why != "Not Your Dialog"


def _row_of_call(call: Call, before: PhoneChange | Refusal | None, *, is_lost: bool) -> Row:
    result = words(call)
    if call.phones == 0 and before is not None and _is_gone(before):
        result += f" ({earlier(before)})"
    if is_lost:
        result += "; the other phone had lost its connection"
    return Row(when=call.start, caller=call.caller, callee=call.callee, result=result, event=call)


def _row_of_refusal(refusal: Refusal) -> Row:
    return Row(
        when=refusal.when,
        caller=refusal.number or refusal.claims or "?",
        callee=refusal.callee or "?",
        result=refused(refusal),
        event=refusal,
    )


def words(call: Call) -> str:
    """What became of a call."""
    if call.answered is None and call.kind:
        return _unanswered(call)
    parts = []
    if call.kind == "mailbox":
        parts.append(f"{_missed(call)}, the mailbox answered")
    elif call.kind in KINDS and call.kind:
        where = f" at {call.address}" if call.address else ""
        device = f" ({call.device})" if call.device else ""
        parts.append(f"answered{where}{device}")
    elif call.kind:
        parts.append(f"{call.kind} answered")
    else:
        parts.append("began before Kamailio started")
    if call.answered is not None and call.answered > call.start:
        parts[0] += f" after {length(int(call.answered - call.start))}"
    if call.seconds is not None:
        parts.append(f"lasted {length(call.seconds)}")
    if call.ended:
        who = call.caller if call.ended == "caller" else call.callee
        parts.append(f"{who} hung up")
    elif not call.status:
        parts.append("no end after 4 h: both phones lost their connection, or it still lasts")
    if call.why:
        parts.append(call.why)
    return ", ".join(parts)


def _unanswered(call: Call) -> str:
    if call.kind not in KINDS or call.kind == "mailbox":
        before = f"{_missed(call)}, and " if call.kind == "mailbox" else ""
        name = "the mailbox" if call.kind == "mailbox" else call.kind
        if call.status == TIMEOUT:
            return f"{before}Asterisk did not answer ({name})"
        if call.status != CANCELLED:
            return f"{before}{name} refused ({call.status})"
    if call.status == TIMEOUT and call.rang is not None:
        return f"no answer in 30 s: {count_phones(call)} rang"
    if call.phones == 0 and call.status == UNREACHABLE:
        return _NO_PHONE.format(call.callee)
    text = _STATUSES.get(call.status, "failed").format(call.callee)
    if call.status == CANCELLED:
        text += f" after {length(max(0, int(call.when - call.start)))}"
    if call.rang is not None:
        text += f", {count_phones(call)} rang"
    # a reason of Kamailio says more than its status
    said = f"{call.status} {call.why}".strip()
    return f"{text} ({said})"


def _missed(call: Call) -> str:
    if call.phones == 0:
        return _NO_PHONE.format(call.callee)
    if call.missed == TIMEOUT:
        return f"{call.callee} did not answer"
    return f"{_STATUSES.get(call.missed or 0, '{} did not answer').format(call.callee)}"


def count_phones(call: Call) -> str:
    """`2 phones`."""
    return "1 phone" if call.phones == 1 else f"{call.phones or 'no'} phones"


def refused(refusal: Refusal) -> str:
    """A refusal in words."""
    status = f" ({refusal.status})" if refusal.status else ""
    return (
        f"{refusal.method or 'connection'} refused: {refusal.why}{status}, from {refusal.address}"
    )


def earlier(event: PhoneChange | Refusal) -> str:
    """What happened to a phone before, for a call that missed it."""
    if isinstance(event, Refusal):
        return (
            f"at {clock(event.when)[11:]} {event.method} from {event.address} refused: {event.why}"
        )
    return f"{event.address} {REGISTRATIONS[event.what]} at {clock(event.when)[11:]}"


def length(seconds: int) -> str:
    """`61 s` as `1 min 1 s`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    units = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in units if number) or "0 s"


def change_in_words(change: PhoneChange) -> str:
    """A change of a registration in words."""
    device = f" ({change.device})" if change.device else ""
    was = f" after {length(change.seconds)}" if change.seconds is not None else ""
    return f"{change.number} {REGISTRATIONS[change.what]}{was}: {change.address}{device}"


def in_words(event: Event) -> str:
    """Any event in words, with its numbers."""
    if isinstance(event, Call):
        return f"{event.caller} -> {event.callee}: {words(event)}"
    if isinstance(event, Refusal):
        who = event.number or event.claims
        target = f" -> {event.callee}" if event.callee and event.callee != who else ""
        return f"{who}{target}: {refused(event)}".removeprefix(": ")
    if isinstance(event, Limit):
        return (
            f"{event.number} reached the limit of the call log: lines are missing for half an hour"
        )
    return change_in_words(event)


def as_text(found: Sequence[Row], zone: tzinfo | None = None) -> str:
    """A table of calls."""
    if not found:
        return "no calls"
    table = [(clock(row.when, zone), f"{row.caller} -> {row.callee}", row.result) for row in found]
    width = min(40, max(len(row[1]) for row in table))
    return "\n".join(f"{when}  {who:<{width}}  {what}" for when, who, what in table)


def as_data(found: Iterable[Row]) -> list[dict[str, Any]]:
    """Calls as data, with times in seconds since 1970."""
    return [{"result": row.result, **_data(row)} for row in found]


def _data(row: Row) -> Mapping[str, Any]:
    values = asdict(row.event)
    if isinstance(row.event, Refusal):
        return {"event": "refused", **values}
    return {"event": "call", **values}


def as_csv(found: Iterable[Row]) -> str:
    """Calls as CSV with a heading; no cell begins as a formula of a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in found:
        values = asdict(row.event)
        own = {"began": int(row.when), "from": row.caller, "to": row.callee, "result": row.result}
        writer.writerow([_cell({**values, **own}.get(column)) for column in _COLUMNS])
    return text.getvalue().rstrip("\n")


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
