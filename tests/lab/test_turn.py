"""The relay as an attacker meets it, with the coturn of each Debian release.

Each host has the files that an apply writes, but neither Kamailio nor Asterisk.
"""

import json
import socket
import subprocess
import time

import pytest

from lab.nat import public_address
from lab.turn import TCP_RELAY, Turn
from sipdeploy.inventory.site import load_site
from sipdeploy.services import coturn, file_set
from sipdeploy.services.coturn.credentials import turn_credential

pytestmark = pytest.mark.lab

SUITES = ("bullseye", "bookworm", "trixie", "sid")
PACKAGES = ("coturn", "nftables", "openssl")
HA1 = {"1001": "0" * 31 + "1", "1002": "0" * 31 + "2"}
RTP, SIP, OTHER = 10000, 5060, 9

# Sinks: each datagram that arrives becomes a line `ADDRESS PORT CONTENT`.
SINK = """\
import selectors, socket, sys
ready = selectors.DefaultSelector()
for place in sys.argv[1:]:
    host, port = place.rsplit(",", 1)
    sink = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind((host, int(port)))
    ready.register(sink, selectors.EVENT_READ, place)
print("ready", flush=True)
while True:
    for key, _ in ready.select():
        content, sender = key.fileobj.recvfrom(999)
        print(key.data, content.decode(), flush=True)
        if content == b"echo":
            key.fileobj.sendto(content, sender)
"""

# What nobody may reach through the relay.
DENIED = (
    *("127.0.0.1", "0.0.0.0", "169.254.169.254", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
    *("100.64.0.1", "198.51.100.1", "224.0.0.1", "255.255.255.255"),
    *("::1", "::", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "fe80::1"),
)
REFUSED = {400, 403, 443}  # malformed, forbidden, another IP version than the allocation


class Relay:
    """A host with coturn, a public and a private address."""

    def __init__(self, host):
        self.host = host
        octet = int(host.address.rsplit(".", 1)[1])
        self.public = public_address(host.network, octet)
        self.neighbour = host.network.address
        host.run(f"ip addr add {self.public}/24 dev eth0", check=True)

    def files(self, more="", users=HA1):
        text = (
            f"domain: sip.example.test\nemail: a@b.example\nturn: {{{more}}}\n"
            f"hosts: {{h: {{address: {self.public}}}}}\ntls: {{provider: self-signed}}\n"
            "users: {1001: {}, 1002: {}}\n"
        )
        site, problems, _ = load_site(text, "x")
        assert site, problems
        made = file_set(site, "h", versions=site.versions, credentials=users)
        return {file.path: file for file in made.files}

    def install(self, more="", *, edit=lambda text: text):
        made = self.files(more)
        for path in (coturn.CONFIGURATION, coturn.DATABASE, coturn.OVERRIDE):
            file = made[path]
            content = edit(file.content) if path == coturn.CONFIGURATION else file.content
            self.host.write(path, content, mode=file.mode)
            self.host.run(["chown", file.owner, path], check=True)
        self.host.write("/etc/sipdeploy/firewall.nft", made["/etc/sipdeploy/firewall.nft"].content)
        self.host.run("nft -f /etc/sipdeploy/firewall.nft", check=True)
        # systemd takes five starts in ten seconds, and quick tests make more
        again = "systemctl daemon-reload; systemctl reset-failed coturn; systemctl restart coturn"
        self.host.run(again, check=True)
        self.wait()

    def wait(self):
        for _ in range(50):
            if "5349" in self.host.run("ss -Hltn").stdout:
                return
            time.sleep(0.1)
        pytest.fail(self.host.run("journalctl -u coturn -n 30 --no-pager").stdout)

    def change_users(self, users):
        content = self.files(users=users)[coturn.DATABASE].content
        self.host.write(coturn.DATABASE, content, mode=0o640)
        self.host.run(["chown", coturn.OWNER, coturn.DATABASE], check=True)
        done = self.host.run([*coturn.RELOAD_USERS])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def client(self, number="1001", *, transport="udp", **more):
        name, password = turn_credential(number, HA1[number])
        port = 5349 if transport == "tls" else 3478
        values = {"username": name, "password": password, "transport": transport, **more}
        return Turn(server=(self.public, port), **values)

    def sink(self, *places):
        self.host.write("/root/sink.py", SINK.encode())
        words = " ".join(f"{address},{port}" for address, port in places)
        self.host.run("systemctl stop sink; rm -f /run/sink; true")
        self.host.run(
            "systemd-run -q --collect --unit sink -p StandardOutput=file:/run/sink"
            f" python3 /root/sink.py {words}",
            check=True,
        )
        for _ in range(50):
            if "ready" in self.host.run("cat /run/sink").stdout:
                return
            time.sleep(0.1)
        pytest.fail(self.host.run("journalctl -u sink --no-pager").stdout)

    def arrived(self):
        time.sleep(0.3)
        return self.host.run("cat /run/sink").stdout.splitlines()[1:]


@pytest.fixture(scope="module", params=SUITES)
def relay(request, lab):
    host = lab.boot(f"turn-{request.param}", suite=request.param, packages=PACKAGES)
    for name in ("kamailio", "asterisk"):
        host.run(f"useradd --system {name}", check=True)
    host.run(
        "mkdir -p /etc/kamailio/tls /etc/sipdeploy && chown root:kamailio /etc/kamailio/tls"
        " && chmod 750 /etc/kamailio/tls && echo secret >/etc/kamailio/sipdeploy.db",
        check=True,
    )
    certify(host, "first")
    made = Relay(host)
    made.install()
    yield made
    host.stop()


def certify(host, name):
    host.run(
        "cd /etc/kamailio/tls && openssl req -x509 -newkey ec -days 30 -nodes -out new.crt"
        " -pkeyopt ec_paramgen_curve:prime256v1"
        f" -keyout new.key -subj /CN={name} 2>/dev/null"
        " && chown root:kamailio new.* && chmod 640 new.key && mv new.key server.key"
        " && mv new.crt server.crt",
        check=True,
    )


def served(relay):
    port = f"{relay.public}:5349"
    ask = f"openssl s_client -connect {port} </dev/null | openssl x509 -noout -subject"
    return relay.host.run(ask).stdout.strip().rpartition("=")[2].strip()


def listening(address):
    """A socket of this machine, which is a neighbour of the host."""
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind((address, 0))
    wire.settimeout(1)
    return wire


def neighbour_in_public(relay):
    return public_address(relay.host.network, 1)


@pytest.fixture(autouse=True)
def machine_has_a_public_address(lab):
    """This machine is a peer with a public address."""
    place = f"{public_address(lab.network, 1)}/24 dev {lab.network.name}"
    subprocess.run(["ip", "addr", "replace", *place.split()], check=True)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_a_user_relays_to_media_of_the_host(relay, transport):
    """A phone in a network without UDP hears services."""
    relay.sink((relay.public, RTP))
    with relay.client(transport=transport) as client:
        host, port = client.relayed()
        assert host == relay.public
        assert 20001 <= port <= 30000
        assert client.permit(relay.public) == 0
        client.send(relay.public, RTP, b"echo")
        assert client.receive() == ((relay.public, RTP), b"echo")


def test_two_users_relay_to_each_other(relay):
    """Both phones are in networks without UDP."""
    with relay.client() as one, relay.client("1002", transport="tls") as two:
        here, there = one.relayed(), two.relayed()
        assert one.permit(relay.public) == two.permit(relay.public) == 0
        one.send(*there, b"hello")
        assert two.receive() == (here, b"hello")


def test_a_public_peer_is_reached(relay, lab):
    peer = (public_address(lab.network, 1), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire, relay.client() as client:
        wire.bind(peer)
        wire.settimeout(3)
        client.relayed()
        assert client.permit(peer[0]) == 0
        client.send(*wire.getsockname(), b"out")
        content, sender = wire.recvfrom(99)
        wire.sendto(b"back", sender)
        assert content == b"out"
        assert client.receive()[1] == b"back"


def test_nothing_is_relayed_to_what_is_not_public(relay):
    relay.sink(("127.0.0.1", OTHER), ("::1", OTHER), (relay.host.address, OTHER))
    with relay.client() as client:
        client.relayed()
        answers = {
            peer: (client.permit(peer, OTHER), client.bind(peer, OTHER, 0x4000 + number))
            for number, peer in enumerate((*DENIED, relay.host.address, relay.neighbour))
        }
        for peer in answers:
            client.send(peer, OTHER, b"attack")
    assert {p: a for p, a in answers.items() if not {*a} <= REFUSED} == {}
    assert relay.arrived() == []


@pytest.mark.parametrize("port", [SIP, 5062, 8443, 22, 3478, OTHER])
def test_of_the_host_only_media_is_reached(relay, port):
    """coturn permits the host by its address; the kernel decides by the port."""
    place = (relay.public, port)
    relay.sink(*([] if port == 3478 else [place]), (relay.public, RTP + 1))
    for target, content in ((place, b"attack"), ((relay.public, RTP + 1), b"media")):
        with relay.client() as client:
            client.relayed()
            assert client.permit(*target) == 0
            client.send(*target, content)
    assert relay.arrived() == [f"{relay.public},{RTP + 1} media"]


def test_the_kernel_denies_what_coturn_would_relay(relay):
    """Without any list of coturn, as if it misread every address."""

    def open_up(text):
        lines = [line for line in text.decode().splitlines() if "peer" not in line]
        return "\n".join([*lines, "allow-loopback-peers\n"]).encode()

    relay.install(edit=open_up)
    try:
        places = [("127.0.0.1", RTP), ("0.0.0.0", RTP + 2), (relay.host.address, RTP + 4)]
        relay.sink(*places, (relay.public, RTP + 6))
        peers = ("127.0.0.1", "127.9.9.9", relay.host.address)
        attacks = [(peer, port) for peer in peers for port in (RTP, RTP + 2, RTP + 4)]
        with listening(relay.neighbour) as near, listening(neighbour_in_public(relay)) as far:
            attacks.append(near.getsockname())
            for target in (*attacks, (relay.public, RTP + 6), far.getsockname()):
                with relay.client() as client:
                    client.relayed()
                    assert client.permit(*target) == 0
                    client.send(*target, b"attack" if target in attacks else b"media")
            assert relay.arrived() == [f"{relay.public},{RTP + 6} media"]
            assert far.recv(99) == b"media"
            with pytest.raises(TimeoutError):
                near.recv(99)
    finally:
        relay.install()


def test_nobody_relays_without_a_credential(relay):
    refused = {}
    for name, more in {
        "no password": {"password": ""},
        "the HA1": {"password": HA1["1001"]},
        "the password of another": {"password": turn_credential("1002", HA1["1002"])[1]},
        "nobody": {"username": "1009"},
        "no name": {"username": "", "password": ""},
        "another realm": {"realm": "example.org"},
        "injected": {"username": "1001' or '1'='1"},
    }.items():
        with relay.client(**more) as client:
            refused[name] = client.allocate().error
    assert set(refused.values()) <= {400, 401, 437, 441}, refused
    with relay.client() as client:
        assert client.permit("8.8.8.8") in (400, 401, 437, 441)  # without an allocation
        client.send(relay.public, RTP, b"x")


def test_only_udp_of_one_ip_version_is_relayed(relay):
    with relay.client() as client:
        assert client.allocate(relay=TCP_RELAY).error == 442
    with relay.client() as client:
        assert client.allocate(family=2).error == 440


def test_the_server_does_not_say_what_it_is(relay):
    with relay.client() as client:
        answer = client.allocate()
    software = answer.attributes.get(0x8022, b"None")  # which 4.5.2 sends instead of nothing
    assert software == b"None"
    assert 0x8028 in answer.attributes  # FINGERPRINT


def test_a_removed_user_gets_no_allocation(relay):
    pid = relay.host.run("systemctl show -p MainPID --value coturn").stdout
    with relay.client() as kept, relay.client("1002") as other:
        kept.relayed()
        try:
            relay.change_users({"1002": HA1["1002"]})
            with relay.client() as client:
                assert client.allocate().error == 401
            other.relayed()
            # An allocation that exists stays, in every version: docs/turn.md says so.
            assert kept.refresh().error == 0
            relay.change_users({**HA1, "1001": "f" * 32})
            with relay.client() as client:
                assert client.allocate().error == 401  # the old password
        finally:
            relay.change_users(HA1)
    with relay.client() as client:
        client.relayed()
    assert relay.host.run("systemctl show -p MainPID --value coturn").stdout == pid


def test_a_new_certificate_keeps_allocations(relay):
    before = served(relay)
    with relay.client(transport="tls") as client, relay.client("1002") as other:
        client.relayed()
        there = other.relayed()
        client.permit(relay.public)
        other.permit(relay.public)
        certify(relay.host, "second" if before == "first" else "first")
        assert served(relay) == before
        relay.host.run("systemctl reload coturn", check=True)
        for _ in range(30):
            if served(relay) != before:
                break
            time.sleep(0.1)
        assert served(relay) != before
        client.send(*there, b"still here")
        assert other.receive()[1] == b"still here"
        assert client.refresh().error == 0


def test_a_user_has_a_quota(relay):
    relay.install("user_quota: 3, total_quota: 5")
    try:
        clients = [relay.client(number) for number in ("1001",) * 4 + ("1002",) * 3]
        errors = [client.allocate().error for client in clients]
        assert errors == [0, 0, 0, 486, 0, 0, 486]
        for client in clients:
            client.wire.close()
    finally:
        relay.install()


def test_coturn_is_confined(relay):
    """It listens where it must, reads Kamailio's certificate and none of its other files."""
    sockets = relay.host.run(
        "ss -Hltunp | grep turnserver | awk '{print $1, $5}' | sort -u"
    ).stdout
    assert sockets.split("\n")[:-1] == [
        f"tcp {relay.public}:3478",
        f"tcp {relay.public}:5349",
        f"udp {relay.public}:3478",
    ]
    pid = relay.host.run("systemctl show -p MainPID --value coturn").stdout.strip()
    status = relay.host.run(f"cat /proc/{pid}/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    inside = f"nsenter -t {pid} -m"
    assert relay.host.run(f"{inside} ls /etc/kamailio").stdout.split() == ["tls"]
    score = relay.host.run("systemd-analyze security coturn --no-pager | tail -n 1").stdout
    assert float(score.split("coturn.service:")[1].split()[0]) < 2
    log = relay.host.run("journalctl -b -u coturn --no-pager -o cat").stdout
    assert "Cannot open SQLite" not in log
    assert turn_credential("1001", HA1["1001"])[1] not in log
    assert json.dumps(HA1) not in log
