"""The functions that look before a song is generated: its words, and the files that it would come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import yuegguf
from yuegguf.errors import ModelNotFound, RequestError
from yuegguf.files.hashing import fingerprint
from yuegguf.models.resolve import nano_models
from yuegguf.song.voices import Voice, save_voice

NANO = yuegguf.ModelChoice("nano")
pytestmark = pytest.mark.usefixtures("no_models")


def test_words_are_compared_with_their_time() -> None:
    words = "[verse]\n" + "la " * 40 + "\n[chorus]\nla la la la\n[verse]\nla\n"
    request = yuegguf.SongRequest("pop", words, "1-2", segment_seconds=2)
    fits = yuegguf.check_lyrics(request)
    assert [(fit.label, fit.syllables, fit.seconds, fit.verdict) for fit in fits] == [
        ("verse", 40, 2, "too long"),
        ("chorus", 4, 2, "fits"),
    ]
    assert fits[0].advice
    assert fits[1].advice == ""


def test_what_was_interpreted_comes_as_warnings() -> None:
    events: list[yuegguf.Event] = []
    yuegguf.check_lyrics(yuegguf.SongRequest("pop", "la la\nlo lo\n"), progress=events.append)
    assert [bool(event.warning) for event in events] == [True]


def test_words_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(RequestError):
        yuegguf.check_lyrics(yuegguf.SongRequest("pop", "[verse]\nla\n", "7-8"))


def test_fingerprints_are_those_of_the_files() -> None:
    nano = nano_models()
    files = {"stage1": nano.stage1, "stage2": nano.stage2, "codec": nano.codec / "decoder.onnx"}
    expected = {role: fingerprint(path) for role, path in files.items()}
    assert yuegguf.model_fingerprints(NANO) == yuegguf.model_fingerprints() == expected


def test_another_file_at_the_same_place_has_another_fingerprint(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(nano_models().stage1.read_bytes())
    choice = yuegguf.ModelChoice(str(mine), "nano", nano_models().codec)
    before = yuegguf.model_fingerprints(choice)
    assert before == yuegguf.model_fingerprints(NANO)
    mine.write_bytes(mine.read_bytes() + b"\0")
    assert {role for role, key in yuegguf.model_fingerprints(choice).items() if key != before[role]} == {
        "stage1"
    }


def test_a_voice_that_is_saved_again_has_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path))
    voice = Voice("anna", np.zeros(50, np.int16), False, ("a.wav",), 0, "c0dec", "2026-01-02")
    anna = yuegguf.Reference(voice="anna")
    with pytest.raises(RequestError, match="no voice called anna"):
        yuegguf.model_fingerprints(NANO, anna)
    keys = []
    for date in ("2026-01-02", "2026-01-03"):
        save_voice(Voice(**{**vars(voice), "saved": date}), replace=True)
        keys.append(yuegguf.model_fingerprints(NANO, anna)["voice"])
    assert keys[0] != keys[1]


def test_files_that_are_missing_have_none(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        yuegguf.model_fingerprints(yuegguf.ModelChoice("en-cot", models_dir=tmp_path))
