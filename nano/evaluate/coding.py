"""The codec and the upsamplers on held-out corpus songs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nano.corpus import make_song
from nano.measure import high_band_correlation, log_mel_distance, si_sdr
from yuegguf.codec.onnx import OrtCodec
from yuegguf.codec.protocol import CODEC_RATE, SONG_RATE, AudioCodec

CODEBOOKS = (1, 2, 4, 6, 8)


def coding(codec: Path, seeds: list[int]) -> dict[str, float]:
    """Means over the songs' stems: distances by number of codebooks, and above 8 kHz.

    Also `first_code`: share of frames whose first code is the same after decoding and coding again.
    """
    opened = OrtCodec.open(codec)
    rows: dict[str, list[float]] = {}
    for seed in seeds:
        song = make_song(seed)
        stems = {
            "vocal": (song.vocal16, song.vocal),
            "instrumental": (song.instrumental16, song.instrumental),
        }
        for track, (low, high) in stems.items():
            if low.any():
                for name, value in _stem(opened, track, low, high).items():
                    rows.setdefault(f"{track}_{name}", []).append(value)
    return {name: float(np.mean(values)) for name, values in rows.items()}


def _stem(codec: AudioCodec, track: str, low: np.ndarray, high: np.ndarray) -> dict[str, float]:
    codes = codec.encode(low)
    out: dict[str, float] = {}
    for count in CODEBOOKS:
        wave = codec.decode(codes[:count])
        out[f"mel_{count}"] = log_mel_distance(wave, low, CODEC_RATE)
        out[f"sdr_{count}"] = si_sdr(wave, low)
    song = codec.upsample(codes[:8], track)
    out["high"] = high_band_correlation(song, high, SONG_RATE)
    out["upsampled_mel"] = log_mel_distance(song, high, SONG_RATE)
    return out
