"""A fixed network delay between this machine and a host.

A process joins two TAP devices and delays each frame by half the round trip. One device is in the
bridge of the lab; the other replaces the interface of the host until the context ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from lab.machine import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.hosts import Host

_ROOT = Path(__file__).resolve().parent.parent
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
_FRAME_BYTES = 65536
_ASIDE = "aside0"


@contextlib.contextmanager
def distance(host: Host, *, round_trip_seconds: float) -> Iterator[None]:
    """Delay each frame to and from the host by half of `round_trip_seconds`; 0 changes nothing."""
    if round_trip_seconds <= 0:
        yield
        return
    network, namespace = host.network, host.network.namespace(host.name)
    near, far = f"{network.name}-n", f"{network.name}-f"
    taps = [_tap(near), _tap(far)]
    relay = None
    try:
        run("ip", "link", "set", near, "master", network.name, "up")
        run("ip", "link", "set", far, "netns", namespace)
        _swap(host, namespace, "eth0", _ASIDE, far)
        relay = subprocess.Popen(
            [sys.executable, "-m", "lab.distance", *map(str, taps), str(round_trip_seconds / 2)],
            pass_fds=taps,
            cwd=_ROOT,
        )
        yield
    finally:
        if relay is not None:
            relay.kill()
            relay.wait()
        for tap in taps:
            os.close(tap)  # removes the device
        if host.is_running:
            _back(host, namespace)


def _tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP_WITHOUT_HEADER))
    return tap


def _swap(host: Host, namespace: str, name: str, aside: str, new: str) -> None:
    """Replace a device by another, with the same name, MAC address and IP address."""
    for command in (
        f"link set {name} down",
        f"link set {name} name {aside}",
        f"addr flush dev {aside}",
        f"link set {new} name {name} address {host.hardware_address}",
        f"addr add {host.address}/24 dev {name}",
        f"link set {name} up",
        f"route replace default via {host.network.address}",
    ):
        run("ip", "-netns", namespace, *command.split())


def _back(host: Host, namespace: str) -> None:
    for command in (
        f"link set {_ASIDE} name eth0",
        f"addr add {host.address}/24 dev eth0",
        "link set eth0 up",
        f"route replace default via {host.network.address}",
    ):
        run("ip", "-netns", namespace, *command.split())


def relay(near: int, far: int, seconds: float) -> None:
    """Forward frames in both directions, each after `seconds`, until the process ends."""
    waiting: deque[tuple[float, int, bytes]] = (
        deque()
    )  # sorted by time, because all have the same delay
    other = {near: far, far: near}
    poll = select.poll()
    for tap in other:
        os.set_blocking(tap, False)
        poll.register(tap, select.POLLIN)
    while True:
        left = None if not waiting else max(0.0, waiting[0][0] - time.monotonic())
        # poll has a resolution of 1 ms: poll without sleeping during the last one
        timeout = None if left is None else (int(left * 1000) if left > 0.001 else 0)  # noqa: PLR2004
        for tap, _ in poll.poll(timeout):
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame = os.read(tap, _FRAME_BYTES)
                    waiting.append((time.monotonic() + seconds, other[tap], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, tap, frame = waiting.popleft()
            with contextlib.suppress(OSError):  # the device is down
                os.write(tap, frame)


if __name__ == "__main__":
    relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
