"""The web phone in Chromium, used by its buttons, against a host after `apply`."""

import contextlib
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from system import DOMAIN, password, within
from web_phones import CREDENTIALS, WebPhone, served

from lab.browser import Browser, reload, spki_pin
from lab.phones.build import WEB

pytestmark = [
    pytest.mark.lab,
    pytest.mark.parametrize("system", ["kamailio"], indirect=True),
]

LOW, HIGH = 440, 620
PHONE_SIZE = {"viewport": {"width": 390, "height": 780}, "has_touch": True}


@pytest.fixture(scope="module")
def browsers(system):
    """Two browsers, each with its own tone as microphone."""
    pin = spki_pin(system.host.read("/etc/kamailio/tls/server.crt"))
    resolve = {DOMAIN: system.address}
    with (
        Browser(resolve, spki=[pin], tone_hz=LOW) as low,
        Browser(resolve, spki=[pin], tone_hz=HIGH) as high,
    ):
        yield low, high


@pytest.fixture
def opened(browsers):
    """Opens the phone of a number in the browser with the low or the high tone."""
    closing = []

    def opening(number, browser=0, **options):
        serving = served(number)
        server = serving.__enter__()
        closing.append(lambda: serving.__exit__(None, None, None))
        phone = WebPhone(browsers[browser], server, **options)
        closing.append(phone.close)
        phone.wait_ready()
        return phone

    yield opening
    for close in reversed(closing):
        close()


@pytest.fixture
def phones(opened):
    """Alice (1001, 440 Hz) and 1004 (620 Hz)."""
    return opened("1001"), opened("1004", 1)


def talk(caller, callee, number="1004"):
    caller.dial(number)
    callee.wait_state("incoming")
    callee.act("answer")
    caller.wait_state("active")


def hear_each_other(low, high):
    assert low.hears(HIGH), low.listen()
    assert high.hears(LOW), high.listen()


def test_calls_both_ways_with_sound_ringing_mute_and_hold(phones):
    alice, dan = phones
    alice.dial("1004")
    dan.wait_state("incoming")
    dan.see("Call from Alice")
    assert dan.plays(523) or dan.plays(659)  # it rings, loud enough to be measured
    assert alice.plays(425)  # and the caller hears that
    dan.act("answer")
    alice.wait_state("active")
    hear_each_other(alice, dan)
    alice.act("mute")
    assert within(5, lambda: not dan.listen().hears(LOW))
    alice.act("mute")
    assert dan.hears(LOW)
    alice.act("hold")
    dan.see("on hold by the other side")
    assert within(5, lambda: not dan.listen().hears(LOW))
    alice.act("hold")
    hear_each_other(alice, dan)
    alice.act("hangUp")
    dan.gone(".call-card")
    dan.dial("1001")
    alice.wait_state("incoming")
    alice.act("answer")
    hear_each_other(alice, dan)
    dan.act("hangUp")
    alice.gone(".call-card")
    assert not alice.foreign.errors + dan.foreign.errors


def test_services_are_heard_and_keys_are_sent(opened, system):
    """1002 has a mailbox: the light, a message, and the key that plays it."""
    bob = opened("1002")
    bob.press("Contacts")
    bob.see("Echo test")
    bob.press("Call Echo test (6002)")
    bob.wait_state("active")
    assert bob.hears(LOW)
    bob.act("hangUp")
    bob.gone(".call-card")
    folder = "/var/spool/asterisk/voicemail/default/1002"
    system.run(f"rm -rf {folder}/INBOX {folder}/tmp")
    alice = opened("1001", 1)
    bob.close()
    alice.dial("1002")
    alice.wait_state("active", seconds=20)
    assert within(60, lambda: system.run(f"ls {folder}/tmp/*.wav")), "nothing is recorded"
    time.sleep(6)
    alice.act("hangUp")
    assert within(10, lambda: system.run(f"ls {folder}/INBOX/*.wav"))
    bob = opened("1002")
    bob.press("Keypad")
    bob.see("Voicemail: 1 new")
    bob.press("Voicemail: 1 new")
    bob.wait_state("active")
    bob.act("tones")
    assert within(15, bob.heard_speech)
    bob.do(lambda page: page.locator(".call-card .keys").get_by_label("1", exact=True).click())
    assert bob.hears(HIGH, seconds=25), "the message of the high tone"
    bob.act("hangUp")


def test_a_rejected_and_a_missed_call(phones):
    alice, dan = phones
    alice.dial("1004")
    dan.wait_state("incoming")
    dan.act("reject")
    alice.see("1004 is busy.")
    alice.dial("1004")
    dan.wait_state("incoming")
    alice.act("hangUp")
    dan.gone(".call-card")
    assert dan.text("#missed").split()[0] == "1"
    dan.press("Recents 1 missed calls")
    dan.see("missed,")
    assert dan.evaluate("() => document.querySelectorAll('#recents-list .missed').length") == 1
    assert not dan.evaluate("() => document.querySelector('#missed').checkVisibility()")
    alice.dial("9999")
    alice.see("The number 9999 does not exist.")
    alice.dial("1006")
    alice.see("Dan is not available: no phone is signed in.")


def test_a_blind_transfer(phones, opened):
    alice, dan = phones
    carol = opened("1005")
    talk(alice, dan)
    alice.act("transfer")
    alice.fill("Transfer to", "Carol")
    alice.press("Transfer now")
    carol.wait_state("incoming")
    carol.act("answer")
    assert carol.hears(HIGH)
    alice.gone(".call-card")
    assert dan.hears(LOW)
    carol.act("hangUp")
    dan.gone(".call-card")


def test_a_transfer_that_nobody_takes_gives_the_call_back(phones):
    alice, dan = phones
    talk(alice, dan)
    alice.act("transfer")
    alice.fill("Transfer to", "1006")
    alice.press("Transfer now")
    alice.see("Dan did not take the call.")
    hear_each_other(alice, dan)
    alice.act("hangUp")


def test_an_attended_transfer(phones, opened):
    alice, dan = phones
    carol = opened("1005")
    talk(alice, dan)
    alice.act("transfer")
    alice.fill("Transfer to", "1005")
    alice.press("Ask first")
    dan.see("on hold by the other side")
    carol.wait_state("incoming")
    carol.act("answer")
    assert carol.hears(LOW)
    alice.act("transfer", card=1)
    alice.gone(".call-card")
    assert carol.hears(HIGH)
    assert dan.hears(LOW)
    dan.act("hangUp")
    carol.gone(".call-card")


def test_a_second_call_knocks_and_the_first_is_held(phones, opened):
    alice, dan = phones
    carol = opened("1005")
    talk(alice, dan)
    carol.dial("1001")
    alice.wait_state("incoming")
    alice.act("answer", card=1)
    dan.see("on hold by the other side")
    assert carol.hears(LOW)
    alice.act("hangUp", card=1)
    alice.act("hold")
    hear_each_other(alice, dan)
    alice.act("hangUp")


def test_a_call_survives_a_lost_connection_and_a_lost_path(phones, system):
    """The connections to the server are cut, and then the path of the media for both sides."""
    alice, dan = phones
    talk(alice, dan)
    hear_each_other(alice, dan)
    connection = f"dst {system.address} dport = 8443".split()
    with ThreadPoolExecutor(len(phones)) as looking:  # it is shown for two seconds
        lost = "Connection lost. Connecting again"
        seen = [looking.submit(phone.see, lost, seconds=15) for phone in phones]
        subprocess.run(["ss", "-K", *connection], check=True, capture_output=True)
        for each in seen:
            each.result()
    hear_each_other(alice, dan)
    for phone in phones:
        phone.wait_ready(seconds=20)
    hear_each_other(alice, dan)
    before = [ufrag(phone) for phone in phones]
    ports = [
        port for phone in phones for port in re.findall(r"udp \d+ \S+ (\d+) typ", offer(phone))
    ]
    with dropped(ports):  # an ICE restart gathers new ports, as in another network
        alice.see("The sound is interrupted", seconds=20)
        assert within(20, lambda: alice.hears(HIGH, seconds=1))
        hear_each_other(alice, dan)
    assert [ufrag(phone) for phone in phones] != before
    alice.act("hangUp")
    dan.gone(".call-card")


def offer(phone):
    """The last description that the page sent."""
    return phone.evaluate("() => lab.descriptions().at(-1)")


def ufrag(phone):
    """The name of the present ICE session, which a restart changes."""
    return re.search(r"a=ice-ufrag:(\S+)", offer(phone))[1]


@contextlib.contextmanager
def dropped(ports):
    """Drop the media to these ports; the browsers are on this machine."""
    chain = f"type filter hook input priority 0\nudp dport {{ {', '.join(ports)} }} drop"
    table = f"table inet web_phone {{\nchain in {{\n{chain}\n}}\n}}"
    subprocess.run(["nft", table], check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "web_phone"], check=True)


# --- what is wrong -------------------------------------------------------------------------------


def test_a_server_that_is_not_trusted_is_explained(system):
    with Browser({DOMAIN: system.address}) as browser, served("1001") as server:
        phone = WebPhone(browser, server)
        phone.see("or the browser does not trust its certificate", seconds=15)
        link = f"https://{DOMAIN}:8443/healthz"
        assert phone.do(lambda page: page.locator(f'a[href="{link}"]').count()) == 1


def test_a_page_without_a_microphone_says_so(system):
    pin = spki_pin(system.host.read("/etc/kamailio/tls/server.crt"))
    denied = ["--use-fake-ui-for-media-stream=deny"]  # as a user who clicks on Block
    with (
        Browser({DOMAIN: system.address}, spki=[pin], arguments=denied) as browser,
        served("1001") as server,
    ):
        phone = WebPhone(browser, server)
        phone.wait_ready()
        phone.dial("6002")
        phone.see("The browser may not use the microphone")
        assert phone.text("#call-list") == ""


def test_a_host_that_is_down_is_explained_and_comes_back(phones, system):
    alice, _ = phones
    system.run("systemctl stop kamailio")
    alice.see("cannot be reached", seconds=15)
    system.run("systemctl start kamailio")
    alice.wait_ready(seconds=25)
    assert within(3, lambda: "cannot be reached" not in alice.text("#notices"))


# --- signing in, and what is kept ----------------------------------------------------------------


def storage(phone):
    return phone.evaluate("() => JSON.stringify([{...sessionStorage}, {...localStorage}])")


@pytest.fixture
def page(browsers):
    """The page as a host serves it, with the form to sign in."""
    with served("1001", is_local=False) as server:
        phone = WebPhone(browsers[0], server, fragment="#1001")
        yield phone
        phone.close()


def sign_in(phone, secret=None):
    phone.fill("Password", password("1001") if secret is None else secret)
    phone.key("Enter")


def test_signing_in_keeps_no_password(page):
    filled = "() => document.querySelector('#sign-in-number').value"
    assert within(10, lambda: page.evaluate(filled) == "1001")
    assert page.evaluate("() => location.href").endswith("/")
    sign_in(page, "wrong")
    page.see("The number or the password is wrong.")
    assert storage(page) == "[{},{}]"
    sign_in(page)
    page.wait_ready()
    page.press("Contacts")
    page.see("Carol")
    session, device = json.loads(storage(page))
    assert CREDENTIALS["1001"] in json.dumps(session)
    assert device == {}
    secret = password("1001")
    assert secret not in storage(page)
    assert secret not in page.evaluate("() => document.documentElement.outerHTML + location.href")
    assert secret not in page.evaluate("() => JSON.stringify(performance.getEntries())")
    assert not [line for line in page.foreign.console if secret in line]
    page.do(reload)
    page.wait_ready()
    page.press("Sign out")
    assert storage(page) == "[{},{}]"
    page.do(reload)
    page.see("Otherwise you are signed out when you close this tab.")


def test_staying_signed_in_is_asked_for(page):
    page.do(lambda page: page.get_by_label("Stay signed in on this device").check())
    sign_in(page)
    page.wait_ready()
    session, device = json.loads(storage(page))
    assert session == {}
    assert CREDENTIALS["1001"] in json.dumps(device)
    page.press("Sign out")
    assert storage(page) == "[{},{}]"


def test_the_worker_keeps_the_files_of_the_page_alone(page):
    sign_in(page)
    page.wait_ready()
    kept = """async () => {
      await navigator.serviceWorker.ready;
      const names = await caches.keys();
      const requests = await (await caches.open(names[0])).keys();
      return requests.map((each) => new URL(each.url).pathname.split("/").pop()).sort();
    }"""
    shell = ["", "icon-192.png", "icon-512.png", "icon.svg", "manifest.webmanifest"]
    assert page.evaluate(kept) == [*shell, "phone.js", "style.css"]
    page.do(lambda page: page.context.set_offline(True))
    page.do(lambda page: page.reload())
    page.see("This device is offline.", seconds=15)


def test_the_policy_blocks_an_injected_script(page):
    inject = """() => new Promise((done) => {
      const seen = [];
      const note = (event) => seen.push(event.violatedDirective);
      document.addEventListener("securitypolicyviolation", note);
      const attempt = (act) => { try { act(); } catch { seen.push("refused"); } };
      const script = document.createElement("script");
      attempt(() => { script.text = "globalThis.injected = true"; });
      document.head.append(script);
      const image = "<img src=x onerror='globalThis.injected = true'>";
      attempt(() => { document.body.insertAdjacentHTML("beforeend", image); });
      attempt(() => { setTimeout("globalThis.injected = true"); });
      attempt(() => { fetch("https://evil.example/").catch(() => {}); });
      const frame = document.createElement("script");
      attempt(() => { frame.src = "https://evil.example/x.js"; });
      document.head.append(frame);
      setTimeout(() => done([globalThis.injected ?? false, seen]), 500);
    })"""
    injected, seen = page.evaluate(inject)
    assert injected is False
    assert any(each.startswith("connect-src") for each in seen)
    assert any("trusted-types" in each or each == "refused" for each in seen)


# --- how it looks and reads ----------------------------------------------------------------------

AXE = WEB.folder / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = os.environ.get("LAB_SCREENSHOTS")  # a directory that gets a picture of each state


def examine(phone, name):
    """Axe finds no violation, and nothing is wider than the window."""
    phone.evaluate(AXE.read_text())
    found = phone.evaluate("() => axe.run({resultTypes: ['violations']})", seconds=60)
    told = [
        (each["id"], [node["target"] for node in each["nodes"]]) for each in found["violations"]
    ]
    if SHOTS:
        path = Path(SHOTS) / f"{name}.png"
        phone.do(lambda page: page.screenshot(path=path))
    assert told == [], name
    wide = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not phone.evaluate(wide), name


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_every_state_is_accessible(browsers, opened, size, scheme):
    options = {"color_scheme": scheme, **(PHONE_SIZE if size == "phone" else {})}
    suffix = f"{size}-{scheme}"
    with served("1001", is_local=False) as server:
        new = WebPhone(browsers[0], server, **options)
        examine(new, f"1-sign-in-{suffix}")
        new.close()
    alice, dan = opened("1001", **options), opened("1004", 1)
    examine(alice, f"2-keypad-{suffix}")
    dan.dial("1001")
    alice.wait_state("incoming")
    examine(alice, f"3-incoming-{suffix}")
    alice.act("answer")
    alice.wait_state("active")
    alice.act("transfer")
    examine(alice, f"4-call-{suffix}")
    dan.act("hangUp")
    alice.gone(".call-card")
    dan.dial("1001")
    alice.wait_state("incoming")
    dan.act("hangUp")
    alice.gone(".call-card")
    alice.press("Recents 1 missed calls")
    examine(alice, f"5-recents-{suffix}")
    for view in ("Contacts", "Settings"):
        alice.press(view)
        examine(alice, f"6-{view.lower()}-{suffix}")


def test_german_and_the_keyboard_alone(opened):
    alice, dan = opened("1001", locale="de-DE"), opened("1004", 1)
    assert alice.evaluate("() => document.documentElement.lang") == "de"
    alice.see("Bereit")
    alice.do(lambda page: page.focus("#dial-number"))
    for key in (*"1004", "Enter"):
        alice.key(key)
    dan.wait_state("incoming")
    dan.act("answer")
    alice.wait_state("active")
    # the page clears the text first, so that a screen reader notices the new one
    announced = "() => document.querySelector('#announcement').textContent"
    assert within(5, lambda: alice.evaluate(announced) == "Verbunden mit 1004")
    alice.do(lambda page: page.focus("[data-action=hold]"))
    alice.key("Enter")
    dan.see("on hold by the other side")
    # the focus stays where the user was, on the button that now resumes
    assert within(
        5, lambda: alice.evaluate("() => document.activeElement.innerText") == "Fortsetzen"
    )
    alice.do(lambda page: page.focus("[data-action=hangUp]"))
    alice.key("Space")
    dan.gone(".call-card")


def test_the_microphone_is_measured_in_the_settings(opened):
    alice = opened("1001")
    alice.press("Settings")
    alice.press("Test the microphone")
    alice.see("The microphone works.")
    assert within(5, lambda: alice.evaluate("() => document.querySelector('#level').value") > 0.1)
    alice.press("Play a tone")
    assert alice.plays(440)
    alice.press("Keypad")


async def call_across(page):
    """The first phone of the page calls the second."""
    first, second = (page.frame_locator(f"iframe >> nth={place}") for place in (0, 1))
    await first.locator("#dial-number").fill("1004")
    await first.locator("#dial-number").press("Enter")
    await second.locator("[data-action=answer]").click()
    for phone in (first, second):
        await phone.locator(".call-card[data-state=active]").wait_for()
    await second.locator("[data-action=hangUp]").click()
    await first.locator(".call-card").wait_for(state="detached")


def test_two_phones_side_by_side(browsers):
    with served("1001", "1004") as server:
        both = WebPhone(browsers[0], server)
        ready = """() => [...document.querySelectorAll("iframe")].every((frame) =>
          frame.contentDocument?.querySelector("#status[data-state=registered]"))"""
        assert within(15, lambda: both.evaluate(ready))
        titles = """() => [...document.querySelectorAll("iframe")].map((frame) =>
          frame.contentDocument.querySelector("#title").textContent)"""
        # the names come after the registration
        assert within(5, lambda: both.evaluate(titles) == ["Alice (1001)", "1004"])
        both.do(call_across, seconds=30)
        if SHOTS:
            both.do(lambda page: page.screenshot(path=Path(SHOTS) / "7-two.png"))
        both.close()
