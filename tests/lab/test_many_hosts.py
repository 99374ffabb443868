"""Many hosts in one run: all are validated before the first changes; --all-or-nothing."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from applying import Events, live, run_apply, site_on, units

from sipdeploy.inventory.site import load_site
from sipdeploy.transaction import Options, apply

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]

HOSTS = int(os.environ.get("LAB_HOSTS", "32"))
SITE = """\
domain: sip.example.test
email: ops@example.com
hosts: {{{hosts}}}
tls: {{provider: self-signed}}
users: {{1001: {{name: {name}}}, 1002: {{name: Bob}}}}
{more}
"""


@pytest.fixture(scope="module")
def watches(lab):  # noqa: ARG001 - skipped where there is none
    """Raise the limit of inotify: each systemd takes six instances, and the default is 128."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    before = limit.read_text()
    limit.write_text(str(max(int(before), 16 * HOSTS + 128)))
    yield
    limit.write_text(before)


@pytest.fixture(scope="module")
def hosts(lab, tmp_path_factory, watches):  # noqa: ARG001 - before the hosts, and after them
    """Hosts from one snapshot, with all packages and without an apply."""
    with pytest.MonkeyPatch.context() as patched:
        home = tmp_path_factory.mktemp("many")
        (home / ".ssh").mkdir()
        (home / ".ssh/config").write_text(f"Include {lab.ssh_config}\n")
        patched.setenv("HOME", str(home))
        patched.delenv("SSH_AUTH_SOCK", raising=False)
        first = lab.boot("many0")
        assert run_apply(site_on(first)).state == "applied"
    first.run("systemctl disable --now kamailio asterisk sipdeploy-firewall")
    first.run("rm -rf /var/lib/sipdeploy /etc/kamailio /etc/sipdeploy", check=True)
    lab.snapshot(first, "installed")
    with ThreadPoolExecutor(4) as pool:
        names = [f"many{number}" for number in range(1, HOSTS + 1)]
        booted = list(pool.map(lambda name: lab.boot(name, base="installed"), names))
    yield booted
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: host.kill(), booted))


def run(hosts, name="Alice", more="", **options):
    entries = ", ".join(f"{host.name}: {{address: {host.address}}}" for host in hosts)
    site, problems, _ = load_site(SITE.format(hosts=entries, name=name, more=more), "i.yaml")
    assert site, problems
    credentials = {
        number: hashlib.md5(f"{number}:{site.domain}:secret".encode()).hexdigest()
        for number in site.users
    }
    events = Events()
    began = time.monotonic()
    chosen = Options(**options)
    reports = apply(site, list(site.hosts), credentials=credentials, say=events, options=chosen)
    return reports, events, time.monotonic() - began


def everywhere(hosts, look):
    """Return `look(host)` for each host; four at a time, because all load this machine."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(look, hosts))


def table(what, reports, seconds):
    """Return a table of the states: number of hosts, fastest and slowest."""
    rows = [f"{what}: {len(reports)} hosts in {seconds:.1f} s"]
    for state in states(reports):
        took = sorted(report.seconds for report in reports if report.state == state)
        rows.append(f"{state:<12} {len(took):>2} hosts, {took[0]:.1f} to {took[-1]:.1f} s each")
    return "; ".join(rows)


def states(reports):
    return sorted({report.state for report in reports})


def test_all_are_brought_up(hosts, record_property):
    reports, events, seconds = run(hosts, parallel=4)
    assert states(reports) == ["applied"], [
        str(p.notes) for r in reports for p in r.diagnostics if p.severity == "error"
    ]
    titles = [event.title for event in events if event.state == "start"]
    staged = max(i for i, title in enumerate(titles) if title.startswith("stage"))
    assert staged < titles.index("back up the current files")
    again, _, idle = run(hosts)
    assert states(again) == ["unchanged"]
    record_property("figure", table("brought up, 4 at a time", reports, seconds))
    record_property("figure", table("nothing to do", again, idle))


def test_one_that_rejects_its_candidate_keeps_all_as_they_are(hosts, record_property):
    bad = hosts[HOSTS // 2]
    bad.write("/etc/asterisk/local/pjsip.conf", b"[x]\ntype=endpoint\nno_such_option=1\n")
    before = everywhere(hosts, lambda host: (live(host), units(host)))
    reports, _, seconds = run(hosts, more="ports: {rtp: 10000-20001, registrar: 5064}")
    assert states(reports) == ["unchanged"]
    (failed,) = (report for report in reports if report.has_failed)
    assert failed.host == bad.name
    assert any(
        "pjsip.conf" in str(problem.span) + str(problem.notes) for problem in failed.diagnostics
    )
    assert everywhere(hosts, lambda host: (live(host), units(host))) == before
    record_property("figure", table("one rejects its candidate", reports, seconds))
    assert all(host.run("ls /var/lib/sipdeploy/lock").returncode for host in hosts)
    bad.run("rm /etc/asterisk/local/pjsip.conf")


def test_all_or_nothing_takes_back_those_that_were_done(hosts, record_property):
    bad = hosts[-1]
    before = everywhere(hosts, live)
    refuse = "[Service]\nExecStartPost=/bin/false\n"
    folder = "/etc/systemd/system/kamailio.service.d"
    bad.write(f"{folder}/zz-refuse.conf", refuse.encode())
    bad.run("systemctl daemon-reload", check=True)
    reports, _, seconds = run(
        hosts, more="ports: {registrar: 5064}", all_or_nothing=True, parallel=8
    )
    assert bad.name in [report.host for report in reports if report.has_failed]
    bad.run(f"rm {folder}/zz-refuse.conf; systemctl daemon-reload; systemctl restart kamailio")
    assert everywhere(hosts, live) == before
    record_property("figure", table("one does not start, all or nothing", reports, seconds))
    good = [report.state for report in reports if report.host != bad.name]
    assert set(good) <= {"rolled back", "unchanged"}
    assert good.count("rolled back") > HOSTS // 2
