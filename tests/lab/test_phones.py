"""The browser phones detect failed calls.

Real browsers and real SIP libraries, with a small relay instead of a server.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from lab import firefox
from lab.browser import CHROMIUM, Browser, NotSeen
from lab.phones.sound import Peak, Spectrum, is_speech, tone_seconds
from lab.phones.trace import SipMessage, Trace

BYE = (
    "BYE sip:1001@sip.example.test SIP/2.0\r\nv: SIP/2.0/WSS x.invalid\r\ni: one\r\n"
    "CSeq: 7 BYE\r\nReason: SIP ;cause=200\r\n\r\n"
)
BROWSERS = {"chromium": Browser, "firefox": firefox.Firefox}


def spectrum(*peaks: tuple[float, float], floor: float = -110.0) -> Spectrum:
    loudest_first = sorted(peaks, key=lambda peak: -peak[1])
    return Spectrum(
        at=0.0,
        floor_db=floor,
        peaks=tuple(Peak(hz=hz, level_db=level) for hz, level in loudest_first),
    )


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (spectrum((440.1, -20)), True),
        (spectrum((454.0, -20)), True),
        (spectrum((460.0, -20)), False),
        (spectrum((440.0, -23), (480.0, -22)), True),  # the two of the ring tone
        (spectrum((440.0, -45), (620.0, -20)), False),  # an echo below another tone
        (spectrum((440.0, -70)), False),
        (spectrum((440.0, -40), floor=-60), False),  # noise
        (Spectrum.silence(), False),
    ],
)
def test_hears_only_a_tone_that_stands_out(heard, expected):
    assert heard.hears(440) is expected


def test_speech_moves_and_a_tone_does_not():
    tone = [spectrum((440.0, -20))] * 30
    speech = [spectrum((200.0 + 60 * (n % 9), -30)) for n in range(30)]
    assert is_speech(speech)
    assert not is_speech(tone)
    assert not is_speech([Spectrum.silence()] * 30)
    assert tone_seconds(tone, 440) == pytest.approx(3.0)


def test_trace_reads_requests_and_responses():
    bye = SipMessage(at=1.0, direction="received", text=BYE)
    answer = SipMessage(
        at=1.1, direction="sent", text="SIP/2.0 200 OK\r\nCall-ID: one\r\nCSeq: 7 BYE\r\n\r\n"
    )
    trace = Trace((bye, answer))
    assert bye.is_request
    assert (bye.method, bye.call_id, bye.header("reason")) == ("BYE", "one", "SIP ;cause=200")
    assert (answer.method, answer.status) == ("BYE", 200)
    assert len(trace.received().requests("BYE")) == 1
    assert len(trace.sent().responses("BYE", 200)) == 1
    assert len(trace.responses("BYE", 481)) == 0
    assert len(trace.of_call("two")) == 0


class Relay:
    """Accepts every REGISTER, and forwards every other message unchanged to the other phone."""

    def __init__(self):
        self.phones = []
        self.server = serve(self.talk, "127.0.0.1", 0, subprotocols=["sip"])
        self.url = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()

    def talk(self, phone):
        self.phones.append(phone)
        try:
            for text in phone:
                self.pass_on(phone, text)
        except ConnectionClosed:
            pass
        finally:
            self.phones.remove(phone)

    def pass_on(self, phone, text):
        if text.startswith("REGISTER"):
            phone.send(accepted(text))
        else:
            for other in self.phones:
                if other is not phone:
                    other.send(text)

    def cut(self):
        for phone in list(self.phones):
            phone.socket.shutdown(2)


def accepted(register):
    kept = re.findall(r"^(?:Via|From|Call-ID|CSeq|Contact): .*\r\n", register, re.MULTILINE)
    to = re.search(r"^To: (.*)\r\n", register, re.MULTILINE)[1]
    head = f"SIP/2.0 200 OK\r\nTo: {to};tag=relay\r\nContent-Length: 0\r\n"
    return f"{head}{''.join(kept)}\r\n"


@pytest.fixture(scope="module")
def relay():
    with Relay() as relay:
        yield relay


@pytest.fixture(scope="module", params=BROWSERS)
def browsers(request):
    if request.param == "chromium" and not Path(CHROMIUM).exists():
        pytest.skip("needs Chromium: python -m lab install")
    if request.param == "firefox" and (reason := firefox.why_not()):
        pytest.skip(reason)
    browser = BROWSERS[request.param]
    with browser(tone_hz=440) as first, browser(tone_hz=620) as second:
        yield first, second


@pytest.fixture(params=["jssip", "sipjs"])
def phones(request, relay, browsers):
    account = {"domain": "sip.example.test", "wss": relay.url, "library": request.param}
    pair = [
        browser.phone(number, **account)
        for browser, number in zip(browsers, ("1001", "1002"), strict=True)
    ]
    yield pair
    for phone in pair:
        phone.close()


def test_each_side_hears_the_other_and_not_itself(phones):
    first, second = phones
    call = first.call("1002")
    incoming = second.wait_incoming()
    call.wait("ringing")
    incoming.answer()
    call.wait("answered")
    assert call.hears(620)
    assert incoming.hears(440)
    assert not call.listen().hears(440)
    assert not incoming.listen().hears(620)
    assert (call.status, incoming.status, incoming.peer) == (200, 200, "1001")
    assert call.acknowledged
    assert incoming.acknowledged
    assert call.hold()
    incoming.listen(0.5)
    assert not incoming.listen().hears(440)
    assert call.unhold()
    assert incoming.hears(440)
    incoming.hang_up()
    call.wait("ended")
    assert len(call.trace.received().requests("BYE")) == 1
    assert call.heard_seconds(620) > 2
    assert not call.heard_speech()


def test_a_call_that_is_refused_or_cancelled_tells_its_status(phones):
    first, second = phones
    refused = first.call("1002")
    second.wait_incoming().reject(486)
    assert refused.wait("failed").status == 486
    cancelled = first.call("1002")
    incoming = second.wait_incoming()
    cancelled.wait("ringing").cancel()
    assert incoming.wait("failed").status == 487
    with pytest.raises(NotSeen, match="call 1 answered"):
        cancelled.wait("answered", timeout_seconds=0.2)


def test_messages_arrive_and_can_be_forged(phones):
    first, second = phones
    assert first.message("1002", "as I am") == 200
    first.rewrite("^From: .*<sip:1001@", "From: <sip:1003@")
    first.message("1002", "as another")
    assert [message.body for message in second.messages] == ["as I am", "as another"]
    assert "sip:1003@" in second.messages[-1].header("From")


def test_a_lost_connection_is_noticed_and_registered_anew(phones, relay):
    first, second = phones
    relay.cut()
    first.wait(registered=False)
    first.wait(registered=True)
    second.wait(registered=True)
    assert len(first.trace.received().responses("REGISTER", 200)) == 2


def test_a_reload_keeps_the_trace_and_forgets_the_calls(phones):
    first, _ = phones
    first.call("1002").wait("ringing").cancel()
    first.reload()
    assert first.registered
    assert first.calls == []
    assert len(first.trace.sent().requests("INVITE")) == 1


def test_a_wait_that_sees_nothing_says_what_happened(phones):
    first, _ = phones
    with pytest.raises(NotSeen, match=r"1001: not seen: a call in 0.1 s(.|\n)*REGISTER"):
        first.wait_incoming(timeout_seconds=0.1)
