"""What is unusual in the level of a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from yuegguf.audio.levels import clipped_share, level_faults
from yuegguf.request.song_request import Reference
from yuegguf.song.recordings import reference_notices

NOISE = np.random.default_rng(3).normal(0, 0.1, 44_100).astype(np.float32)


@pytest.mark.parametrize(
    ("wave", "start"),
    [
        (NOISE, ""),
        (NOISE * 0, "it is silent"),
        (NOISE * 1e-3 + 0.2, "its samples lie around 0.20 instead of 0"),
        (NOISE * 0.05, "it is very quiet, -46 dB"),
        (np.clip(NOISE * 20, -0.9, 0.9), "it is very loud, -2 dB"),
        (np.clip(NOISE * 3, -0.4, 0.4), "it is clipped"),
        (NOISE[:0], "it holds no samples"),
    ],
)
def test_faults_of_the_level_are_named(wave: np.ndarray, start: str) -> None:
    faults = level_faults(wave)
    assert faults[0].startswith(start) if start else faults == []


def test_a_peak_that_is_met_once_is_no_clipping() -> None:
    wave = NOISE.copy()
    wave[[5, 500, 501]] = 0.9
    assert clipped_share(wave) == 0
    wave[700:710] = 0.9
    assert clipped_share(wave) == 10 / len(wave)


def test_a_short_and_silent_reference_is_noticed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate([NOISE, NOISE * 0]), 44_100)
    file = str(tmp_path / "a.wav")
    assert reference_notices(Reference(file, end=1.0)) == []
    assert reference_notices(Reference(file, start=1.0, end=3.0)) == [
        f"{file} ends before the window 1-3 s, of which 1.0 s are used",
        f"the reference {file}: it is silent",
    ]
    assert reference_notices(Reference(file, start=9.0, end=12.0)) == []  # refused later, with its length
    assert reference_notices(Reference(voice="anna")) == []
