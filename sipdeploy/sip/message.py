"""SIP messages as values, parsed from text and written as text (RFC 3261 section 7).

This module uses neither sockets nor clocks.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]

# RFC 3261 section 7.3.3 and the later RFCs that registered a compact form.
_COMPACT = {
    "c": "Content-Type",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
}
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+\Z")
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2}) ?(.*)\Z")
_REQUEST_LINE = re.compile(r"([A-Za-z0-9.!%*_+`'~-]+) (\S+) SIP/2\.0\Z")


class MalformedMessage(ValueError):  # noqa: N818 - the name says what is wrong
    """The text is not a SIP message; the message of the exception shows the wrong part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The common part of requests and replies. Compact header names are in their long form."""

    headers: Headers = ()
    body: str = ""

    def values(self, name: str) -> list[str]:
        """The values of a header in order, one for each header line."""
        lower = name.lower()
        return [value for key, value in self.headers if key.lower() == lower]

    def header(self, name: str) -> str:
        """The first value of a header; empty if it is missing."""
        return next(iter(self.values(name)), "")

    def items(self, name: str) -> list[str]:
        """The values of a header, with comma-separated lists split (Via, Route, Contact)."""
        return [item for value in self.values(name) for item in split_list(value)]

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self.header("Call-ID")

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method of CSeq; (0, "") if it is malformed."""
        match = re.fullmatch(r"(\d+)\s+(\S+)", self.header("CSeq"))
        return (int(match[1]), match[2]) if match else (0, "")

    @property
    def branch(self) -> str:
        """The branch of the topmost Via."""
        return parameter(next(iter(self.items("Via")), ""), "branch")

    @property
    def from_tag(self) -> str:
        """The tag of From."""
        return parameter(self.header("From"), "tag")

    @property
    def to_tag(self) -> str:
        """The tag of To, empty outside a dialog."""
        return parameter(self.header("To"), "tag")

    def _text(self, first_line: str) -> str:
        lines = [first_line, *(f"{name}: {value}" for name, value in self.headers)]
        if not self.values("Content-Length"):
            lines.append(f"Content-Length: {len(self.body.encode())}")
        return "\r\n".join([*lines, "", self.body])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Message):
    """A request: method, request-URI, headers, body."""

    method: str
    uri: str

    def __str__(self) -> str:
        """The text on the wire; Content-Length is added where the headers have none."""
        return self._text(f"{self.method} {self.uri} SIP/2.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Message):
    """A reply: status (100 to 699), reason, headers, body."""

    status: int
    reason: str = ""

    def __str__(self) -> str:
        """The text on the wire; Content-Length is added where the headers have none."""
        return self._text(f"SIP/2.0 {self.status} {self.reason}")


def parse(text: str) -> Request | Reply:
    """Parse the SIP message of one WebSocket frame (RFC 7118 section 5), or MalformedMessage."""
    head, separator, body = text.partition("\r\n\r\n")
    if not separator:
        raise MalformedMessage("no empty line after the headers")
    first, *lines = head.split("\r\n")
    headers = tuple(_header(line) for line in _unfold(lines))
    body = _bounded(body, headers)
    if match := _STATUS_LINE.match(first):
        return Reply(status=int(match[1]), reason=match[2], headers=headers, body=body)
    if match := _REQUEST_LINE.match(first):
        return Request(method=match[1], uri=match[2], headers=headers, body=body)
    raise MalformedMessage(f"not a request or status line: {first[:80]!r}")


def _unfold(lines: Iterable[str]) -> list[str]:
    """Join continuation lines to the line before them (RFC 3261 section 7.3.1)."""
    joined: list[str] = []
    for line in lines:
        if line[:1] in {" ", "\t"} and joined:
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
    return joined


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name = name.rstrip(" \t")
    if not colon or not _TOKEN.match(name):
        raise MalformedMessage(f"not a header: {line[:80]!r}")
    return _COMPACT.get(name.lower(), name), value.strip()


def _bounded(body: str, headers: Headers) -> str:
    """The body of Content-Length bytes; without Content-Length, the rest of the frame."""
    length = next((value for name, value in headers if name.lower() == "content-length"), None)
    if length is None:
        return body
    raw = body.encode()
    if not length.isdigit() or int(length) > len(raw):
        raise MalformedMessage(f"Content-Length {length} but {len(raw)} bytes came")
    return raw[: int(length)].decode(errors="replace")


def split_list(value: str) -> list[str]:
    """Split a header value at commas outside quotes and angle brackets."""
    pieces = re.findall(r'(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,"<])+', value)
    return [piece.strip() for piece in pieces if piece.strip()]


def uri_of(address: str) -> str:
    """The URI of a From, To, Contact or Route value, without header parameters."""
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', "", address)
    if match := re.search(r"<([^>]*)>", unquoted):
        return match[1]
    return unquoted.split(";")[0].strip()


def parameter(address: str, name: str) -> str:
    """The value of a header parameter without quotes; empty if missing or without a value."""
    after = re.sub(r"^[^<]*<[^>]*>", "", re.sub(r'^\s*"(?:[^"\\]|\\.)*"', "", address))
    match = re.search(
        rf';\s*{re.escape(name)}\s*=\s*(?:"([^"]*)"|([^;,\s]+))', after, re.IGNORECASE
    )
    return (match[1] or match[2] or "") if match else ""


def with_headers(headers: Headers, changes: Mapping[str, str | None]) -> Headers:
    """The headers with `changes`: replaced in place, appended if new, removed for None."""
    new = {name.lower(): (name, value) for name, value in changes.items()}
    in_place = [new.pop(name.lower(), (name, value)) for name, value in headers]
    return tuple((name, value) for name, value in [*in_place, *new.values()] if value is not None)


def token(length: int = 10) -> str:
    """Random lower-case hex of `length` characters, for tags, branches and Call-IDs."""
    return secrets.token_hex((length + 1) // 2)[:length]
