"""What the audio of calls is made of, without aiortc: sound, digits, descriptions."""

import random
import struct
import subprocess
import sys
from array import array

import pytest
from click.testing import CliRunner

from sipdeploy.cli import cli
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.sip import media
from sipdeploy.sip.dialog import Sdp
from sipdeploy.sip.media import Candidate, MediaState
from sipdeploy.sip.media.description import Description, completed
from sipdeploy.sip.media.digits import Digits
from sipdeploy.sip.media.sound import (
    FRAME,
    RATE,
    Heard,
    level_dbfs,
    share_of,
    spectrum,
    tone,
)

SILENCE = array("h", bytes(2 * RATE))


def mixed(*tones):
    return array("h", (sum(samples) for samples in zip(*tones, strict=True)))


@pytest.mark.parametrize("hz", [300, 440, 455, 620, 1000, 3300])
def test_a_tone_is_recognised_by_its_frequency(hz):
    samples = tone(hz)[: RATE // 2]
    assert share_of(samples, hz) > 0.99
    assert share_of(samples, hz + 60) < 0.01
    levels = spectrum(samples)
    assert abs(max(levels, key=levels.get) - hz) <= 25
    assert max(levels.values()) == pytest.approx(-12, abs=2)


def test_a_level_is_that_of_the_mean():
    assert level_dbfs(tone(440)) == pytest.approx(-15, abs=0.1)  # 3 dB below the peak
    assert level_dbfs(SILENCE) == level_dbfs([]) == -100
    assert share_of(SILENCE, 440) == 0
    assert spectrum([]) == {}


def test_two_tones_share_the_energy():
    both = mixed(tone(440), tone(480))
    assert share_of(both, 440) == pytest.approx(0.5, abs=0.01)
    assert share_of(both, 480) == pytest.approx(0.5, abs=0.01)


def heard(*parts):
    """What a phone heard: samples in packets, the last of which came at second 100."""
    sound, samples = Heard(), array("h")
    for part in parts:
        samples.extend(part)
    blocks = range(0, len(samples), FRAME)
    for number, start in enumerate(blocks, 1):
        block = samples[start : start + FRAME]
        sound.add(block.tobytes(), 100 - (len(blocks) - number) * FRAME / RATE)
    return sound


def test_a_tone_counts_while_it_lasts():
    sound = heard(tone(440), tone(620))
    assert sound.has_tone(620, 98)
    assert not sound.has_tone(440, 98)
    assert not heard(tone(440), tone(620)[: RATE // 10]).has_tone(620, 98)  # too short
    assert sound.strongest_hz(99.5) in {600, 625}
    assert sound.samples == 2 * RATE


def test_a_peer_that_stops_sending_is_silent():
    sound = heard(tone(440))
    assert not sound.has_tone(440, 101)
    assert sound.is_silent(101)
    assert sound.strongest_hz(101) == 0
    assert not sound.is_silent(99)


@pytest.mark.parametrize("cut", [0, 37, 80, 120])
def test_a_tone_is_recognised_where_packets_are_lost(cut):
    """Every third packet arrives, so the phase jumps at each; pieces begin anywhere in one."""
    whole = tone(440)
    packets = [whole[n : n + FRAME] for n in range(0, RATE, 3 * FRAME)]
    packets[-1] = packets[-1][cut:]
    assert heard(*packets).has_tone(440, 0)
    assert not any(heard(*packets).has_tone(hz, 0) for hz in (300, 620, 800))


def test_noise_is_no_tone():
    chance = random.Random(7)
    noise = array("h", (chance.randrange(-9000, 9000) for _ in range(RATE)))
    assert not any(heard(noise).has_tone(hz, 0) for hz in (440, 620, 800))


def test_too_little_is_no_tone():
    assert not heard(tone(440)[: RATE // 10]).has_tone(440, 0)


def test_a_whisper_is_no_sound():
    assert heard(tone(440, level_dbfs=-70)).is_silent(0)
    assert not heard(tone(440, level_dbfs=-70)).has_tone(440, 0)


def test_sound_is_counted_in_seconds():
    assert heard(SILENCE, tone(440), SILENCE).loud_seconds() == pytest.approx(1, abs=0.2)
    assert heard(SILENCE, tone(440)).loud_seconds(100) == 0


def test_only_the_last_half_minute_is_kept():
    sound = heard(*[SILENCE] * 40)
    assert len(sound.since(0)) == 30 * RATE
    assert sound.samples == 40 * RATE


def packet(sequence, timestamp=0, payload_type=96):
    return struct.pack("!BBHLL", 0x90, payload_type, sequence, timestamp, 7) + b"audio"


def events(digits, count):
    """The packets that replace so many of audio, as (type, marker, timestamp, event, end, ...)."""
    for number in range(count):
        data = digits.replaced(packet(number, 1000 + 960 * number))
        first, kind, sequence, timestamp, source = struct.unpack("!BBHLL", data[:12])
        assert (sequence, source) == (number, 7)
        if kind == 96:
            yield None
        else:
            assert (first, len(data)) == (0x80, 16)
            event, flags, duration = struct.unpack("!BBH", data[12:])
            yield kind & 0x7F, kind >> 7, timestamp, event, flags >> 7, duration


def test_a_digit_is_an_event_with_three_ends():
    digits = Digits(payload_type=102, clock=48000)
    digits.send("#")
    got = list(events(digits, 20))
    lengths = [*(960 * n for n in range(1, 9)), 7680, 7680, 7680]
    assert got[:11] == [
        (102, int(n == 0), 1000, 11, int(n >= 8), length) for n, length in enumerate(lengths)
    ]
    assert got[11:] == [None] * 9
    assert not digits.is_sending


def test_digits_are_apart_and_in_order():
    digits = Digits(payload_type=101)
    digits.send("1*")
    got = list(events(digits, 40))
    starts = [(n, each[3]) for n, each in enumerate(got) if each and each[1]]
    assert starts == [(0, 1), (17, 10)]
    assert got[17][2] == 1000 + 17 * 960
    assert got[7][5] == 8 * 160


def test_rtcp_and_audio_pass():
    digits = Digits(payload_type=101)
    report = struct.pack("!BBHL", 0x80, 200, 6, 7)
    assert digits.replaced(packet(1)) == packet(1)
    digits.send("1")
    assert digits.replaced(report) == report
    assert digits.replaced(packet(1)) != packet(1)


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(ValueError, match="takes no telephone events"):
        Digits().send("1")
    with pytest.raises(ValueError, match="substring"):
        Digits(payload_type=101).send("x")


BROWSER = str(Sdp())


def test_a_browsers_offer_is_read():
    offer = Description(BROWSER)
    assert offer.defects(is_answer=False) == []
    assert (offer.profile, offer.setup) == ("UDP/TLS/RTP/SAVPF", "actpass")
    assert offer.direction == "sendrecv"
    assert offer.candidates == [Candidate(kind="host", address="192.0.2.10", port=40000)]
    assert list(offer.codecs.values()) == ["opus/48000", "PCMU/8000", "telephone-event/8000"]
    assert offer.events == {126: 8000}
    assert Description(str(Sdp(direction="inactive"))).direction == "inactive"


@pytest.mark.parametrize(
    ("old", "new", "defect"),
    [
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "its audio is RTP/AVP, not DTLS-SRTP"),
        ("a=fingerprint:", "a=x:", "it has no DTLS fingerprint"),
        ("a=ice-pwd:", "a=x:", "it has no ICE user and password"),
        ("a=candidate:", "a=x:", "it has no ICE candidate"),
        ("a=rtcp-mux", "a=x", "it has no rtcp-mux"),
        ("m=audio 40000", "m=audio 0", "it has no audio"),
        ("m=audio 40000", "m=video 40000", "it has no audio"),
        ("a=setup:active", "a=setup:actpass", "its DTLS role is `actpass`"),
    ],
)
def test_what_no_browser_takes_has_a_reason(old, new, defect):
    answer = str(Sdp(setup="active"))
    assert not Description(answer).defects(is_answer=True)
    (told,) = Description(answer.replace(old, new)).defects(is_answer=True)
    assert told.startswith(defect)


@pytest.mark.parametrize("text", ["", "m=audio", "m=audio x y z\r\na=candidate:1", "a=rtpmap:"])
def test_any_text_is_read(text):
    assert Description(text).defects(is_answer=True)
    assert Description(text).candidates == []


def test_a_stranger_does_not_choose_many_targets_of_packets():
    (line,) = (each for each in BROWSER.splitlines() if each.startswith("a=candidate"))
    many = BROWSER.replace(line, "\r\n".join([line] * 41))
    assert Description(many).defects(is_answer=False) == ["it has 41 ICE candidates"]


def test_other_media_do_not_count():
    text = BROWSER.replace("a=rtcp-mux\r\n", "") + "m=video 9 X 1\r\na=rtcp-mux\r\n"
    assert Description(text).defects(is_answer=False) == ["it has no rtcp-mux"]


def test_ours_has_one_origin_and_events_once():
    offer = completed(
        BROWSER.replace("126", "96").replace("telephone", "x"), session="7", version=1
    )
    assert "\r\no=- 7 1 IN IP4 127.0.0.1\r\n" in offer
    assert Description(offer).events == {101: 8000, 102: 48000}
    again = completed(offer, session="7", version=2, direction="sendonly")
    assert again.replace("a=sendonly", "a=sendrecv").replace("7 2 IN", "7 1 IN") == offer
    assert Description(again).direction == "sendonly"


def test_an_offer_after_an_answer_leaves_the_roles_open():
    answer = str(Sdp(setup="active"))
    again = completed(answer, session="7", version=2, direction="sendrecv")
    assert Description(again).setup == "actpass"
    assert Description(completed(answer, session="7", version=2)).setup == "active"


def test_an_answer_has_the_events_of_the_offer():
    bare = BROWSER.replace("telephone", "x")
    assert Description(completed(bare, session="7", version=1, events={110: 48000})).events == {
        110: 48000
    }
    assert Description(completed(bare, session="7", version=1, events={})).events == {}


def test_a_machine_with_many_bridges_offers_some_of_them():
    line = next(each for each in BROWSER.splitlines() if each.startswith("a=candidate"))
    relayed = line.replace("typ host", "typ relay")
    text = BROWSER.replace(line, "\r\n".join([line] * 50 + [relayed]))
    kinds = [each.kind for each in Description(completed(text, session="7", version=1)).candidates]
    assert kinds == ["host"] * 12 + ["relay"]


@pytest.mark.parametrize(
    ("local", "remote", "path"),
    [
        ("host", "host", "direct"),
        ("srflx", "host", "server-reflexive"),
        ("host", "prflx", "server-reflexive"),
        ("relay", "srflx", "relayed"),
        ("host", "relay", "relayed"),
        ("", "host", "none"),
    ],
)
def test_a_path_has_a_name(local, remote, path):
    pair = [Candidate(kind=k, address="::1", port=5) if k else None for k in (local, remote)]
    state = MediaState(
        ice="", dtls="", codec="", direction="", local=pair[0], remote=pair[1],
        packets_sent=0, packets_received=0,
    )  # fmt: skip
    assert state.path == path
    assert str(pair[1]) == f"{remote} [::1]:5"


def test_the_message_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiortc", None)
    with pytest.raises(WrongUsage) as caught:
        media.require()
    (problem,) = caught.value.diagnostics
    assert problem.code == "SD921"
    assert problem.help.startswith(f"`{sys.executable} -m pip install 'aiortc>=")


def test_a_proof_with_sound_does_not_begin(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "aiortc", None)
    (tmp_path / "inventory.yaml").write_text(
        "domain: sip.example.com\nemail: ops@example.com\n"
        "hosts: {sip1: {address: 203.0.113.10}}\nusers: {1001: {}}\n"
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["verify", "sip1", "--level", "full"])
    assert isinstance(result.exception, WrongUsage)
    assert [each.code for each in result.exception.diagnostics] == ["SD921"]


def test_the_package_is_imported_without_it():
    absent = "import sys; sys.modules['aiortc'] = sys.modules['av'] = None"
    subprocess.run([sys.executable, "-c", f"{absent}; import sipdeploy.sip.media"], check=True)
