"""Descriptions of a call's audio (SDP): what one of a peer says, and how ours is completed. Pure.

aiortc writes the parts of ICE, DTLS and codecs. This module adds one origin for the whole call
(RFC 3264 section 8), telephone events (RFC 4733), and the direction of an offer that holds.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_PROFILES = {"UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"}
_EVENTS = {101: 8000, 102: 48000}  # payload types of our offers; aiortc uses 0, 8, 9, 96
_STATIC = {0: "PCMU/8000", 8: "PCMA/8000", 9: "G722/8000"}  # need no rtpmap (RFC 3551)
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_MOST_CANDIDATES = 40  # of a stranger; Kamailio accepts as many
_MOST_HOST_CANDIDATES = 12  # of a machine with many bridges


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An address that one side can be reached at (RFC 8839 section 5.1)."""

    kind: str  # host, srflx, prflx or relay
    address: str
    port: int
    protocol: str = "udp"

    def __str__(self) -> str:
        """`host 203.0.113.10:10000`."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.kind} {host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Description:
    """The audio part of an SDP, read with care, as the SDP of a stranger."""

    text: str

    def values(self, name: str) -> list[str]:
        """The values of an attribute, those of the session first; "" where it has none."""
        return re.findall(rf"^a={re.escape(name)}(?::([^\r\n]*))?\r?$", self._audio, re.MULTILINE)

    @property
    def _audio(self) -> str:
        """The session and the first audio, without other media."""
        session, *media = re.split(r"^(?=m=)", self.text, flags=re.MULTILINE)
        return session + next((part for part in media if part.startswith("m=audio ")), "")

    @property
    def profile(self) -> str:
        """`UDP/TLS/RTP/SAVPF` for WebRTC; empty without audio, or where it is refused (port 0)."""
        match = re.search(r"^m=audio ([0-9]+)(?:/[0-9]+)? (\S+)", self._audio, re.MULTILINE)
        return match[2] if match and int(match[1]) else ""

    @property
    def direction(self) -> str:
        """One of the four directions; `sendrecv` if none is written."""
        return next((way for way in _DIRECTIONS if self.values(way)), "sendrecv")

    @property
    def setup(self) -> str:
        """The role in DTLS: active, passive or actpass."""
        return next(iter(reversed(self.values("setup"))), "")

    @property
    def candidates(self) -> list[Candidate]:
        """The candidates that can be read."""
        found = (
            re.match(r"\S+ \d+ (\S+) \d+ (\S+) (\d+) typ (\w+)", value)
            for value in self.values("candidate")
        )
        return [
            Candidate(kind=m[4], address=m[2], port=int(m[3]), protocol=m[1].lower())
            for m in found
            if m
        ]

    @property
    def codecs(self) -> dict[int, str]:
        """Names and clocks by payload type, the preferred first; with telephone events."""
        found = (re.match(r"(\d+) ([\w-]+/\d+)", value) for value in self.values("rtpmap"))
        names = _STATIC | {int(m[1]): m[2] for m in found if m}
        match = re.search(r"^m=audio \S+ \S+((?: \d+)+)", self._audio, re.MULTILINE)
        order = [int(kind) for kind in match[1].split()] if match else []
        return {kind: names[kind] for kind in order if kind in names}

    @property
    def events(self) -> dict[int, int]:
        """The clocks of telephone events by payload type."""
        parts = ((kind, name.lower().partition("/")) for kind, name in self.codecs.items())
        return {kind: int(clock) for kind, (name, _, clock) in parts if name == "telephone-event"}

    def defects(self, *, is_answer: bool) -> list[str]:
        """Why no browser takes this description: one clause for each reason."""
        return list(self._defects(is_answer=is_answer))

    def _defects(self, *, is_answer: bool) -> Iterator[str]:
        if not self.profile:
            yield "it has no audio"
            return
        if self.profile not in _PROFILES:
            yield f"its audio is {self.profile}, not DTLS-SRTP (UDP/TLS/RTP/SAVPF)"
        if not self.values("fingerprint"):
            yield "it has no DTLS fingerprint"
        if not self.values("ice-ufrag") or not self.values("ice-pwd"):
            yield "it has no ICE user and password"
        if not self.candidates:
            yield "it has no ICE candidate"
        if len(self.candidates) > _MOST_CANDIDATES:  # each would get packets from this machine
            yield f"it has {len(self.candidates)} ICE candidates"
        if not self.values("rtcp-mux"):
            yield "it has no rtcp-mux"
        if is_answer and self.setup not in {"active", "passive"}:
            yield f"its DTLS role is `{self.setup}`, where an answer says active or passive"


def completed(
    text: str,
    *,
    session: str,
    version: int,
    direction: str = "",
    events: dict[int, int] | None = None,
) -> str:
    """Our description with its origin, its telephone events, and in an offer a direction.

    `events` is None for an offer, which has them all; an answer has those of the offer.
    """
    described = Description(text)
    if events is None:
        events = {} if described.events else _EVENTS
    lines = _without_excess(text.splitlines())
    return "".join(
        f"{line}\r\n"
        for old in lines
        for line in _completed(old, session, version, direction, events)
    )


def _completed(
    line: str, session: str, version: int, direction: str, events: dict[int, int]
) -> Iterator[str]:
    if line.startswith("o="):
        yield f"o=- {session} {version} IN IP4 127.0.0.1"
    elif line.startswith("m="):
        yield " ".join([line, *map(str, events)])
    elif direction and line.removeprefix("a=") in _DIRECTIONS:
        yield f"a={direction}"
    elif direction and line.startswith("a=setup:"):
        yield "a=setup:actpass"
    elif line.startswith("a=fingerprint:") and "sha-256" not in line:
        return  # Asterisk logs a warning about each of them
    elif line.startswith("a=rtcp-mux"):
        yield line
        for kind, clock in events.items():
            yield f"a=rtpmap:{kind} telephone-event/{clock}"
            yield f"a=fmtp:{kind} 0-16"
    else:
        yield line


def _without_excess(lines: Sequence[str]) -> Iterator[str]:
    hosts = 0
    for line in lines:
        is_host = line.startswith("a=candidate:") and " typ host" in line
        hosts += is_host
        if not is_host or hosts <= _MOST_HOST_CANDIDATES:
            yield line
