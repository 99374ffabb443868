"""A build of Asterisk on Debian 13, which has no package: interrupted, resumed, used for calls.

Then a host with the package switches to a build and back. `make test-source` runs this file; each
build takes five minutes on two idle cores.
"""

import contextlib
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Deployer
from system import DOMAIN, password, passwords

from lab.browser import Browser, spki_pin
from lab.origin import Origin
from sipdeploy.services import install as source

pytestmark = [pytest.mark.lab, pytest.mark.source]

SUITE = "trixie"
INVENTORY = """\
domain: {domain}
email: ops@example.test
hosts: {{sip1: {{address: {address}}}}}
tls: {{provider: self-signed}}
users: {{1001: {{name: Alice}}, 1002: {{name: Bob, voicemail: yes}}}}
services: {{6000: {{kind: ivr-test}}, 6001: {{kind: voicemail}}, 6002: {{kind: echo}}}}
install: {install}
"""
LOW_HZ, HIGH_HZ = 440, 620
BUILD_SECONDS = 3600


@pytest.fixture(scope="module")
def release(lab):
    return Origin(lab.boot("origin")).release()


@pytest.fixture(scope="module")
def host(lab):
    return lab.boot("source1", suite=SUITE)


def with_passwords(deployer):
    (deployer.folder / "secrets.yaml").touch(mode=0o600)
    (deployer.folder / "secrets.yaml").write_text(passwords())
    return deployer


@pytest.fixture(scope="module")
def deployer(lab, tmp_path_factory):
    return with_passwords(Deployer(lab, tmp_path_factory.mktemp("source")))


def write(deployer, host, install):
    text = INVENTORY.format(domain=DOMAIN, address=host.address, install=install)
    (deployer.folder / "inventory.yaml").write_text(text)


def described(release, *, sha256=None):
    url, sum_ = release.asterisk
    pjproject = "url: {}, sha256: {}".format(*release.pjproject)
    return (
        f"{{asterisk: {{version: {release.version}, url: '{url}', sha256: {sha256 or sum_}, "
        f"pjproject: {{{pjproject}}}}}}}"
    )


def apply(deployer, *, status=0):
    done = deployer.run("-v", "apply", "sip1", "--yes", timeout=BUILD_SECONDS)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr
    return done.stdout + done.stderr


def objects(host):
    """Return the object files of the build with their modification times."""
    found = host.run("cd /var/cache/sipdeploy && find . -name '*.o' -printf '%P %T@\\n'").stdout
    return dict(line.split() for line in found.splitlines())


def running(host):
    """Return the program of the main process of the unit."""
    pid = host.run("systemctl show -p MainPID --value asterisk").stdout.strip()
    return host.run(f"readlink /proc/{pid}/exe").stdout.strip()


def build_name(host):
    return re.search(r"asterisk-[0-9.]+-[0-9a-f]{8}", host.read(source.WRAPPER).decode())[0]


def test_a_package_that_the_archive_lacks_is_refused_and_told_what_to_write(deployer, host):
    write(deployer, host, "{asterisk: package}")
    said = apply(deployer, status=4)
    assert "its archive has no asterisk" in said
    assert "install: {asterisk: source}" in said
    assert host.run("ls /var/lib/sipdeploy /etc/asterisk").stdout == ""


def test_without_a_word_a_build_is_planned(deployer, host):
    write(deployer, host, "{}")
    planned = deployer.run("plan", "sip1").stdout
    assert "+ build asterisk 22.11.0 from source" in planned
    assert "has no asterisk; this takes 2 to 5 minutes" in planned
    assert "= kamailio: 6.0." in planned


def test_another_tarball_than_the_one_that_is_meant_is_not_unpacked(deployer, host, release):
    write(deployer, host, described(release, sha256="0" * 64))
    said = apply(deployer, status=4)
    assert "SD540" in said
    assert f"has the wrong SHA-256: {release.asterisk[1]}, not {'0' * 64}" in said
    assert "its log on the host: /var/cache/sipdeploy/asterisk-" in said
    assert host.run("ls -d /etc/asterisk /opt/sipdeploy/* /var/lib/sipdeploy/lock").stdout == ""
    host.run("rm -rf /var/cache/sipdeploy", check=True)


def test_a_build_that_is_cut_off_goes_on_where_it_was(deployer, host, release):
    """The deploying machine dies, and the build continues. Then the host loses power."""
    write(deployer, host, described(release))
    process = subprocess.Popen(
        [sys.executable, "-m", "sipdeploy", "apply", "sip1", "--yes"],
        cwd=deployer.folder,
        env=deployer.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait(lambda: len(objects(host)) > 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at_death = len(objects(host))
    wait(
        lambda: len(objects(host)) > at_death + 20
    )  # the build continues without the deploying machine
    host.kill()
    host.start()
    made = objects(host)
    newest = max(float(when) for when in made.values())
    whole = {(path, when) for path, when in made.items() if float(when) < newest - 6}
    assert len(whole) > 30
    assert host.run("ls -d /opt/sipdeploy/* /etc/asterisk").stdout == ""
    watched: list[set[tuple[str, str]]] = []
    with ThreadPoolExecutor() as pool:
        applied = pool.submit(apply, deployer)
        wait(lambda: applied.done() or watched.append(set(objects(host).items())))
    said = applied.result()
    assert "compile ..." in said
    assert not [word for word in ("fetch http", "unpack ...", "configure ...") if word in said]
    # complete objects were not compiled again; `watched` saw all of them before the cleanup
    assert whole <= max(watched, key=len)
    assert running(host) == f"/opt/sipdeploy/{build_name(host)}/sbin/asterisk"


def wait(holds, seconds=BUILD_SECONDS):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(2)


def test_a_second_apply_changes_nothing(deployer):
    assert "unchanged, 0 changes" in apply(deployer)


def test_who_runs_it_and_what_is_loaded(host):
    assert host.run("ps -o user= -C asterisk").stdout.split() == ["asterisk"]
    loaded = host.run("asterisk -rx 'module show'").stdout
    named = re.findall(r"(?m)^load=(\S+)", host.read("/etc/asterisk/modules.conf").decode())
    assert [name for name in named if name not in loaded] == []
    owners = host.run("find /opt/sipdeploy ! -user root -o -perm /022 ! -type l").stdout
    assert owners == ""
    assert host.run("ls -A /var/cache/sipdeploy | grep -vE '[.]log$|^lock$'").stdout == ""


@contextlib.contextmanager
def browsers(host):
    """Two browsers, each with a different tone as microphone."""
    pin = spki_pin(host.read("/etc/kamailio/tls/server.crt"))
    resolve = {DOMAIN: host.address}
    with (
        Browser(resolve, spki=[pin], tone_hz=LOW_HZ) as first,
        Browser(resolve, spki=[pin], tone_hz=HIGH_HZ) as second,
    ):
        yield first, second


def codecs(host, number):
    """The codecs that Asterisk offers a phone, in its order."""
    shown = host.run(f"asterisk -rx 'pjsip show endpoint {number}'").stdout
    return re.search(r"(?m)^ allow +: \((.*)\)", shown)[1].split("|")


def talk(host):
    with browsers(host) as (first, second):
        alice = first.phone("1001", password=password("1001"))
        bob = second.phone("1002", password=password("1002"))
        call = alice.call("1002")
        incoming = bob.wait_incoming().answer()
        call.wait("answered")
        assert call.hears(HIGH_HZ)
        assert incoming.hears(LOW_HZ)
        call.hang_up()
        incoming.wait("ended")
        echo = alice.call("6002").wait("answered")
        assert echo.hears(LOW_HZ)
        echo.hang_up()
        ivr = alice.call("6000").wait("answered").wait("ended", timeout_seconds=25)
        assert ivr.heard_speech()
        assert ivr.heard_seconds(LOW_HZ) > 1  # the ring tone


def test_browsers_talk(host):
    assert codecs(host, "1001") == ["ulaw", "alaw"]  # docs/install.md says so
    talk(host)


def test_a_message_is_left_and_told(host):
    box = "/var/spool/asterisk/voicemail/default/1002"
    with browsers(host) as (first, second):
        call = first.phone("1001", password=password("1001")).call("1002").wait("answered")
        wait(lambda: host.run(f"ls {box}/tmp/*.wav").stdout, 60)
        time.sleep(4)
        call.hang_up()
        wait(lambda: host.run(f"ls {box}/INBOX/*.wav").stdout, 20)
        size = host.run(f"stat -c %s {box}/INBOX/msg0000.wav").stdout
        assert int(size) > 16_000  # for a second
        bob = second.phone("1002", password=password("1002"))
        assert "Messages-Waiting: yes" in bob.subscribe("1002", "message-summary").wait().body


def test_another_build_is_switched_to_and_back(deployer, host, release):
    """Like an upgrade: the new build exists already, and the apply only switches to it."""
    first = build_name(host)
    write(deployer, host, described(release, sha256="1" * 64))
    planned = deployer.run("plan", "sip1").stdout
    assert f"+ build asterisk {release.version} from source" in planned
    assert "! restart asterisk.service" in planned
    assert f"~ {source.WRAPPER} (restart asterisk)" in planned
    second = re.search(r"asterisk-[0-9.]+-(?!" + first[-8:] + r")[0-9a-f]{8}", planned)[0]
    host.run(f"cp -a /opt/sipdeploy/{first} /opt/sipdeploy/{second}", check=True)
    apply(deployer)
    assert running(host) == f"/opt/sipdeploy/{second}/sbin/asterisk"
    assert host.run(f"ls /opt/sipdeploy/{first}/.built").returncode == 0  # for the rollback
    done = deployer.run("rollback", "sip1", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert running(host) == f"/opt/sipdeploy/{first}/sbin/asterisk"


def test_a_host_with_the_package_changes_to_a_build_and_back(lab, release, tmp_path):
    host = lab.boot("package1")
    deployer = with_passwords(Deployer(lab, tmp_path))
    write(deployer, host, "{}")
    apply(deployer)
    packaged = running(host)
    assert not packaged.startswith("/opt/")
    assert codecs(host, "1001") == ["opus", "ulaw", "alaw"]
    write(deployer, host, described(release))
    apply(deployer)
    assert running(host) == f"/opt/sipdeploy/{build_name(host)}/sbin/asterisk"
    talk(host)
    done = deployer.run("rollback", "sip1", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert running(host) == packaged
    talk(host)
