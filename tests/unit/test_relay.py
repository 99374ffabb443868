"""The relay: its credentials, its peers, its ports, and what a change of it costs."""

import dataclasses
import hashlib
import hmac
import ipaddress
import sqlite3

import pytest
from hosts_facts import recorded

from sipdeploy import services
from sipdeploy.facts import Managed, PathFact, Unit
from sipdeploy.inventory.site import Turn, load_site
from sipdeploy.plan import make_plan, text
from sipdeploy.plan.desired import desired
from sipdeploy.plan.preflight import firewall as preflight
from sipdeploy.plan.preview import Present
from sipdeploy.proof.inside import verify
from sipdeploy.services import certificates, coturn
from sipdeploy.services.certificates import Material
from sipdeploy.services.coturn import peers
from sipdeploy.services.coturn.credentials import ice_servers, turn_credential, turn_key
from sipdeploy.services.service import Firewall, HostProfile
from sipdeploy.transaction.candidate import archive

HA1 = {"1001": "0" * 31 + "1", "1002": "0" * 31 + "2"}
SMALL = (
    "domain: sip.example.test\nemail: a@b.example\nhosts: {sip1: {address: 10.0.0.1}}\n"
    "users: {1001: {}, 1002: {}}\ntls: {provider: self-signed}\n"
)


def load(more="turn: {}\n"):
    site, problems, _ = load_site(SMALL + more, "inventory.yaml")
    return site, [problem.code for problem in problems]


def site(more="turn: {}\n"):
    found, problems = load(more)
    assert found, problems
    return found


def rendered(more="turn: {}\n", credentials=HA1):
    made = services.file_set(
        site(more), "sip1", versions=site(more).versions, credentials=credentials
    )
    return {file.path: file for file in made.files}


def wanted(more="turn: {}\n", credentials=HA1):
    return desired(site(more), "sip1", recorded("sid-applied"), credentials, Material())


def as_is(made):
    """Facts of a host that is in the desired state."""
    base = recorded("sid-applied")
    digests = {f.path: hashlib.sha256(f.content).hexdigest() for f in made.files}
    present = {
        f.path: PathFact(mode=f.mode, owner=f.owner, digest=digests[f.path]) for f in made.files
    }
    generated = {
        g.path: PathFact(mode=g.mode, owner=g.owner, digest="1" * 64) for g in made.generated
    }
    return dataclasses.replace(
        base,
        files={**present, **generated},
        managed={f.path: Managed(service=f.service, digest=digests[f.path]) for f in made.files},
        directories={d.path: PathFact(mode=d.mode, owner=d.owner) for d in made.directories},
        units={
            unit: Unit(active="active", is_enabled=True, needs_daemon_reload=False)
            for unit in made.units.values()
        },
        installed=dict.fromkeys(made.packages, "1"),
        has_firewall_table=True,
    )


def now():
    return recorded("sid-applied").certificate.not_before.timestamp() + 1


def plan(made, facts, at=None):
    return make_plan(made, facts, now() if at is None else at)


def actions(made):
    return {unit.unit: unit.action for unit in made.units if unit.action != "none"}


# Credentials.


def test_a_password_is_an_hmac_of_the_ha1():
    digest = hmac.digest(b"0" * 31 + b"1", b"turn", "sha256").hex()
    assert turn_credential("1001", HA1["1001"]) == ("1001", digest[:32])


def test_a_browser_can_compute_it():
    """WebCrypto: importKey(raw, HA1), sign(HMAC with SHA-256, "turn"), first 16 bytes in hex."""
    assert turn_credential("1001", "f" * 32)[1] == "8414a726657d1f555fa81d7b3fe4d9ec"


def test_the_table_has_the_key_of_the_standard_and_no_password():
    content = rendered()[coturn.DATABASE].content
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    rows = connection.execute("SELECT realm, name, hmackey FROM turnusers_lt").fetchall()
    password = turn_credential("1001", HA1["1001"])[1]
    key = hashlib.md5(f"1001:sip.example.test:{password}".encode()).hexdigest()
    assert rows[0] == ("sip.example.test", "1001", key)
    assert [row[1] for row in rows] == ["1001", "1002"]
    assert password.encode() not in content
    assert HA1["1001"].encode() not in content


def test_equal_users_give_equal_bytes():
    ha1 = dict(reversed(HA1.items()))
    assert (
        rendered()[coturn.DATABASE].content == rendered(credentials=ha1)[coturn.DATABASE].content
    )


def test_phones_get_the_relay_in_three_ways():
    (server,) = ice_servers(site("turn: {port: 3479, tls: 443}\n"), "1001", HA1["1001"])
    assert server.as_data() == {
        "urls": [
            "turn:sip.example.test:3479?transport=udp",
            "turn:sip.example.test:3479?transport=tcp",
            "turns:sip.example.test:443?transport=tcp",
        ],
        "username": "1001",
        "credential": turn_credential("1001", HA1["1001"])[1],
    }
    assert ice_servers(site(""), "1001", HA1["1001"]) == ()


def test_the_credential_is_not_in_a_text_by_accident():
    (server,) = ice_servers(site(), "1001", HA1["1001"])
    assert server.credential not in repr(server)


# Peers.

DENIED = (
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254"),
    *("172.16.0.1", "172.31.255.255", "192.168.1.1", "192.0.2.1", "198.18.0.1", "203.0.113.1"),
    *("224.0.0.1", "255.255.255.255", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8"),
    *("64:ff9b::a00:1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1"),
    *("2002:a00:1::1", "2001::1"),
)
ALLOWED = ("8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1")


@pytest.mark.parametrize("address", DENIED)
def test_a_peer_is_denied_by_coturn_and_by_the_kernel(address):
    peer = ipaddress.ip_address(address)
    assert is_denied(peer)
    nets = [ipaddress.ip_network(text) for text in (*peers.IPV4, *peers.IPV6)]
    assert any(peer in net for net in nets)


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_peer_is_not_denied(address):
    assert not is_denied(ipaddress.ip_address(address))


def is_denied(peer):
    for first, last in peers.ranges():
        low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
        if low.version == peer.version and low <= peer <= high:
            return True
    return False


def test_no_range_begins_with_the_ipv6_address_zero():
    """It would deny every IPv4 address: coturn 4.6.1 compares only the end of such a range."""
    assert all(
        ipaddress.ip_address(first) != ipaddress.ip_address("::") for first, _ in peers.ranges()
    )


def test_every_denied_network_is_in_both_files():
    made = rendered()
    configuration = made[coturn.CONFIGURATION].content.decode()
    rules = made["/etc/sipdeploy/firewall.nft"].content.decode()
    assert configuration.count("denied-peer-ip=") == len(peers.IPV4) + len(peers.IPV6)
    assert all(net in rules for net in (*peers.IPV4, *peers.IPV6))
    assert "allowed-peer-ip=10.0.0.1\n" in configuration


def test_the_host_itself_is_reached_only_at_ports_for_media():
    rules = rendered("turn: {}\nports: {rtp: 30001-31000}\n")["/etc/sipdeploy/firewall.nft"]
    lines = [line.strip() for line in rules.content.decode().splitlines()]
    at = lines.index("chain relayed {")
    own = [line for line in lines[at:] if line.startswith("oif lo")]
    assert own == [
        "oif lo ip daddr 10.0.0.1 udp dport { 30001-31000, 20001-30000 } accept",
        "oif lo counter drop",
    ]


def test_ufw_opens_the_same_ports_and_the_kernel_denies_the_same_peers():
    profile = HostProfile(firewall=Firewall(kind="ufw"))
    made = services.file_set(
        site(), "sip1", versions=site().versions, credentials=HA1, profile=profile
    )
    files = {file.path: file.content.decode() for file in made.files if b"SQL" not in file.content}
    rules = files["/etc/sipdeploy/ufw.sh"].split("rules='")[1].split("'")[0].split()
    assert rules == [
        *("8443/tcp", "10000:20000/udp", "3478/tcp", "3478/udp", "5349/tcp", "20001:30000/udp"),
    ]
    loopback = files["/etc/sipdeploy/loopback.nft"]
    for chain in ("chain relayed {", "chain relay_rate {", "jump relayed"):
        assert chain in loopback


def test_a_host_without_a_relay_has_nothing_of_it():
    made = rendered("")
    assert not [path for path in made if "coturn" in path]
    assert b"turnserver" not in b"".join(file.content for file in made.values())


# Ports.


@pytest.mark.parametrize(
    ("more", "codes"),
    [
        ("turn: {}\n", []),
        ("turn:\n", []),
        ("turn: {port: 8443}\n", ["SD213"]),
        ("turn: {port: 5349}\n", ["SD213"]),
        ("turn: {tls: 80}\n", ["SD213"]),
        ("turn: {port: 10000}\n", ["SD214"]),
        ("turn: {tls: 25000}\n", ["SD214"]),
        ("turn: {relay: 20000-30000}\n", ["SD214"]),
        ("turn: {relay: 1024-65535}\n", ["SD214"] * 7),
        ("ports: {wss: 20001}\nturn: {}\n", ["SD214"]),
        ("ports: {wss: 20001}\n", []),
        ("turn: {prot: 1}\n", ["SD201"]),
        ("turn: {user_quota: 0}\n", ["SD205"]),
        ("turn: {port: }\n", ["SD204"]),
    ],
)
def test_ports_that_clash_are_refused(more, codes):
    assert load(more)[1] == codes


@pytest.mark.parametrize("more", ["ports: {rtp: 1024-65535}\n", "turn: {relay: 1024-65535}\n"])
def test_ranges_that_leave_no_port_are_refused_with_advice(more):
    _, problems, _ = load_site(SMALL + more, "x")
    key, fit = ("rtp", "10000-20000") if "rtp" in more else ("relay", "20001-30000")
    assert {p.help for p in problems if p.message.startswith("`ports.wss`")} == {
        f"write a narrower range, such as `{key}: {fit}`"
    }


def test_the_advice_for_a_range_is_one_that_fits():
    for rtp in ("10000-30000", "2000-20000", "40000-60000", "10000-50000"):
        inventory = (
            SMALL + f"ports: {{rtp: {rtp}}}\nturn: {{relay: {rtp}, port: 1030, tls: 1031}}\n"
        )
        _, problems, _ = load_site(inventory, "x")
        advice = next(p.help for p in problems if "in common" in p.message)
        fixed = advice.split("`")[1].removeprefix("relay: ")
        again = SMALL + f"ports: {{rtp: {rtp}}}\nturn: {{relay: {fixed}, port: 1030, tls: 1031}}\n"
        _, problems, _ = load_site(again, "x")
        assert [p.message for p in problems if "in common" in p.message] == [], (rtp, fixed)


def test_the_preflight_names_closed_ports_of_the_relay():
    facts = dataclasses.replace(
        recorded("sid-applied"),
        nftables="",
        iptables={"iptables": "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"},
    )
    (problem,) = (p for p in preflight.problems(site(), "sip1", facts) if "relay" in p.message)
    assert (
        "closes TCP port 8443 (phones) and UDP port 3478 (the relay) and TCP port 3478 (the relay)"
        " and TCP port 5349 (the relay) and UDP ports 20001-30000 (relayed media)"
    ) in problem.message


# Plans.


def test_an_unchanged_host_needs_nothing():
    made = wanted()
    assert plan(made, as_is(made)).lines() == ()


def test_a_user_more_reloads_and_restarts_nothing():
    before, after = wanted(credentials={"1001": HA1["1001"]}), wanted()
    found = plan(after, as_is(before))
    assert found.is_only_data
    assert actions(found)["coturn.service"] == "reload"
    assert coturn.RELOAD_USERS in found.reloads


def test_a_new_certificate_is_read_without_a_restart():
    made, expired = wanted(), now() + 10 * 365 * 86400
    found = plan(made, as_is(made), expired)
    assert certificates.PATH in found.to_generate
    assert actions(found) == {"kamailio.service": "reload", "coturn.service": "reload"}
    assert found.reloads[-1] == ("systemctl", "reload", "coturn.service")


def test_a_restart_reads_a_new_certificate_anyway():
    before, after = wanted(), wanted("turn: {user_quota: 9}\n")
    found = plan(after, as_is(before), now() + 10 * 365 * 86400)
    assert actions(found)["coturn.service"] == "restart"
    assert ("systemctl", "reload", "coturn.service") not in found.reloads


def test_a_site_without_the_relay_any_more_stops_it():
    before, after = wanted(), wanted("")
    found = plan(after, as_is(before))
    assert actions(found)["coturn.service"] == "stop"
    deleted = {change.path for change in found.changes if change.kind == "delete"}
    assert deleted == {coturn.CONFIGURATION, coturn.DATABASE, coturn.OVERRIDE}


def test_the_cost_of_a_restart_is_told():
    before, after = wanted(), wanted("turn: {user_quota: 9}\n")
    costs = [*text.costs(plan(after, as_is(before)), Present())]
    assert "restart coturn: calls over the relay lose their sound; new calls have it" in costs


def test_the_keys_are_not_in_a_difference():
    before, after = wanted(), wanted(credentials={**HA1, "1002": "3" * 32})
    found = plan(after, as_is(before))
    content = {f.path: f.content for f in before.files}
    shown = text.as_text("sip1", found, Present(current=content), diffs=True)
    key = turn_key("1002", "sip.example.test", "3" * 32)
    assert "turnusers_lt sip.example.test 1002 [hidden]" in shown
    assert key not in shown


def test_the_host_asks_only_the_port_for_phones_for_sip():
    import io  # noqa: PLC0415
    import tarfile  # noqa: PLC0415

    made = wanted()
    raw = archive(plan(made, as_is(wanted(""))), (), b"{}")
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        rows = tar.extractfile("probes").read().decode().splitlines()
    kinds = [row.split("\t")[:3] for row in rows if row.split("\t")[0] in ("wss", "tls")]
    assert kinds == [["wss", "127.0.0.1", "8443"], ["tls", "10.0.0.1", "5349"]]


def test_a_relay_that_does_not_serve_the_certificate_is_told_with_its_log():
    left = "tls\t10.0.0.1\t5349\tsip.example.test\t/x.crt\tdoes not speak TLS\n"
    (problem,) = verify.problems("sip1", {"left": left}, 5)
    assert problem.message == "turns://10.0.0.1:5349 does not speak TLS on `sip1` within 5 s"
    assert "journalctl -b -u coturn" in problem.help


def test_the_models_say_what_is_asked():
    assert Turn().relay.start > site("").ports.rtp.end
