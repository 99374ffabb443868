"""The audio of calls: ICE, DTLS-SRTP, tones and digits, by aiortc, which is the extra `media`.

Only `audio.py` imports aiortc, and only `open_audio()` imports that. The rest is text and numbers.
"""

import importlib
import importlib.metadata
import importlib.util
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.sip.media.description import Candidate

if TYPE_CHECKING:
    from sipdeploy.sip.media.audio import Audio


class MediaError(Exception):
    """The audio of a call cannot be set up; the message says why, in one clause."""


class NotConnected(MediaError):  # noqa: N818 - named after the event
    """ICE or DTLS did not connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """A STUN or TURN server (`turn:HOST:PORT?transport=udp`), with the credentials of TURN."""

    url: str
    username: str = ""
    credential: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaState:
    """Where the audio of a call is now."""

    ice: str  # new, checking, completed, failed or closed
    dtls: str  # new, connecting, connected, failed or closed
    codec: str  # such as opus/48000; empty before the answer
    direction: str  # ours: sendrecv, sendonly, recvonly, inactive
    local: Candidate | None  # the pair in use
    remote: Candidate | None
    packets_sent: int
    packets_received: int

    @property
    def path(self) -> str:
        """`direct`, `server-reflexive`, `relayed`, or `none` without a pair."""
        if self.local is None or self.remote is None:
            return "none"
        kinds = {self.local.kind, self.remote.kind}
        if "relay" in kinds:
            return "relayed"
        return "server-reflexive" if kinds & {"srflx", "prflx"} else "direct"

    def __str__(self) -> str:
        """All of it, as evidence."""
        pair = f"{self.local} to {self.remote}, {self.path}" if self.local else "no path"
        counts = f"{self.packets_sent} packets sent, {self.packets_received} received"
        codec = self.codec or "no codec"
        return f"ICE {self.ice}, DTLS {self.dtls}, {codec}, {self.direction}; {pair}; {counts}"


def missing() -> Diagnostic | None:
    """The problem that the extra is not installed, with the command that installs it (SD921)."""
    reason = _reason()
    if not reason:
        return None
    own = shlex.quote(sys.executable)
    has_pip = importlib.util.find_spec("pip") is not None  # uv makes environments without it
    install = f"{own} -m pip install" if has_pip else f"uv pip install --python {own}"
    return Diagnostic(
        "SD921",
        f"calls with sound need the extra `media` of sipdeploy: {reason}",
        help=f"`{install} '{_requirement()}'`",
    )


def _reason() -> str:
    try:
        importlib.import_module("aiortc")
    except ImportError as error:
        return str(error)
    return ""


def _requirement() -> str:
    """What the extra needs, as pyproject.toml says it."""
    try:
        lines = importlib.metadata.requires("sipdeploy") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    found = (re.match(r"(aiortc[^;]*);", line) for line in lines)
    return next((match[1].strip() for match in found if match), "aiortc")


def require() -> None:
    """WrongUsage (SD921) without the extra."""
    if problem := missing():
        raise WrongUsage([problem])


def open_audio(
    *,
    tone_hz: int = 0,
    codecs: Sequence[str] = (),
    ice_servers: Sequence[IceServer] = (),
    relayed_only: bool = False,
) -> "Audio":
    """The audio of one new call. WrongUsage (SD921) without the extra.

    It sends a tone, or silence. `codecs` are names in the order of preference; () is all.
    """
    require()
    from sipdeploy.sip.media.audio import Audio  # noqa: PLC0415 - the extra

    return Audio(
        tone_hz=tone_hz, codecs=codecs, ice_servers=ice_servers, relayed_only=relayed_only
    )
