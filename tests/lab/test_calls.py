"""Calls between real browsers on a host after `apply`; a tone proves the audio."""

import contextlib
import json
import os
import re
import subprocess
import time

import pytest
from signalling import ip, run
from system import DOMAIN, password, within

from lab.browser import Browser, spki_pin
from lab.phones.call import OVER
from sipdeploy.sip.media import open_audio
from sipdeploy.sip.media import talk as media

pytestmark = pytest.mark.lab

LOW, HIGH = 440, 620


@pytest.fixture(scope="module")
def browsers(system):
    """Two browsers, because each has one microphone: a tone of 440 Hz and one of 620 Hz."""
    pin = spki_pin(system.host.read("/etc/kamailio/tls/server.crt"))
    resolve = {DOMAIN: system.address}
    with (
        Browser(resolve, spki=[pin], tone_hz=LOW) as low,
        Browser(resolve, spki=[pin], tone_hz=HIGH) as high,
    ):
        yield low, high


@pytest.fixture
def phones(browsers):
    """Alice (440 Hz) and Bob (620 Hz), registered until the end of the test."""
    opened = [
        browser.phone(number, password=password(number))
        for browser, number in zip(browsers, ("1001", "1004"), strict=True)
    ]
    yield opened
    for phone in opened:
        phone.close()


def talk(caller, callee):
    """Set up a call with audio both ways; return its two sides."""
    call = caller.call(callee.number)
    incoming = callee.wait_incoming().answer()
    call.wait("answered")
    hear_each_other(call, incoming)
    return call, incoming


def hear_each_other(low, high):
    assert low.hears(HIGH), low.listen()
    assert high.hears(LOW), high.listen()
    assert not low.listen().hears(LOW)
    assert not high.listen().hears(HIGH)


def test_two_browsers_talk_and_either_hangs_up(phones):
    alice, bob = phones
    call, incoming = talk(alice, bob)
    assert incoming.acknowledged
    call.hang_up()
    incoming.wait("ended")
    back = bob.call("1001").wait("ringing")
    incoming = alice.wait_incoming().answer()
    back.wait("answered")
    hear_each_other(incoming, back)
    assert incoming.acknowledged
    back.hang_up()
    incoming.wait("ended")
    call, incoming = talk(alice, bob)
    incoming.hang_up()
    call.wait("ended")


def test_a_call_stays_up_for_40_seconds(phones):
    """A lost ACK would end a call after 32 s (RFC 3261, 64*T1)."""
    call, incoming = talk(*phones)
    time.sleep(40)
    assert call.state == incoming.state == "answered"
    hear_each_other(call, incoming)
    call.hang_up()
    incoming.wait("ended")


def test_hold_and_resume(phones):
    call, incoming = talk(*phones)
    assert call.hold()
    assert call.unhold()
    hear_each_other(call, incoming)
    call.hang_up()
    incoming.wait("ended")


def test_cancel_stops_the_ringing(phones):
    alice, bob = phones
    call = alice.call("1004")
    incoming = bob.wait_incoming()
    call.wait("ringing")
    call.cancel()
    incoming.wait_over()
    alice.wait_trace(lambda trace: trace.received().responses("INVITE", 487))


def test_busy_and_unknown(phones):
    alice, bob = phones
    call = alice.call("1004")
    bob.wait_incoming().reject(486)
    assert call.wait_over().status == 486
    assert alice.call("9999").wait_over().status == 404
    assert alice.call("1006").wait_over().status == 480


@pytest.mark.parametrize("library", ["jssip", "sipjs"])
def test_the_ivr_plays_its_digits_and_hangs_up(browsers, library):
    phone = browsers[0].phone("1001", password=password("1001"), library=library)
    call = phone.call("6000").wait("answered")
    call.wait("ended", timeout_seconds=25)
    assert call.heard_speech()
    assert call.heard_seconds(440) > 1
    phone.close()


def test_sipjs_talks_to_jssip(browsers):
    alice = browsers[0].phone("1001", password=password("1001"), library="sipjs")
    bob = browsers[1].phone("1004", password=password("1004"))
    call, incoming = talk(alice, bob)
    incoming.hang_up()
    call.wait("ended")
    back = bob.call("1001").wait("ringing")
    incoming = alice.wait_incoming().answer()
    back.wait("answered")
    hear_each_other(incoming, back)
    back.hang_up()
    incoming.wait("ended")
    alice.close()
    bob.close()


@pytest.fixture
def opened():
    """Opens phones of a library, and closes them at the end of the test."""
    phones = []

    def opening(browser, number, library):
        phones.append(browser.phone(number, password=password(number), library=library))
        return phones[-1]

    yield opening
    for phone in phones:
        phone.close()


@pytest.mark.parametrize("library", ["jssip", "sipjs"])
def test_one_of_two_devices_gets_a_call_that_both_answer(browsers, opened, library):
    rounds = int(os.environ.get("LAB_ANSWERS", "4"))
    low, high = browsers
    alice = opened(low, "1001", library)
    devices = [opened(high, "1005", library) for _ in range(2)]
    for _ in range(rounds):
        call = alice.call("1005")
        rung = [device.wait_incoming() for device in devices]
        for each in rung:
            each.pick_up()
        call.wait("answered")
        end = time.monotonic() + 20
        while sorted(each.state in OVER for each in rung) != [False, True]:
            assert time.monotonic() < end, [each.state for each in rung]
            time.sleep(0.1)
        time.sleep(1)
        (good,) = [each for each in rung if each.state not in OVER]
        assert (call.state, good.state, good.acknowledged) == ("answered", "answered", True)
        call.hang_up()
        good.wait("ended")


def test_sipjs_transfers_a_call_to_another(browsers, opened):
    """It refers to the remote target of the other call, which is a Contact without a GRUU."""
    low, high = browsers
    alice = opened(low, "1001", "sipjs")
    bob, eve = (opened(high, number, "sipjs") for number in ("1004", "1003"))
    first = alice.call("1004")
    bob.wait_incoming().answer()
    second = alice.call("1003")
    eve.wait_incoming().answer()
    second.wait("answered")
    assert first.transfer(second) == 202
    new = eve.wait_incoming().answer()
    assert new.peer == "1004"
    assert new.hears(HIGH), new.listen()
    second.wait("ended")
    new.hang_up()
    bob.calls[-1].wait("ended")


def test_an_offline_users_voicemail_takes_a_message(phones, system, browsers):
    alice, _ = phones
    box = "/var/spool/asterisk/voicemail/default/1002"
    inbox = f"{box}/INBOX"
    system.run(f"rm -rf {inbox} {box}/tmp")
    call = alice.call("1002").wait("answered")
    # greeting, beep, then the recording: stop after a few seconds of it
    end = time.monotonic() + 60
    while not system.run(f"ls {box}/tmp/*.wav 2>/dev/null"):
        assert time.monotonic() < end, "nothing is recorded"
        time.sleep(0.2)
    time.sleep(4)
    call.hang_up()
    end = time.monotonic() + 10
    while not (listing := system.run(f"ls -s --block-size=1 {inbox}/*.wav 2>/dev/null").split()):
        assert time.monotonic() < end, "no message on disk"
        time.sleep(0.5)
    assert int(listing[0]) > 16_000
    bob = browsers[1].phone("1002", password=password("1002"))
    note = bob.subscribe("1002", "message-summary").wait()
    assert "Messages-Waiting: yes" in note.body
    bob.close()


def test_a_wrong_password_is_refused_and_the_victim_keeps_its_calls(browsers, phones):
    alice, bob = phones
    thief = browsers[0].phone("1004", register=False, password="wrong")
    assert thief.register() in {401, 403}
    thief.rewrite("^Contact: .*$", "Contact: *")
    thief.rewrite("^Expires: .*$", "Expires: 0")
    assert thief.register() in {401, 403}
    call, _ = talk(alice, bob)
    call.hang_up()
    thief.close()


def test_an_unregistered_or_lying_phone_calls_nobody(browsers, phones):
    _, bob = phones
    silent = browsers[0].phone("1003", register=False, password="wrong")
    assert silent.call("1004").wait_over().status in {401, 403, 407}
    assert silent.call("6000").wait_over().status in {401, 403, 407}
    silent.close()
    for name in ("1006", "trunk", "kamailio"):
        liar = browsers[0].phone("1003", password=password("1003"))
        liar.rewrite(r"^From: .*<sip:1003@", f"From: <sip:{name}@")
        for target in ("1004", "6000"):
            assert liar.call(target).wait_over().status in {401, 403, 407}
        liar.close()
    assert not bob.trace.received().requests("INVITE")


def test_a_call_outlives_a_restart_of_kamailio(phones, system):
    alice, bob = phones
    call, incoming = talk(alice, bob)
    system.run("systemctl restart kamailio")
    hear_each_other(call, incoming)
    for phone in (alice, bob):
        phone.wait(registered=True, timeout_seconds=30)
    hear_each_other(call, incoming)
    incoming.hang_up()
    call.wait("ended")
    assert alice.trace.received().requests("BYE")


def test_a_reset_takes_the_contact_away_and_callers_get_480(system, browsers, phones):
    alice, _ = phones
    carol = browsers[1].phone("1005", password=password("1005"))
    (port,) = ports_of(system, "1005")
    connection = f"dst {system.address} dport = 8443 and sport = {port}".split()
    with no_new_connections(system):  # JsSIP connects again after two seconds
        subprocess.run(["ss", "-K", *connection], check=True, capture_output=True)
        assert alice.call("1005").wait_over().status == 480
    assert within(10, lambda: port not in ports_of(system, "1005")), "the dead contact is there"
    carol.close()


@contextlib.contextmanager
def no_new_connections(system):
    """The host takes no new connection of a phone."""
    rule = "tcp dport 8443 tcp flags & (syn | ack) == syn drop"
    chain = f"chain input {{ type filter hook input priority -1; {rule}; }}"
    system.host.run(["nft", f"table inet closed {{ {chain}; }}"], check=True)
    try:
        yield
    finally:
        system.host.run("nft delete table inet closed", check=True)


def ports_of(system, number):
    told = system.run(f"kamcmd ul.lookup location {number}@{DOMAIN}")
    return re.findall(r"Received: sip:[^:]+:(\d+);", told)


def test_after_a_reload_the_old_contact_is_not_rung(phones, system):
    alice, bob = phones
    bob.reload()
    assert within(10, lambda: system.contacts("1004") == 1), "the old contact is still there"
    call, incoming = talk(alice, bob)
    call.hang_up()
    incoming.wait("ended")


def test_a_service_is_heard_over_ipv6(system):
    """The last test of its file, because the host gets another address."""
    bridge = json.loads(ip("-json", "route", "get", system.address))[0]["dev"]
    here, there = "fd77::1", "fd77::11"
    ip("address", "replace", f"{here}/64", "dev", bridge, "nodad")
    system.run(f"ip address replace {there}/64 dev eth0 nodad")
    host = system.host
    address = f"{host.name}, public_address: '{there}'"
    system.deployer.write(name=host.name, address=address, mode=system.mode)
    done = system.deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    pin = spki_pin(host.read("/etc/kamailio/tls/server.crt"))
    with Browser({DOMAIN: f"[{there}]"}, spki=[pin], tone_hz=LOW) as browser:
        alice = browser.phone("1001", password=password("1001"))
        call = alice.call("6002").wait("answered")
        assert call.hears(LOW), call.listen()
        (answer,) = alice.trace.received().responses("INVITE", 200)
        addresses = {line for line in answer.body.splitlines() if line.startswith("c=")}
        assert addresses == {f"c=IN IP6 {there}"}
        call.hang_up()

    async def echo():
        async with system.phone("1004", address=(there, 8443)) as bob, open_audio() as audio:
            await bob.connect()
            await bob.register()
            side = await media.connect(await media.dial(bob, "6002", audio), audio)
            audio.say(HIGH)
            assert await audio.hears(HIGH)
            state = await audio.state()
            assert state.local.address == here
            assert state.remote.address == there
            await side.call.bye()

    run(echo())
