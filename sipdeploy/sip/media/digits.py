"""Digits as telephone events (RFC 4733), in place of the packets of a running audio stream. Pure.

While a digit is sent, each packet of audio becomes an event with the same sequence number, as
browsers do it: the receiver sees one stream without a gap.
"""

import struct
from collections import deque
from dataclasses import dataclass, field

_EVENTS = "0123456789*#ABCD"
_EVENT_PACKETS, _END_PACKETS, _PAUSE_PACKETS = 8, 3, 6  # of 20 ms each
_VOLUME = 10  # dBm0 below zero
_END = 0x80
_MARKER = 0x80
_RTCP = range(64, 96)  # payload types of RTCP in the same stream (RFC 5761 section 4)


@dataclass(slots=True)
class Digits:
    """The digits that wait, as what becomes of the next packets."""

    payload_type: int = -1  # as negotiated; -1: the peer takes no events
    clock: int = 8000
    _next: deque[tuple[int, int] | None] = field(default_factory=deque)  # event and its packet
    _timestamp: int = 0  # of the event, the same in all its packets

    @property
    def is_sending(self) -> bool:
        """Whether packets are still to be replaced."""
        return bool(self._next)

    def send(self, digits: str) -> None:
        """Queue digits; ValueError for a character that is none, or without negotiated events."""
        if self.payload_type < 0:
            raise ValueError("the peer takes no telephone events")
        for digit in digits:
            event = _EVENTS.index(digit)
            self._next += [(event, n + 1) for n in range(_EVENT_PACKETS + _END_PACKETS)]
            self._next += [None] * _PAUSE_PACKETS

    def replaced(self, packet: bytes) -> bytes:
        """The packet to send instead of this one of RTP or RTCP."""
        if not self._next or packet[1] & 0x7F in _RTCP:
            return packet
        place = self._next.popleft()
        if place is None:
            return packet
        event, number = place
        sequence, timestamp, source = struct.unpack("!HLL", packet[2:12])
        if number == 1:
            self._timestamp = timestamp
        marked = self.payload_type | (_MARKER if number == 1 else 0)
        header = struct.pack("!BBHLL", 0x80, marked, sequence, self._timestamp, source)
        flags = _VOLUME | (_END if number > _EVENT_PACKETS else 0)
        duration = min(number, _EVENT_PACKETS) * self.clock // 50
        return header + struct.pack("!BBH", event, flags, duration)
