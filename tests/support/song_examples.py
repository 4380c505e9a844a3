"""Song folders made without an engine, and what they hold."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from helpers import new_song

from yuegguf.pipeline.song_models import describe_file
from yuegguf.planning.plan import Plan
from yuegguf.request.song_request import Output, SongRequest
from yuegguf.song.markers import write_markers
from yuegguf.song.record import Phase

PLAN = Plan(2048, 2, 1, 1, "f16", None, 2**30, 0)
RENDERED = ("mix.wav", "vocals.wav", "instrumental.wav")
FRAMES = 100
"""Frames of the songs here: two sections of a second."""


def _wav(samples: int, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(samples, np.int16), rate, format="WAV")
    return file.getvalue()


SOUND = _wav(2 * 8000, 8000)
"""A WAV file as long as the songs here."""


def codes_of(frames: int = FRAMES) -> np.ndarray:
    """Codes [2, 8, T]."""
    return np.random.default_rng(3).integers(0, 1024, (2, 8, frames)).astype(np.int16)


def fake_models(folder: Path) -> dict[str, Path]:
    """Files that stand for models: nothing but their fingerprints is ever looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"stage1": "stage1.gguf", "stage2": "stage2.gguf", "codec": "decoder.onnx"}
    for role, name in names.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(role.encode())
    return {role: folder / name for role, name in names.items()}


def finished_song(parent: Path, formats: tuple[str, ...] = ("wav",), state: Phase = "done") -> Path:
    """A song whose files are there, as if it had been made with the models in `parent`/models."""
    output = Output(formats=formats)  # type: ignore[arg-type]
    request = SongRequest("pop", "[verse]\nla la\n[chorus]\nlo lo", segment_seconds=1, seed=5, output=output)
    models = {role: describe_file(path) for role, path in fake_models(parent / "models").items()}
    folder = new_song(parent, request, models=models, family="mine", plan=PLAN, title="pop")
    codes = codes_of()
    folder.save_stage1([FRAMES // 2, FRAMES // 2], codes[:, 0])
    folder.save_stage2(codes)
    names = [f"{Path(name).stem}.{kind}" for name in RENDERED for kind in formats]
    for name in names:
        (folder.path / name).write_bytes(SOUND)
    write_markers(folder)
    folder.advance(state, files=tuple(names))
    return folder.path


def all_content(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder with its bytes, and every link with its target."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = "folder" if path.is_dir() else "special"
    return found
