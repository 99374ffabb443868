"""`python -m bench relay`: calls through the relay: processor time of coturn, loss, delay.

A host after `apply` with `turn: {}`, and calls of 50 packets a second in each direction, as opus
sends them. The host has one processor of this machine and the phones another. A call takes one
relay where only one of its phones needs it, and two where both do.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import statistics
import struct
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.sip import DOMAIN, about_machine, apply, packages, processor_seconds, processors
from lab import Lab
from lab.nat import clients, public_address
from lab.turn import Turn
from sipdeploy.inventory.secret import ha1
from sipdeploy.services.coturn.credentials import turn_credential

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.hosts import Host

FIRST = 20_000
UNITS = ("coturn",)
PORT = 3478
CHANNEL = 0x4000
PACKET_SECONDS = 0.02
SLICES = 4  # the calls do not send all at the same moment
END_SECONDS = 3
FORGET_SECONDS = 5  # until coturn takes a port again whose allocation has ended
PAYLOAD = 128  # bytes of a packet: opus at 40 kbit/s, RTP and SRTP
_STAMP = struct.Struct("!d")
_HEAD = struct.Struct("!HH")
_MORE = "turn: {}\n"


@dataclass(slots=True)
class Leg:
    """One phone of a call: its socket, and how it sends to the other."""

    wire: socket.socket
    relay: Turn | None = None
    peer: tuple[str, int] = ("", 0)

    def send(self, content: bytes) -> None:
        """Send to the other phone, through the relay if there is one."""
        if self.relay is None:
            self.wire.sendto(content, self.peer)
        else:  # ChannelData (RFC 8656, section 12.4)
            self.wire.send(_HEAD.pack(CHANNEL, len(content)) + content)

    def content(self, packet: bytes) -> bytes:
        """What the other phone has sent; empty for another message of the relay."""
        if self.relay is None:
            return packet
        return packet[4:] if packet[:1] == b"\x40" else b""


@dataclass(slots=True)
class Tally:
    """What was sent and what arrived, with its delay in seconds."""

    sent: int = 0
    delays: list[float] = field(default_factory=list)


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench relay", description=__doc__)
    parser.add_argument("--calls", type=int, default=100, help="at once, default %(default)s")
    parser.add_argument("--seconds", type=float, default=20, help="of calls, default %(default)s")
    options = parser.parse_args(arguments)
    one, other = processors()
    os.sched_setaffinity(0, {one})  # for all processes of the host, which inherit it
    numbers = [str(FIRST + number) for number in range(options.calls)]
    users = [(number, f"bench{number}Zq8Kd2xW") for number in numbers]
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        host = lab.boot("bench-relay", packages=packages(_MORE))
        public = public_address(host.network, int(host.address.rsplit(".", 1)[1]))
        host.run(f"ip addr add {public}/24 dev eth0", check=True)
        place = f"{{address: {host.address}, public_address: {public}}}"
        apply(lab, host, folder, users, place=place, more=_MORE, proof="none")
        os.sched_setaffinity(0, {other})
        with clients(host.network, []):
            about = f"{options.calls} calls of {options.seconds:g} s; {about_machine()}"
            sys.stdout.write(f"{about}\n\n")
            for relays in (1, 2):
                _measure(host, public, users, relays, options.seconds)
                time.sleep(FORGET_SECONDS)


def _measure(
    host: Host, public: str, users: Sequence[tuple[str, str]], relays: int, seconds: float
) -> None:
    with ExitStack() as stack:
        legs = [leg for user in users for leg in _call(stack, host, public, user, relays)]
        coturn, whole = processor_seconds(host, UNITS)
        tally = _talk(legs, seconds)
        coturn, whole = (after - before for after, before in zip(
            processor_seconds(host, UNITS), (coturn, whole), strict=True
        ))  # fmt: skip
    calls = len(legs) // 2
    lost = 100 * (1 - len(tally.delays) / tally.sent)
    centiles = statistics.quantiles(tally.delays, n=100)
    sys.stdout.write(
        f"{relays} relay{'s' * (relays > 1)} a call: {tally.sent / seconds:.0f} packets/s sent, "
        f"lost {lost:.3f} %, delay {centiles[49] * 1000:.2f} ms (p99 {centiles[98] * 1000:.2f})\n"
        f"  coturn {100 * coturn / seconds:.1f} % of a core, {100 * coturn / seconds / calls:.3f} "
        f"% a call; the whole host {100 * whole / seconds:.1f} %\n"
    )


def _call(
    stack: ExitStack, host: Host, public: str, user: tuple[str, str], relays: int
) -> tuple[Leg, Leg]:
    here = public_address(host.network, 1)
    name, key = turn_credential(user[0], ha1(user[0], DOMAIN, user[1]))
    turns = [
        stack.enter_context(Turn(server=(public, PORT), username=name, password=key))
        for _ in range(relays)
    ]
    places = [turn.relayed() for turn in turns]
    legs = [Leg(turn.wire, turn) for turn in turns]
    if relays == 1:
        plain = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        plain.bind((here, 0))
        legs.append(Leg(plain, peer=places[0]))
        places.append(plain.getsockname())
    for turn, place in zip(turns, reversed(places), strict=False):
        if error := turn.bind(*place, channel=CHANNEL):
            raise SystemExit(f"the relay refuses the channel to {place}: {error}")
    for leg in legs:
        leg.wire.setblocking(False)
        stack.callback(leg.wire.settimeout, END_SECONDS)  # for the end of its allocation
    return legs[0], legs[1]


def _talk(legs: Sequence[Leg], seconds: float) -> Tally:
    """Send and receive for so long, and receive for a moment more."""
    tally = Tally()
    ready = selectors.DefaultSelector()
    for leg in legs:
        ready.register(leg.wire, selectors.EVENT_READ, leg)
    padding = b"\0" * (PAYLOAD - _STAMP.size)
    begun = time.monotonic()
    tick = 0
    while (now := time.monotonic()) < begun + seconds:
        due = begun + tick * PACKET_SECONDS / SLICES
        if now < due:
            _receive(ready, tally, due - now)
            continue
        for leg in legs[tick % SLICES :: SLICES]:
            leg.send(_STAMP.pack(time.monotonic()) + padding)
            tally.sent += 1
        tick += 1
    while time.monotonic() < begun + seconds + 0.5:
        _receive(ready, tally, 0.1)
    ready.close()
    return tally


def _receive(ready: selectors.BaseSelector, tally: Tally, seconds: float) -> None:
    for key, _ in ready.select(seconds):
        leg: Leg = key.data
        try:
            while True:
                content = leg.content(leg.wire.recv(2048))
                if content:
                    (sent,) = _STAMP.unpack_from(content)
                    tally.delays.append(time.monotonic() - sent)
        except BlockingIOError:
            continue
