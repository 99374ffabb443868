"""Calls between networks that need the relay, on a host after `apply`; a tone proves the audio."""

import os
import time

import pytest
from conftest import Deployer
from system import DOMAIN, INVENTORY, System, packages_of, password

from lab.browser import Browser, spki_pin
from lab.nat import clients, public_address
from lab.turn import Turn
from sipdeploy.inventory.secret import ha1
from sipdeploy.inventory.site import load_site
from sipdeploy.services.coturn.credentials import ice_servers, turn_credential

pytestmark = pytest.mark.lab

LOW, HIGH = 440, 620
TURN = "turn: {tls: 443}\n"  # which passes a network for the web
# Which path a call takes; each kind of NAT of either side is there.
DIRECT, RELAYED = "direct", "relayed"
PAIRS = [
    ("open", "open", DIRECT),
    ("open", "cone", DIRECT),
    ("open", "symmetric", DIRECT),
    ("open", "no-udp", RELAYED),
    ("open", "web", RELAYED),
    ("cone", "cone", DIRECT),
    ("cone", "symmetric", RELAYED),
    ("cone", "no-udp", RELAYED),
    ("cone", "web", RELAYED),
    ("symmetric", "symmetric", RELAYED),
    ("symmetric", "no-udp", RELAYED),
    ("symmetric", "web", RELAYED),
    ("no-udp", "no-udp", RELAYED),
    ("no-udp", "web", RELAYED),
    ("web", "web", RELAYED),
]
USUAL = {("cone", "cone"), ("symmetric", "symmetric"), ("web", "web")}  # LAB_NAT=1: all
CHOSEN = [pair for pair in PAIRS if os.environ.get("LAB_NAT") or pair[:2] in USUAL]


@pytest.fixture(scope="module")
def system(lab, tmp_path_factory):
    """A calling system with a relay, at a public address."""
    suite = os.environ.get("LAB_SUITE", "sid")
    host = lab.boot("turn-calls", suite=suite, packages=packages_of(suite))
    public = public_address(host.network, int(host.address.rsplit(".", 1)[1]))
    host.run(f"ip addr add {public}/24 dev eth0", check=True)
    deployer = Deployer(lab, tmp_path_factory.mktemp("turn"))
    deployer.write(name=host.name, address=host.address, mode="kamailio")
    text = INVENTORY.format(name=host.name, address=host.address, mode="kamailio")
    entry = f"{{address: {host.address}"
    text = text.replace(entry, f"{entry}, public_address: {public}") + TURN
    (deployer.folder / "inventory.yaml").write_text(text)
    # only the clients of the lab reach its public addresses
    done = deployer.run("apply", host.name, "--yes", "--verify", "none")
    if done.returncode:
        host.stop()
        pytest.fail(done.stdout + done.stderr)
    yield System(mode="kamailio", host=host, deployer=deployer)
    host.stop()


@pytest.fixture(scope="module")
def public(system):
    return public_address(system.host.network, int(system.address.rsplit(".", 1)[1]))


def servers(number, address):
    """The relay by its address: the resolver rules of Chromium do not hold for WebRTC."""
    text = INVENTORY.format(name="h", address="203.0.113.1", mode="kamailio") + TURN
    site, _, _ = load_site(text, "x")
    key = ha1(number, DOMAIN, password(number))
    (server,) = ice_servers(site, number, key)
    return [{**server.as_data(), "urls": [url.replace(DOMAIN, address) for url in server.urls]}]


@pytest.fixture(scope="module")
def networks(system):
    """Two networks of each kind."""
    kinds = sorted({kind for pair in CHOSEN for kind in pair[:2]})
    with clients(system.host.network, [*kinds, *kinds]) as made:
        half = len(kinds)
        yield [{c.kind: c for c in made[:half]}, {c.kind: c for c in made[half:]}]


@pytest.fixture
def browser(system, public):
    """Open a browser in a network."""
    pin = spki_pin(system.host.read("/etc/kamailio/tls/server.crt"))

    def opened(client, tone):
        return Browser({DOMAIN: public}, spki=[pin], tone_hz=tone, client=client)

    return opened


def phone(browser, number):
    address = browser.resolve[DOMAIN]
    return browser.phone(number, password=password(number), ice=servers(number, address))


@pytest.mark.parametrize("pair", CHOSEN, ids=["-".join(pair[:2]) for pair in CHOSEN])
def test_phones_hear_each_other_and_services(networks, browser, pair, record_property):
    here, there, path = pair
    with browser(networks[0][here], LOW) as one, browser(networks[1][there], HIGH) as two:
        alice, bob = phone(one, "1001"), phone(two, "1004")
        began = time.monotonic()
        call = alice.call("1004")
        incoming = bob.wait_incoming().answer()
        call.wait("answered")
        assert call.hears(HIGH, 15), alice.dump()
        assert incoming.hears(LOW, 15), bob.dump()
        seconds = time.monotonic() - began
        kinds = call.media_kinds(), incoming.media_kinds()
        while path != RELAYED and "relay" in f"{kinds}":  # until ICE has chosen the better path
            assert time.monotonic() - began < 25, kinds
            time.sleep(0.3)
            kinds = call.media_kinds(), incoming.media_kinds()
        peer = f"{kinds[0]} {kinds[1]} {seconds:.1f} s"
        assert ("relay" in peer) == (path == RELAYED), peer
        call.hang_up()
        incoming.wait("ended")
        began = time.monotonic()
        service = alice.call("6002").wait("answered")
        assert service.hears(LOW, 15), alice.dump()
        echo = f"{service.media_kinds()} {time.monotonic() - began:.1f} s"
        record_property("figure", f"{here} to {there}: {peer}; to 6002: {echo}")
        service.hang_up()


def test_users_of_the_relay_follow_the_commands(system, public):
    """Nothing restarts; the credential works when the command ends."""

    def pid():
        return system.run("systemctl show -p MainPID --value coturn kamailio asterisk")

    def error(number, secret):
        name, credential = turn_credential(number, ha1(number, DOMAIN, secret))
        with Turn(server=(public, 3478), username=name, password=credential) as client:
            return client.allocate().error

    before, run = pid(), system.deployer.run
    assert error("1005", password("1005")) == 0
    done = run("set-password", "1005", "--apply", system.host.name, "--yes")
    assert done.returncode == 0, done.stderr
    assert error("1005", password("1005")) == 401
    done = run("remove-user", "1005", "--apply", system.host.name, "--yes")
    assert done.returncode == 0, done.stderr
    assert error("1005", password("1005")) == 401
    assert error("1001", password("1001")) == 0
    assert pid() == before


def test_a_second_apply_changes_nothing(system):
    done = system.deployer.run("plan", system.host.name, "--check")
    assert done.returncode == 0, done.stdout
    assert "SD518" not in done.stdout + done.stderr
    ports = system.deployer.run("cert", system.host.name, "--days", "1")
    assert "(turns, the relay" in ports.stdout, ports.stdout + ports.stderr
