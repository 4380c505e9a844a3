"""The nodes for ComfyUI, on a stand-in of it: songs equal to those of `run`, cancelled and gone on with."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from comfy_server import prompt_of
from comfy_stand_in import PACK, InterruptProcessingException, Pack, audio
from helpers import Run

import yuegguf
from yuegguf.models.resolve import nano_models

SONG = {"tags": "pop", "lyrics": "[verse]\nla la\n[chorus]\nlo lo", "segment_seconds": 1.0, "seed": 5}
NODE = {**SONG, "model": "nano", "quant": "", "server": ""}
SAME = ("-g", "pop", "--lyrics", SONG["lyrics"], "--segment-seconds", 1, "--seed", 5, "-m", "nano")
FILES = ("mix.wav", "vocals.wav", "instrumental.wav")
EXAMPLES = sorted((PACK / "example_workflows").glob("*.json"))
CORE = {"SaveAudio": "audio", "PreviewAudio": "audio", "LoadAudio": ""}
"""ComfyUI's own nodes in the examples, and their inputs."""
pytestmark = pytest.mark.usefixtures("no_models")


def songs(pack: Pack) -> list[Path]:
    return sorted(file.parent for file in (pack.comfy.folder / "output/yuegguf").glob("*/song.json"))


def levels(audio: Any) -> Any:
    """Samples of one channel of an AUDIO as 16-bit numbers."""
    assert audio["sample_rate"] == 44100
    assert audio["waveform"].shape[:2] == (1, 1)
    return (audio["waveform"].numpy()[0, 0] * 2**15).astype(np.int64)


def same(outputs: Any, folder: Path) -> bool:
    """Whether the three outputs are the files of a song, to the last bit."""
    expected = [soundfile.read(folder / name, dtype="int16")[0] for name in FILES]
    return all(np.array_equal(levels(out), file) for out, file in zip(outputs[:3], expected, strict=True))


def cancel_at(pack: Pack, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Let the user cancel once so much of the work is done, which waits there until it is asked to stop."""
    plain = pack.running.Link.report

    def report(link: Any, done: float) -> None:
        plain(link, done)
        if done >= share and not link.stop.is_set():
            pack.comfy.interrupted = True
            assert link.stop.wait(15)

    monkeypatch.setattr(pack.running.Link, "report", report)


def written(path: Path, seconds: float) -> Path:
    """The first item of that AUDIO as a file of 24 bits."""
    wave = audio(seconds)["waveform"][0, 0].numpy()
    soundfile.write(path, np.rint(wave * 2**23).astype(np.int32) << 8, 16000, "PCM_24")
    return path


# The pack


def test_the_extension_lists_all_nodes(pack: Pack) -> None:
    async def nodes() -> list[Any]:
        return list(await (await pack.module.comfy_entrypoint()).get_node_list())

    found = [node.define_schema() for node in asyncio.run(nodes())]
    assert [schema.node_id for schema in found] == [
        *("YueSong", "YueDraft", "YueRefine", "YueStems", "YueExtend", "YueLyricsCheck", "YueVoice")
    ]
    assert all(schema.category == "audio/YuE" and schema.description for schema in found)
    assert not hasattr(pack.module, "NODE_CLASS_MAPPINGS")  # they would replace the extension


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_fits_the_nodes(pack: Pack, file: Path) -> None:
    core: dict[str, Any] = {
        name: {"input": {"required": {own: ("AUDIO", {})} if own else {}}, "input_order": {"required": [own]}}
        for name, own in CORE.items()
    }
    core["LoadAudio"] = {
        "input": {"required": {"audio": (["a.wav"], {"audio_upload": True})}},
        "input_order": {"required": ["audio"]},
        "output": ["AUDIO"],
    }
    core["SaveAudio"]["input"]["required"]["filename_prefix"] = ("STRING", {})
    core["SaveAudio"]["input_order"]["required"].append("filename_prefix")
    info = {**core, **pack.info()}
    workflow = json.loads(file.read_text("utf-8"))
    prompt = prompt_of(workflow, info)
    for node in prompt.values():
        kinds = {**info[node["class_type"]]["input"]["required"]}
        kinds |= info[node["class_type"]]["input"].get("optional", {})
        assert node["inputs"].keys() <= kinds.keys()
        for name, value in node["inputs"].items():
            kind, *facts = kinds[name]
            if isinstance(value, list):
                assert info[prompt[value[0]]["class_type"]]["output"][value[1]] == kind
            elif facts and "options" in facts[0]:
                assert value in facts[0]["options"]


# A song


def test_a_song_is_that_of_run(pack: Pack, sung: Run) -> None:
    outputs = pack.run("YueSong", **NODE)
    (folder,) = songs(pack)
    assert outputs[3] == folder.name
    assert same(outputs, sung(*SAME))
    shares = [value / total for value, total in pack.comfy.steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_cancelled_song_goes_on_with_the_same_inputs(
    pack: Pack, sung: Run, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    with monkeypatch.context() as patch:
        cancel_at(pack, patch, share)
        with pytest.raises(InterruptProcessingException):
            pack.run("YueSong", **NODE)
    (folder,) = songs(pack)
    assert not (folder / "mix.wav").exists()
    drawn = (folder / "tokens.log").read_bytes()
    assert drawn
    outputs = pack.run("YueSong", **NODE)
    assert songs(pack) == [folder]
    assert (folder / "tokens.log").read_bytes().startswith(drawn)
    assert same(outputs, sung(*SAME))


def test_other_inputs_are_another_song(pack: Pack) -> None:
    ids = [pack.run("YueSong", **{**NODE, **change})[3] for change in ({}, {"seed": 6}, {}, {"top_k": 40})]
    assert ids[0] == ids[2]
    assert len({*ids}) == len(songs(pack)) == 3


def test_another_model_at_the_same_place_is_another_song(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, nano = tmp_path / "models", nano_models()
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(root))
    shutil.copytree(nano.codec, root / "xcodec")
    stage1, stage2 = root / "en-cot-Q8_0.gguf", root / "s2-general-Q8_0.gguf"
    shutil.copyfile(nano.stage1, stage1)
    shutil.copyfile(nano.stage2, stage2)
    node, keys, ids = {**NODE, "model": "en-cot"}, [], []
    for end in (b"", b"", b"\0"):
        stage1.write_bytes(nano.stage1.read_bytes() + end)
        keys.append(json.dumps(pack.nodes.YueSong.fingerprint_inputs(**node)))
        ids.append(pack.run("YueSong", **node)[3])
    assert keys[0] == keys[1] != keys[2]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("linked", ["server", "model", "quant"])
def test_an_input_that_is_not_known_yet_makes_comfyui_execute_again(pack: Pack, linked: str) -> None:
    values = {name: value for name, value in NODE.items() if name != linked}
    assert math.isnan(pack.nodes.YueSong.fingerprint_inputs(**values))


def test_a_problem_of_the_library_is_said_when_the_node_is_executed(pack: Pack) -> None:
    node = {**NODE, "server": "no address"}
    assert "the server's address is not one" in pack.nodes.YueSong.fingerprint_inputs(**node)
    with pytest.raises(RuntimeError, match="the server's address is not one"):
        pack.run("YueSong", **node)


@pytest.mark.parametrize("left", [None, b"", b"half", b"other bytes"])
def test_a_stored_recording_has_its_own_bytes(pack: Pack, left: bytes | None) -> None:
    library, recording = pack.library_choice.library_at(""), pack.wanted.Recording(b"other BYTES")
    file = library.songs / "recordings" / f"{recording.digest}.wav"
    file.parent.mkdir(parents=True)
    if left is not None:
        file.write_bytes(left)
    assert library._stored(recording) == file
    assert file.read_bytes() == recording.wav
    assert library._stored(recording) == file
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_error_is_the_sentence_of_the_program(pack: Pack) -> None:
    with pytest.raises(yuegguf.YueError, match="the genre tags are empty"):
        pack.run("YueSong", **{**NODE, "tags": " "})
    assert songs(pack) == []


def test_faults_are_logged_on_both_runs(pack: Pack, caplog: pytest.LogCaptureFixture) -> None:
    fault = yuegguf.FinishedSection("verse", 0.0, 1.0, True, "is silent")
    library = pack.library_choice.library_at("")
    plain = pack.local_library.yuegguf.resume
    song = pack.run("YueSong", **NODE)[3]
    found = plain(library.songs / song)
    pack.local_library._audio_of(dataclasses.replace(found, sections=(fault,)), pack.running.Link())
    assert caplog.messages[-1] == f"section 1 of {song}: is silent"


def test_a_folder_of_the_users_own(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUEGGUF_COMFY_SONGS", str(tmp_path / "mine"))
    song = pack.run("YueSong", **NODE)[3]
    assert (tmp_path / "mine" / song / "mix.wav").is_file()


# More nodes


def test_a_draft_is_refined_after_a_cancellation(
    pack: Pack, sung: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = pack.run("YueDraft", **NODE)
    (folder,) = songs(pack)
    assert [len(levels(out)) for out in draft[:3]] == [88200] * 3
    assert not (folder / "mix.wav").exists()
    again = pack.run("YueDraft", **NODE)
    assert again[3] == draft[3]
    assert all(np.array_equal(levels(a), levels(b)) for a, b in zip(draft[:3], again[:3], strict=True))
    with monkeypatch.context() as patch:
        cancel_at(pack, patch, 0.5)
        with pytest.raises(InterruptProcessingException):
            pack.run("YueRefine", song=draft[3])
    outputs = pack.run("YueRefine", song=draft[3], server="")
    assert outputs[3] == draft[3]
    assert same(outputs, sung(*SAME))


def test_an_extension_is_made_once(pack: Pack) -> None:
    song = pack.run("YueSong", **{**NODE, "sections": "1"})[3]
    old = next(folder for folder in songs(pack) if folder.name == song)
    first = pack.run("YueExtend", song=song, seed=8)
    assert pack.run("YueExtend", song=song, seed=8)[3] == first[3]
    assert pack.run("YueExtend", song=song, seed=9)[3] != first[3]
    assert len(songs(pack)) == 3
    assert len(levels(first[0])) == 88200
    again = yuegguf.extend(old, yuegguf.ExtendRequest(8))
    assert same(first, again.folder)


def test_a_song_that_is_not_there_is_said(pack: Pack) -> None:
    with pytest.raises(RuntimeError, match=r"there is no song '\.\./x'"):
        pack.run("YueRefine", song="../x")


def test_an_instrumental_for_a_recorded_vocal(pack: Pack, tmp_path: Path) -> None:
    node = {"tags": "folk", "lyrics": "", "seed": 3, "model": "nano"}
    outputs = pack.run("YueStems", recording=audio(1.0, channels=2), recording_is="vocal", **node)
    recording = written(tmp_path / "alone.wav", 1.0)
    track = yuegguf.GuideTrack("vocal", str(recording))
    request = yuegguf.stems_request(track, "folk", seed=3)
    song = yuegguf.generate(request, yuegguf.ModelChoice("nano"), tmp_path / "same")
    assert same(outputs, song.folder)


def test_a_voice_is_the_reference_of_a_song(pack: Pack, tmp_path: Path) -> None:
    (voice,) = pack.run("YueVoice", recording=audio(2.0), start=0.5, end=1.5)
    outputs = pack.run("YueSong", voice=voice, **NODE)
    recording = written(tmp_path / "alone.wav", 2.0)
    request = yuegguf.SongRequest(
        SONG["tags"],
        SONG["lyrics"],
        segment_seconds=1,
        seed=5,
        reference=yuegguf.Reference(str(recording), start=0.5, end=1.5),
    )
    assert same(outputs, yuegguf.generate(request, yuegguf.ModelChoice("nano"), tmp_path / "same").folder)


@pytest.mark.parametrize(
    "given",
    [(), ("name", "recording"), ("vocal",), ("recording", "vocal"), ("name", "vocal", "instrumental")],
    ids="-".join,
)
def test_a_voice_is_one_of_three(pack: Pack, given: tuple[str, ...]) -> None:
    values = {name: "anna" if name == "name" else audio(1.0) for name in given}
    with pytest.raises(ValueError, match="a voice is one of these"):
        pack.run("YueVoice", **values)


def test_lyrics_are_checked_and_passed_on(pack: Pack) -> None:
    words = "[verse]\n" + "la " * 40 + "\n[chorus]\nla la\n"
    node = {"tags": "pop", "lyrics": words, "segment_seconds": 2.0, "server": ""}
    result = pack.nodes.YueLyricsCheck.execute(**node)
    lyrics, report = result.args
    assert lyrics == words
    assert report.splitlines()[0].startswith("1. verse: 40 syllables in 2 s: too long; take out about")
    assert report.splitlines()[1] == "2. chorus: 2 syllables in 2 s: fits"
    assert result.ui == {"text": [report]}
    with pytest.raises(ValueError, match="words would be lost"):
        pack.run("YueLyricsCheck", **node, stop_if_too_long=True)
    assert songs(pack) == []
