"""The nodes in the real ComfyUI server, with the bundled family.

Runs where YUEGGUF_COMFYUI names a checkout of ComfyUI, and YUEGGUF_COMFYUI_PYTHON the Python with its
requirements and ours (default: this one).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from comfy_server import PACK, ComfyServer, Prompt, comfy_server, prompt_of, wait_for
from serving_client import served

import yuegguf
from yuegguf.lm.llama import LlamaEngine

CHECKOUT = os.environ.get("YUEGGUF_COMFYUI", "")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not CHECKOUT, reason="YUEGGUF_COMFYUI names no checkout of ComfyUI"),
]
TAGS, LYRICS = "warm folk female vocal", "[verse]\nLa la la la\n\n[chorus]\nLo lo lo\n"
SEED, SECONDS = 7, 3.0
NANO = yuegguf.ModelChoice("nano")
EXAMPLES = sorted((PACK / "example_workflows").glob("*.json"))


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    with comfy_server(Path(CHECKOUT), tmp_path_factory.mktemp("comfy") / "base") as server:
        yield server


@pytest.fixture(scope="module")
def same_song(tmp_path_factory: pytest.TempPathFactory) -> yuegguf.Song:
    """The song of the nodes, generated without ComfyUI."""
    assert LlamaEngine.__module__ == "yuegguf.lm.llama"
    request = yuegguf.SongRequest(TAGS, LYRICS, segment_seconds=SECONDS, seed=SEED)
    return yuegguf.generate(request, NANO, tmp_path_factory.mktemp("same"))


def song_node(kind: str = "YueSong", **others: object) -> Prompt:
    inputs = {"tags": TAGS, "lyrics": LYRICS, "seed": SEED, "model": "nano", "quant": "", "server": ""}
    return {"class_type": kind, "inputs": {**inputs, "segment_seconds": SECONDS, **others}}


def save_node(source: str, name: str, output: int = 0) -> Prompt:
    return {"class_type": "SaveAudio", "inputs": {"audio": [source, output], "filename_prefix": name}}


def samples(file: Path) -> Any:
    return soundfile.read(file, dtype="int16")[0]


def saved(comfy: ComfyServer, name: str) -> Any:
    """Samples of a file that SaveAudio has written, as 16-bit numbers."""
    (file,) = (comfy.folder / "output").glob(f"{name}_*.flac")
    values, rate = soundfile.read(file, dtype="float64")
    assert rate == 44100
    return values * 2**15


def test_all_nodes_are_there(comfy: ComfyServer) -> None:
    known = comfy("GET", "/object_info")
    ours = {name for name in known if name.startswith("Yue")}
    assert ours == {
        *("YueSong", "YueDraft", "YueRefine", "YueStems", "YueExtend", "YueLyricsCheck", "YueVoice")
    }
    assert "Cannot import" not in (comfy.folder / "server.log").read_text("utf-8", "replace")
    assert sorted(comfy("GET", "/workflow_templates")["yuegguf-nodes"]) == [file.stem for file in EXAMPLES]


def test_a_cancelled_song_goes_on_with_the_same_inputs_and_equals_that_of_run(
    comfy: ComfyServer, same_song: yuegguf.Song
) -> None:
    outputs = {str(2 + n): save_node("1", f"out{n}", n) for n in range(3)}
    prompt = {"1": song_node(), **outputs}
    first = comfy.queue(prompt)
    wait_for(lambda: [log for log in comfy.songs_files("tokens.log") if log.stat().st_size > 200])
    comfy("POST", "/interrupt", {"prompt_id": first})
    history = comfy.wait(first)
    assert [name for name, _ in history["status"]["messages"]][-1] == "execution_interrupted"
    (folder,) = comfy.songs
    assert not (folder / "mix.wav").exists()
    before = (folder / "tokens.log").read_bytes()

    comfy.run(prompt)
    assert comfy.songs == [folder]
    assert (folder / "tokens.log").read_bytes().startswith(before)
    for number, name in enumerate(("mix", "vocals", "instrumental")):
        expected = samples(same_song.folder / f"{name}.wav")
        assert np.array_equal(samples(folder / f"{name}.wav"), expected)
        assert np.abs(saved(comfy, f"out{number}") - expected).max() <= 1  # SaveAudio's own rounding


def test_the_same_inputs_are_not_executed_again(comfy: ComfyServer) -> None:
    prompt = {"1": song_node(), "2": save_node("1", "again")}
    comfy.run(prompt)
    count = len(comfy.songs)
    history = comfy.run({**prompt, "3": save_node("1", "more")})
    cached = next(facts for name, facts in history["status"]["messages"] if name == "execution_cached")
    assert "1" in cached["nodes"]
    assert len(comfy.songs) == count


def test_a_draft_is_refined_and_extended(comfy: ComfyServer, same_song: yuegguf.Song) -> None:
    prompt = {
        "1": song_node("YueDraft"),
        "2": {"class_type": "PreviewAudio", "inputs": {"audio": ["1", 0]}},
        "3": {"class_type": "YueRefine", "inputs": {"song": ["1", 3], "server": ""}},
        "4": save_node("3", "refined"),
        "5": {"class_type": "YueExtend", "inputs": {"song": ["3", 3], "seed": 8, "retake": 2, "server": ""}},
        "6": save_node("5", "extended"),
    }
    comfy.run(prompt)
    expected = samples(same_song.folder / "mix.wav")
    assert np.abs(saved(comfy, "refined") - expected).max() <= 1
    again = yuegguf.extend(same_song.folder, yuegguf.ExtendRequest(8, retake=2), NANO)
    assert np.abs(saved(comfy, "extended") - samples(again.folder / "mix.wav")).max() <= 1


def test_a_song_of_a_running_server_is_cancelled_and_goes_on(
    comfy: ComfyServer, same_song: yuegguf.Song, tmp_path: Path
) -> None:
    with served(tmp_path / "songs") as client:
        here = len(comfy.songs)
        song = song_node(server=f"http://127.0.0.1:{client.port}/")
        prompt = {"1": song, "2": save_node("1", "served")}
        first = comfy.queue(prompt)
        wait_for(lambda: [log for log in client.songs.glob("*/tokens.log") if log.stat().st_size > 200])
        comfy("POST", "/interrupt", {"prompt_id": first})
        history = comfy.wait(first)
        assert [name for name, _ in history["status"]["messages"]][-1] == "execution_interrupted"
        (found,) = client("GET", "/v1/songs").json["data"]
        assert found["status"] == "canceled"
        comfy.run(prompt)
        (found,) = client("GET", "/v1/songs").json["data"]
        assert found["status"] == "succeeded"
        assert np.array_equal(
            samples(client.songs / found["id"] / "mix.wav"), samples(same_song.folder / "mix.wav")
        )
        assert np.abs(saved(comfy, "served") - samples(same_song.folder / "mix.wav")).max() <= 1
        assert len(comfy.songs) == here


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_examples_are_valid_workflows(comfy: ComfyServer, file: Path, same_song: yuegguf.Song) -> None:
    for name in ("vocal.wav", "reference.wav"):
        shutil.copyfile(same_song.folder / "vocals.wav", comfy.folder / "input" / name)
    prompt = prompt_of(json.loads(file.read_text("utf-8")), comfy("GET", "/object_info"))
    for node in prompt.values():
        if "segment_seconds" in node["inputs"]:
            node["inputs"]["segment_seconds"] = 1.0
    comfy.run(prompt)
