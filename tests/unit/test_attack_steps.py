"""Each attack succeeds against a switch without guards, and its step says so."""

import asyncio
from dataclasses import replace

import pytest
from fakes import FakeHost
from test_proof_signalling import ACCOUNTS, CHALLENGE, Switch, Wire

from sipdeploy.__main__ import main
from sipdeploy.host import Result
from sipdeploy.inventory.site import load_site
from sipdeploy.proof.outside import attack, subject
from sipdeploy.proof.outside.attack import attempt, limits
from sipdeploy.proof.outside.ladder import LADDER
from sipdeploy.proof.outside.probes import Probes
from sipdeploy.proof.outside.run import prove
from sipdeploy.proof.outside.step import of_level
from sipdeploy.proof.outside.subject import Subject
from sipdeploy.sip.phone import Phone

TEXT = """\
domain: sip.example.test
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}}
authentication: MODE
users: {1001: }
services: {6000: {kind: ivr-test}}
"""


class Guardless(Switch):
    """It challenges a REGISTER, and otherwise does what it is told."""

    def reply(self, wire, request, status, headers=None, body=""):
        via = f"{request.values('Via')[0]};received=198.51.100.7;rport=5000"
        super().reply(wire, request, status, {"Via": via} | (headers or {}), body)

    def route(self, wire, request):
        if request.uri.startswith("sip:0@"):
            status, headers = 404, {}
            if not request.header("Proxy-Authorization"):
                status, headers = 407, {"Proxy-Authenticate": CHALLENGE}
            self.reply(wire, request, status, headers)
            return
        if request.method == "CANCEL":
            self.cancel_others(request.branch, None)
        if request.method == "OPTIONS":
            self.reply(wire, request, 200)
            return
        super().route(wire, request)


class Frames(Wire):
    """The wire of a phone, which may also send what is no message."""

    async def send(self, text):
        if text.strip():
            await super().send(text)


def the_site(mode="kamailio"):
    site, problems, _ = load_site(TEXT.replace("MODE", mode), "inventory.yaml")
    assert site, problems
    return site


@pytest.fixture
def attacked(monkeypatch):
    """The results of one attack on a switch."""
    monkeypatch.setattr(subject, "PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr(attempt, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(limits, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(limits, "SILENT_SECONDS", 1)

    def run(step, mode="kamailio"):
        faults = ("open",) if step.name == "REGISTER of a stranger" else ()
        switch, site = Guardless(*faults), the_site(mode)
        monkeypatch.setattr(Phone, "_new_wire", lambda _: Frames(switch))
        made = Subject(
            name="sip1", site=site, entry=site.hosts["sip1"], level="attack", accounts=ACCOUNTS
        )
        made.address = "203.0.113.10"
        (result,) = asyncio.run(prove(made, [replace(step, needs=())])).results
        return result

    return run


@pytest.mark.parametrize("step", attack.STEPS, ids=lambda step: step.name)
def test_an_attack_on_a_switch_without_guards_is_a_failure(attacked, step):
    result = attacked(step)
    assert result.status == "failed", result.message
    codes = {problem.code for problem in result.diagnostics}
    assert codes <= {f"SD94{number}" for number in range(1, 6)}, result.diagnostics


def test_a_step_that_cannot_be_tried_says_why(attacked):
    digest = next(step for step in attack.STEPS if step.name == "replayed digest")
    result = attacked(digest, mode="asterisk")
    assert result.status == "skipped"
    assert "Asterisk" in result.message


def test_attacks_need_the_host_of_the_inventory_and_no_sound():
    """A host that has neither the accounts nor the key of the certificate is not attacked."""
    for step in attack.STEPS:
        assert {"call", "certificate"} <= set(step.needs)
    levels = {step.level for step in of_level(LADDER, "attack")}
    assert levels == {"ports", "quick", "attack"}


def test_a_user_attacks_no_host(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(TEXT.replace("MODE", "kamailio"))
    assert main(["verify", "--level", "attack", "--user", "1001"]) == 2
    assert "SD940" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "key"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8:0:0:")],
)
def test_failures_are_taken_back_where_kamailio_counts_them(address, key):
    """An IPv6 address counts as its /64 network, without `::`."""
    assert attempt.counted(address) == key


def test_the_host_is_told_what_to_take_back():
    host = FakeHost(answers={"probes": Result(status=0, stdout=b"\x1eset\n")})
    some = Probes(name="sip1", domain="sip.example.test", connect=lambda: host)
    some.set()
    some.failures["192.0.2.1"] += 3
    some.failures["192.0.2.1"] += 20
    some.remove()
    assert host.inputs[1].decode().splitlines()[2:] == ["failures 192.0.2.1 23"]


def test_a_run_does_not_come_near_the_limits_of_its_address():
    """200 failures of an address delay its new connections."""
    assert limits.GUESSES + 2 + attempt.MESSAGE_FLOOD + 10 < 200 / 4
