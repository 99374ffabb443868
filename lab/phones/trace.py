"""The SIP messages on the WebSocket of a phone, for assertions in tests.

It parses only the fields that a test reads; it is not a SIP parser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Direction = Literal["sent", "received"]

# compact header names (RFC 3261, section 7.3.3, and RFC 6665)
_COMPACT = {
    "call-id": "i",
    "contact": "m",
    "content-length": "l",
    "content-type": "c",
    "event": "o",
    "from": "f",
    "refer-to": "r",
    "supported": "k",
    "to": "t",
    "via": "v",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SipMessage:
    """One SIP request or response, as text."""

    at: float  # seconds since 1970
    direction: Direction
    text: str

    @property
    def start_line(self) -> str:
        """The first line."""
        return self.text.split("\r\n", 1)[0]

    @property
    def status(self) -> int | None:
        """The status of a response; None for a request."""
        first, _, rest = self.start_line.partition(" ")
        return int(rest[:3]) if first == "SIP/2.0" else None

    @property
    def method(self) -> str:
        """The method of a request, or of the request that a response answers."""
        if self.status is None:
            return self.start_line.split(" ", 1)[0]
        return self.header("CSeq").rpartition(" ")[2]

    @property
    def is_request(self) -> bool:
        """Whether it is a request."""
        return self.status is None

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self.header("Call-ID")

    @property
    def event(self) -> str:
        """The event package of a SUBSCRIBE or NOTIFY."""
        return self.header("Event").partition(";")[0].strip()

    @property
    def body(self) -> str:
        """The body."""
        return self.text.partition("\r\n\r\n")[2]

    def headers(self, name: str) -> list[str]:
        """Return all values of a header, in order; `name` is its long name in any case."""
        wanted = {name.lower(), _COMPACT.get(name.lower(), name.lower())}
        lines = self.text.partition("\r\n\r\n")[0].split("\r\n")[1:]
        split = (line.partition(":") for line in lines)
        return [value.strip() for key, _, value in split if key.strip().lower() in wanted]

    def header(self, name: str) -> str:
        """Return the first value of a header, or an empty text without one."""
        return next(iter(self.headers(name)), "")

    def __str__(self) -> str:
        arrow = "->" if self.direction == "sent" else "<-"
        return f"{self.at:.3f} {arrow} {self.start_line} [{self.header('CSeq')}]"


@dataclass(frozen=True, slots=True)
class Trace:
    """The messages of a phone, oldest first; filters return a shorter Trace."""

    messages: tuple[SipMessage, ...] = ()

    def sent(self) -> Trace:
        """Return the messages that the phone sent."""
        return Trace(tuple(m for m in self.messages if m.direction == "sent"))

    def received(self) -> Trace:
        """Return the messages that the phone received."""
        return Trace(tuple(m for m in self.messages if m.direction == "received"))

    def requests(self, method: str) -> Trace:
        """Return the requests with this method."""
        return Trace(tuple(m for m in self.messages if m.is_request and m.method == method))

    def responses(self, method: str, status: int | None = None) -> Trace:
        """Return the responses to this method, with `status` only those with this status."""
        answers = (m for m in self.messages if not m.is_request and m.method == method)
        return Trace(tuple(m for m in answers if status in (None, m.status)))

    def notifications(self, event: str) -> Trace:
        """Return the NOTIFY requests for this event."""
        notifies = self.requests("NOTIFY").messages
        return Trace(tuple(m for m in notifies if m.event == event))

    def of_call(self, call_id: str) -> Trace:
        """Return the messages with this Call-ID."""
        return Trace(tuple(m for m in self.messages if m.call_id == call_id))

    def since(self, at: float) -> Trace:
        """Return the messages from this time on, in seconds since 1970."""
        return Trace(tuple(m for m in self.messages if m.at >= at))

    def __len__(self) -> int:
        return len(self.messages)

    def __getitem__(self, index: int) -> SipMessage:
        return self.messages[index]

    def __str__(self) -> str:
        return "\n".join(map(str, self.messages))


def trace_of(entries: Iterable[dict[str, Any]]) -> Trace:
    """Return the trace that the page recorded."""
    return Trace(tuple(SipMessage(**entry) for entry in entries))
