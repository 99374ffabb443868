"""The NAT of the lab does to packets what its kinds promise, and nothing of it stays."""

import json
import socket
import subprocess
from pathlib import Path

import pytest

from lab import Lab, why_not
from lab.nat import clients, public_address

pytestmark = pytest.mark.lab

# Sends from one socket to each port, and prints [the answers, the answers to a TCP connection].
ASK = """\
import json, socket, sys
host, first, second, web, other = sys.argv[1], *map(int, sys.argv[2:])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(1)
udp.bind(("", 40000))
seen = []
for port in (first, second):
    udp.sendto(b"?", (host, port))
    try:
        seen.append(udp.recv(99).decode())
    except TimeoutError:
        seen.append("")
def reaches(port):
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True
print(json.dumps([seen, reaches(web), reaches(other)]))
"""


@pytest.fixture(scope="module")
def seen():
    """Kind -> what two UDP servers saw as sender, and which TCP ports were reached."""
    if reason := why_not():
        pytest.skip(reason)
    kinds = ("open", "cone", "symmetric", "no-udp", "web")
    with Lab() as lab, clients(lab.network, kinds) as made:
        host = public_address(lab.network, 1)
        yield {client.kind: ask(client, host) for client in made}
    assert not names(lab)


def names(lab):
    """The namespaces of a lab."""
    return sorted(path.name for path in Path("/run/netns").glob(f"{lab.network.name}-*"))


def ask(client, host):
    web = socket.create_server((host, 8443))
    other = socket.create_server((host, 0))
    udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    with web, other, udp[0], udp[1]:
        for each in udp:
            each.bind((host, 0))
            each.settimeout(5)
        ports = [str(each.getsockname()[1]) for each in (*udp, web, other)]
        command = ["ip", "netns", "exec", client.namespace, "python3", "-c", ASK, host, *ports]
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for each in udp:
            try:
                _, sender = each.recvfrom(99)
                each.sendto(f"{sender[0]}:{sender[1]}".encode(), sender)
            except TimeoutError:
                pass
        return json.loads(asking.communicate(timeout=20)[0])


def test_a_client_without_nat_shows_its_own_address(seen):
    (one, two), web, other = seen["open"]
    assert one == two
    assert one.startswith("11.77.")
    assert one.endswith(":40000")
    assert (web, other) == (True, True)


def test_a_cone_has_one_mapping_for_all_destinations(seen):
    (one, two), *tcp = seen["cone"]
    assert one == two != ""
    assert tcp == [True, True]


def test_a_symmetric_nat_has_a_mapping_for_each_destination(seen):
    (one, two), *tcp = seen["symmetric"]
    assert "" not in (one, two)
    assert one != two
    assert one.split(":")[0] == two.split(":")[0]
    assert tcp == [True, True]


def test_a_network_without_udp_has_only_tcp(seen):
    assert seen["no-udp"] == [["", ""], True, True]


def test_a_network_for_the_web_has_only_the_ports_of_the_web(seen):
    assert seen["web"] == [["", ""], True, False]


def test_the_namespaces_go_with_a_failure():
    if reason := why_not():
        pytest.skip(reason)
    with Lab() as lab:
        with pytest.raises(KeyError), clients(lab.network, ("cone",)):
            raise KeyError
        assert not names(lab)
