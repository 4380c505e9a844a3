"""The codec's code of silence: encoded once for all songs of a process, again when the encoder changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from yuegguf.codec import onnx
from yuegguf.errors import ModelNotFound
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline.engines import open_codec, silence_code
from yuegguf.song.recordings import silence_codes


def test_songs_share_the_code_of_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    class Counting(onnx.OrtCodec):
        """The codec of this test alone, so that no other one's code is known."""

        def encode(self, wav16k: Any) -> Any:
            encoded.append(len(wav16k))
            return super().encode(wav16k)

    monkeypatch.setattr(onnx, "OrtCodec", Counting)
    folder = tmp_path / "codec"
    shutil.copytree(nano_models().codec, folder)
    code = silence_code(folder, 1)
    assert [silence_code(folder, 1) for _ in range(3)] == [code] * 3
    assert len(encoded) == 1
    assert code == int(silence_codes(open_codec(folder, 1))[0])
    os.utime(folder / "encoder.onnx", ns=(0, 0))
    assert silence_code(folder, 1) == code
    assert len(encoded) == 3
    (folder / "encoder.onnx").unlink()
    with pytest.raises(ModelNotFound):
        silence_code(folder, 1)
