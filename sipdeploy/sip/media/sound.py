"""Sound as numbers: tones to send, and what a phone heard: its level, tones and spectrum.

Samples are signed, of 16 bits and one channel, RATE a second: what telephones carry. Pure.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

RATE = 8000
FRAME = RATE // 50  # samples of 20 ms, as in one packet
_FULL = 32768
_KEPT_SECONDS = 30
_TONE_SAMPLES, _PIECE = 12 * FRAME, FRAME // 4  # of which a tone is recognised
SILENCE_DBFS = -55.0  # noise of codecs and of comfort noise is below, speech is above
_FLOOR_DBFS = -100.0


def tone(hz: int, *, level_dbfs: float = -12) -> array[int]:
    """One second of a sine, so that it repeats without a click; `level_dbfs` is its peak."""
    peak = _FULL * 10 ** (level_dbfs / 20)
    step = 2 * math.pi * hz / RATE
    return array("h", (round(peak * math.sin(step * n)) for n in range(RATE)))


def level_dbfs(samples: Sequence[int]) -> float:
    """The mean level (RMS) below full scale; -100 for silence or nothing."""
    mean = sum(sample * sample for sample in samples) / len(samples) if samples else 0
    return (
        max(_FLOOR_DBFS, 10 * math.log10(mean) - 20 * math.log10(_FULL)) if mean else _FLOOR_DBFS
    )


def share_of(samples: Sequence[int], hz: float) -> float:
    """The part of the energy that one frequency has, 0 to 1 (Goertzel's algorithm)."""
    energy = sum(sample * sample for sample in samples)
    return 2 * _power(samples, hz) / (energy * len(samples)) if energy else 0.0


def _power(samples: Sequence[float], hz: float) -> float:
    factor = 2 * math.cos(2 * math.pi * hz / RATE)
    last = before = 0.0
    for sample in samples:
        last, before = sample + factor * last - before, last
    return last * last + before * before - factor * last * before


def spectrum(samples: Sequence[int], *, step_hz: int = 25) -> dict[int, float]:
    """The level in dBFS of each multiple of `step_hz` up to 4 kHz, averaged over the samples."""
    length = RATE // step_hz  # with Hann's window, a tone between two steps loses 1.4 dB
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / length) for n in range(length)]
    starts = range(0, len(samples) - length + 1, length)
    if not starts:
        return {}
    powers = dict.fromkeys(range(step_hz, RATE // 2, step_hz), 0.0)
    for start in starts:
        block = [s * w for s, w in zip(samples[start : start + length], window, strict=True)]
        for hz in powers:
            powers[hz] += _power(block, hz) / len(starts)
    whole = (_FULL * length / 4) ** 2  # a sine of full scale, at half the height by the window
    return {
        hz: max(_FLOOR_DBFS, 10 * math.log10(power / whole)) if power else _FLOOR_DBFS
        for hz, power in powers.items()
    }


@dataclass(slots=True)
class Heard:
    """The last seconds that a phone heard. Times are seconds of one clock, given by the caller.

    A peer that stops sending leaves a gap, so what counts is the time and not the last samples.
    """

    samples: int = 0  # in all, since the beginning
    _blocks: deque[tuple[float, array[int]]] = field(
        default_factory=lambda: deque(maxlen=_KEPT_SECONDS * RATE // FRAME)
    )

    def add(self, samples: bytes, now: float) -> None:
        """Append samples in the byte order of this machine."""
        block = array("h", samples)
        self.samples += len(block)
        self._blocks.append((now, block))

    def since(self, start: float) -> array[int]:
        """The samples that came after `start`."""
        recent: list[array[int]] = []
        for at, block in reversed(self._blocks):
            if at <= start:
                break
            recent.append(block)
        joined = array("h")
        for block in reversed(recent):
            joined.extend(block)
        return joined

    def has_tone(self, hz: int, start: float) -> bool:
        """Whether a tone makes most of the last sound since `start`.

        It is measured in pieces shorter than a packet: where one is lost, or comes too late on a
        busy machine, the phase jumps, and a longer piece would show other frequencies.
        """
        samples = self.since(start)[-_TONE_SAMPLES:]
        if len(samples) < _TONE_SAMPLES or level_dbfs(samples) < SILENCE_DBFS:
            return False
        pieces = [samples[n : n + _PIECE] for n in range(0, _TONE_SAMPLES, _PIECE)]
        energies = [sum(sample * sample for sample in piece) for piece in pieces]
        shares = [share_of(piece, hz) for piece in pieces]
        energy = sum(share * part for share, part in zip(shares, energies, strict=True))
        return energy > 0.6 * sum(energies)  # a codec leaves 0.9 of a tone

    def is_silent(self, start: float) -> bool:
        """Whether nothing above noise came since `start`."""
        return level_dbfs(self.since(start)) < SILENCE_DBFS

    def loud_seconds(self, start: float = 0) -> float:
        """How long there was sound since `start`, in blocks of a tenth of a second."""
        samples = self.since(start)
        return sum(level_dbfs(block) >= SILENCE_DBFS for block in _tenths(samples)) / 10

    def strongest_hz(self, start: float) -> int:
        """The frequency with the most energy since `start`, to 25 Hz; 0 for silence."""
        samples = self.since(start)
        levels = spectrum(samples) if level_dbfs(samples) >= SILENCE_DBFS else {}
        return max(levels, key=lambda hz: levels[hz], default=0)


def _tenths(samples: array[int]) -> Iterator[array[int]]:
    size = RATE // 10
    return (samples[start : start + size] for start in range(0, len(samples) - size + 1, size))
