"""The firewall on a real host: what is open, what is shut, and a lock-out that undoes itself."""

import dataclasses
import socket
import time

import pytest
from applying import codes, live, run_apply, site_on

from sipdeploy.services import firewall

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]

TABLE = "nft list table inet sipdeploy"


@pytest.fixture(scope="module")
def host(lab):
    return lab.boot("firewall1")


def is_open(host, port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host.address, port)) == 0


def listen(host, *ports):
    """Programs of the host that hear on every address."""
    for port in ports:
        host.run(
            f"systemd-run --quiet --collect --unit=listener{port} python3 -m http.server {port}",
            check=True,
        )
    end = time.monotonic() + 10
    while any(f":{port} " not in host.run("ss -Htln").stdout for port in ports):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_phones_get_in_and_nobody_gets_between_the_daemons(host):
    report = run_apply(site_on(host))
    assert (codes(report), report.state) == ([], "applied")
    assert host.run("command -v python3").returncode == 0
    listen(host, 5060, 5063, 8088, 9999)
    assert is_open(host, 8443)
    assert is_open(host, 22)
    assert is_open(host, 9999), "what is not ours is not touched"
    assert not any(is_open(host, port) for port in (5060, 5063, 8088))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.sendto(b"x", (host.address, 10000))
    time.sleep(0.2)
    (rule,) = (x for x in host.run(TABLE).stdout.splitlines() if "10000-20000" in x)
    assert "packets 0" not in rule
    host.run("systemctl stop listener5060 listener5063 listener8088 listener9999")
    assert run_apply(site_on(host)).state == "unchanged"


def test_a_flushed_ruleset_comes_back(host):
    host.run("systemctl start nftables && systemctl reload nftables", check=True)
    assert host.run(TABLE).returncode == 0, "our unit follows the reloads of nftables.service"
    host.run("nft flush ruleset", check=True)
    report = run_apply(site_on(host))
    assert report.changes == ("! restart sipdeploy-firewall.service",)
    assert host.run(TABLE).returncode == 0


def test_it_stands_after_a_reboot(host):
    host.stop()
    host.start()
    assert host.run(TABLE).returncode == 0
    assert run_apply(site_on(host)).state == "unchanged"


def test_local_rules_are_kept_and_ssh_stays_open_before_them(host):
    host.write("/etc/sipdeploy/local.nft", b"tcp dport { 22, 9999 } drop\n")
    run_apply(site_on(host, more="ports: {rtp: 10000-20001}"))
    listen(host, 9999)
    assert is_open(host, 22)
    assert not is_open(host, 9999)
    host.run("systemctl stop listener9999; rm /etc/sipdeploy/local.nft")
    assert run_apply(site_on(host)).state == "applied"


def test_a_lock_out_is_undone_by_the_host_itself(host, monkeypatch):
    """The new rules drop SSH, also of connections that stand: nobody can confirm."""
    before = live(host)
    original = firewall.files

    def shut(deployment):
        for file in original(deployment):
            if file.path == firewall.NFTABLES:
                first = b"\t\tct state established,related accept\n"
                assert first in file.content
                content = file.content.replace(first, b"\t\ttcp dport 22 drop\n")
                file = dataclasses.replace(file, content=content)  # noqa: PLW2901
            yield file

    with monkeypatch.context() as patched:
        patched.setattr(firewall, "files", shut)
        began = time.monotonic()
        report = run_apply(site_on(host), confirm_seconds=8)
    # either it is still shut out when it gives up, or it finds that the host has gone back
    assert (report.state, report.exit_code) in (("unknown", 5), ("rolled back", 4))
    assert set(codes(report)) <= {"SD506", "SD525", "SD528"}
    while not is_open(host, 22):
        assert time.monotonic() < began + 120
        time.sleep(0.2)
    time.sleep(1)
    assert live(host) == before
    report = run_apply(site_on(host))
    assert (report.state, [p.code for p in report.diagnostics]) == ("unchanged", ["SD527"])


def test_without_it_nothing_is_left(host):
    assert run_apply(site_on(host, more="firewall: none")).state == "applied"
    assert host.run(TABLE).returncode != 0
    assert host.run("systemctl is-active sipdeploy-firewall").stdout.strip() != "active"
    assert run_apply(site_on(host, more="firewall: none")).state == "unchanged"


def test_ufw_is_taken_where_it_is_active(host):
    host.run("apt-get install -q -y ufw", check=True)
    host.run("ufw allow 22/tcp && ufw allow 7777/tcp && ufw --force enable", check=True)
    report = run_apply(site_on(host))
    assert report.state == "applied", report.diagnostics
    added = host.run("ufw show added").stdout
    assert "ufw allow 8443/tcp comment 'sipdeploy'" in added
    assert "ufw deny 5060 comment 'sipdeploy'" in added
    assert "ufw allow 7777/tcp" in added
    assert host.run(TABLE).returncode != 0
    assert is_open(host, 8443)
    assert run_apply(site_on(host)).state == "unchanged"
    run_apply(site_on(host, more="ports: {wss: 9443}"))
    added = host.run("ufw show added").stdout
    assert "8443/tcp" not in added
    assert "ufw allow 9443/tcp comment 'sipdeploy'" in added
    assert run_apply(site_on(host, more="firewall: none")).state == "applied"
    added = host.run("ufw show added").stdout
    assert "sipdeploy" not in added
    assert "ufw allow 7777/tcp" in added
