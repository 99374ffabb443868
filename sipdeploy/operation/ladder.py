"""The SIP of one user as a ladder of text. Kamailio leaves out digests and bodies."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.operation.journal import KAMAILIO, TRACE, Entry, clock, mapping

PROXY = "Kamailio"
WIDTH = 23
MARGIN = 16
MOST_LANES = 12
MOST_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that Kamailio received (`is_in`) from, or sent to, `hop`."""

    when: float
    is_in: bool
    hop: str
    what: str
    caller: str
    callee: str
    cseq: str
    id: str
    why: str = ""
    has_digest: bool = False
    has_sdp: bool = False


def messages(entries: Iterable[Entry]) -> Iterator[Message]:
    """The traced messages among entries."""
    for entry in entries:
        row = mapping(entry.text) if entry.program == TRACE and entry.unit == KAMAILIO else {}
        if row.get("event") != "sip":
            continue
        text = {key: shown_line(str(value))[:MOST_LENGTH] for key, value in row.items()}
        hop = text.get("hop", "?")
        yield Message(
            when=entry.when,
            is_in=row.get("way") == "in",
            hop="Asterisk" if hop == "asterisk" else hop,
            what=text.get("what", "?"),
            caller=text.get("from", "?"),
            callee=text.get("to", "?"),
            cseq=text.get("cseq", ""),
            id=text.get("id", ""),
            why=text.get("why", ""),
            has_digest=row.get("digest") is True,
            has_sdp=row.get("sdp") is True,
        )


def draw(found: Sequence[Message], zone: tzinfo | None = None) -> str:
    """The ladder: a lane for Kamailio and each of its peers, an arrow for each message."""
    lanes = _lanes(found)
    heads = "".join(f"{name[: WIDTH - 2]:<{WIDTH}}" for name in lanes)
    rows = [" " * MARGIN + heads.rstrip()]
    last = ""
    for message in found:
        if message.id != last:
            rows.append(_row("", _title(message)))
            last = message.id
        rows.append(_row(clock(message.when, zone, is_exact=True)[11:], _arrow(lanes, message)))
        if message.why:
            rows.append(_row("", f"    Reason: {message.why}"))
    return "\n".join(rows)


def _lanes(found: Sequence[Message]) -> list[str]:
    """The first peer, Kamailio, the other peers; Asterisk is the last."""
    peers = [name for name in dict.fromkeys(each.hop for each in found) if name != "Asterisk"]
    if len(peers) > MOST_LANES:
        peers = [*peers[:MOST_LANES], "others"]
    has_asterisk = any(each.hop == "Asterisk" for each in found)
    return [*peers[:1], PROXY, *peers[1:], *(["Asterisk"] if has_asterisk else [])]


def _title(message: Message) -> str:
    return f"--- {message.caller} -> {message.callee}, Call-ID {message.id}"


def _row(when: str, drawing: str) -> str:
    return f"{when:<{MARGIN - 2}}  {drawing}".rstrip()


def _arrow(lanes: Sequence[str], message: Message) -> str:
    """A line with `|` in each lane, and the arrow between Kamailio and the peer."""
    line = [" "] * (WIDTH * (len(lanes) - 1) + 1)
    for at in range(len(lanes)):
        line[at * WIDTH] = "|"
    hop = message.hop if message.hop in lanes else lanes[-1]
    peer, proxy = lanes.index(hop) * WIDTH, lanes.index(PROXY) * WIDTH
    left, right = min(peer, proxy), max(peer, proxy)
    goes_right = (proxy if message.is_in else peer) == right
    space = right - left - 3
    label = f" {_label(message)} "[:space]
    text = label.center(space, "-")
    line[left + 1 : right] = f"-{text}>" if goes_right else f"<{text}-"
    return "".join(line)


def _label(message: Message) -> str:
    marks = [
        name for name, has in (("digest", message.has_digest), ("SDP", message.has_sdp)) if has
    ]
    words = [message.what]
    method = message.cseq.partition(" ")[2]
    if message.what[:1].isdigit() and method != "INVITE":  # of a short exchange
        words = [message.what[:3], method]
    words += [f"+{mark}" for mark in marks]
    return " ".join(words)
