"""Dialogs (RFC 3261 section 12), and the SDP that a browser sends in one.

This module owns the target and the sequence of requests in a dialog. It never sends.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sipdeploy.sip.message import Message, Reply, Request, parameter, token, uri_of


@dataclass(slots=True, kw_only=True)
class Dialog:
    """The view of one side; only `sequence` and `remote_target` change over time."""

    call_id: str
    local: str  # our From or To value, tag included
    remote: str
    remote_target: str  # URI of the peer's Contact
    routes: tuple[str, ...] = ()
    sequence: int = 0
    remote_sequence: int = 0

    @classmethod
    def of_caller(cls, request: Request, reply: Reply) -> Dialog:
        """The view of the caller after a reply with a To tag (section 12.1.2)."""
        return cls(
            call_id=request.call_id,
            local=request.header("From"),
            remote=reply.header("To"),
            remote_target=_contact(reply) or request.uri,
            routes=tuple(reversed(reply.items("Record-Route"))),
            sequence=request.cseq[0],
        )

    @classmethod
    def of_callee(cls, request: Request, tag: str) -> Dialog:
        """The view of the callee, which answers with `tag` (section 12.1.1)."""
        return cls(
            call_id=request.call_id,
            local=f"{request.header('To')};tag={tag}",
            remote=request.header("From"),
            remote_target=_contact(request) or uri_of(request.header("From")),
            routes=tuple(request.items("Record-Route")),
            remote_sequence=request.cseq[0],
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """Call-ID, local tag and remote tag, which identify the dialog of a request."""
        return self.call_id, parameter(self.local, "tag"), parameter(self.remote, "tag")

    def next_hop(self) -> tuple[str, tuple[str, ...]]:
        """Request-URI and Route values of the next request (section 12.2.1.1)."""
        if not self.routes or _is_loose(self.routes[0]):
            return self.remote_target, self.routes
        return uri_of(self.routes[0]), (*self.routes[1:], f"<{self.remote_target}>")

    def refresh(self, message: Request | Reply) -> None:
        """Update the remote target from a re-INVITE, an UPDATE or their 2xx (section 12.2)."""
        self.remote_target = _contact(message) or self.remote_target

    def copy(self) -> Dialog:
        """A copy with its own sequence, for tests that forge requests in the dialog."""
        return replace(self)


def _contact(message: Message) -> str:
    return uri_of(next(iter(message.items("Contact")), ""))


def _is_loose(route: str) -> bool:
    return bool(re.search(r";lr(?=[;=]|\Z)", uri_of(route)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdp:
    """An audio description as a browser writes it (RFC 8829), for signalling without media."""

    setup: str = "actpass"  # "active" in an answer
    direction: str = "sendrecv"
    address: str = "192.0.2.10"  # of the only candidate, where nothing listens
    port: int = 40000
    version: int = 1
    session: str = field(default_factory=lambda: str(secrets.randbits(62)))
    fingerprint: str = field(default_factory=lambda: secrets.token_bytes(32).hex(":").upper())
    ufrag: str = field(default_factory=lambda: token(8))
    password: str = field(default_factory=lambda: token(24))

    def __str__(self) -> str:
        """The description with CRLF line ends: opus, PCMU and telephone-event over DTLS."""
        return "".join(f"{line}\r\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from ("v=0", f"o=- {self.session} {self.version} IN IP4 127.0.0.1", "s=-", "t=0 0")
        yield from ("a=group:BUNDLE 0", "a=msid-semantic: WMS")
        yield f"m=audio {self.port} UDP/TLS/RTP/SAVPF 111 0 126"
        yield from (f"c=IN IP4 {self.address}", f"a=rtcp:{self.port} IN IP4 {self.address}")
        yield f"a=candidate:1 1 udp 2113937151 {self.address} {self.port} typ host generation 0"
        yield from (f"a=ice-ufrag:{self.ufrag}", f"a=ice-pwd:{self.password}")
        yield from (f"a=fingerprint:sha-256 {self.fingerprint}", f"a=setup:{self.setup}")
        yield from ("a=mid:0", f"a={self.direction}", "a=rtcp-mux")
        yield from ("a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1")
        yield from ("a=rtpmap:0 PCMU/8000", "a=rtpmap:126 telephone-event/8000")
        yield f"a=ssrc:{int(self.session) % 2**32} cname:{self.ufrag}"
