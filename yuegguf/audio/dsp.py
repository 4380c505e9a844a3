"""Signal processing of mixing: resampler, biquads, crossovers.

Waves are float32 arrays [S]; filters work block by block, so that their float64 intermediates do not grow
with the song. No files, codecs or songs; needs numpy only: scipy is 35 MB for four functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Doubles = NDArray[np.float64]

CROSSOVER_HZ = 5_500.0
"""Crossover between the 16 kHz codec and the 44.1 kHz upsampler (`post_process_audio.py`)."""
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
    weakened from 3 to 10 kHz; :func:`cross_over` joins the default mix. Not limited.
    """
    high = high_pass(vocos_mix, cutoff_hz, song_rate)
    level = rms(low_pass(vocos_mix, cutoff_hz, song_rate))
    low = low_pass(resample(codec_mix, codec_rate, song_rate), cutoff_hz, song_rate)
    scale = np.float32(_energy_scale(level, rms(low)))
    length = min(len(low), len(high))
    low[:length] *= scale
    low[:length] += high[:length]
    return low[:length]


def cross_over(
    lows: Sequence[Wave], highs: Sequence[Wave], rate: int, cutoff_hz: float = CROSSOVER_HZ
) -> list[Wave]:
    """Replace the band of each of `highs` [S] below the cut-off by that of `lows`, all at `rate`.

    The high band is the wave minus its own linear-phase low band (complementary FIR pair). Both bands
    keep their phase, so equal inputs give back the input to rounding error, with no notch and no ripple;
    a Linkwitz-Riley pair would be flat but turn the phase. The low bands get one gain, which gives their
    sum the energy of the sum of the old low bands, as upstream does with its mix; so the sum of the
    results is the crossover of the sums. Where that would need more than `MAX_MATCH_GAIN` (the low band is
    silent, or of another sound) the result is `highs`; upstream's scale reaches 1e9 there.
    """
    kernel = crossover_kernel(cutoff_hz, rate)
    old = [fir(high, kernel) for high in highs]
    new = [fir(_cut_or_pad(low, len(high)), kernel) for low, high in zip(lows, highs, strict=True)]
    scale = _energy_scale(rms(*old), rms(*new))
    if scale > MAX_MATCH_GAIN:
        return list(highs)
    for wave, replaced, high in zip(new, old, highs, strict=True):
        wave *= np.float32(scale)
        wave -= replaced
        wave += high
    return new


def _cut_or_pad(wave: Wave, length: int) -> Wave:
    return _padded(wave, 0, length) if len(wave) != length else wave


def _energy_scale(target: float, level: float) -> float:
    """Gain that gives a band of RMS `level` the RMS `target`, with upstream's epsilon."""
    return (target + 1e-10) / (level + 1e-10)


def rms(*waves: Wave) -> float:
    """Root of the mean square of the sum of waves [S]; 0 for empty ones."""
    length, total = len(waves[0]), 0.0
    for start in range(0, length, BLOCK_SAMPLES):
        piece = sum(
            (wave[start : start + BLOCK_SAMPLES] for wave in waves[1:]),
            waves[0][start : start + BLOCK_SAMPLES],
        )
        total += float(np.square(piece, dtype=np.float64).sum())
    return float(np.sqrt(total / max(length, 1)))
