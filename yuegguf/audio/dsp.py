"""Signal processing of mixing and mastering: resampler, biquads, crossovers, limiters.

Waves are float32 arrays [S]; filters work block by block, so that their float64 intermediates do not grow
with the song. No files, codecs or songs; needs numpy only: scipy is 35 MB for four functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Doubles = NDArray[np.float64]

CROSSOVER_HZ = 5_500.0
"""Crossover between the 16 kHz codec and the 44.1 kHz upsampler (`post_process_audio.py`)."""
CEILING = 0.99
"""Maximum sample value, as in upstream's `save_audio` (`vocoder.py`)."""
MAX_MATCH_GAIN = 10.0
"""Maximum gain of the codec's low band by energy matching (+20 dB)."""

LOBES = 6
"""Zero crossings of the resampler's sinc on each side (torchaudio `lowpass_filter_width`)."""
ROLLOFF = 0.99
"""Cut-off of the resampler as a share of the lower Nyquist rate (torchaudio `rolloff`)."""
BIQUAD_BLOCK = 128
"""Samples filtered by one matrix product: 64 to 256 were equally fast."""
BLOCK_SAMPLES = 1 << 17
"""Samples whose float64 intermediates exist at a time."""
CROSSOVER_TAPS = 255
CROSSOVER_BETA = 8.0
"""Kaiser window: 80 dB of rejection, 0.9 kHz wide at 44.1 kHz, 2.9 ms to each side."""
ATTACK_SECONDS = 0.005
RELEASE_DB_PER_SECOND = 20.0


# --- resampling ---------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def resample_kernel(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First input sample [target] (relative to the period) and taps [target, K] of every output phase.

    `source` and `target` are coprime. This is torchaudio's `_get_sinc_resample_kernel` (Hann window,
    float64 with float32 phase offsets, stored as float32) without the taps that are zero anyway.
    """
    base = ROLLOFF * min(source, target)
    width = kernel_reach(source, target)
    phase = np.arange(target)
    first = phase * source // target - width
    offset = (-phase.astype(np.float32) / np.float32(target)).astype(np.float64)
    kernel = np.empty((target, 2 * width + 2), np.float32)
    rows = max(1, BLOCK_SAMPLES // kernel.shape[1])
    for row in range(0, target, rows):  # coprime rates near a million have ten million taps
        phases = slice(row, row + rows)
        tap = first[phases, None] + np.arange(kernel.shape[1])
        t = np.clip((offset[phases, None] + tap / source) * base, -LOBES, LOBES)
        kernel[phases] = np.cos(t * np.pi / LOBES / 2) ** 2 * np.sinc(t) * (base / source)
    return first, kernel


def kernel_reach(source: int, target: int) -> int:
    """Input samples on each side in the receptive field of an output sample of the resampler."""
    return ceil(LOBES * source / (ROLLOFF * min(source, target)))


def resample(wave: Wave, source_rate: int, target_rate: int) -> Wave:
    """Wave [S] at `source_rate` Hz → [ceil(S·target/source)] at `target_rate` Hz.

    Equal to `torchaudio.transforms.Resample` with its defaults, which upstream uses for reference audio
    (`infer.py`) and for the low band (`post_process_audio.py`). Equal rates return the wave itself.
    """
    if source_rate == target_rate:
        return wave
    common = gcd(source_rate, target_rate)
    source, target = source_rate // common, target_rate // common
    first, kernel = resample_kernel(source, target)
    taps = kernel.shape[1]
    length = -(-len(wave) * target // source)
    out = np.empty(length, np.float32)
    periods = max(1, BLOCK_SAMPLES // max(source, target))
    for begin in range(0, -(-length // target), periods):
        count = min(periods, -(-length // target) - begin)
        start = begin * source + int(first[0])
        padded = _padded(wave, start, start + (count - 1) * source + int(first[-1] - first[0]) + taps)
        windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
        block = np.empty((count, target), np.float32)
        for phase in range(target):
            block[:, phase] = windows[first[phase] - first[0] :: source][:count] @ kernel[phase]
        stop = min(length, (begin + count) * target)
        out[begin * target : stop] = block.reshape(-1)[: stop - begin * target]
    return out


def _padded(wave: Wave, start: int, stop: int) -> Wave:
    """Samples start … stop, zeros where the wave has none."""
    inside = wave[max(start, 0) : max(stop, 0)]
    before = min(max(-start, 0), stop - start)
    return np.pad(inside, (before, stop - start - before - len(inside)))


# --- filters ------------------------------------------------------------------------------------------


@cache
def biquad_coefficients(kind: str, cutoff_hz: float, rate: int) -> tuple[Doubles, Doubles]:
    """Numerator b [3] and denominator a [3] (a0 = 1) of a "lowpass" or "highpass" with Q 0.707.

    torchaudio's `lowpass_biquad` and `highpass_biquad`, which compute in the wave's own type: float32.
    """
    one, two, q = np.float32(1), np.float32(2), np.float32(0.707)
    w0 = np.float32(2 * np.pi) * np.float32(cutoff_hz) / np.float32(rate)
    alpha, cosine = np.sin(w0) / two / q, np.cos(w0)
    edge = one - cosine if kind == "lowpass" else one + cosine
    middle = edge if kind == "lowpass" else -edge
    b = np.array([edge / two, middle, edge / two], np.float32)
    a = np.array([one + alpha, -two * cosine, one - alpha], np.float32)
    return (b / a[0]).astype(np.float64), (a / a[0]).astype(np.float64)


def lfilter(wave: Wave, b: Doubles, a: Doubles, *, clamp: bool = True) -> Wave:
    """Second-order recursion from a zero state, wave [S] → [S]; the output is clamped to [-1, 1].

    The semantics of torchaudio's `lfilter`: only the output is clamped, never the recursion. The
    recursion runs in float64 as a state space over blocks: one matrix product gives the zero-state response,
    a second adds the zero-input response of the two state values at the block's start.
    """
    zero_state, zero_input, input_to_state, transition = _block_matrices(tuple(b), tuple(a))
    out = np.empty_like(wave)
    s1 = s2 = 0.0
    for start in range(0, len(wave), BLOCK_SAMPLES):
        piece = wave[start : start + BLOCK_SAMPLES]
        rows = -(-len(piece) // BIQUAD_BLOCK)
        x = np.pad(piece.astype(np.float64), (0, rows * BIQUAD_BLOCK - len(piece))).reshape(rows, -1)
        states = []
        for d1, d2 in (x @ input_to_state).tolist():
            states.append((s1, s2))
            s1, s2 = (
                transition[0] * s1 + transition[1] * s2 + d1,
                transition[2] * s1 + transition[3] * s2 + d2,
            )
        y = (x @ zero_state + np.array(states) @ zero_input).reshape(-1)[: len(piece)]
        out[start : start + BLOCK_SAMPLES] = np.clip(y, -1, 1) if clamp else y
    return out


@cache
def _block_matrices(
    b: tuple[float, ...], a: tuple[float, ...]
) -> tuple[Doubles, Doubles, Doubles, list[float]]:
    """Matrices input → output [N, N], state → output [2, N], input → state [N, 2], state → state (2x2)."""
    n = BIQUAD_BLOCK
    state_matrix = np.array([[-a[1], 1.0], [-a[2], 0.0]])  # transposed direct form II
    input_vector = np.array([b[1] - a[1] * b[0], b[2] - a[2] * b[0]])
    powers = [np.eye(2)]
    for _ in range(n):
        powers.append(powers[-1] @ state_matrix)
    zero_input = np.stack([power[0] for power in powers[:n]], axis=1)
    impulse = np.array([b[0], *(power[0] @ input_vector for power in powers[: n - 1])])
    lag = np.arange(n)[None, :] - np.arange(n)[:, None]
    zero_state = np.where(lag >= 0, impulse[lag], 0.0)
    input_to_state = np.stack([powers[n - 1 - k] @ input_vector for k in range(n)])
    return zero_state, zero_input, input_to_state, powers[n].reshape(-1).tolist()


def low_pass(wave: Wave, cutoff_hz: float, rate: int) -> Wave:
    """torchaudio `functional.lowpass_biquad` with its default Q: wave [S] → [S], clamped to [-1, 1]."""
    return lfilter(wave, *biquad_coefficients("lowpass", cutoff_hz, rate))


def high_pass(wave: Wave, cutoff_hz: float, rate: int) -> Wave:
    """torchaudio `functional.highpass_biquad` with its default Q: wave [S] → [S], clamped to [-1, 1]."""
    return lfilter(wave, *biquad_coefficients("highpass", cutoff_hz, rate))


@cache
def crossover_kernel(cutoff_hz: float, rate: int) -> Doubles:
    """Linear-phase low-pass [CROSSOVER_TAPS], symmetric, unit gain at 0 Hz, half amplitude at the cut-off."""
    n = np.arange(CROSSOVER_TAPS) - CROSSOVER_TAPS // 2
    kernel = np.sinc(2 * cutoff_hz / rate * n) * np.kaiser(CROSSOVER_TAPS, CROSSOVER_BETA)
    return np.asarray(kernel / kernel.sum(), np.float64)


def fir(wave: Wave, kernel: Doubles) -> Wave:
    """Convolve with a symmetric kernel of odd length, without delay: wave [S] → [S] (overlap-save)."""
    half, size = len(kernel) // 2, 1 << 14
    hop = size - 2 * half
    spectrum = np.fft.rfft(kernel, size)
    out = np.empty_like(wave)
    for start in range(0, len(wave), hop):
        block = np.fft.rfft(_padded(wave, start - half, start - half + size))
        out[start : start + hop] = np.fft.irfft(block * spectrum, size)[2 * half :][: len(wave) - start]
    return out


# --- two mixes into one -------------------------------------------------------------------------------


def mix_upstream(
    codec_mix: Wave, vocos_mix: Wave, codec_rate: int, song_rate: int, cutoff_hz: float = CROSSOVER_HZ
) -> Wave:
    """The official low-band replacement: codec mix [A], Vocos mix [S] → the shorter length at `song_rate`.

    `replace_low_freq_with_energy_matched` (`post_process_audio.py`) exactly, without its mp3 files. Its
    two biquads stand 180° apart at the cut-off, so what both mixes share is nulled at 5.5 kHz and
    weakened from 3 to 10 kHz; :func:`mix_hybrid` is the default mix. Not limited.
    """
    high = high_pass(vocos_mix, cutoff_hz, song_rate)
    level = rms(low_pass(vocos_mix, cutoff_hz, song_rate))
    low = low_pass(resample(codec_mix, codec_rate, song_rate), cutoff_hz, song_rate)
    scale = np.float32(_energy_scale(level, rms(low)))
    length = min(len(low), len(high))
    low[:length] *= scale
    low[:length] += high[:length]
    return low[:length]


def mix_hybrid(
    codec_mix: Wave, vocos_mix: Wave, codec_rate: int, song_rate: int, cutoff_hz: float = CROSSOVER_HZ
) -> Wave:
    """Low band of the codec mix [A] under the high band of the Vocos mix [S] → [S]; the bands sum flat.

    The codec's low band is scaled to the energy of the Vocos low band, as upstream does. Not limited.
    """
    return cross_over(resample(codec_mix, codec_rate, song_rate), vocos_mix, song_rate, cutoff_hz)


def cross_over(low: Wave, high: Wave, rate: int, cutoff_hz: float = CROSSOVER_HZ) -> Wave:
    """Replace the band of `high` [S] below the cut-off by that of `low` [S], both at `rate`; returns [S].

    The high band is the wave minus its own linear-phase low band (complementary FIR pair). Both bands
    keep their phase, so equal inputs give back the input to rounding error, with no notch and no ripple,
    and the mix stays in step with the stems; a Linkwitz-Riley pair would be flat but turn the phase.
    Where matching would need more than `LOUDEST_MATCH` (the low band is silent, or of another sound)
    `high` is returned as it is; upstream's scale reaches 1e9 there.
    """
    kernel = crossover_kernel(cutoff_hz, rate)
    old, new = fir(high, kernel), fir(_cut_or_pad(low, len(high)), kernel)
    scale = _energy_scale(rms(old), rms(new))
    if scale > MAX_MATCH_GAIN:
        return high
    new *= np.float32(scale)
    new -= old
    new += high
    return new


def _cut_or_pad(wave: Wave, length: int) -> Wave:
    return _padded(wave, 0, length) if len(wave) != length else wave


def _energy_scale(target: float, level: float) -> float:
    """Gain that gives a band of RMS `level` the RMS `target`, with upstream's epsilon."""
    return (target + 1e-10) / (level + 1e-10)


def rms(wave: Wave) -> float:
    """Root of the mean square of a wave [S]; 0 for an empty one."""
    total = sum(float(np.square(piece, dtype=np.float64).sum()) for piece in _blocks(wave))
    return float(np.sqrt(total / max(len(wave), 1)))


# --- limiting -----------------------------------------------------------------------------------------


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


def limit(wave: Wave, rate: int, ceiling: float = CEILING) -> Wave:
    """Wave [S] → [S] with no sample above ±ceiling; the same array where none was.

    A look-ahead peak limiter: the gain falls smoothly within the 5 ms before a peak and recovers at 20 dB a
    second; samples away from peaks are unchanged.
    """
    ceiling = float(np.float32(ceiling))
    if peak(wave) <= ceiling:
        return wave
    ahead = max(1, round(ATTACK_SECONDS * rate))
    fade = np.hanning(ahead + 3)[1:-1]
    fade /= fade.sum()
    slope = RELEASE_DB_PER_SECOND / rate
    out = np.empty_like(wave)
    held = np.zeros(2 * ahead)  # reduction in dB of samples start-ahead … start+ahead
    held[ahead:] = _release(_excess_db(wave[:ahead], ahead, ceiling), 0.0, slope)
    for start in range(0, len(wave), BLOCK_SAMPLES):
        piece = wave[start : start + BLOCK_SAMPLES]
        coming = _excess_db(wave[start + ahead : start + ahead + len(piece)], len(piece), ceiling)
        reach = np.concatenate([held, _release(coming, float(held[-1]), slope)])
        smooth = np.convolve(_sliding_maximum(reach, ahead + 1), fade, "valid")
        out[start : start + BLOCK_SAMPLES] = piece * 10 ** (smooth / -20)
        held = reach[-2 * ahead :]
    return np.clip(out, -ceiling, ceiling, out=out)  # against rounding only


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


def _blocks(wave: Wave) -> Iterator[Wave]:
    return (wave[start : start + BLOCK_SAMPLES] for start in range(0, len(wave), BLOCK_SAMPLES))
