"""Newer packages in a transaction, and their way back without the network."""

import asyncio
import json
import re
import threading
import time

import pytest
from applying import live, units
from conftest import Deployer
from system import packages_of, password

from lab.origin import rebuild
from sipdeploy.sip.phone import Phone

pytestmark = pytest.mark.lab
STATE = "/var/lib/sipdeploy"


@pytest.fixture(scope="module")
def person(lab, tmp_path_factory):
    """A deployer with an applied host, and an archive on that host; each test continues."""
    host = lab.boot("upgrade1", packages=packages_of("sid"))
    deployer = Deployer(lab, tmp_path_factory.mktemp("upgrade"))
    deployer.host = host
    deployer.write(name="sip1", address=host.address, mode="kamailio")
    done = deployer.run("apply", "--yes", "--verify", "ports")
    assert done.returncode == 0, done.stderr
    deployer.before = versions(host)
    rebuild(host, "+lab1")
    return deployer


def versions(host):
    """Name -> version of the packages of both daemons, which must be completely installed."""
    show = (
        "dpkg-query -W -f='${Package} ${Version} ${db:Status-Status}\\n' 'kamailio*' 'asterisk*'"
    )
    rows = [line.split() for line in host.run(show).stdout.splitlines()]
    assert host.run("dpkg --audit").stdout == ""
    return {row[0]: row[1] for row in rows if row[-1] == "installed" and "-sounds-" not in row[0]}


def has_all(host, suffix):
    found = versions(host)
    return all(version.endswith(suffix) for version in found.values()) and len(found) > 6


def runs(host, *, is_restarted=True):
    """Both daemons run, from the installed files, and nothing keeps them from starting."""
    assert host.run("systemctl is-active kamailio asterisk").stdout.split() == ["active"] * 2
    pids = host.run("systemctl show -p MainPID --value kamailio asterisk").stdout.split()
    links = [host.run(f"readlink /proc/{pid}/exe").stdout for pid in pids]
    assert is_restarted != any("deleted" in link for link in links), links
    assert host.run("ls /usr/sbin/policy-rc.d").returncode != 0
    assert host.run(f"ls {STATE}/lock {STATE}/undo {STATE}/candidate").stdout == ""


def registers(person):
    async def act():
        address = (person.host.address, 8443)
        own = {"domain": "sip.example.test", "address": address}
        async with Phone("1001", password("1001"), **own) as phone:
            await phone.connect()
            return (await phone.register()).status

    return asyncio.run(asyncio.wait_for(act(), 30))


def test_the_cost_is_told_and_nothing_changes(person):
    host = person.host
    before = live(host), units(host)
    done = person.run("upgrade", "sip1", "--dry-run")
    assert done.returncode == 0, done.stderr
    old = person.before["kamailio"]
    assert f"~ package kamailio {old} -> {old.rpartition('-')[0]}+lab1" in done.stdout
    assert "= restart kamailio: 0 registrations reconnect" in done.stdout
    assert "= restart asterisk: 0 calls with services are cut" in done.stdout
    assert (live(host), units(host), versions(host)) == (*before, person.before)
    assert host.run(f"ls {STATE}/debs").stdout == ""


def test_new_packages_come_and_the_present_ones_are_kept(person):
    host = person.host
    before = units(host)
    # the archive has lost one of the present versions, as after a new stable release
    host.run("rm -f /var/cache/apt/archives/kamailio*.deb", check=True)
    host.run("mv /etc/apt/sources.list /root/; apt-get -q update", check=True)
    done = person.run("upgrade", "sip1", "--yes")
    host.run("mv /root/sources.list /etc/apt/; apt-get -q update", check=True)
    assert done.returncode == 0, done.stderr
    assert has_all(host, "+lab1")
    assert units(host) != before
    runs(host)
    assert registers(person) == 200
    kept = host.run(f"ls {STATE}/debs").stdout.split()
    assert len(kept) == 2 * len(versions(host))
    told = person.run("history", "sip1").stdout
    assert "upgrade sip1" in told
    assert "restarts asterisk and kamailio" in told
    assert person.run("plan", "--check").returncode == 0
    assert "no newer packages" in person.run("upgrade", "sip1", "--yes").stderr


def test_the_way_back_needs_no_network(person):
    host = person.host
    assert person.run("rollback", "sip1", "1", "--keep-packages", "--yes").returncode == 0
    assert has_all(host, "+lab1")
    host.run("mv /etc/apt /etc/apt.away; mv /srv/repo /srv/away", check=True)
    try:
        done = person.run("rollback", "sip1", "1", "--yes")
    finally:
        host.run("mv /etc/apt.away /etc/apt; mv /srv/away /srv/repo", check=True)
    assert done.returncode == 0, done.stderr
    assert versions(host) == person.before
    runs(host)
    assert registers(person) == 200
    rows = json.loads(person.run("history", "sip1", "--format", "json").stdout)["releases"]
    assert any(re.match(r"~ package kamailio \S+\+lab1 -> ", line) for line in rows[-1]["what"])


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        ("rm tree/usr/lib/*/kamailio/modules/websocket.so", "SD401"),
        ("echo false >>tree/DEBIAN/preinst; chmod 755 tree/DEBIAN/preinst", "SD547"),
    ],
)
def test_packages_that_do_not_work_go_back_unnoticed(person, edit, code):
    host = person.host
    rebuild(host, f"+bad{code}", package="kamailio-websocket-modules", edit=edit)
    before = live(host), units(host)
    done = person.run("upgrade", "sip1", "--yes")
    assert (done.returncode, f"error[{code}]" in done.stderr) == (4, True), done.stderr
    assert versions(host) == person.before
    assert set(live(host)) ^ set(before[0]) == set()
    assert units(host) == before[1]
    runs(host, is_restarted=False)


def test_the_power_goes_while_packages_are_replaced(person):
    host = person.host
    rebuild(host, "+lab3")

    def cut():
        watched = f"until [ -e {STATE}/undo/unpacked ]; do sleep 0.05; done; sleep 1"
        host.run(watched)
        host.kill()

    thread = threading.Thread(target=cut)
    thread.start()
    done = person.run("upgrade", "sip1", "--yes", "--confirm-timeout", "20")
    thread.join()
    assert done.returncode == 5, done.stderr
    host.start()
    deadline = time.monotonic() + 60
    while host.run("systemctl is-active kamailio asterisk").stdout.split() != ["active"] * 2:
        assert time.monotonic() < deadline, host.run("journalctl -b -u sipdeploy-recover").stdout
        time.sleep(0.5)
    assert versions(host) == person.before
    assert "rolled back (boot)" in host.read("/var/log/sipdeploy.log").decode()
    done = person.run("upgrade", "sip1", "--yes")
    assert done.returncode == 0, done.stderr
    assert has_all(host, "+lab3")
    runs(host)
