"""The audio of one call, by aiortc: its description, its connection, what is sent and heard.

It owns the peer connection, and takes and gives SDP as text. It sends no SIP:

    async with Audio(tone_hz=440) as audio:
        call = await phone.invite("1002", await audio.offer())
        await audio.accept((await call.answered()).body)
        await call.ack()
        assert await audio.hears(620)
"""

import asyncio
import contextlib
import logging
import secrets
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.rtp import AnyRtcpPacket, RtcpByePacket
from av import AudioFrame, AudioResampler

from sipdeploy.sip.media import IceServer, MediaError, MediaState, NotConnected
from sipdeploy.sip.media.description import Candidate, Description, completed
from sipdeploy.sip.media.digits import Digits
from sipdeploy.sip.media.sound import FRAME, RATE, Heard, tone

# Their warnings contain tracebacks; what matters is in the state of the audio.
for _library in ("aiortc", "aioice"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

_TICK_SECONDS = 0.05  # between two looks at what was heard
_LATE_SECONDS = 0.1
_SETTLE_SECONDS, _CLOSE_SECONDS = 1, 5


class _Voice(MediaStreamTrack):
    """What the phone says: a tone or silence, 20 ms at a time."""

    kind = "audio"

    def __init__(self, hz: int) -> None:
        super().__init__()
        self._start = 0.0
        self._frames = 0
        self._samples = array("h")
        self.say(hz)

    def say(self, hz: int) -> None:
        """Change the tone; 0 is silence."""
        self._samples = tone(hz) if hz else array("h", bytes(2 * RATE))

    async def recv(self) -> AudioFrame:
        """The next 20 ms, when it is time for them."""
        if self.readyState != "live":
            raise MediaStreamError
        self._start = self._start or time.monotonic()
        wait = self._start + self._frames * FRAME / RATE - time.monotonic()
        if wait < -_LATE_SECONDS:  # on a busy machine: no burst, which would not fit into buffers
            self._start -= wait
        await asyncio.sleep(max(0, wait))
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME)
        at = self._frames * FRAME % RATE
        frame.planes[0].update(self._samples[at : at + FRAME].tobytes())
        frame.pts, frame.sample_rate, frame.time_base = (
            self._frames * FRAME,
            RATE,
            Fraction(1, RATE),
        )
        self._frames += 1
        return frame


class _WithDigits:
    """Stands between aiortc's sender and its transport, because aiortc sends no digits."""

    def __init__(self, transport: RTCDtlsTransport, digits: Digits) -> None:
        self._transport = transport
        self._digits = digits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def _send_rtp(self, data: bytes) -> None:
        await self._transport._send_rtp(self._digits.replaced(data))  # noqa: SLF001


def _outlive_goodbyes(receiver: RTCRtpReceiver) -> None:
    """Firefox says goodbye (RTCP BYE) where a call is held, and aiortc never listens again."""
    handle = receiver._handle_rtcp_packet  # noqa: SLF001

    async def handle_others(packet: AnyRtcpPacket) -> None:
        if not isinstance(packet, RtcpByePacket):
            await handle(packet)

    receiver._handle_rtcp_packet = handle_others  # type: ignore[method-assign]  # noqa: SLF001


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn what aiortc raises for the description of a stranger into a MediaError."""
    try:
        yield
    except MediaError:
        raise
    except Exception as error:  # it raises AssertionError, KeyError and others
        raise MediaError(f"{what} cannot be used: {error or type(error).__name__}") from error


class Audio:
    """The audio of one call. Close it, or use it as a context."""

    def __init__(
        self,
        *,
        tone_hz: int = 0,
        codecs: Sequence[str] = (),
        ice_servers: Sequence[IceServer] = (),
        relayed_only: bool = False,
    ) -> None:
        policy = RTCIceTransportPolicy.RELAY if relayed_only else RTCIceTransportPolicy.ALL
        servers = [
            RTCIceServer(urls=s.url, username=s.username or None, credential=s.credential or None)
            for s in ice_servers
        ]  # an empty list, because None means a server of Google
        self._peer = RTCPeerConnection(
            RTCConfiguration(iceServers=servers, iceTransportPolicy=policy)
        )
        self._voice, self._digits, self.heard = _Voice(tone_hz), Digits(), Heard()
        self._transceiver = self._peer.addTransceiver(self._voice)
        self._prefer(codecs)
        sender = self._transceiver.sender
        sender.setTransport(cast("RTCDtlsTransport", _WithDigits(sender.transport, self._digits)))
        _outlive_goodbyes(self._transceiver.receiver)
        self._peer.on("track", self._on_track)
        self._session, self._version = str(secrets.randbits(62)), 0
        self._local, self._remote = Description(""), Description("")
        self._answer = Description("")
        self._listener: asyncio.Task[None] | None = None
        self.arrived = 0  # datagrams of any kind

    def _prefer(self, codecs: Sequence[str]) -> None:
        known = RTCRtpSender.getCapabilities("audio").codecs
        wanted = [each for name in codecs for each in known if each.name.lower() == name.lower()]
        if codecs:
            self._transceiver.setCodecPreferences(wanted)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # --- descriptions ----------------------------------------------------------------------------

    async def offer(self, direction: str = "sendrecv") -> str:
        """The SDP of an INVITE, or of a re-INVITE that holds (`inactive`) or resumes the call."""
        self._transceiver.direction = direction
        if self._local.text:  # payload types stay what they were (RFC 3264 section 8.3.2)
            text = self._completed(self._local.text, direction)
            await self._peer.setLocalDescription(RTCSessionDescription(sdp=text, type="offer"))
        else:
            await self._peer.setLocalDescription(await self._peer.createOffer())
            self._count_arrivals()
            text = self._completed(self._peer.localDescription.sdp, direction)
        self._local = Description(text)
        return text

    def _count_arrivals(self) -> None:
        """Count what reaches our sockets: checks of ICE tell which direction is blocked."""
        for protocol in self._peer_ice()._protocols:  # noqa: SLF001 - aioice does not count
            protocol.datagram_received = partial(self._arrive, protocol.datagram_received)

    def _arrive(self, take: Callable[[bytes, Any], None], data: bytes, source: Any) -> None:
        self.arrived += 1
        take(data, source)

    def _peer_ice(self) -> Any:
        """The ICE connection of aioice, which aiortc does not show."""
        return self._transceiver.receiver.transport.transport._connection  # noqa: SLF001

    def _completed(
        self, text: str, direction: str = "", events: dict[int, int] | None = None
    ) -> str:
        self._version += 1
        return completed(
            text, session=self._session, version=self._version, direction=direction, events=events
        )

    async def accept(self, answer: str) -> None:
        """Take the SDP that answers our offer; MediaError for one that no browser takes."""
        self._answer = await self._take(answer, "answer")

    async def answer(self, offer: str) -> str:
        """Take an offer, also a later one, and return the SDP of the answer; or MediaError."""
        described = await self._take(offer, "offer")
        with _refusing("the offer"):
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        text = self._completed(self._peer.localDescription.sdp, events=described.events)
        self._answer = self._local = Description(text)
        return text

    async def _take(self, text: str, kind: str) -> Description:
        described = Description(text)
        if defects := described.defects(is_answer=kind == "answer"):
            raise MediaError(f"the {kind} cannot be used: {'; '.join(defects)}")
        with _refusing(f"the {kind}"):
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=text, type=kind))
            await self._peer.addIceCandidate(None)  # SIP sends all candidates at once
        self._remote = described
        self._take_events(described)
        return described

    def _take_events(self, described: Description) -> None:
        """Choose the events that have the clock of the audio, else the first."""
        audio = next((c for k, c in described.codecs.items() if k not in described.events), "")
        same = [k for k, clock in described.events.items() if audio.endswith(f"/{clock}")]
        for kind in [*same, *described.events][:1]:
            self._digits.payload_type, self._digits.clock = kind, described.events[kind]

    @property
    def remote(self) -> Description:
        """What the peer has described last."""
        return self._remote

    # --- the connection --------------------------------------------------------------------------

    async def connected(self, timeout_seconds: float = 10) -> MediaState:
        """Wait for ICE and DTLS; NotConnected says which of them failed, with the candidates."""
        over = {"connected", "failed", "closed"}
        await self._until(lambda: self._peer.connectionState in over, timeout_seconds)
        state = await self.state()
        if self._peer.connectionState == "connected":
            return state
        stage = "DTLS" if state.ice == "completed" else "ICE"
        ours, theirs = (_listed(each.candidates) for each in (self._local, self._remote))
        raise NotConnected(
            f"{stage} did not connect within {timeout_seconds:g} s"
            f" (ICE {state.ice}, DTLS {state.dtls}; here {ours}; there {theirs})"
        )

    async def state(self) -> MediaState:
        """ICE, DTLS, codec, path and packets, as they are now."""
        dtls = self._transceiver.receiver.transport
        pair = self._peer_ice()._nominated.get(1)  # noqa: SLF001 - aioice does not tell
        report = (await self._peer.getStats()).values()
        return MediaState(
            ice=self._peer.iceConnectionState,
            dtls=dtls.state,
            codec=next(
                (c for k, c in self._answer.codecs.items() if k not in self._answer.events), ""
            ),
            direction=self._transceiver.currentDirection or "inactive",
            local=_candidate(pair.local_candidate) if pair else None,
            remote=self._announced(_candidate(pair.remote_candidate)) if pair else None,
            packets_sent=sum(each.packetsSent for each in report if each.type == "outbound-rtp"),
            packets_received=sum(
                each.packetsReceived for each in report if each.type == "inbound-rtp"
            ),
        )

    def _announced(self, found: Candidate) -> Candidate:
        """The candidate as the peer announced it: a check may arrive before the description."""
        same = (
            c
            for c in self._remote.candidates
            if (c.address, c.port) == (found.address, found.port)
        )
        return next(same, found)

    async def close(self) -> None:
        """End everything, within seconds; harmless when repeated."""
        self._voice.stop()
        if self._listener:
            self._listener.cancel()
        # aiortc leaves tasks behind if it is closed while it connects
        await self._until(lambda: self._peer.connectionState != "connecting", _SETTLE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._peer.close()
                if self._listener:
                    await asyncio.gather(self._listener, return_exceptions=True)

    # --- sound -----------------------------------------------------------------------------------

    def say(self, hz: int) -> None:
        """Send this tone from now on; 0 is silence."""
        self._voice.say(hz)

    async def dial(self, digits: str, timeout_seconds: float = 10) -> None:
        """Send digits as telephone events, and wait until they are sent; or MediaError."""
        try:
            self._digits.send(digits)
        except ValueError as error:
            raise MediaError(str(error)) from error
        if not await self._until(lambda: not self._digits.is_sending, timeout_seconds):
            raise MediaError(f"the digits were not sent within {timeout_seconds:g} s")

    async def hears(self, hz: int, timeout_seconds: float = 5) -> bool:
        """Whether a tone comes from now on, within that time."""
        begun = time.monotonic()
        return await self._until(lambda: self.heard.has_tone(hz, begun), timeout_seconds)

    async def hears_nothing(self, seconds: float = 0.5, timeout_seconds: float = 5) -> bool:
        """Whether there is silence of that length within the time; no packets are silence too."""
        begun = time.monotonic()

        def is_silent() -> bool:
            start = time.monotonic() - seconds
            return start >= begun and self.heard.is_silent(start)

        return await self._until(is_silent, timeout_seconds)

    async def hears_sound(self, seconds: float = 1, timeout_seconds: float = 5) -> bool:
        """Whether sound of that length, of any kind, comes from now on within the time."""
        begun = time.monotonic()
        return await self._until(
            lambda: self.heard.loud_seconds(begun) >= seconds, timeout_seconds
        )

    def heard_hz(self) -> int:
        """The strongest frequency of the last second, to 25 Hz; 0 for silence."""
        return self.heard.strongest_hz(time.monotonic() - 1)

    @staticmethod
    async def _until(event: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not event():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(_TICK_SECONDS)
        return True

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._listener = asyncio.ensure_future(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = cast("AudioFrame", await track.recv())
                frame.pts = None  # its clock may jump where the peer resumes
                for part in resampler.resample(frame):
                    samples = bytes(part.planes[0])[: 2 * part.samples]  # planes are padded
                    self.heard.add(samples, time.monotonic())


def _candidate(each: Any) -> Candidate:
    return Candidate(kind=each.type, address=each.host, port=each.port, protocol=each.transport)


def _listed(candidates: Sequence[Candidate]) -> str:
    return ", ".join(map(str, candidates[:3])) or "none"
