"""The lines of all daemons, merged by time; lines about closed connections are folded."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from sipdeploy.diagnostics import count
from sipdeploy.operation import events
from sipdeploy.operation.calls import in_words
from sipdeploy.operation.journal import Entry, clock

# Kamailio logs errors when a phone leaves without saying so: a closed tab, a lost network.
_NOISE = re.compile(
    r"[A-Z]+: (<core>|tls|websocket) \[[a-z0-9_/.:]+\]: "
    r"(tcp_read_data|tcp_read_req|tcp_read_hdr|tls_read_f|tls_h_read_f|handle_io|tls_err_ret"
    r"|tcpconn_do_send|tcpconn_1st_send|tcp_send|tls_h_encode_f|tls_encode_f|_tcpconn_write_nb"
    r"|handle_tcpconn_ev|msg_send|msg_send_buffer|wbufq_run|tls_shutdown|encode_and_send_ws_frame"
    r"|close_connection|ping_pong|tls_accept|tls_log_errors)\(\): "
)
_CLOSED = re.compile(
    r"reset by peer|Broken pipe|error reading|-> \[|EOF|unexpected eof|shutdown|connection closed"
    r"|timed out|error on|failed to send|bad state|closing|SSL_ERROR|protocol is shutdown"
    r"|error writing|connection get failed|sending keepalive|send failed|no route to host",
    re.IGNORECASE,
)
_LEVEL = re.compile(r"(ALERT|BUG|CRITICAL|ERROR|WARNING|NOTICE|DEBUG): ")
FOLD_SECONDS = 2.0
MOST_NAME = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the merged log."""

    when: float
    source: str
    text: str
    event: events.Event | None = None


def lines(
    entries: Iterable[Entry], *, number: str = "", call: str = "", is_masked: bool = False
) -> Iterator[Line]:
    """The lines, of a number and a call if given."""
    for entry in entries:
        event = events.parse(entry)
        if not _is_asked(entry, event, number, call):
            continue
        if event is None:
            yield Line(when=entry.when, source=_source(entry), text=entry.text)
        else:
            shown = events.masked(event) if is_masked else event
            yield Line(when=entry.when, source="calls", text=in_words(shown), event=event)


def _is_asked(entry: Entry, event: events.Event | None, number: str, call: str) -> bool:
    if event is None:
        has_number = not number or re.search(rf"(?<!\w){re.escape(number)}(?!\w)", entry.text)
        return bool(has_number) and call in entry.text
    if number and not events.concerns(event, number):
        return False
    return not call or getattr(event, "id", "") == call


def _source(entry: Entry) -> str:
    """`kamailio`, `asterisk`, `certbot`, `systemd`, or the name of another program."""
    return (entry.program or entry.unit.removesuffix(".service"))[:MOST_NAME]


def noise(line: Line) -> str:
    """What Kamailio says in a line that is worth no line of its own; empty if it is worth one."""
    if line.source != "kamailio":
        return ""
    if (name := _NOISE.match(line.text)) and _CLOSED.search(line.text, name.end()):
        return "a connection has closed"
    # what it prints when it starts has no level
    return "" if _LEVEL.match(line.text) else "for information"


def folded(found: Iterable[Line]) -> Iterator[Line]:
    """The lines, with neighbours of the same noise as one."""
    kept: list[Line] = []
    for line in found:
        kind = noise(line)
        is_next = kept and kind == noise(kept[0]) and line.when - kept[-1].when <= FOLD_SECONDS
        if kept and not is_next:
            yield _fold(kept)
            kept = []
        if kind:
            kept.append(line)
        else:
            yield line
    if kept:
        yield _fold(kept)


def _fold(kept: Sequence[Line]) -> Line:
    text = f"{noise(kept[0])} ({count(len(kept), 'line')}, see -v)"
    return Line(when=kept[0].when, source="kamailio", text=text)


def as_text(line: Line, zone: tzinfo | None = None) -> str:
    """`2026-11-27 10:14:03.120  kamailio  ...`."""
    return f"{clock(line.when, zone, is_exact=True)}  {line.source:<9}  {line.text}"
