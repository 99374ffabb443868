"""The audio of two phones that talk to each other, by real ICE, DTLS and codecs."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from sipdeploy.sip.media import IceServer, MediaError, open_audio
from sipdeploy.sip.media.description import Description

pytest.importorskip("aiortc", reason="the extra `media` is not installed")

LOW, HIGH = 440, 620


class Kept(logging.Handler):
    """Keeps what would be printed: warnings, and tasks whose exceptions nobody has seen."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(self.format(record))


@pytest.fixture(autouse=True)
def silent():
    """Nothing is logged, because a traceback would reach the user."""
    kept = Kept()
    logging.getLogger().addHandler(kept)
    yield
    gc.collect()
    logging.getLogger().removeHandler(kept)
    assert not kept.messages


def run(scene):
    """Run a scene, and require that it leaves neither tasks nor threads."""

    async def whole():
        await asyncio.wait_for(scene, 30)
        await asyncio.sleep(0.1)
        return asyncio.all_tasks() - {asyncio.current_task()}

    before = set(threading.enumerate())
    assert not asyncio.run(whole())
    assert not set(threading.enumerate()) - before


@asynccontextmanager
async def talk(**options):
    """Two phones in a call: one says 440 Hz, the other 620 Hz."""
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(open_audio(tone_hz=LOW, **options))
        callee = await stack.enter_async_context(open_audio(tone_hz=HIGH))
        await caller.accept(await callee.answer(await caller.offer()))
        await asyncio.gather(caller.connected(), callee.connected())
        yield caller, callee


@pytest.mark.parametrize("codecs", [(), ("PCMU",)])
def test_each_hears_the_tone_of_the_other(codecs):
    async def scene():
        async with talk(codecs=codecs) as (caller, callee):
            assert await caller.hears(HIGH)
            assert await callee.hears(LOW)
            assert not await caller.hears(LOW, 0.5)
            for each in (caller, callee):
                state = await each.state()
                assert (state.ice, state.dtls) == ("completed", "connected")
                # a lab on this machine rewrites the addresses of its bridge
                assert state.path in {"direct", "server-reflexive"}
                assert state.codec == ("PCMU/8000" if codecs else "opus/48000")
                assert state.direction == "sendrecv"
                assert min(state.packets_sent, state.packets_received) > 10
            assert caller.arrived > (await caller.state()).packets_received - 5
            callee.say(0)
            assert await caller.hears_nothing()

    run(scene())


@pytest.mark.slow
@pytest.mark.parametrize("holder", [0, 1])
def test_hold_and_resume(holder):
    async def scene():
        async with talk() as pair:
            ours, theirs = pair[holder], pair[1 - holder]
            assert await ours.hears(HIGH if holder == 0 else LOW)
            await ours.accept(await theirs.answer(await ours.offer("inactive")))
            assert (await ours.state()).direction == "inactive"
            assert await ours.hears_nothing()
            assert await theirs.hears_nothing()
            await ours.accept(await theirs.answer(await ours.offer()))
            assert await ours.hears(HIGH if holder == 0 else LOW)
            assert await theirs.hears(LOW if holder == 0 else HIGH)

    run(scene())


@pytest.fixture
def packets(monkeypatch):
    """The packets of audio that arrive at both phones."""
    from aiortc import RTCDtlsTransport  # noqa: PLC0415 - not without the extra

    handle = RTCDtlsTransport._handle_rtp_data  # noqa: SLF001
    arrived = []

    async def keep(transport, data, arrival_time_ms):
        arrived.append(data)
        await handle(transport, data, arrival_time_ms)

    monkeypatch.setattr(RTCDtlsTransport, "_handle_rtp_data", keep)
    return arrived


@pytest.mark.parametrize(
    ("codecs", "kind", "duration"),
    [(("opus",), 102, 7680), (("PCMU", "opus"), 101, 1280)],
    ids=["opus", "PCMU"],
)
def test_digits_reach_the_other_with_the_clock_of_the_audio(packets, codecs, kind, duration):
    async def scene():
        async with talk(codecs=codecs) as (caller, callee):
            assert await callee.hears(LOW)
            callee.say(0)
            await caller.dial("5#")
            assert await callee.hears(LOW)

    run(scene())
    events = [each for each in packets if each[1] & 0x7F in {101, 102}]
    assert {each[1] & 0x7F for each in events} == {kind}
    assert [each[12] for each in events] == [5] * 11 + [11] * 11
    assert [each[1] >> 7 for each in events] == ([1] + [0] * 10) * 2
    assert int.from_bytes(events[-1][14:]) == duration
    source = events[0][8:12]
    numbers = [int.from_bytes(each[2:4]) for each in packets if each[8:12] == source]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_peer_that_says_goodbye_is_heard_when_it_speaks_again():
    """Firefox sends an RTCP BYE where a call is held."""
    from aiortc.rtp import RtcpByePacket  # noqa: PLC0415 - not without the extra

    async def scene():
        async with talk() as (caller, callee):
            assert await callee.hears(LOW)
            sender = caller._transceiver.sender  # noqa: SLF001
            goodbye = bytes(RtcpByePacket(sources=[sender._ssrc]))  # noqa: SLF001
            await sender.transport._send_rtp(goodbye)  # noqa: SLF001
            await asyncio.sleep(0.3)
            assert await callee.hears(LOW)

    run(scene())


def test_a_peer_without_events_gets_no_digits():
    async def scene():
        async with open_audio() as caller, open_audio() as callee:
            answer = await callee.answer((await caller.offer()).replace("telephone-event", "x"))
            assert not Description(answer).events
            await caller.accept(answer)
            with pytest.raises(MediaError, match="takes no telephone events"):
                await caller.dial("1")

    run(scene())


def test_a_later_offer_keeps_the_payload_types():
    async def scene():
        async with talk(codecs=["PCMU", "opus"]) as (_, callee):
            before = callee.remote.codecs
            assert list(before.values())[:2] == ["PCMU/8000", "opus/48000"]
            assert Description(await callee.offer("sendonly")).codecs == before

    run(scene())


def test_a_peer_that_is_gone_leaves_ice_without_a_pair():
    async def scene():
        async with open_audio() as caller:
            async with open_audio() as callee:
                answer = await callee.answer(await caller.offer())
            await caller.accept(answer)
            with pytest.raises(
                MediaError, match=r"^ICE did not connect within 0.5 s .* there host"
            ):
                await caller.connected(0.5)
            assert (await caller.state()).path == "none"
            assert caller.arrived == 0

    run(scene())


def test_another_fingerprint_ends_dtls():
    async def scene():
        async with open_audio() as caller, open_audio() as callee:
            answer = await callee.answer(await caller.offer())
            line = next(each for each in answer.splitlines() if each.startswith("a=fingerprint"))
            other = f"{line[:-2]}{'00' if line[-2:] != '00' else '01'}"
            await caller.accept(answer.replace(line, other))
            with pytest.raises(MediaError, match=r"^DTLS did not connect"):
                await caller.connected(5)

    run(scene())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "its audio is RTP/AVP"),
        ("a=setup:active", "a=setup:actpass", "its DTLS role is `actpass`"),
        ("a=mid:0", "a=mid:7", "Media sections in answer do not match offer"),
        ("opus/48000", "x/48000", "Failed to set remote audio description"),
        ("a=ssrc:", "a=ssrc:x", "invalid literal for int"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_with_the_reason(old, new, why):
    async def scene():
        async with open_audio(codecs=["opus"]) as caller, open_audio() as callee:
            answer = await callee.answer(await caller.offer())
            with pytest.raises(MediaError, match=why):
                await caller.accept(answer.replace(old, new))

    run(scene())


def test_no_server_is_asked_that_nobody_has_named(monkeypatch):
    from aiortc import RTCIceGatherer  # noqa: PLC0415 - not without the extra

    monkeypatch.setattr(RTCIceGatherer, "getDefaultIceServers", lambda: pytest.fail("asked"))

    async def scene():
        async with open_audio() as caller:
            await caller.offer()

    run(scene())


@pytest.mark.slow
def test_warnings_of_the_libraries_are_not_printed():
    names = ("aiortc.rtcdtlstransport", "aioice.ice")
    code = "import logging; import sipdeploy.sip.media.audio\n" + "".join(
        f"logging.getLogger({name!r}).warning('Traceback')\n" for name in names
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.slow
def test_servers_that_do_not_answer_delay_the_offer_and_do_not_break_it():
    async def scene():
        servers = [IceServer(url="stun:127.0.0.1:9"), IceServer(url="turn:127.0.0.1:9")]
        async with open_audio(ice_servers=servers) as caller:
            assert Description(await caller.offer()).candidates

    run(scene())


@pytest.mark.parametrize("steps", range(8))
def test_a_call_can_be_closed_at_any_time(steps):
    """After so many turns of the loop, while ICE and DTLS are under way."""

    async def scene():
        async with open_audio() as caller, open_audio() as callee:
            await caller.accept(await callee.answer(await caller.offer()))
            for _ in range(2**steps):
                await asyncio.sleep(0.001)

    run(scene())


def test_closing_twice_or_at_once_is_harmless():
    async def scene():
        audio = open_audio(tone_hz=LOW)
        await audio.close()
        async with talk() as (caller, _):
            await caller.close()
        await caller.close()

    run(scene())
