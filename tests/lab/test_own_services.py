"""Groups, menus, conferences and dialplan of one's own, on one host, with sound."""

import array
import asyncio
import math
import os
import re
import wave
from contextlib import AsyncExitStack

import pytest
from applying import live, units
from conftest import Deployer
from system import DOMAIN, INVENTORY, System, packages_of, password, within

from lab.browser import Browser, spki_pin
from sipdeploy.sip.call import CallRefusedError
from sipdeploy.sip.media import open_audio, talk

pytestmark = pytest.mark.lab

LOW, OWN, OTHER = 440, 620, 800  # of a browser, and of two phones in Python
PROMPT, SHOP, NEW = 950, 700, 1150
SERVICES = """\
  6100: {kind: group, members: [1001, 1002, 1004], timeout: 20, then: 6002}
  6101: {kind: group, members: [1004, 1005, 1006], ring: in-turn, timeout: 2, then: voicemail 1002}
  6102: {kind: group, members: [1003], timeout: 1}
  6200:
    {kind: menu, prompt: welcome.wav, timeout: 1, attempts: 4, then: 7000,
     keys: {1: 6100, 2: 6002, "*": 6201}}
  6201: {kind: menu, keys: {3: 6002}}
  6300: {kind: conference, pin: {file: conference.pin}, max_members: 3}
  7000: {kind: dialplan, context: shop}
  7001: {kind: dialplan, context: shop}
"""
APPLY = ("apply", "--yes", "--verify", "none")  # test_verify has the proof
DIALPLAN = """\
; a tone, until the caller hangs up
[shop]
exten => 7000,1,Answer()
 same => n,Playtones({hz})
 same => n,Wait(600)
 same => n,Hangup()
; without the option `i`, as somebody writes it who has not read services.md
exten => 7001,1,Dial(PJSIP/trunk/sip:1003@sip.example.test,5)
"""


def write_tone(path, hz):
    """A second of a tone, in the form that Asterisk plays."""
    samples = (round(12000 * math.sin(2 * math.pi * hz * n / 16000)) for n in range(32000))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes(array.array("h", samples).tobytes())


@pytest.fixture(scope="module")
def system(lab, tmp_path_factory):
    suite = os.environ.get("LAB_SUITE", "sid")
    mode = os.environ.get("LAB_MODE", "kamailio")
    host = lab.boot("own-services", suite=suite, packages=packages_of(suite))
    deployer = Deployer(lab, tmp_path_factory.mktemp("own"))
    deployer.write(name=host.name, address=host.address, mode=mode)
    folder = deployer.folder
    text = INVENTORY.format(name=host.name, address=host.address, mode=mode)
    (folder / "inventory.yaml").write_text(text + SERVICES)
    (folder / "conference.pin").write_text("73058\n")
    (folder / "dialplan").mkdir()
    (folder / "dialplan/shop.conf").write_text(DIALPLAN.format(hz=SHOP))
    write_tone(folder / "welcome.wav", PROMPT)
    done = deployer.run(*APPLY, host.name)
    if done.returncode:
        host.stop()
        pytest.fail(done.stdout + done.stderr)
    yield System(mode=mode, host=host, deployer=deployer)
    host.stop()


@pytest.fixture(scope="module")
def browser(system):
    """A browser whose microphone plays 440 Hz."""
    pin = spki_pin(system.host.read("/etc/kamailio/tls/server.crt"))
    with Browser({DOMAIN: system.address}, spki=[pin], tone_hz=LOW) as opened:
        yield opened


@pytest.fixture
def alice(browser):
    phone = browser.phone("1001", password=password("1001"))
    yield phone
    phone.close()


def run(scene, seconds=60):
    asyncio.run(asyncio.wait_for(scene(), seconds))


class Phones(AsyncExitStack):
    """Phones in Python, each registered, and the sound of each call."""

    def __init__(self, system):
        super().__init__()
        self._system = system

    async def phone(self, number):
        phone = await self.enter_async_context(self._system.phone(number))
        await phone.connect()
        await phone.register()
        return phone

    async def sound(self, hz):
        return await self.enter_async_context(open_audio(tone_hz=hz))

    async def call(self, phone, number, hz):
        """A call of a phone to a number that answers it."""
        audio = await self.sound(hz)
        return await talk.connect(await talk.dial(phone, number, audio), audio, 30)


def test_all_phones_of_a_group_ring_and_one_gets_the_call(system):
    async def scene():
        async with Phones(system) as phones:
            caller, bob, dora = [await phones.phone(number) for number in ("1001", "1002", "1004")]
            audio, answering = await phones.sound(OWN), await phones.sound(OTHER)
            call = await talk.dial(caller, "6100", audio)
            at_bob, at_dora = [await each.incoming(10, method="INVITE") for each in (bob, dora)]
            for incoming in (at_bob, at_dora):
                await incoming.ring()
                source = incoming.request.header("From")
                assert f"sip:1001@{DOMAIN}" in source
                assert "Alice" in source
            await call.ringing(10)
            side = await talk.answer(at_bob, answering)
            joined = await talk.join(call, audio, side)
            await at_dora.cancelled(10)
            assert await audio.hears(OTHER)
            assert await answering.hears(OWN)
            assert not caller.received("INVITE"), "the caller is a member, and does not ring"
            assert (await joined.call.bye()).status == 200
            await side.call.ended(10)

    run(scene)


def test_who_cancels_a_call_to_a_group_silences_its_phones(system):
    async def scene():
        async with Phones(system) as phones:
            caller, bob, dora = [await phones.phone(number) for number in ("1003", "1002", "1004")]
            call = await talk.dial(caller, "6100", await phones.sound(OWN))
            waiting = [await each.incoming(10, method="INVITE") for each in (bob, dora)]
            for incoming in waiting:
                await incoming.ring()
            await call.ringing(10)
            await call.cancel()
            for incoming in waiting:
                await incoming.cancelled(10)
            assert (await call.final(10)).status == 487

    run(scene)


def test_a_group_rings_in_turn_and_then_the_mailbox_answers(system):
    async def scene():
        async with Phones(system) as phones:
            caller, dora, dan = [await phones.phone(number) for number in ("1001", "1004", "1006")]
            audio = await phones.sound(OWN)
            call = await talk.dial(caller, "6101", audio)
            first = await dora.incoming(10, method="INVITE")
            await first.ring()
            assert not dan.received("INVITE")
            await first.cancelled(10)
            second = await dan.incoming(10, method="INVITE")  # 1005 has no phone
            await second.reject(486)
            side = await talk.connect(call, audio, 30)
            assert await audio.hears_sound()  # the greeting of the mailbox
            await side.call.bye()

    run(scene)


@pytest.mark.parametrize("number", ["6102", "7001"])
def test_a_phone_that_asterisk_rings_cannot_send_the_call_elsewhere(system, number):
    async def scene():
        async with Phones(system) as phones:
            caller, eve = [await phones.phone(each) for each in ("1001", "1003")]
            call = await talk.dial(caller, number, await phones.sound(OWN))
            incoming = await eve.incoming(10, method="INVITE")
            await incoming.reply(302, headers={"Contact": f"<sip:6002~1002~service@{DOMAIN}>"})
            with pytest.raises(CallRefusedError) as refused:
                await call.answered(20)
            assert refused.value.reply.status in (480, 486)

    run(scene)
    assert system.run("asterisk -rx 'core show channels count'").startswith("0 active")


def test_nobody_answers_for_a_group_without_phones(system):
    async def scene():
        async with Phones(system) as phones:
            caller = await phones.phone("1001")
            side = await phones.call(caller, "6100", OWN)  # `then` is the echo
            assert await side.audio.hears(OWN)
            await side.call.bye()
            call = await talk.dial(caller, "6102", await phones.sound(OWN))
            with pytest.raises(CallRefusedError) as refused:
                await call.answered(20)
            assert refused.value.reply.status == 480

    run(scene)


def test_a_browser_hears_the_prompt_of_a_menu_and_presses_keys(alice):
    call = alice.call("6200").wait("answered", timeout_seconds=30)
    assert call.hears(PROMPT), call.listen()
    call.dtmf("2")
    assert call.hears(LOW), call.listen()  # the echo
    call.hang_up()
    call = alice.call("6200").wait("answered", timeout_seconds=30)
    assert call.hears(PROMPT), call.listen()
    call.dtmf("*")
    assert within(10, call.heard_speech), call.listen()  # the menu of Asterisk's own words
    call.dtmf("3")
    assert call.hears(LOW, timeout_seconds=10), call.listen()
    call.hang_up()


def test_a_menu_goes_on_by_itself_after_its_attempts(system):
    async def scene():
        async with Phones(system) as phones:
            side = await phones.call(await phones.phone("1001"), "6200", OWN)
            assert await side.audio.hears(PROMPT)
            await side.audio.dial("9")  # leads nowhere
            assert await side.audio.hears(SHOP, 30)
            await side.call.bye()

    run(scene)


def test_a_menu_leads_to_a_group(system):
    async def scene():
        async with Phones(system) as phones:
            caller, dora = [await phones.phone(number) for number in ("1001", "1004")]
            side = await phones.call(caller, "6200", OWN)
            assert await side.audio.hears(PROMPT)
            await side.audio.dial("1")
            incoming = await dora.incoming(10, method="INVITE")
            await incoming.ring()
            assert await side.audio.hears_sound(), "the caller hears that it rings"
            answering = await phones.sound(OTHER)
            other = await talk.answer(incoming, answering)
            await other.call.acknowledged()
            await answering.connected()
            assert await side.audio.hears(OTHER)
            assert await answering.hears(OWN)
            await other.call.bye()
            await side.call.ended(10)

    run(scene)


def test_three_phones_of_a_conference_hear_each_other(system, alice):
    async def join(phones, number, hz, pin="73058"):
        side = await phones.call(await phones.phone(number), "6300", hz)
        assert await side.audio.hears_sound(0.5, 10)  # it asks for the PIN
        await side.audio.dial(f"{pin}#")
        return side

    async def scene():
        async with Phones(system) as phones:
            bob, dora = await asyncio.gather(
                join(phones, "1002", OWN), join(phones, "1004", OTHER)
            )
            assert await bob.audio.hears(OTHER, 20)
            assert await dora.audio.hears(OWN, 20)
            done = await asyncio.to_thread(browser_joins)
            for each in (bob, dora):
                each.audio.say(0)
            for each in (bob, dora):
                assert await each.audio.hears(LOW, 10)
            full = await join(phones, "1005", OWN)
            await full.call.ended(30)
            stranger = await join(phones, "1006", OWN, "1111")
            for _ in range(2):
                assert await stranger.audio.hears_sound(0.5, 10)  # that PIN is not valid
                await asyncio.sleep(3)
                await stranger.audio.dial("1111#")
            await stranger.call.ended(30)
            for each in (bob, dora):
                await each.call.bye()
            await asyncio.to_thread(done.hang_up)

    def browser_joins():
        call = alice.call("6300").wait("answered", timeout_seconds=30)
        # a key is lost before the sound is set up
        assert within(10, lambda: any(each.peaks for each in call.heard)), call.listen()
        call.dtmf("73058#")
        assert call.hears(OWN, 20), call.listen()
        assert call.hears(OTHER, 20), call.listen()
        return call

    run(scene, 180)


def test_a_change_of_the_dialplan_drops_no_call_and_a_broken_one_changes_nothing(system):
    deployer, host = system.deployer, system.host
    path = deployer.folder / "dialplan/shop.conf"
    broken = (
        ("[shop]\nexten => 7000,1,Answr()\n", ":2:", "Answr"),
        ("[shop]\nexten => 7000,1,Answer()\nexten 7000 Hangup()\n", ":3:", "7000"),
        ("\n[shop]\nexten => 7001,1,Answer()\n", ":2:", "7000"),
    )

    async def scene():
        async with Phones(system) as phones:
            caller = await phones.phone("1001")
            side = await phones.call(caller, "7000", OWN)
            assert await side.audio.hears(SHOP)
            before, running = live(host), units(host)
            for text, place, word in broken:
                path.write_text(text)
                done = await asyncio.to_thread(deployer.run, *APPLY, host.name)
                assert done.returncode == 4, done.stdout + done.stderr
                assert f"dialplan/shop.conf{place}" in done.stderr, done.stderr
                assert word in done.stderr
                assert live(host) == before
            path.write_text(DIALPLAN.format(hz=NEW))
            done = await asyncio.to_thread(deployer.run, *APPLY, host.name)
            assert done.returncode == 0, done.stdout + done.stderr
            assert units(host) == running
            assert await side.audio.hears(SHOP)
            again = await phones.call(caller, "7000", OWN)
            assert await again.audio.hears(NEW)
            for each in (side, again):
                assert (await each.call.bye()).status == 200

    run(scene, 300)


def test_a_file_that_is_gone_needs_no_restart(system):
    deployer, host = system.deployer, system.host
    (deployer.folder / "dialplan/shop.conf").write_text(DIALPLAN.format(hz=NEW))
    more = deployer.folder / "dialplan/more.conf"
    more.write_text("[more]\nexten => s,1,Hangup()\n")
    assert deployer.run(*APPLY, host.name).returncode == 0
    assert "more" in system.run("asterisk -rx 'dialplan show more'")
    running = units(host)
    more.unlink()
    done = deployer.run(*APPLY, host.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert units(host) == running
    assert "no existence" in system.run("asterisk -rx 'dialplan show more'")
    assert deployer.run("plan", host.name, "--check").returncode == 0


OVERRIDES = {
    # a key that sipdeploy sets, a new key, and sections of their own
    "/etc/asterisk/local/rtp.conf": "rtpend=15000\n[general](+)\nprobation=6\n",
    "/etc/asterisk/local/asterisk.conf": "[options](+)\nmaxcalls=77\n",
    "/etc/asterisk/local/pjsip.conf": "[trunk](+)\nrtp_timeout=61\nsdp_session=mine\n",
    "/etc/asterisk/local/voicemail.conf": "maxmsg=50\n[default]\n9000 => -,Extra\n",
    "/etc/asterisk/local/logger.conf": "own.log => error\n[general](+)\ndateformat=%s\n",
    "/etc/asterisk/local/modules.conf": "load=app_morsecode.so\n",
    "/etc/kamailio/local.cfg": 'debug=1\nmodparam("registrar", "max_expires", 500)\n',
    "/etc/systemd/system/asterisk.service.d/zz-local.conf": "[Service]\nLimitNOFILE=70000\n",
}
IN_FORCE = (
    ("asterisk -rx 'rtp show settings'", "Port end: *15000"),
    ("asterisk -rx 'rtp show settings'", "Probation: *6"),
    ("asterisk -rx 'core show settings'", r"Maximum calls: *77 "),
    ("asterisk -rx 'pjsip show endpoint trunk'", "rtp_timeout *: 61"),
    ("asterisk -rx 'pjsip show endpoint trunk'", "sdp_session *: mine"),
    ("asterisk -rx 'voicemail show users'", "(?m)^default +9000 "),
    ("asterisk -rx 'voicemail show users'", "(?m)^default +1002 "),
    ("asterisk -rx 'logger show channels'", "own.log"),
    ("asterisk -rx 'module show like app_morsecode'", "Running"),
    ("kamcmd cfg.get core debug", "^1"),
    ("kamcmd cfg.get registrar max_expires", "^500"),
    ("systemctl show -p LimitNOFILE asterisk", "=70000"),
)


def test_local_files_change_keys_add_keys_and_say_where_they_do_not_count(system):
    deployer, host = system.deployer, system.host
    for path, text in OVERRIDES.items():
        host.write(path, text.encode())
    host.run("chown -R root:asterisk /etc/asterisk/local && chmod 640 /etc/asterisk/local/*")
    host.run("systemctl daemon-reload && systemctl restart asterisk kamailio", check=True)
    host.run("asterisk -rx 'core waitfullybooted'", check=True)
    for command, pattern in IN_FORCE:
        said = system.run(command)
        assert re.search(pattern, said), (command, said)
    path = deployer.folder / "dialplan/shop.conf"
    path.write_text(DIALPLAN.format(hz=SHOP) + "; again\n")
    done = deployer.run(*APPLY, host.name)
    assert done.returncode == 0, done.stdout + done.stderr
    host.write("/etc/asterisk/local/rtp.conf", b"; mine\n[general]\nrtpend=15000\n")
    path.write_text(DIALPLAN.format(hz=SHOP))
    done = deployer.run(*APPLY, host.name)
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"{host.name}:/etc/asterisk/local/rtp.conf:2:" in done.stderr
    assert "write [general](+)" in done.stderr
