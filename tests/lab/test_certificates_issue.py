"""Certificates from an ACME server, with real pebble, BIND, certbot and a browser.

The tests follow the life of a site: bare, first certificate, renewed, renewal failed.
"""

import pytest
from system import packages_of
from trusted import DOMAIN, HELD, LIVE, is_open, password, trusted_host

from lab.browser import Browser

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    """A bare host to which the domain resolves."""
    return trusted_host(lab, tmp_path_factory.mktemp("site"), "trusted1", is_bare=True)


def register(site):
    """Register with a browser that trusts only the authority's root."""
    root = site.authority.root(site.directory)
    with Browser({DOMAIN: site.host.address}, roots=[root]) as browser:
        browser.phone("1001", password=password("1001")).close()


def test_a_bare_host_gets_a_certificate_that_browsers_trust(site):
    assert not is_open(site.host, 80)
    site.write()
    told = site.apply()
    assert f"get a certificate for {DOMAIN}" in told
    assert site.is_shut()
    assert site.served() == site.on_disk() == site.on_disk(f"{HELD}/fullchain.pem")
    register(site)
    with (
        pytest.raises(Exception, match=r"registered|connect"),
        Browser({DOMAIN: site.host.address}) as doubter,
    ):
        doubter.phone("1001", password=password("1001"))


def test_a_second_apply_changes_nothing_and_the_key_is_the_hosts_alone(site):
    before = site.on_disk()
    assert "unchanged" in site.apply()
    assert site.on_disk() == before
    shown = site.host.run(f"stat -c '%a %U:%G' {LIVE}.key {HELD}/../../archive").stdout.split("\n")
    assert shown[:2] == ["640 root:kamailio", "700 root:root"]
    secret = site.host.read(f"{LIVE}.key").decode().splitlines()[1]
    logs = "".join(file.read_text() for file in site.deployer.folder.rglob("*.log"))
    assert logs
    assert secret not in logs
    assert secret not in site.host.run("journalctl --no-pager").stdout


def test_certbots_own_timer_renews_and_every_port_serves_the_new_one(site):
    before, packets = site.on_disk(), site.challenged()
    assert site.renew() == "success"
    assert site.on_disk() != before
    assert site.served() == site.on_disk() == site.on_disk(f"{HELD}/fullchain.pem")
    assert site.challenged() > packets, "port 80 was open for the challenge"
    assert site.is_shut()
    found = site.cert("--days", "80")
    assert found["last_hook"]["has_failed"] is False
    assert found["next_check"]
    assert set(found["served"].values()) == {site.on_disk()}
    register(site)
    site.sleep_out()
    assert "unchanged" in site.apply()


def test_a_limit_of_days_is_an_exit_code(site):
    found = site.cert("--days", "100", status=1)
    assert "100 required" in found["problems"][0]


def test_a_rehearsal_keeps_nothing_and_a_forced_renewal_is_served(site):
    before = site.on_disk()
    site.cert("--test")
    assert site.on_disk() == before
    site.cert("--renew")
    assert site.served() == site.on_disk() != before
    assert site.is_shut()


def test_a_move_needs_no_acme_server_and_the_new_host_renews(lab, site):
    """The ACME server does not answer, and the domain still points to the old host."""
    before = site.served()
    made = site.deployer.run("backup", "sip1", "-o", "sip1.backup")
    assert made.returncode == 0, made.stderr
    assert "certificate and account of certbot" in made.stdout
    account = site.host.run("ls /etc/letsencrypt/accounts/*/*").stdout
    site.host.kill()
    site.authority.host.run("pkill -STOP -x pebble", check=True)  # it forgets accounts at its end
    packages = (*packages_of("sid"), "certbot", "mount", "ufw")
    site.host = lab.boot("trusted2", packages=packages)
    site.authority.is_asked_by(site.host)
    site.write()
    done = site.deployer.run("restore", "sip1", "sip1.backup", "--yes", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "get a certificate" not in done.stderr
    assert site.served() == before == site.on_disk(f"{HELD}/fullchain.pem")
    assert site.deployer.run("plan", "sip1", "--check").returncode == 0
    site.authority.host.run("pkill -CONT -x pebble", check=True)
    site.authority.point(DOMAIN, f"A {site.host.address}")
    site.cert("--renew")
    assert site.served() != before
    assert site.host.run("ls /etc/letsencrypt/accounts/*/*").stdout == account
    assert site.renew() == "success"
