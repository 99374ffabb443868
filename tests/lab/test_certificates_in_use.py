"""A renewal with connected phones drops none of them. A TLS scanner finds no fault."""

import asyncio
import json
import re
import socket
import ssl
import time

import pytest
from test_calls import HIGH, LOW, hear_each_other, talk
from trusted import DOMAIN, password, trusted_host

from lab.browser import Browser
from lab.load import Load, register_many

pytestmark = pytest.mark.lab

PHONES = 1000
RELOADS = 30
RETURNS = 40
RETURN, MOST_SCANS = "sessionresumption_ticket", 8  # checks that the scanner must repeat
# Findings about the lab's authority (no revocation list), the lab's DNS, the scanner itself, and
# web pages, which Kamailio does not serve (`Sia` is a header of Kamailio's replies).
NOT_TLS = {
    *("cert_revocation", "DNS_CAArecord", "engine_problem"),
    *("security_headers", "HSTS", "ipv4_in_header"),
}
USERS = [(str(20000 + index), password(str(index))) for index in range(PHONES)]


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    site = trusted_host(lab, tmp_path_factory.mktemp("site"), "inuse1")
    site.write(users=USERS)
    site.apply()
    return site


def sockets(site):
    """Return address and port of each connection of a phone."""
    listing = site.host.run("ss -Htn state established sport = :8443").stdout
    return sorted(line.split()[3] for line in listing.splitlines())


def shared_memory(site):
    told = site.host.run("kamcmd core.shmmem k").stdout
    return int(re.search(r"real_used: (\d+)", told)[1])


def test_30_reloads_do_not_grow_the_shared_memory(site, record_property):
    """Kamailio 5.6 and 6.0 use up half a MiB each time (kamailio#3823).

    This test is the first, because a thousand closed connections would hide the loss.
    """
    site.host.run("kamcmd tls.reload", check=True)
    used = [shared_memory(site)]
    for _ in range(RELOADS):
        told = site.host.run("kamcmd tls.reload", check=True).stdout
        assert "error" not in told.lower()
        assert site.served() == site.on_disk()
        used.append(shared_memory(site))
    record_property(
        "figure", f"{RELOADS} reloads: {used[0]} KiB of shared memory, {used[-1]} after"
    )
    assert used[-1] - used[0] < RELOADS * 100


def test_a_renewal_with_1000_sockets_and_a_call(site, record_property):
    record_property("figure", asyncio.run(asyncio.wait_for(renewal(site), 280)))


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_session_is_resumed_by_the_process_that_began_it(site, record_property, version):
    """Each of Kamailio's eight processes has its own ticket key, and connections alternate.

    If more sessions were resumed, docs/certificates.md would be wrong.
    """
    context = ssl.create_default_context(cadata=site.authority.root(site.directory))
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    session, _ = meet(site, context)
    resumed = sum(meet(site, context, session)[1] for _ in range(RETURNS))
    record_property("figure", f"{version}: {resumed} of {RETURNS} returns resumed")
    assert 0 < resumed < RETURNS / 2


def meet(site, context, session=None):
    """Connect; return the new session, and whether `session` was resumed."""
    connection = socket.create_connection((site.host.address, 8443), timeout=5)
    with context.wrap_socket(connection, server_hostname=DOMAIN, session=session) as wire:
        # in TLS 1.3 tickets come after the handshake, but before a reply
        wire.sendall(f"GET /healthz HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode())
        assert b" 200 " in wire.recv(4096)
        return wire.session, wire.session_reused


async def renewal(site):
    root = site.authority.root(site.directory)
    resolve = {DOMAIN: site.host.address}
    load = Load(address=(site.host.address, 8443), domain=DOMAIN, concurrency=100, workers=2)
    async with register_many(load, USERS) as fleet:
        assert fleet.result.failed == ()
        with (
            Browser(resolve, roots=[root], tone_hz=LOW) as low,
            Browser(resolve, roots=[root], tone_hz=HIGH) as high,
        ):
            alice = low.phone("1001", password=password("1001"))
            bob = high.phone("1004", password=password("1004"))
            call, incoming = talk(alice, bob)
            before, served = sockets(site), site.served()
            assert len(before) == PHONES + 2
            began = time.monotonic()
            assert site.renew() == "success"
            took = time.monotonic() - began
            hear_each_other(call, incoming)
            assert site.served() == site.on_disk() != served
            assert sockets(site) == before, "not one was lost"
            assert await fleet.open_connections() == PHONES
            carol = low.phone("1002", password=password("1002"))
            carol.close()
            incoming.hang_up()
            call.wait("ended")
            assert alice.trace.received().requests("BYE")
    site.sleep_out()
    return f"{PHONES} sockets and a call, renewed in {took:.1f} s: 0 lost, audio goes on"


def scan(site, *options):
    """Return the findings of testssl.sh."""
    words = "--quiet --color 0 --warnings off --add-ca /root/root.pem --jsonfile /root/found.json"
    target = f"--ip {site.host.address} {DOMAIN}:8443"
    scanner = site.authority.host
    scanner.run(f"rm -f /root/found.json; testssl {words} {' '.join(options)} {target}")
    return json.loads(scanner.read("/root/found.json"))


def test_a_scanner_finds_nothing(site, record_property):
    """testssl.sh, which trusts the root, gives its best grade and has no other findings."""
    scanner = site.authority.host
    scanner.run(
        "apt-get install -q -y --no-install-recommends testssl.sh bsdextrautils procps",
        check=True,
    )
    scanner.write("/root/root.pem", site.authority.root(site.directory).encode())
    found = scan(site)
    for _ in range(MOST_SCANS):
        if {row["severity"] for row in found if row["id"] == RETURN} != {"WARN"}:
            break
        # It closes the connection right after the handshake, before it gets a ticket.
        again = [row for row in scan(site, "--server-defaults") if row["id"] == RETURN]
        found = [row for row in found if row["id"] != RETURN] + again
    rows = {row["id"]: row for row in found}
    grade = rows["overall_grade"]["finding"]
    bad = {
        row["id"]: row["finding"]
        for row in found
        if row["severity"] in ("WARN", "LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")
    }
    record_property("figure", f"testssl.sh: grade {grade}, findings {sorted(bad)}")
    assert grade == "A+"
    assert bad.keys() <= NOT_TLS, bad
    assert all(rows[old]["finding"] == "not offered" for old in ("SSLv3", "TLS1", "TLS1_1"))
