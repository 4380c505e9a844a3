"""Peaks of audio files: one file at a time is read, and an empty preview has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from yuegguf.audio.growing_wav import GrowingWav
from yuegguf.server import peaks
from yuegguf.server.peaks import READING, peaks_of


def test_the_loudest_sample_of_each_part_counts_whatever_its_sign(tmp_path: Path) -> None:
    wave = np.array([0.25, -0.5, 0.0, 0.0, 0.125, 0.75], np.float32)
    soundfile.write(tmp_path / "mix.wav", wave, 1000, subtype="FLOAT")
    assert peaks_of(tmp_path / "mix.wav", 3) == {"seconds": 0.006, "peaks": [0.5, 0.0, 0.75]}


def test_a_preview_without_samples_has_peaks_of_zero(tmp_path: Path) -> None:
    preview = GrowingWav.open(tmp_path / "preview.wav", 16000, "AI-generated")
    assert peaks_of(tmp_path / "preview.wav", 2) == {"seconds": 0.0, "peaks": [0.0, 0.0]}
    preview.append(np.array([16384] * 16, np.int16))
    preview.close()
    assert peaks_of(tmp_path / "preview.wav", 2) == {"seconds": 0.001, "peaks": [0.5, 0.5]}


def test_one_file_at_a_time_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "mix.wav", np.ones(10, np.float32), 1000)
    read, alone = peaks.read_audio, list[bool]()

    def watched(path: Path) -> Any:
        alone.append(READING.locked())
        return read(path)

    monkeypatch.setattr(peaks, "read_audio", watched)
    for points in (1, 2, 2):
        peaks_of(tmp_path / "mix.wav", points)
    assert alone == [True, True]
    assert not READING.locked()
