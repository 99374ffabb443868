"""Calls of Firefox with Firefox, with Chromium and with services, for both SIP libraries.

`test_calls` has the same with Chromium alone. A tone of its own identifies each browser.
"""

import re
import subprocess
import time
from contextlib import ExitStack

import pytest
import python_phone
from conftest import Deployer
from system import DOMAIN, System, packages_of, password, within
from web_phones import FirefoxPhone, WebPhone, served

from lab import firefox
from lab.browser import Browser
from lab.firefox import Firefox

pytestmark = pytest.mark.lab

BROWSERS = {
    "fox": (Firefox, "1001", 440),
    "vixen": (Firefox, "1002", 620),
    "chromium": (Browser, "1004", 880),
}
PAIRS = [("fox", "chromium"), ("chromium", "fox"), ("fox", "vixen")]
INBOX = "/var/spool/asterisk/voicemail/default/1002/INBOX"


@pytest.fixture(scope="module")
def system(lab, tmp_path_factory):
    """A host with a certificate of an own authority, which the browsers trust."""
    if reason := firefox.why_not():
        pytest.skip(reason)
    host = lab.boot("firefox", packages=packages_of("sid"))
    deployer = Deployer(lab, tmp_path_factory.mktemp("site"))
    deployer.write(name=host.name, address=host.address, mode="kamailio")
    certify(deployer.folder)
    inventory = deployer.folder / "inventory.yaml"
    files = "{provider: files, certificate: server.crt, private_key: server.key}"
    inventory.write_text(inventory.read_text().replace("{provider: self-signed}", files))
    done = deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    return System(mode="kamailio", host=host, deployer=deployer)


def certify(folder):
    """Write the files of a server certificate and of its authority."""
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
    own = f"{new} -subj /CN=authority -keyout ca.key -out ca.crt"
    usage = f"-addext subjectAltName=DNS:{DOMAIN} -addext basicConstraints=critical,CA:FALSE"
    issued = f"{new} -subj /CN={DOMAIN} {usage} -keyout server.key -out server.crt"
    for command in (own, f"{issued} -CA ca.crt -CAkey ca.key"):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    with (folder / "server.crt").open("a") as chain:
        chain.write((folder / "ca.crt").read_text())


@pytest.fixture(scope="module")
def browsers(system):
    root = (system.deployer.folder / "ca.crt").read_text()
    resolve = {DOMAIN: system.address}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(browser(resolve, roots=[root], tone_hz=hz))
            for name, (browser, _, hz) in BROWSERS.items()
        }


@pytest.fixture(scope="module", params=["jssip", "sipjs"])
def phones(request, browsers):
    """A registered phone in each browser."""
    opened = {
        name: browsers[name].phone(number, password=password(number), library=request.param)
        for name, (_, number, _) in BROWSERS.items()
    }
    yield opened
    for phone in opened.values():
        phone.close()


def hz(name):
    return BROWSERS[name][2]


def ring(phones, caller, callee):
    call = phones[caller].call(phones[callee].number)
    # Chromium first asks every interface for addresses, which takes long beside other labs
    return call, phones[callee].wait_incoming()


def talk(phones, caller, callee):
    call, incoming = ring(phones, caller, callee)
    incoming.answer()
    call.wait("answered")
    hear_each_other(call, incoming, caller, callee)
    return call, incoming


def hear_each_other(call, incoming, caller, callee):
    assert call.hears(hz(callee)), (call.listen(), call.media_path())
    assert incoming.hears(hz(caller)), (incoming.listen(), incoming.media_path())
    assert not call.listen().hears(hz(caller))


def loses(call, tone_hz, seconds=3):
    """Whether a tone ends within the time, which also the jitter buffer of the browser takes."""
    end = time.monotonic() + seconds
    while call.listen(0.3).hears(tone_hz):
        if time.monotonic() > end:
            return False
    return True


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
def test_both_hold_and_hang_up(phones, caller, callee):
    call, incoming = talk(phones, caller, callee)
    assert incoming.acknowledged
    for holder, held, sent in ((call, incoming, caller), (incoming, call, callee)):
        assert holder.hold()
        assert loses(held, hz(sent))
        assert holder.unhold()
        assert held.hears(hz(sent))
    call.hang_up()
    incoming.wait("ended")
    call, incoming = ring(phones, caller, callee)
    incoming.answer().hang_up()
    call.wait("ended")
    assert call.trace.received().requests("BYE")


def test_it_and_the_phone_in_python_call_each_other(phones, system):
    python_phone.is_called_by(phones["fox"], system, "1005", hz("fox"))
    python_phone.calls(phones["fox"], system, "1005", hz("fox"))


def test_the_service_speaks_and_hangs_up(phones):
    call = phones["fox"].call("6000").wait("answered")
    call.wait("ended", timeout_seconds=25)
    assert call.heard_speech()
    assert call.heard_seconds(440) > 1  # of the ring tone


def test_a_message_is_left_and_heard_after_a_key(phones, system):
    """1002 rejects a call, so its mailbox takes a message; 1002 then presses a key to hear it."""
    system.run(f"rm -rf {INBOX}")
    call, incoming = ring(phones, "chromium", "vixen")
    incoming.reject(486)
    call.wait("answered")
    wait(call.heard_speech)
    call.dtmf("#")  # ends the greeting
    wait(lambda: system.run(f"ls {INBOX}/../tmp/*.wav 2>/dev/null"))
    time.sleep(3)
    call.hang_up()
    wait(lambda: system.run(f"ls {INBOX}/*.wav 2>/dev/null"))
    box = phones["vixen"].call("6001").wait("answered")
    wait(box.heard_speech)
    box.dtmf("1")
    assert box.hears(hz("chromium"), timeout_seconds=25), box.listen()
    box.hang_up()


def wait(event, seconds=15):
    end = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_call_outlives_a_restart_of_kamailio(phones, system):
    call, incoming = talk(phones, "fox", "vixen")
    system.run("systemctl restart kamailio")
    for phone in phones.values():
        phone.wait(registered=True, timeout_seconds=30)
    hear_each_other(call, incoming, "fox", "vixen")
    incoming.hang_up()
    call.wait("ended")
    assert call.trace.received().requests("BYE")


def test_a_call_outlives_the_loss_of_its_connection(phones, system):
    call, incoming = talk(phones, "chromium", "fox")
    (port,) = re.findall(
        r"Received: sip:[^:]+:(\d+);", system.run(f"kamcmd ul.lookup location 1001@{DOMAIN}")
    )
    connection = f"dst {system.address} dport = 8443 and sport = {port}".split()
    before = registrations(phones["fox"])
    subprocess.run(["ss", "-K", *connection], check=True, capture_output=True)
    assert within(30, lambda: registrations(phones["fox"]) > before)
    hear_each_other(call, incoming, "chromium", "fox")
    incoming.hang_up()
    call.wait("ended")
    assert call.trace.received().requests("BYE")


def registrations(phone):
    return len(phone.trace.received().responses("REGISTER", 200).messages)


def test_the_web_phone_calls_and_is_called(browsers):
    """The page of sipdeploy itself; test_web_phone has all its functions in Chromium."""
    with served("1003") as first, served("1005") as second:
        fox = FirefoxPhone(browsers["fox"], first)
        other = WebPhone(browsers["chromium"], second)
        for phone in (fox, other):
            phone.wait_ready()
        fox.dial("6002")
        fox.wait_state("active")
        assert fox.hears(440), fox.listen()
        fox.act("hangUp")
        fox.gone(".call-card")
        fox.dial("1005")
        other.wait_state("incoming")
        assert fox.plays(425)
        other.act("answer")
        fox.wait_state("active")
        assert fox.hears(880), fox.listen()
        assert other.hears(440), other.listen()
        fox.act("hold")
        other.see("on hold by the other side")
        fox.act("hold")
        assert fox.hears(880), fox.listen()
        other.act("hangUp")
        fox.gone(".call-card")
        other.dial("1003")
        fox.wait_state("incoming")
        assert fox.plays(523) or fox.plays(659)
        fox.act("answer")
        assert fox.hears(880), fox.listen()
        assert other.hears(440), other.listen()
        fox.act("hangUp")
        other.gone(".call-card")
        assert not fox.foreign.errors
        for phone in (fox, other):
            phone.close()
