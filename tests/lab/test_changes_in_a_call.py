"""Applies during a call of two browsers: the audio continues, no socket closes, BYE arrives.

After a change that restarts Kamailio the call continues and every socket reconnects.
"""

import asyncio
import re
import time

import pytest
from applying import Events, codes, deafen
from conftest import Deployer
from signalling import registered, run
from system import DOMAIN, INVENTORY, packages_of, password, passwords, within
from test_calls import browsers, hear_each_other, phones, talk  # noqa: F401 - fixtures

from lab.load import Load, register_many
from sipdeploy import inventory
from sipdeploy.transaction import Options, apply

pytestmark = pytest.mark.lab

SECONDS_AFTER_LOSS = 6  # the timer of Kamailio runs every 2 s


def change(system, before, after):
    """Edit the inventory, apply, and return the lines of the plan."""
    path = system.deployer.folder / "inventory.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    done = system.deployer.run("apply", system.host.name, "--yes", "--format", "json")
    assert done.returncode == 0, done.stderr
    return done.stdout


def starts(system):
    return system.run("systemctl show -p ExecMainStartTimestampMonotonic kamailio asterisk")


def sockets(system):
    """Return address and port of each connection of a phone."""
    listing = system.run("ss -Htn state established sport = :8443")
    return sorted(line.split()[3] for line in listing.splitlines())


def new_user(system):
    secrets = system.deployer.folder / "secrets.yaml"
    secrets.write_text(secrets.read_text() + '  "1010": lab-only-1010-Zq8Kd2\n')
    return change(system, "  1006: {name: Dan}\n", "  1006: {name: Dan}\n  1010: {name: Ten}\n")


def new_service(system):
    return change(system, "  6002: {kind: echo}\n", "  6002: {kind: echo}\n  6003: {kind: echo}\n")


def new_mailbox(system):
    return change(system, "  1004: {}\n", "  1004: {voicemail: true}\n")


def new_certificate(system):
    """The host replaces a certificate that expires soon."""
    system.host.run(
        "cd /etc/kamailio/tls && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 5"
        f" -addext subjectAltName=DNS:{DOMAIN} -keyout server.key -out server.crt",
        check=True,
    )
    served = system.host.read("/etc/kamailio/tls/server.crt")
    told = change(system, "domain:", "domain:")
    assert system.host.read("/etc/kamailio/tls/server.crt") != served
    return told


def test_a_change_of_routing_restarts_kamailio_and_the_call_goes_on(
    phones,  # noqa: F811 - a fixture
    system,
):
    alice, bob = phones
    call, incoming = talk(alice, bob)
    told = change(system, "services:\n", "ports: {registrar: 5064}\nservices:\n")
    assert "! restart kamailio.service" in told
    hear_each_other(call, incoming)
    for phone in (alice, bob):
        phone.wait(registered=True, timeout_seconds=30)
    hear_each_other(call, incoming)
    incoming.hang_up()
    call.wait("ended")
    assert alice.trace.received().requests("BYE")


@pytest.mark.usefixtures("login")
def test_after_a_rollback_the_old_service_takes_calls(
    phones,  # noqa: F811 - a fixture
    system,
    monkeypatch,
):
    """Phones cannot connect until the verification fails; then they return, and call."""
    alice, bob = phones
    folder = system.deployer.folder
    loaded = inventory.open_inventory(folder / "inventory.yaml")
    credentials, _ = inventory.credentials(loaded)
    deafen(monkeypatch)
    options = Options(folder=folder)
    names = [system.host.name]
    (report,) = apply(loaded.site, names, credentials=credentials, say=Events(), options=options)
    assert (codes(report), report.state) == (["SD524"], "rolled back")
    for phone in (alice, bob):
        phone.wait(registered=True, timeout_seconds=60)
    call, incoming = talk(alice, bob)
    assert incoming.acknowledged
    incoming.hang_up()
    call.wait("ended")
    assert alice.trace.received().requests("BYE")


def test_phones_that_have_left_are_not_waited_for(system):
    """An apply fails if none of five registered phones returns; these left before it began."""

    async def leave():
        async with registered(system, "1001", "1002", "1003", "1004", "1005") as leaving:
            for phone in leaving:
                await phone.reset()

    run(leave())
    none, counted = r"location[-_]contacts = 0\b", "kamcmd stats.get_statistics usrloc:"
    assert within(SECONDS_AFTER_LOSS, lambda: re.search(none, system.run(counted)))
    told = change(system, "ports: {registrar: 5064}", "ports: {registrar: 5065}")
    assert "restart kamailio.service" in told


# The last test with browsers, because a new phone would not trust the new certificate.
def test_nobody_in_a_call_notices_what_changes(phones, system):  # noqa: F811 - a fixture
    alice, bob = phones
    call, incoming = talk(alice, bob)
    before = starts(system), sockets(system)
    assert len(before[1]) >= 2
    for act in (new_user, new_service, new_mailbox, new_certificate):
        told = act(system)
        assert "restart" not in told.replace("(restart", ""), told
        assert (starts(system), sockets(system)) == before, act.__name__
        hear_each_other(call, incoming)
    call.hang_up()
    incoming.wait("ended")
    assert bob.trace.received().requests("BYE")


PHONES = 1000


def test_1000_sockets_come_back_after_a_restart(lab, tmp_path, record_property):
    host = lab.boot("restart1000", packages=packages_of("sid"))
    deployer = Deployer(lab, tmp_path)
    deployer.write(name=host.name, address=host.address, mode="kamailio")
    users = [(str(20000 + index), password(str(index))) for index in range(PHONES)]
    named = "".join(f"  {number}: {{}}\n" for number, _ in users)
    inventory = INVENTORY.format(name=host.name, address=host.address, mode="kamailio")
    (tmp_path / "inventory.yaml").write_text(
        inventory.replace("services:\n", f"{named}services:\n")
    )
    secrets = "".join(f'  "{number}": {secret}\n' for number, secret in users)
    (tmp_path / "secrets.yaml").write_text(passwords() + secrets)
    done = deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    figure = asyncio.run(asyncio.wait_for(restart(host, deployer, users), 200))
    record_property("figure", figure)
    host.stop()


async def stay_away(host, deployer):
    """No phone returns after the next restart, so sipdeploy restores the old release."""
    path = deployer.folder / "inventory.yaml"
    path.write_text(path.read_text().replace("5064", "5065"))
    failed = await asyncio.to_thread(deployer.run, "apply", host.name, "--yes")
    assert failed.returncode == 4, failed.stderr
    assert f"none of {PHONES} registered phones returned" in failed.stderr
    assert ":5064 " in host.run("ss -Hlun").stdout


async def restart(host, deployer, users):
    load = Load(address=(host.address, 8443), domain=DOMAIN, concurrency=100, workers=2)
    async with register_many(load, users) as fleet:
        assert fleet.result.failed == ()
        path = deployer.folder / "inventory.yaml"
        path.write_text(path.read_text() + "ports: {registrar: 5064}\n")
        planned = deployer.run("plan", host.name, "--no-diff").stdout
        assert f"restart kamailio: {PHONES} registrations reconnect" in planned, planned
        began = time.monotonic()
        applying = asyncio.create_task(
            asyncio.to_thread(deployer.run, "apply", host.name, "--yes")
        )
        while await fleet.open_connections():
            assert time.monotonic() < began + 60
            await asyncio.sleep(0.05)
        lost = time.monotonic()
        # as phones do: retry while the port is not open yet
        while (await fleet.reconnect(per_second=2000)).failed:
            assert time.monotonic() < lost + 60
            await asyncio.sleep(0.2)
        done = time.monotonic()
        applied = await applying
        assert applied.returncode == 0, applied.stderr
        assert await fleet.open_connections() == PHONES
        assert f"wait for {PHONES} registrations" in applied.stderr
        await stay_away(host, deployer)
    return (
        f"{PHONES} registered sockets, kamailio restarted by an apply: the last is back"
        f" {done - lost:.1f} s after they were lost"
    )
