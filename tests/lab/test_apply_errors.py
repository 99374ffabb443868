"""Apply on real hosts with faults: the error is clear, and nothing is lost."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from applying import Events, change_file, codes, deafen, live, run_apply, site, site_on, units
from conftest import Deployer

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host.connection import connect
from sipdeploy.plan import preflight
from sipdeploy.services import kamailio
from sipdeploy.transaction import plan
from sipdeploy.transaction.files import Stage, Swap

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]


@pytest.fixture(scope="module")
def installed(lab):
    """A host with all packages, after two interrupted applies."""
    return lab.boot("errors1")


def text(report):
    return "\n".join("\n".join((p.message, p.label, *p.notes, p.help)) for p in report.diagnostics)


HOLDER = """\
use Fcntl; open F, ">>", "/var/lib/apt/lists/lock";
my $lock = pack("s! s! x4 l! l! i x4", F_WRLCK, 0, 0, 0, 0); fcntl F, F_SETLK, $lock or die;
open H, ">", "/root/held"; sleep 600"""


def test_a_used_apt_is_waited_for_and_a_broken_source_of_others_is_a_warning(installed):
    """As on a fresh cloud machine, where apt-daily reads the lists when sipdeploy comes."""
    host = installed
    other = "/etc/apt/sources.list.d/other.list"
    source = host.run("cat /etc/apt/sources.list").stdout.split()[1]
    host.write(other, f"deb {source} no-such-suite main\n".encode())
    host.write("/root/holder", HOLDER.encode())
    host.run("rm -rf /var/lib/apt/lists/*; mkdir -p /var/lib/apt/lists", check=True)
    host.run("systemd-run --quiet --collect --unit=holder perl /root/holder", check=True)
    host.run("until [ -e /root/held ]; do sleep 0.1; done", check=True)
    pid = host.run("systemctl show -p MainPID --value holder").stdout.strip()
    refused = host.run("apt-get update").stderr
    assert f"held by process {pid}" in refused

    def release(event):
        if event.title.startswith("wait for"):
            host.run("systemctl stop holder")

    events = Events(release)
    (planned,) = plan(site_on(host), ["sip1"], credentials={}, say=events)
    host.run(f"rm {other}", check=True)
    assert f"wait for perl (pid {pid}) to release apt" in events.done
    warning, note = (p for p in planned.diagnostics if p.code == "SD520")
    assert (warning.severity, note.severity) == ("warning", "note")
    assert "no-such-suite" in " ".join(warning.notes)
    assert planned.plan.packages["kamailio"].startswith("6.1")


def test_a_package_that_fails_and_an_interrupt_lose_nothing(installed):
    """A maintainer script fails, then Ctrl-C interrupts apt; the third run succeeds."""
    host = installed
    starter = host.read("/usr/sbin/invoke-rc.d")
    host.write("/usr/sbin/invoke-rc.d", b"#!/bin/sh\nexit 1\n", mode=0o755)
    report = run_apply(site_on(host))
    assert codes(report) == ["SD520"]
    assert report.state == "unchanged"
    assert "kamailio" in text(report)
    assert host.run("ls /usr/sbin/policy-rc.d /var/lib/sipdeploy/lock").stdout == ""
    host.write("/usr/sbin/invoke-rc.d", starter, mode=0o755)
    host.run("apt-get -y purge kamailio asterisk-modules", check=True)

    def interrupt(event):
        if event.state == "line" and event.text.startswith("Unpacking "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_apply(site_on(host), Events(interrupt))
    assert host.run("ls /var/lib/sipdeploy/lock").returncode != 0
    report = run_apply(site_on(host))
    assert (codes(report), report.state) == ([], "applied"), text(report)
    assert host.run("ls /usr/sbin/policy-rc.d").returncode != 0


def test_a_configuration_that_does_not_answer_is_rolled_back(installed, monkeypatch):
    host = installed
    run_apply(site_on(host))
    before = live(host)
    deafen(monkeypatch)
    report = run_apply(site_on(host))
    assert (codes(report), report.state) == (["SD524"], "rolled back")
    assert "kamailio does not listen on tcp port 8443" in text(report)
    assert live(host) == before
    assert ":8443" in host.run("ss -tln").stdout
    assert host.run("systemctl is-active kamailio asterisk").stdout.split() == ["active"] * 2


def test_a_configuration_that_does_not_parse_changes_nothing(installed, monkeypatch):
    host = installed
    before = live(host), units(host)
    change_file(monkeypatch, "kamailio", kamailio.CONFIGURATION, lambda content: b"}\n" + content)
    report = run_apply(site_on(host))
    assert report.state == "unchanged"
    problem = report.diagnostics[0]
    assert problem.code == "SD401"
    assert str(problem.span).startswith("sip1:/etc/kamailio/kamailio.cfg:1:")
    assert report.sources[problem.span.path].lines[0] == "}"
    assert (live(host), units(host)) == before


def take(host, port):
    """Let another program listen at a port, as the unit `thiefPORT`."""
    # a bare host has python3-minimal, without http.server
    code = f"import socket, time; s = socket.create_server(('', {port})); time.sleep(600)"
    host.run(f'systemd-run --unit=thief{port} python3 -c "{code}"', check=True)
    end = time.monotonic() + 20
    while f":{port}" not in host.run("ss -tln").stdout:
        assert time.monotonic() < end


def test_a_service_that_does_not_start_is_rolled_back(installed, monkeypatch):
    host = installed
    before = live(host)
    monkeypatch.setattr(preflight, "taken_ports", lambda *_: ())
    take(host, 9443)
    report = run_apply(site_on(host, more="ports: {wss: 9443}"))
    host.run("systemctl stop thief9443")
    assert report.state == "rolled back"
    assert codes(report)[0] in ("SD523", "SD524")
    assert live(host) == before
    assert ":8443" in host.run("ss -tln").stdout


def test_a_port_taken_by_another_program_is_told_before_anything(installed):
    host = installed
    before = live(host), units(host)
    take(host, 9444)
    report = run_apply(site_on(host, more="ports: {wss: 9444}"))
    host.run("systemctl stop thief9444")
    assert codes(report) == ["SD514"]
    assert "`python3` (pid " in text(report)
    assert "set `ports.wss` to a free port" in text(report)
    assert (live(host), units(host)) == before


def test_a_full_disk_changes_nothing(installed):
    """The disk is full while the candidate is written; the lock is removed even so."""
    host = installed
    run_apply(site_on(host))
    before = live(host), units(host)
    host.run("command -v mount || apt-get -y install mount", check=True)
    host.run("mount -t tmpfs -o size=64k none /var/lib/sipdeploy", check=True)
    try:
        report = run_apply(site_on(host, more="ports: {wss: 9443}"))
        left = host.run("ls -A /var/lib/sipdeploy").stdout
    finally:
        host.run("umount /var/lib/sipdeploy", check=True)
    assert codes(report) == ["SD521"]
    assert "make room" in text(report)
    assert left == ""
    assert (live(host), units(host)) == before


def test_ctrl_c_undoes_and_tells(installed, lab, tmp_path):
    """A real signal to a real process, during the swap."""
    host = installed
    run_apply(site_on(host))
    deployer = Deployer(lab, tmp_path / "person")
    deployer.write(name="sip1", address=host.address, mode="kamailio")
    before = live(host)
    argv = [sys.executable, "-m", "sipdeploy", "apply", "--yes", "--overwrite", "--take-over"]
    seen, is_sent = [], False
    with subprocess.Popen(
        argv,
        cwd=deployer.folder,
        env=deployer.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            seen.append(line)
            # once: the undo of this step has the same name
            if "arm the rollback timer" in line and not is_sent:
                process.send_signal(signal.SIGINT)
                is_sent = True
        told = process.stdout.read()
    assert process.returncode == 130, seen
    assert "rolled back" in told, seen
    assert "SD533" in "".join(seen)
    assert "was lost" not in "".join(seen)
    assert live(host) == before


def test_two_applies_at_once_take_turns(installed):
    host = installed
    reports = []
    at_swap, may_go = threading.Event(), threading.Event()

    def wait(event):
        if event.title.startswith("swap") and event.state == "start":
            at_swap.set()
            may_go.wait(30)

    first = site_on(host, more="ports: {wss: 9443}")
    thread = threading.Thread(target=lambda: reports.append(run_apply(first, Events(wait))))
    thread.start()
    assert at_swap.wait(30)
    second = run_apply(site_on(host, more="ports: {wss: 9553}"))
    may_go.set()
    thread.join()
    assert codes(second) == ["SD507"]
    assert "is locked by " in text(second)
    assert second.state == "unchanged"
    assert reports[0].state == "applied"
    run_apply(site_on(host))


def test_an_apply_that_was_cut_off_is_undone_by_the_next(installed, monkeypatch):
    """A killed process leaves swapped files, the undo data and the lock."""
    host = installed
    run_apply(site_on(host))
    before = live(host)

    def die(event):
        if event.title.startswith("restart") and event.state == "start":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Swap, "undo", lambda *_: None)
        patched.setattr(Stage, "undo", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            run_apply(site_on(host, more="ports: {wss: 9443}"), Events(die))
    assert b"9443" in host.read("/etc/kamailio/kamailio.cfg")
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    mark = f"s/(pid [0-9]*/(pid {ended.stdout.strip()}/"
    host.run(["sed", "-i", mark, "/var/lib/sipdeploy/lock/holder"], check=True)
    events = Events()
    report = run_apply(site_on(host), events)
    assert "undo an unfinished apply" in events.done
    assert codes(report) == []
    assert live(host) == before


def test_a_connection_that_is_lost_in_mid_command_is_told_and_opened_anew(installed):
    host = connect("sip1", site_on(installed).hosts["sip1"])
    try:
        with pytest.raises(HostFailed) as failed:
            host.run(["sh", "-c", "kill -9 $PPID; sleep 5"])
        assert failed.value.diagnostics[0].code == "SD506"
        assert host.run(["echo", "back"]).text == "back\n"
    finally:
        host.close()


def test_a_command_that_does_not_end_is_given_up(installed):
    host = connect("sip1", site_on(installed).hosts["sip1"])
    try:
        with pytest.raises(HostFailed, match="did not end"):
            host.run(["sleep", "30"], timeout_seconds=0.5)
        assert host.run(["true"]).status == 0
    finally:
        host.close()


def test_a_login_without_sudo_is_told_what_to_write(installed):
    installed.add_user("plain", sudo="none")
    report = run_apply(site({"address": installed.address, "user": "plain"}))
    assert codes(report) == ["SD505"]
    assert "plain ALL=(ALL) NOPASSWD: ALL" in text(report)


def test_a_host_without_sudo_is_told(installed):
    installed.run("mv /usr/bin/sudo /usr/bin/sudo.off", check=True)
    try:
        report = run_apply(site({"address": installed.address, "user": "plain"}))
    finally:
        installed.run("mv /usr/bin/sudo.off /usr/bin/sudo", check=True)
    assert codes(report) == ["SD505"]
    assert "has no sudo" in text(report)


def test_a_refused_connection_is_told(installed):
    report = run_apply(site({"address": installed.address, "port": 2222}))
    assert codes(report) == ["SD501"]
    assert "port 2222 refuses the connection" in text(report)


def test_an_address_that_nobody_has_is_told(lab):
    nobody = lab.address.rpartition(".")[0] + ".250"
    report = run_apply(site({"address": nobody}))
    assert codes(report) == ["SD501"]


def test_a_name_that_does_not_resolve_is_told(lab):
    report = run_apply(site({"address": "no.such.invalid", "public_address": lab.address}))
    assert codes(report) == ["SD501"]
    assert "does not resolve" in text(report)


def test_a_port_that_speaks_no_ssh_is_told(installed):
    wanted = site({"address": installed.address, "port": 8443}, more="ports: {wss: 9443}")
    report = run_apply(wanted)
    assert codes(report) == ["SD501"]
    assert "did not complete an SSH handshake" in text(report)


def test_an_unknown_host_key_stops_with_what_to_type(lab, installed, tmp_path):
    config = (
        f"Host *\n  User root\n  IdentityFile {lab.identity_file}\n  StrictHostKeyChecking no\n"
    )
    (tmp_path / ".ssh/config").write_text(config)
    report = run_apply(site_on(installed))
    assert codes(report) == ["SD502"]
    scan = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", installed.address],
        capture_output=True,
        text=True,
        check=True,
    )
    (tmp_path / "scan").write_text(scan.stdout)
    listing = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "scan")], capture_output=True, text=True, check=True
    )
    assert listing.stdout.split()[1] in text(report)
    assert f"ssh-keyscan {installed.address} >> ~/.ssh/known_hosts" in text(report)
    assert not (tmp_path / ".ssh/known_hosts").exists()
    (tmp_path / ".ssh/known_hosts").write_text(scan.stdout)
    subprocess.run(["ssh-keygen", "-H", "-f", str(tmp_path / ".ssh/known_hosts")], check=True)
    assert codes(run_apply(site_on(installed))) == []


def test_a_changed_host_key_names_the_line(lab, installed, tmp_path):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True
    )
    key = (tmp_path / "other.pub").read_text()
    (tmp_path / ".ssh/known_hosts").write_text(f"# old\n{installed.address} {key}")
    (tmp_path / ".ssh/config").write_text(f"Host *\n  IdentityFile {lab.identity_file}\n")
    report = run_apply(site_on(installed))
    assert codes(report) == ["SD503"]
    assert "known_hosts:2" in text(report)
    assert f"ssh-keygen -R '{installed.address}'" in text(report)


@pytest.mark.parametrize("phrase", ["", "secret"])
def test_a_key_that_the_host_does_not_take_is_named(lab, installed, tmp_path, phrase):
    file = tmp_path / "id"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-f", str(file)], check=True
    )
    config = (
        f"Host *\n  IdentityFile {file}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {lab.known_hosts}\n"
    )
    (tmp_path / ".ssh/config").write_text(config)
    report = run_apply(site_on(installed))
    assert codes(report) == ["SD504"]
    assert str(file) in text(report)
    assert ("ssh-add" in text(report)) == bool(phrase)


def test_debian_12_has_no_asterisk_and_stays_as_it_was(lab):
    host = lab.boot("errors2", suite="bookworm")
    before = host.run("dpkg -l | md5sum").stdout
    report = run_apply(site_on(host, more="install: {asterisk: package}"))
    assert codes(report) == ["SD511"]
    assert report.state == "unchanged"
    assert "write `install: {asterisk: source}`" in text(report)
    assert host.run("dpkg -l | md5sum").stdout == before
    assert host.run("ls /var/lib/sipdeploy").returncode != 0


# What a container may lack: the right to change the firewall; namespaces for its services.
LACKING = {
    "nft": ("--drop-capability=CAP_NET_ADMIN", "CAP_NET_ADMIN"),
    "namespaces": ("--system-call-filter=~unshare", "nesting=1"),
}


@pytest.mark.parametrize("what", LACKING)
def test_what_a_container_lacks_is_told_before_packages_are_installed(lab, what):
    option, fix = LACKING[what]
    host = lab.boot(f"lacks-{what}", options=(option,))
    before = host.run("dpkg -l | md5sum").stdout
    report = run_apply(site_on(host))
    assert (codes(report), report.state) == (["SD537"], "unchanged"), text(report)
    assert fix in text(report)
    assert host.run("dpkg -l | md5sum").stdout == before
    host.run("systemctl mask kamailio asterisk", check=True)
    host.write("/etc/hosts", b"127.0.0.1 localhost\n127.0.1.1 sip.example.test lacks\n")
    report = run_apply(site_on(host))
    assert codes(report) == ["SD536", "SD537"]
    assert "systemctl unmask asterisk.service kamailio.service" in text(report)
    assert "SD517" not in {problem.code for problem in report.diagnostics}
    host.stop()


def test_the_power_goes_between_the_packages_and_the_swap(lab):
    """The default configuration of the daemons is open, so neither may start at the next boot."""
    host = lab.boot("errors3")

    def cut(event):
        if event.title.startswith("stage and validate") and event.state == "start":
            host.kill()

    assert run_apply(site_on(host), Events(cut)).state != "applied"
    host.start()
    host.run("systemctl is-system-running --wait")  # everything that starts at boot has started
    assert host.run("pgrep -x 'kamailio|asterisk'").stdout == ""
    report = run_apply(site_on(host), breaks_lock=True)
    assert (codes(report), report.state) == ([], "applied"), text(report)
    assert host.run("systemctl is-enabled kamailio asterisk").stdout.split() == ["enabled"] * 2
