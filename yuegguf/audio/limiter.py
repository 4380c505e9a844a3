"""Peaks of waves and the gains that hold them below a ceiling.

Waves are float32 arrays [S]. The limiter works block by block, so that its float64 intermediates do not grow
with the song.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from yuegguf.audio.dsp import BLOCK_SAMPLES, Doubles, Wave

CEILING = 0.99
"""Maximum sample value, as in upstream's `save_audio` (`vocoder.py`)."""
ATTACK_SECONDS = 0.005
RELEASE_DB_PER_SECOND = 20.0


def peak(wave: Wave) -> float:
    """Largest absolute sample of a wave of any shape; 0 for an empty one."""
    return max(float(wave.max()), -float(wave.min())) if wave.size else 0.0


def clamp(wave: Wave, ceiling: float = CEILING) -> Wave:
    """Clip to ±ceiling, as upstream's `save_audio` does by default. Any shape."""
    return np.clip(wave, np.float32(-ceiling), np.float32(ceiling))


def rescale(wave: Wave, ceiling: float = CEILING) -> Wave:
    """Multiply by min(ceiling / peak, 1), as upstream's `save_audio` does with `--rescale`. Any shape."""
    highest = peak(wave)
    return wave * np.float32(ceiling / highest) if highest > np.float32(ceiling) else wave


def limit(waves: Sequence[Wave], rate: int, ceiling: float = CEILING, level: Wave | None = None) -> None:
    """Limit waves [S] in place by one gain, so that none of their samples exceeds ±ceiling.

    A look-ahead peak limiter: the gain falls smoothly within the 5 ms before a peak and recovers at 20 dB a
    second; samples away from peaks are unchanged. `level` [S] is what is held below the ceiling, if it is
    another one than the largest of the samples.
    """
    ceiling = float(np.float32(ceiling))
    level = highest_level(waves) if level is None else level
    if peak(level) <= ceiling:
        return
    for span, gain in _gains(level, rate, ceiling):
        for wave in waves:
            wave[span] *= gain
            np.clip(wave[span], -ceiling, ceiling, out=wave[span])  # against rounding only


def _gains(level: Wave, rate: int, ceiling: float) -> Iterator[tuple[slice, Doubles]]:
    """Samples of each block of a level [S], and the gain of the limiter there."""
    ahead = max(1, round(ATTACK_SECONDS * rate))
    fade = np.hanning(ahead + 3)[1:-1]
    fade /= fade.sum()
    slope = RELEASE_DB_PER_SECOND / rate
    held = np.zeros(2 * ahead)  # reduction in dB of samples start-ahead … start+ahead
    held[ahead:] = _release(_excess_db(level[:ahead], ahead, ceiling), 0.0, slope)
    for start in range(0, len(level), BLOCK_SAMPLES):
        stop = min(start + BLOCK_SAMPLES, len(level))
        coming = _excess_db(level[start + ahead : stop + ahead], stop - start, ceiling)
        reach = np.concatenate([held, _release(coming, float(held[-1]), slope)])
        smooth = np.convolve(_sliding_maximum(reach, ahead + 1), fade, "valid")
        yield slice(start, stop), np.asarray(10 ** (smooth / -20), np.float64)
        held = reach[-2 * ahead :]


def highest_level(waves: Sequence[Wave]) -> Wave:
    """Largest absolute value of several waves [S] at each sample."""
    level = np.abs(waves[0])
    for wave in waves[1:]:
        np.maximum(level, np.abs(wave), out=level)
    return level


def _excess_db(wave: Wave, length: int, ceiling: float) -> Doubles:
    """Excess of each sample over the ceiling, dB [length]; 0 below it and beyond the end of the wave."""
    excess = np.zeros(length)
    excess[: len(wave)] = 20 * np.log10(np.maximum(np.abs(wave, dtype=np.float64) / ceiling, 1))
    return excess


def _release(excess: Doubles, before: float, slope: float) -> Doubles:
    """The smallest curve above `excess` that falls by at most `slope` a sample, starting from `before`."""
    ramp = slope * np.arange(1, len(excess) + 1)
    held: Doubles = np.maximum.accumulate(np.maximum(excess + ramp, before))
    return np.maximum(held - ramp, 0)


def _sliding_maximum(values: Doubles, width: int) -> Doubles:
    """Maximum of each run of `width` values: [N] → [N - width + 1] (van Herk: two running maxima)."""
    count = len(values) - width + 1
    blocks = np.pad(values, (0, -len(values) % width)).reshape(-1, width)
    left = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].reshape(-1)
    right = np.maximum.accumulate(blocks, axis=1).reshape(-1)
    return np.asarray(np.maximum(left[:count], right[width - 1 : width - 1 + count]), np.float64)
