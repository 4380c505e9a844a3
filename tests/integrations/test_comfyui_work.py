"""Work of the nodes for ComfyUI: cancelled, failed; and audio between its tensors and WAV files."""

from __future__ import annotations

import importlib
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from comfy_stand_in import InterruptProcessingException, Pack, audio


def test_a_cancelled_node_ends_after_its_work(pack: Pack) -> None:
    ended = threading.Event()

    def work(link: Any) -> None:
        pack.comfy.interrupted = True
        assert link.stop.wait(15)
        ended.set()
        raise RuntimeError("stopped")

    with pytest.raises(InterruptProcessingException):
        pack.running.run_work(work)
    assert ended.is_set()


def test_an_error_of_the_work_is_that_of_the_node(pack: Pack) -> None:
    def work(link: Any) -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        pack.running.run_work(work)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32)])
def test_wav_files_are_read_to_the_last_bit(pack: Pack, tmp_path: Path, subtype: str, bits: int) -> None:
    wave = np.array([[-(2.0 ** (1 - bits)), 0.5], [-1.0, 0.25], [0.125, 0.0]])
    soundfile.write(tmp_path / "a.wav", wave, 44100, subtype)
    found = pack.audio.audio_of_wav((tmp_path / "a.wav").read_bytes())
    assert found["waveform"].tolist() == [wave.T.astype(np.float32).tolist()]


def test_a_file_that_is_no_wav_is_refused(pack: Pack) -> None:
    with pytest.raises(ValueError, match="no WAV file"):
        pack.audio.audio_of_wav(b"<html>")


def test_a_recording_is_the_mean_of_the_first_item_within_full_scale(pack: Pack, tmp_path: Path) -> None:
    given = audio(0.01, 8000, 2)
    given["waveform"][0, :, :4] = given["waveform"].new_tensor([[2, -2, math.nan, 0.5], [2, -2, 0, 0.25]])
    path = tmp_path / "a.wav"
    path.write_bytes(pack.audio.recording_of(given, "it").wav)
    found, rate = soundfile.read(path)
    assert rate == 8000
    assert found[:4].tolist() == [1 - 2.0**-23, -1, 0, 0.375]
    assert pack.audio.recording_of(None, "it") is None
    with pytest.raises(ValueError, match="it has no samples"):
        pack.audio.recording_of({**given, "waveform": given["waveform"][:, :, :0]}, "it")


@pytest.mark.parametrize(
    ("song", "words"),
    [
        ("slow-pop-0123456789abcdef-a1b2c3", "slow-pop"),
        ("slow-pop-a1b2c3", "slow-pop"),
        ("slow-pop", "slow-pop"),
        ("0123456789abcdef-a1b2c3", "0123456789abcdef"),
    ],
)
def test_the_words_of_an_id_are_without_the_keys_at_its_end(pack: Pack, song: str, words: str) -> None:
    assert importlib.import_module(f"{pack.module.__name__}.wanted").words_of(song) == words
