"""Calls with sound by the phone in Python: with services, with itself, with a real browser."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
import python_phone
from signalling import only_kamailio
from system import DOMAIN, password

from lab.browser import Browser, spki_pin

pytestmark = pytest.mark.lab

LOW = 440
VERIFY = (sys.executable, "-m", "sipdeploy", "verify")


def verify(system, *arguments, secret="", code=0):
    """The report of `verify --level full` on the deploying machine, and its seconds."""
    deployer = system.deployer
    began = time.monotonic()
    done = subprocess.run(
        [*VERIFY, system.host.name, "--level", "full", "--format", "json", *arguments],
        cwd=deployer.folder,
        env=deployer.environment,
        input=secret,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    seconds = time.monotonic() - began
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout), seconds


def steps(report, record_property, title, seconds):
    """The results by the names of the steps, which are printed with their times."""
    (host,) = report["hosts"]
    times = [f"{each['name']} {each['seconds']:.1f}" for each in host["steps"]]
    record_property("figure", f"{title}: {seconds:.1f} s; {', '.join(times)}")
    return {each["name"]: each for each in host["steps"]}


def test_a_proof_with_sound(system, browser, tmp_path, record_property):
    page = tmp_path / "report.html"
    for _ in range(int(os.environ.get("LAB_PROOFS", "1"))):
        report, seconds = verify(system, "--report", str(page))
        results = steps(report, record_property, f"full, mode {system.mode}", seconds)
        skipped = {name for name, each in results.items() if each["status"] != "ok"}
        assert skipped <= {"DNS", "voicemail"}, results
        assert seconds < 60
    shown(browser, page, report["hosts"][0])


MEASURE = """() => ({
  width: document.documentElement.scrollWidth - innerWidth,
  steps: document.querySelectorAll(".steps tbody tr").length,
  ladders: document.querySelectorAll("details svg").length,
  spectra: document.querySelectorAll(".sounds polyline").length,
  arrows: document.querySelectorAll("details .arrow").length,
  certificates: document.querySelectorAll("dl").length,
  colours: [document.body, document.querySelector("h1")].map(
    (each) => getComputedStyle(each)).map((style) => [style.backgroundColor, style.color]).flat(),
  small: [...document.querySelectorAll("p, td, th, dd, figcaption")].filter(
    (each) => parseFloat(getComputedStyle(each).fontSize) < 14).length,
  loaded: performance.getEntriesByType("resource").length,
  text: document.body.innerText,
})"""
INJECT = """() => new Promise((resolve) => {
  document.addEventListener("securitypolicyviolation", (e) => resolve(e.effectiveDirective));
  const image = new Image();
  image.src = "https://tracker.invalid/x.png";
  document.body.append(image);
  setTimeout(() => resolve("loaded"), 3000);
})"""


def shown(browser, path, host):
    """The report in a real browser: wide and narrow, light and dark, without any request."""
    page = browser.open(path.as_uri())
    seen = {}
    try:
        for colours in ("light", "dark"):
            for width in (1280, 360):
                page.do(lambda p, c=colours: p.emulate_media(color_scheme=c))
                page.do(lambda p, w=width: p.set_viewport_size({"width": w, "height": 800}))
                found = seen[colours, width] = page.do(lambda p: p.evaluate(MEASURE))
                assert found["width"] <= 0, "the page scrolls sideways"
                assert found["steps"] == len(host["steps"])
                assert found["ladders"] > 10
                assert found["arrows"] > 100
                assert found["spectra"] > 10
                assert found["certificates"] >= 1
                assert found["loaded"] == found["small"] == 0
                assert all(step["name"] in found["text"] for step in host["steps"])
                assert not re.search(r"[0-9]{30}", found["text"])
        assert seen["light", 360]["colours"] != seen["dark", 360]["colours"]
        page.do(lambda p: p.locator("summary").first.click())
        assert page.do(lambda p: p.locator("details svg").first.is_visible())
        assert page.console == []
        assert page.do(lambda p: p.evaluate(INJECT)) == "img-src"
    finally:
        page.close()


@pytest.mark.parametrize("chain", ["input", "output"])
def test_a_closed_range_is_told_with_what_to_open(system, chain, record_property):
    only_kamailio(system)
    port = "dport" if chain == "input" else "sport"
    hook = f"type filter hook {chain} priority 0;"
    system.run(f"nft 'table inet shut {{ chain x {{ {hook} udp {port} 10000-20000 drop; }}; }}'")
    try:
        report, seconds = verify(system, code=1)
    finally:
        system.run("nft delete table inet shut")
    results = steps(report, record_property, f"full, {chain} closed", seconds)
    failed = {name for name, each in results.items() if each["status"] == "failed"}
    assert failed == {"echo", "speech"}, results
    for name in failed:
        (problem,) = results[name]["problems"]
        assert problem["code"] == "SD922"
        assert "ICE did not connect" in problem["message"]
        assert f"there host {system.address}:" in problem["message"]
        assert f"open UDP 10000-20000 to {system.address}" in problem["help"]


@pytest.fixture(scope="module")
def browser(system):
    """A browser whose microphone plays 440 Hz."""
    pin = spki_pin(system.host.read("/etc/kamailio/tls/server.crt"))
    with Browser({DOMAIN: system.address}, spki=[pin], tone_hz=LOW) as opened:
        yield opened


@pytest.mark.parametrize("library", ["jssip", "sipjs"])
def test_a_browser_and_the_phone_in_python_call_each_other(system, browser, library):
    alice = browser.phone("1001", password=password("1001"), library=library)
    python_phone.is_called_by(alice, system, "1004", LOW)
    python_phone.calls(alice, system, "1004", LOW)
    alice.close()


def test_a_user_proves_the_own_mailbox(system, record_property):
    report, seconds = verify(system, "--user", "1002", secret=password("1002"))
    results = steps(report, record_property, f"full of a user, mode {system.mode}", seconds)
    for name in ("echo", "digits", "speech", "voicemail"):
        assert results[name]["status"] == "ok", results
    assert seconds < 60
    box = "/var/spool/asterisk/voicemail/default/1002"
    assert not system.run(f"find {box} -name 'msg*' 2>/dev/null || true")
