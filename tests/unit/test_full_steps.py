"""Steps of level `full` with two phones whose wires are joined, as if nothing were in between."""

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest

from sipdeploy.inventory.site import load_site
from sipdeploy.proof.outside import full, user
from sipdeploy.proof.outside.ladder import LADDER
from sipdeploy.proof.outside.run import attempt
from sipdeploy.proof.outside.step import of_level
from sipdeploy.proof.outside.subject import Account, Subject
from sipdeploy.sip.media import talk
from sipdeploy.sip.message import Reply, parse, with_headers
from sipdeploy.sip.phone import Phone

pytest.importorskip("aiortc", reason="the extra `media` is not installed")

TEXT = """\
domain: sip.example.com
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}}
users: {1001: {}}
"""
STEPS = {step.name: step for step in full.STEPS}


class Joined:
    """A wire whose other end is the wire of the other phone."""

    def __init__(self, change):
        self.change = change
        self.coming: asyncio.Queue[str | None] = asyncio.Queue()
        self.other: Joined
        self.trace = []
        self.frames_received = 0
        self.end = ""

    async def open(self):
        pass

    async def send(self, text):
        message = parse(text)
        headers = with_headers(message.headers, {"Content-Length": None})
        body = self.change(message.body, isinstance(message, Reply)) if message.body else ""
        self.other.coming.put_nowait(str(replace(message, headers=headers, body=body)))

    async def receive(self):
        return await self.coming.get()

    async def close(self):
        self.coming.put_nowait(None)


@contextlib.asynccontextmanager
async def joined(monkeypatch, change=lambda sdp, _: sdp):
    """A subject with two phones, connected to each other."""
    site, problems, _ = load_site(TEXT, "inventory.yaml")
    assert site, problems
    wires = [Joined(change), Joined(change)]
    wires[0].other, wires[1].other = reversed(wires)
    monkeypatch.setattr(Phone, "_new_wire", lambda phone: wires[int(phone.number) - 1])
    subject = Subject(
        name="sip1",
        site=site,
        entry=site.hosts["sip1"],
        level="full",
        accounts=tuple(Account(number=n, password="", title=n) for n in "12"),
        ends=time.monotonic() + 60,
    )
    for account in (0, 1):
        phone = Phone(str(account + 1), domain=site.domain, address=("", 0), gruu=False)
        subject.phones[account, 0] = phone
        await phone.connect()
    yield subject
    for phone in subject.phones.values():
        await phone.close()


@pytest.fixture
def prove(monkeypatch):
    """Runs one step, with a function that changes each SDP on its way."""

    def proving(name, change=lambda sdp, _: sdp):
        async def scene():
            async with joined(monkeypatch, change) as subject:
                return await attempt(STEPS[name], subject)

        return asyncio.run(scene())

    return proving


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("sound", "tones both ways, opus/48000, media "),
        ("sound back", "in the other direction, PCMU/8000"),
        ("hold and resume", "silent while held, heard again"),
    ],
)
def test_two_phones_pass(prove, name, seen):
    result = prove(name)
    assert (result.status, result.diagnostics) == ("ok", ())
    assert result.message.startswith(seen)


def problem(result):
    assert result.status == "failed"
    (found,) = result.diagnostics
    assert found.code == "SD922"
    return found


def test_a_fingerprint_that_the_host_changes_is_named(prove):
    def other(sdp, _):
        return sdp.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 00:")

    found = problem(prove("sound", other))
    assert found.message.endswith("arrives with another `a=fingerprint` than was sent")


def test_an_answer_without_dtls_says_so(prove):
    def plain(sdp, is_reply):
        return sdp.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP") if is_reply else sdp

    found = problem(prove("sound", plain))
    assert "the answer cannot be used: its audio is RTP/AVP, not DTLS-SRTP" in found.message
    assert found.help.startswith("`sipdeploy plan sip1` shows what was edited on the host; ")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(full, "HEAR_SECONDS", 1)


@pytest.mark.usefixtures("impatient")
def test_a_call_in_which_one_side_is_silent_names_that_side(prove):
    """The answer says that the callee does not send, so the caller hears nothing."""

    def quiet(sdp, is_reply):
        return sdp.replace("a=sendrecv", "a=recvonly") if is_reply else sdp

    found = problem(prove("sound", quiet))
    assert found.message == "on `sip1`, the caller hears silence and not the tone of 620 Hz"
    (note,) = found.notes
    assert note.startswith("ICE completed, DTLS connected, opus/48000, sendonly; host ")
    assert note.endswith(" 0 received")


@pytest.mark.usefixtures("impatient")
def test_a_hold_that_does_not_reach_the_other_fails(prove):
    def resumed(sdp, _):
        return sdp.replace("a=inactive", "a=sendrecv")

    found = problem(prove("hold and resume", resumed))
    assert found.message.endswith("still hears the other in a call that is held")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("speech", "the inventory has no service of the kind ivr-test"),
        ("echo", "the inventory has no service of the kind echo"),
        ("digits", "the inventory has no service of the kind echo"),
        ("voicemail", "a probe account has no mailbox: `--user NUMBER` uses that of a user"),
    ],
)
def test_what_cannot_be_tried_is_skipped(prove, name, why):
    result = prove(name)
    assert (result.status, result.message) == ("skipped", why)


def test_the_steps_of_full_come_after_those_of_quick_in_two_lanes():
    own = {step.name for step in user.STEPS}  # after both, and only for one account
    names = [step.name for step in of_level(LADDER, "full") if step.name not in own]
    assert names[-len(full.STEPS) :] == [step.name for step in full.STEPS]
    assert {step.lane for step in full.STEPS} == {"phones", "services"}
    assert max(step.seconds for step in full.STEPS) < 60


def test_a_refer_names_the_call_that_is_replaced(monkeypatch):
    async def scene():
        async with joined(monkeypatch) as subject:
            caller, callee = subject.phones.values()
            call = await caller.invite("2")
            answered = await (await callee.incoming(method="INVITE")).answer()
            await call.answered()
            await call.ack()
            side, other = (talk.Talk(call=each, audio=None) for each in (call, answered))
            await side.refer("sip:3@sip.example.test;gr=a", call)
            refer = await callee.incoming(method="REFER")
            target, headers = talk.refer_target(refer)
            assert target == "sip:3@sip.example.test;gr=a"
            await callee.invite("1", headers=headers)
            invite = await caller.incoming(method="INVITE")
            assert not talk.replaces(invite, call)
            assert talk.replaces(invite, answered)
            await other.referred(refer, "200 OK")
            notify = await caller.incoming(method="NOTIFY")
            assert notify.request.body == "SIP/2.0 200 OK\r\n"
            assert notify.request.header("Event") == f"refer;id={refer.request.cseq[0]}"

    asyncio.run(asyncio.wait_for(scene(), 20))
