"""Renewals that fail: the old certificate stays in use, the host reports it, port 80 is closed.

Then the test removes the cause, and the next run of certbot's timer succeeds.
"""

import contextlib
import json

import pytest
from trusted import DOMAIN, HELD, LIVE, trusted_host

pytestmark = pytest.mark.lab

HOOK = "/etc/letsencrypt/renewal-hooks/deploy/00-fault"
PAIR = f"sha256sum {LIVE}.crt {LIVE}.key; stat -c '%a %U:%G' {LIVE}.crt {LIVE}.key"


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    site = trusted_host(lab, tmp_path_factory.mktemp("site"), "faults1")
    site.write()
    site.apply()
    return site


@contextlib.contextmanager
def before_our_hook(site, script):
    """Install a hook that certbot runs just before sipdeploy's."""
    site.host.write(HOOK, f"#!/bin/sh\n{script}\n".encode(), mode=0o755)
    try:
        yield
    finally:
        site.host.run(f"rm -f {HOOK}")


def fails(site, why, *, is_up=True):
    """A renewal fails: the old pair stays in use, and the journal has the reason."""
    pair, served = site.host.run(PAIR).stdout, site.served()
    assert site.renew() == "exit-code"
    assert site.host.run(PAIR).stdout == pair
    assert site.host.run(f"ls -A {LIVE[:-6]}").stdout.split() == ["server.crt", "server.key"]
    assert site.served() == (served if is_up else "")
    assert site.is_shut()
    assert why in site.host.run("journalctl -t sipdeploy -p err -o cat --no-pager").stdout
    done = site.deployer.run("cert", "sip1", "--format", "json")
    assert done.returncode == 1
    assert why in " ".join(json.loads(done.stdout)["problems"])
    assert "traceback" not in done.stderr.lower()


def heals(site):
    """The next run of certbot's service activates the new certificate, and requests no other."""
    held = site.on_disk(f"{HELD}/fullchain.pem")
    assert held != site.on_disk()
    site.sleep_out()
    site.host.run("systemctl start certbot.service", check=True)
    assert site.served() == site.on_disk() == held
    site.cert()


def test_a_key_that_is_not_the_certificates(site):
    key = "$RENEWED_LINEAGE/privkey.pem"
    spoil = f"cp {key} /root/right.key; openssl ecparam -name prime256v1 -genkey -noout > {key}"
    with before_our_hook(site, spoil):
        fails(site, "does not belong to the certificate")
    site.host.run(f"cat /root/right.key > {HELD}/privkey.pem", check=True)
    heals(site)


@contextlib.contextmanager
def full(host, folder):
    """Mount a full disk on a directory during the run of certbot."""
    copy = f"cp -a {folder} /root/copy && mount -t tmpfs -o size=1m,mode=755 none {folder}"
    host.run(f"{copy} && cp -a /root/copy/. {folder}/", check=True)
    host.run(f"cat /dev/zero > {folder}/fill 2>/dev/null")
    try:
        yield
    finally:
        back = f"rm -rf {folder}/fill /root/copy; cp -a {folder} /root/copy"
        host.run(f"{back}; umount {folder}; cp -a /root/copy/. {folder}/; rm -rf /root/copy")


def test_a_full_disk(site):
    with full(site.host, "/etc/kamailio"):
        pair = site.host.run(PAIR).stdout
        served = site.served()
        assert site.renew() == "exit-code"
        assert (site.host.run(PAIR).stdout, site.served()) == (pair, served)
        found = site.cert(status=1)
        assert "is the disk full?" in found["problems"][0]
    assert site.is_shut()
    heals(site)


def test_a_dead_kamailio(site):
    with before_our_hook(site, "systemctl stop kamailio"):
        old = site.served()
        fails(site, "kamcmd tls.reload", is_up=False)
    shown = site.deployer.run("cert", "sip1").stdout
    assert "Kamailio does not run (systemd: inactive)" in shown
    assert "days left for the file; no port could be asked" in shown
    assert " 0 days left" not in shown
    site.host.run("systemctl start kamailio", check=True)
    assert site.served() == old
    heals(site)


def test_a_reload_that_is_refused_although_kamcmd_ends_with_0(site):
    with before_our_hook(site, "echo nonsense >> /etc/kamailio/tls.cfg"):
        fails(site, "error: 500")
    site.host.run("sed -i '/^nonsense/d' /etc/kamailio/tls.cfg", check=True)
    heals(site)


def test_a_challenge_that_is_not_met(site):
    site.authority.point(DOMAIN, f"A {site.authority.host.address}")
    served = site.served()
    assert site.renew() == "exit-code"
    assert site.served() == site.on_disk() == served
    assert site.is_shut()
    found = site.cert(status=1)
    assert found["problems"] == ["the last run of certbot on `sip1` failed"]
    site.authority.point(DOMAIN, f"A {site.host.address}")
    assert site.renew() == "success"
    assert site.served() == site.on_disk() != served
    site.sleep_out()


def test_the_power_goes_between_the_two_renames(site):
    """The disk then has a new key, the old certificate, and a copy of the old pair."""
    site.host.run(f"cd {LIVE[:-6]} && cp -p server.crt server.crt.sipdeploy-old", check=True)
    site.host.run(f"cd {LIVE[:-6]} && cp -p server.key server.key.sipdeploy-old", check=True)
    site.host.run(f"openssl ecparam -name prime256v1 -genkey -noout > {LIVE}.key", check=True)
    served = site.served()
    site.host.kill()
    site.host.start()
    site.authority.is_asked_by(site.host)  # a lab host boots with the name servers of this machine
    assert site.host.run("systemctl is-active kamailio").stdout.strip() == "active"
    assert site.served() == site.on_disk() == served
    site.cert()


def runs_of_certbot(site):
    """Count the runs by the requests for the directory of the newest ACME server."""
    said = "journalctl -q -u $(ls -t /etc/systemd/system | grep -m 1 ^pebble)"
    return int(site.authority.host.run(f"{said} | grep -c '/dir -> '").stdout)


def test_a_server_of_bad_nonces_and_a_slow_one(site):
    """certbot tries three times; if all fail, sipdeploy reports it, and nothing has changed."""
    served = site.served()
    site.write(directory=site.authority.serve("PEBBLE_WFE_NONCEREJECT=100"))
    told = site.apply(status=4)
    assert runs_of_certbot(site) == 3
    assert "bad nonces" in told
    assert "sip1  unchanged" in told
    assert site.served() == site.on_disk() == served
    assert site.is_shut()
    # no bad nonces by chance: the renewals of the tests below are single runs of certbot
    site.write(directory=site.authority.serve("PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_VA_SLEEPTIME=8"))
    site.apply()
    assert site.served() == site.on_disk() != served
    assert site.is_shut()


def test_a_server_that_rejects_the_domain(site):
    """The reason is that of this run, by the packaged certbot, whatever else the host has."""
    stale = "acme.messages.Error: urn:ietf:params:acme:error:rateLimited"
    site.host.run(f"echo '{stale}' >> /var/log/letsencrypt/letsencrypt.log", check=True)
    decoy = b"#!/bin/sh\necho this is another certbot\nexit 1\n"
    site.host.write("/usr/local/bin/certbot", decoy, mode=0o755)
    served = site.served()
    renewal = site.host.read(f"/etc/letsencrypt/renewal/sipdeploy-{DOMAIN}.conf")
    site.write(directory=site.authority.serve(blocked=(DOMAIN,)))
    told = site.apply(status=4)
    assert "SD610" in told
    assert "the policy of the ACME server" in told
    assert "another certbot" not in told
    done = site.deployer.run("cert", "sip1", "--test")
    assert "the policy of the ACME server" in done.stdout + done.stderr
    site.host.run("rm /usr/local/bin/certbot", check=True)
    assert site.served() == site.on_disk() == served
    assert site.host.read(f"/etc/letsencrypt/renewal/sipdeploy-{DOMAIN}.conf") == renewal
    assert site.is_shut()
    assert site.renew() == "success", "it is renewed by the former server"


CERTBOT = "REQUESTS_CA_BUNDLE=/root/acme-root.pem certbot"


def register(site, directory):
    """Make an account of certbot on a server, as an administrator does; its directory."""
    site.host.write("/root/acme-root.pem", site.authority.server_root.encode())
    accounts = f"/etc/letsencrypt/accounts/{directory.url.removeprefix('https://')}"
    words = f"register -n --agree-tos -m me@example.com --server {directory.url}"
    site.host.run(f"{CERTBOT} {words}", check=True)
    return accounts, site.host.run(f"ls {accounts}").stdout.strip()


def test_a_server_on_which_the_host_has_two_accounts(site):
    directory = site.authority.serve()
    accounts, first = register(site, directory)
    site.host.run(f"mv {accounts}/{first} /root/", check=True)
    _, second = register(site, directory)
    site.host.run(f"mv /root/{first} {accounts}/ && touch {accounts}/{second}", check=True)
    site.write(directory=directory)
    told = site.apply()
    assert f"certbot has several accounts on this server: use {second}" in told
    assert site.served() == site.on_disk(f"{HELD}/fullchain.pem")
    renewal = site.host.read(f"/etc/letsencrypt/renewal/sipdeploy-{DOMAIN}.conf").decode()
    assert f"account = {second}" in renewal
    assert "logs_dir" not in renewal
    assert site.renew() == "success"
    site.sleep_out()


def test_a_server_that_has_forgotten_the_account(site):
    directory = site.authority.serve()
    accounts, account = register(site, directory)
    port = directory.url.split(":")[2].split("/")[0]
    site.authority.host.run(f"systemctl restart pebble{port}", check=True)
    site.authority.root(directory)
    site.write(directory=directory)
    told = site.apply(status=4)
    assert "does not know certbot's account" in told
    remedy = f"mv {accounts}/{account} /root/"
    assert f"`{remedy}`" in told
    site.host.run(remedy, check=True)
    site.apply()
    assert site.served() == site.on_disk(f"{HELD}/fullchain.pem")


def test_must_staple_in_the_administrators_cli_ini(site):
    ini = "/etc/letsencrypt/cli.ini"
    site.host.run(f"echo 'must-staple = true' >> {ini}", check=True)
    site.write(directory=site.authority.serve())
    shown = site.deployer.run("plan", "sip1")
    assert "SD616" in shown.stderr
    served = site.served()
    assert site.renew() == "exit-code"
    assert site.served() == served
    assert "OCSP stapling" in site.cert(status=1)["problems"][0]
    site.host.run(f"sed -i '/^[ -]*must-staple/d' {ini}", check=True)
    site.apply()
    assert site.served() == site.on_disk(f"{HELD}/fullchain.pem") != served
    assert "SD616" not in site.deployer.run("plan", "sip1").stderr
    assert site.renew() == "success"
    site.sleep_out()


def test_a_renewal_of_somebody_else_that_fails_is_only_named(site):
    site.host.write("/etc/letsencrypt/renewal/mine.conf", b"nonsense")
    site.host.run("systemctl start certbot.service")
    assert site.host.run("systemctl is-failed certbot").stdout.strip() == "failed"
    found = site.cert()
    assert found["problems"] == []
    assert "failed for `mine`, which sipdeploy does not manage" in found["warnings"][0]
    site.host.run("rm /etc/letsencrypt/renewal/mine.conf && systemctl reset-failed", check=True)
