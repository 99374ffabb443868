"""The firewall on a real host: open ports, closed ports, and the rollback after a lock-out."""

import socket
import threading
import time

import pytest
from applying import change_file, codes, live, run_apply, site_on
from system import packages_of

from sipdeploy.services import firewall

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]

INNER = (5060, 5062, 5063, 5038, 8088)
TABLE = "nft list table inet sipdeploy"


@pytest.fixture(scope="module")
def host(lab):
    return lab.boot("firewall1", packages=packages_of("sid"))


def is_open(host, port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host.address, port)) == 0


def listen(host, *ports):
    """Start programs on the host that listen on every address."""
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
    listen(host, *INNER, 9999)
    assert is_open(host, 8443)
    assert is_open(host, 22)
    assert is_open(host, 9999), "what is not ours is not touched"
    assert not any(is_open(host, port) for port in INNER)
    host.run("nft delete table inet sipdeploy", check=True)
    assert all(is_open(host, port) for port in INNER), "it is the firewall that shuts them"
    host.run("systemctl restart sipdeploy-firewall", check=True)
    assert not any(is_open(host, port) for port in INNER)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.sendto(b"x", (host.address, 10000))
    time.sleep(0.2)
    (rule,) = (x for x in host.run(TABLE).stdout.splitlines() if "dport 10000-20000" in x)
    assert "packets 0" not in rule
    host.run("systemctl stop 'listener*'")
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


class Watch:
    """A context that records when a host did not answer.

    It tries the port of the phones, because sshd refuses an address that connects often and
    does not log in (`PerSourcePenalties`).
    """

    def __init__(self, host):
        self.shut_at = self.open_again_at = 0.0
        self._host = host
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._end.set()
        self._thread.join()

    def _look(self):
        while not self._end.wait(0.2):
            if not is_open(self._host, 8443):
                self.shut_at = self.shut_at or time.monotonic()
            elif self.shut_at:
                self.open_again_at = self.open_again_at or time.monotonic()


def test_somebody_elses_firewall_is_told_of_until_it_is_open(host):
    hook = "type filter hook input priority 10; policy drop;"
    some = "iif lo accept; ct state established,related accept; tcp dport 22 accept;"
    rules = f"table inet strict {{ chain in {{ {hook} {some} }}; }}"
    host.run(["nft", rules], check=True)
    try:
        first = run_apply(site_on(host, users="{1001: {}, 1005: {}}"), overwrites=True)
        second = run_apply(site_on(host, users="{1001: {}, 1005: {}}"))
        assert not is_open(host, 8443)
        for told in (first, second):
            (problem,) = (each for each in told.diagnostics if each.code == "SD518")
            assert "`inet strict in`" in problem.message
        assert "tcp dport 8443 accept; udp dport 10000-20000 accept" in problem.help
        host.run(problem.help.split("`")[3], check=True)
        assert is_open(host, 8443)
        assert run_apply(site_on(host, users="{1001: {}, 1005: {}}")).diagnostics == ()
    finally:
        host.run("nft delete table inet strict", check=True)
    run_apply(site_on(host))


def test_a_lock_out_is_undone_by_the_host_itself(host, monkeypatch, record_property):
    """The new rules drop SSH, also open connections, so sipdeploy cannot confirm."""
    before = live(host)
    first = b"\t\tct state established,related accept\n"
    rule = b"\t\ttcp dport { 22, 8443 } drop\n"

    def shut(content):
        return content.replace(first, rule)

    with monkeypatch.context() as patched, Watch(host) as watch:
        change_file(patched, "firewall", firewall.NFTABLES, shut)
        report = run_apply(site_on(host), confirm_seconds=8)
        end = time.monotonic() + 60
        while not watch.open_again_at:
            assert watch.shut_at, "nobody was shut out: this proves nothing"
            assert time.monotonic() < end
            time.sleep(0.2)
    # sipdeploy either is still locked out at its timeout, or finds that the host has rolled back
    assert (report.state, report.exit_code) in (("unknown", 5), ("rolled back", 4))
    assert set(codes(report)) & {"SD525", "SD528"}
    assert "by itself" in str(report.diagnostics), "it says who puts the release back"
    shut_seconds = watch.open_again_at - watch.shut_at
    record_property("figure", f"shut out for {shut_seconds:.1f} s: {report.state}")
    assert shut_seconds < 25
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

    def foreign():
        lines = host.run("ufw show added").stdout.splitlines()
        return [line for line in lines if "sipdeploy" not in line]

    before = foreign()
    report = run_apply(site_on(host))
    assert report.state == "applied", report.diagnostics
    added = host.run("ufw show added").stdout
    assert foreign() == before
    assert "ufw allow 8443/tcp comment 'sipdeploy'" in added
    assert "ufw deny 5060 comment 'sipdeploy'" in added
    table = host.run(TABLE).stdout
    assert "chain output" in table, "ufw knows no accounts"
    assert "chain input" not in table
    assert is_open(host, 8443)
    assert run_apply(site_on(host)).state == "unchanged"
    host.run("nft delete table inet sipdeploy", check=True)
    assert run_apply(site_on(host)).state == "applied"
    assert "chain output" in host.run(TABLE).stdout
    run_apply(site_on(host, more="ports: {wss: 9443}"))
    added = host.run("ufw show added").stdout
    assert "8443/tcp" not in added
    assert "ufw allow 9443/tcp comment 'sipdeploy'" in added
    assert run_apply(site_on(host, more="firewall: none")).state == "applied"
    added = host.run("ufw show added").stdout
    assert "sipdeploy" not in added
    assert host.run(TABLE).returncode != 0
    assert foreign() == before
