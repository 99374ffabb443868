"""Audio as values: the tone that a phone sends, and the spectrum that it receives.

Pure, except `write_tone`, which writes a WAV file.
"""

from __future__ import annotations

import array
import math
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RATE_HZ = 48000
_TOLERANCE_HZ = 15.0
_ABOVE_FLOOR_DB = 30.0
_BELOW_TOP_DB = 10.0
_AUDIBLE_DBFS = -60.0
_SPEECH_TOLERANCE_HZ = 40.0
_SPEECH_PITCHES = 6
_SPEECH_SECONDS = 1.0
_FRAME_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A peak of a spectrum."""

    hz: float
    level_db: float  # dBFS


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """The telephone band (60 to 4000 Hz) at one moment, or the mean over a time."""

    at: float  # seconds since 1970
    floor_db: float  # the median level: noise
    peaks: tuple[Peak, ...]  # loudest first

    @classmethod
    def of(cls, measured: dict[str, Any]) -> Spectrum:
        """The spectrum that the page measured."""
        peaks = tuple(Peak(hz=hz, level_db=level) for hz, level in measured["peaks"])
        return cls(at=measured["at"], floor_db=measured["floor"], peaks=peaks)

    @classmethod
    def silence(cls) -> Spectrum:
        """The spectrum without audio: there is no track, or the call has ended."""
        return cls(at=0.0, floor_db=-160.0, peaks=())

    @property
    def peak_hz(self) -> float:
        """The loudest frequency, 0 in silence."""
        return self.peaks[0].hz if self.peaks else 0.0

    @property
    def level_db(self) -> float:
        """The loudest level in dBFS, the floor in silence."""
        return self.peaks[0].level_db if self.peaks else self.floor_db

    @property
    def is_audible(self) -> bool:
        """Whether the audio is louder than -60 dBFS."""
        return self.level_db >= _AUDIBLE_DBFS

    def hears(self, hz: float) -> bool:
        """Whether a tone of `hz` (within 15 Hz) is there: audible, 30 dB above the noise, and
        among the loudest (10 dB), so that a harmonic or a trace of another tone does not pass.
        """
        least = max(_AUDIBLE_DBFS, self.floor_db + _ABOVE_FLOOR_DB, self.level_db - _BELOW_TOP_DB)
        return any(abs(p.hz - hz) <= _TOLERANCE_HZ and p.level_db >= least for p in self.peaks)


def tone_seconds(frames: Sequence[Spectrum], hz: float) -> float:
    """The seconds during which `hz` was heard in the frames of a call."""
    return sum(frame.hears(hz) for frame in frames) * _FRAME_SECONDS


def is_speech(frames: Sequence[Spectrum]) -> bool:
    """Whether someone spoke: a second of sound whose loudest pitch keeps moving.

    A tone, a ring tone or silence is not speech.
    """
    audible = [frame for frame in frames if frame.is_audible]
    pitches = {round(frame.peak_hz / _SPEECH_TOLERANCE_HZ) for frame in audible}
    return len(audible) * _FRAME_SECONDS >= _SPEECH_SECONDS and len(pitches) >= _SPEECH_PITCHES


def write_tone(path: Path, hz: float, *, seconds: int = 10, level: float = 0.5) -> None:
    """Write a sine as 48 kHz mono WAV. Whole `hz` make whole periods, so that it loops unheard."""
    step = 2 * math.pi * hz / RATE_HZ
    samples = (round(32767 * level * math.sin(step * n)) for n in range(RATE_HZ * seconds))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", "not compressed"))
        file.writeframes(array.array("h", samples).tobytes())
