"""The lab itself: its hosts are real and separate, and leave nothing behind."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import Lab, LabError, images, machine, network
from lab.claim import CLAIMS
from lab.hosts import group

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def host(lab):
    return lab.boot("bare")


def ssh(lab, login, command):
    argv = ["ssh", "-F", lab.ssh_config, "-o", "BatchMode=yes", login, command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


def traces(name):
    """Return everything on this machine that has the name of a lab."""
    processes = machine.run("ps", "-ww", "-eo", "pid,args").splitlines()
    mounts = Path("/proc/mounts").read_text().splitlines()
    number = name.removeprefix(network.PREFIX)
    claim = CLAIMS / f"{number}.lock"
    found = {
        "links": [link.name for link in Path("/sys/class/net").iterdir() if is_of(name, link)],
        "namespaces": [path.name for path in Path("/run/netns").glob(f"{name}-*")],
        "mounts": [line for line in mounts if f"/{name}/" in line],
        "tables": machine.run("nft", "list", "tables").split("\n").count(f"table ip {name}"),
        "processes": [line for line in processes if f"={name}-" in line],
        "guards": [line for line in processes if line.endswith(f"lab guard {number}")],
        "group": group(name).exists(),
        "directory": (images.cache_directory() / "labs" / name).exists(),
        "nspawn": list(Path("/run/systemd/nspawn").glob(f"*/{name}-*")),
        "claim": claim.exists() and claim.read_text(),
    }
    return {kind: what for kind, what in found.items() if what}


def name_of(lab):
    return network.PREFIX + lab.address.split(".")[2]


def is_of(name, link):
    return link.name == name or link.name.startswith(f"{name}-")


def wait_until_gone(name):
    deadline = time.monotonic() + 15
    while traces(name) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert traces(name) == {}


@contextlib.contextmanager
def lab_host(name):
    """A running `python -m lab host`, and the name of its lab."""
    command = [sys.executable, "-m", "lab", "host", name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as person:
        try:
            said = "".join(iter(person.stdout.readline, "Press Ctrl-C to remove the host.\n"))
            address = said.splitlines()[0].rpartition(" ")[2]
            assert f"ssh -F {images.cache_directory()}" in said
            assert f"hosts:\n  {name}:\n    address: {address}\n" in said
            yield person, f"{network.PREFIX}{address.split('.')[2]}"
        finally:
            person.kill()


def test_a_bare_host_is_a_running_debian(host):
    assert host.run("systemctl is-system-running").stdout == "running\n"
    assert host.run("hostname", check=True).stdout == "bare\n"
    assert Path(f"/proc/{host.pid}/comm").read_text() == "systemd\n"
    for absent in ("kamailio", "asterisk", "certbot"):
        assert host.run(f"command -v {absent}").returncode != 0


def test_a_host_allows_thousands_of_connections(host):
    asked = "systemd-run --quiet --pipe -p LimitNOFILE=65536 sh -c 'ulimit -n'"
    files = int(host.run(asked, check=True).stdout)
    # Without the right to raise its own limit, this machine cannot raise that of a host.
    _, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert files == 65536 or files == ceiling > 10_000


def test_root_logs_in_and_the_host_key_is_the_known_one(lab, host):
    assert ssh(lab, "bare", "id --user").stdout == "0\n"
    assert ssh(lab, host.address, "id --user").stdout == "0\n"
    assert host.read("/etc/ssh/ssh_host_ed25519_key.pub").decode() == host.key
    known = lab.known_hosts.read_text()
    lab.known_hosts.write_text(
        f"{host.address} {lab.identity_file.with_suffix('.pub').read_text()}"
    )
    try:
        assert "Host key verification failed" in ssh(lab, "bare", "true").stderr
    finally:
        lab.known_hosts.write_text(known)


def test_logins_with_and_without_sudo(lab, host):
    host.add_user("deploy", sudo="nopasswd")
    host.add_user("guest", sudo="none")
    assert ssh(lab, "deploy@bare", "sudo -n id --user").stdout == "0\n"
    refused = ssh(lab, "guest@bare", "id --user; sudo -n id")
    assert refused.stdout == "1001\n"
    assert "password is required" in refused.stderr


def test_files_go_in_and_come_out_as_they_are(host):
    content = bytes(range(256)) * 1000
    host.write("/opt/a new/place", content, mode=0o600)
    assert host.read("/opt/a new/place") == content
    assert host.run("stat --format '%a %U' '/opt/a new/place'").stdout == "600 root\n"
    with pytest.raises(FileNotFoundError, match="bare:/nowhere"):
        host.read("/nowhere")


def test_a_failing_command_tells_what_it_printed(host):
    assert host.run("exit 3").returncode == 3
    with pytest.raises(subprocess.CalledProcessError) as failure:
        host.run("echo the reason >&2; false", check=True)
    assert failure.value.__notes__ == ["on bare: the reason"]


def test_packages_are_downloaded_once_for_all_hosts(lab, host):
    host.run("apt-get update && apt-get install --yes hello", check=True)
    second = lab.boot("second")
    fetched = second.run("apt-get install --yes --print-uris hello | grep -c http")
    assert fetched.stdout == "0\n"
    assert second.run("command -v hello").returncode != 0
    second.run("apt-get install --yes hello && hello", check=True)


@pytest.mark.parametrize("suite", images.SUITES)
def test_every_suite_boots_and_its_archive_answers(lab, suite):
    old = lab.boot(suite, suite=suite)
    assert old.run("systemctl is-system-running").stdout == "running\n"
    old.run("apt-get update && apt-get install --yes hello", check=True)
    assert ssh(lab, suite, "id --user").stdout == "0\n"
    old.kill()


CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 22), 5)"
SEND = """
import socket, sys
there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
there.bind(("0.0.0.0", 5060))
there.sendto(b"from a host", (sys.argv[1], int(sys.argv[2])))
"""


def test_hosts_and_the_machine_reach_each_other(lab, host):
    neighbour = lab.boot("neighbour")
    neighbour.run(["python3", "-c", CONNECT, host.address], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.settimeout(5)
        here.bind((lab.address, 0))
        host.run(["python3", "-c", SEND, lab.address, str(here.getsockname()[1])], check=True)
        assert here.recvfrom(100) == (b"from a host", (host.address, 5060))


def power_off(host):
    host.run("systemctl poweroff")
    deadline = time.monotonic() + 15
    while host.is_running and time.monotonic() < deadline:
        time.sleep(0.1)


def test_a_disk_survives_a_power_loss_and_a_shutdown(lab):
    host = lab.boot("phoenix")
    for cut in (host.kill, host.stop, lambda: power_off(host)):
        host.run("date >> /root/lives", check=True)
        with socket.create_connection((host.address, 22)) as connection:
            assert connection.recv(4) == b"SSH-"
            cut()
        assert not host.is_running
        with pytest.raises(LabError, match="phoenix is off"):
            host.run("true")
        host.start()
    assert host.run("wc --lines < /root/lives").stdout == "3\n"
    assert ssh(lab, "phoenix", "id --user").stdout == "0\n"


def test_a_snapshot_is_where_others_start_from(lab):
    first = lab.boot("first")
    first.write("/root/work", b"hours")
    lab.snapshot(first, "worked")
    other = lab.boot("other", base="worked")
    first.start()
    other.run("echo other >> /root/work", check=True)
    assert (first.read("/root/work"), other.read("/root/work")) == (b"hours", b"hoursother\n")
    assert first.run("cat /etc/machine-id").stdout != other.run("cat /etc/machine-id").stdout
    assert ssh(lab, "other", "hostname").stdout == "other\n"


def test_two_labs_at_once_do_not_meet(lab):
    with Lab() as other, ThreadPoolExecutor() as threads:
        here, there = threads.map(lambda one: one.boot("twin"), (lab, other))
        assert lab.address != other.address
        assert here.address.rpartition(".")[0] != there.address.rpartition(".")[0]
        assert ssh(lab, "twin", "id --user").stdout == "0\n"
        assert ssh(other, "twin", "id --user").stdout == "0\n"
        name = name_of(other)
        assert traces(name).keys() >= {"links", "namespaces", "tables", "processes", "group"}
        assert "mounts" not in traces(name)
    assert traces(name) == {}
    assert here.is_running


def test_an_exception_leaves_nothing():
    doomed = Lab()
    with pytest.raises(LabError, match="already has a host"), doomed:
        doomed.boot(doomed.boot("sip1").name)
    assert traces(name_of(doomed)) == {}


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_host_leaves_nothing(ending):
    with lab_host("sip1") as (person, name):
        assert "processes" in traces(name)
        person.send_signal(ending)
        assert person.wait(20) == 130
        assert traces(name) == {}


def test_after_a_sigkill_the_guard_removes_everything():
    with lab_host("sip1") as (person, name):
        person.kill()
        person.wait()
        wait_until_gone(name)


def test_clean_removes_what_a_killed_lab_and_a_killed_guard_left():
    with lab_host("sip1") as (person, name):
        (guard,) = traces(name)["guards"]
        os.kill(int(guard.split()[0]), signal.SIGKILL)
        person.kill()
        person.wait()
        assert "processes" in traces(name)
        command = [sys.executable, "-m", "lab", "clean"]
        assert f"removing {name}\n" in subprocess.check_output(command, cwd=ROOT, text=True)
        assert traces(name) == {}


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("sources.list", "deb http://mirror.test/debian sid main\n", "http://mirror.test/debian"),
        (
            "sources.list",
            "deb [arch=amd64] http://m.test/debian/ sid main",
            "http://m.test/debian/",
        ),
        ("sources.list", "#deb http://m.test/debian sid main\n", None),
        ("sources.list", "deb http://m.test/ubuntu noble main\n", None),
        (
            "sources.list.d/a.sources",
            "Types: deb\nURIs: http://no.test/debian\nEnabled: no\n\nTypes: deb\nURIs: http://m/debian\n",
            "http://m/debian",
        ),
    ],
)
def test_the_mirror_is_that_of_this_machine(tmp_path, file, text, found):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / file).write_text(text)
    if found is None:
        with pytest.raises(LabError, match="SIPDEPLOY_LAB_MIRROR"):
            images.mirror(tmp_path)
    else:
        assert images.mirror(tmp_path) == found


def test_a_name_is_given_once(lab, host):
    with pytest.raises(LabError, match="already has a host `bare`"):
        lab.boot(host.name)


def test_an_unknown_suite_is_refused(lab):
    with pytest.raises(ValueError, match="no suite `potato`: the lab knows sid, trixie"):
        lab.boot("old", suite="potato")
    assert "old" not in lab.hosts


@pytest.mark.usefixtures("lab")  # root on Debian or Ubuntu
def test_a_tool_that_the_system_does_not_have_is_named_and_the_others_installed(monkeypatch):
    """Ubuntu has no package firefox-esr; `apt-get install` would install nothing at all."""
    monkeypatch.setattr(machine, "LAB_TOOLS", {"iproute2": "/nowhere"})
    monkeypatch.setattr(machine, "TEST_TOOLS", {"firefox-of-nobody": "/nowhere"})
    assert machine.install() == (["iproute2"], ["firefox-of-nobody"])
