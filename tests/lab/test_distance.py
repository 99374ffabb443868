"""The network delay that the benchmark adds between this machine and a host."""

import socket
import subprocess
import time

import pytest
from system import packages_of

from lab.distance import distance

pytestmark = pytest.mark.lab


def round_trip(host):
    """Return the shortest time of eleven refused connections, in seconds.

    It uses a closed port, because sshd penalises clients that connect and send nothing.
    """
    times = []
    for _ in range(11):
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host.address, 9), timeout=5)
        times.append(time.monotonic() - began)
    return min(times)  # of a busy machine too


def test_frames_are_held_and_none_is_lost(lab):
    host = lab.boot("far1", packages=packages_of("sid"))
    for seconds in (0.05, 0.1):
        with distance(host, round_trip_seconds=seconds):
            assert seconds <= round_trip(host) < seconds + 0.02
            ssh = ["ssh", "-F", str(lab.ssh_config), host.name, "sha256sum"]
            data = bytes(range(256)) * 20_000
            done = subprocess.run(ssh, input=data, capture_output=True, check=True)
            here = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True)
            assert done.stdout == here.stdout
        assert round_trip(host) < 0.02
