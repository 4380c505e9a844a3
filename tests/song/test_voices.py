"""Saved voices: a reference's codes in a small file, sung with and without its recording."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FAST, OURS, Capture, cli, ended, refused, run_refused, song_bytes

from yuegguf.errors import DamagedFile, RequestError, StorageError
from yuegguf.models import resolve
from yuegguf.models.registry import voices_dir
from yuegguf.pipeline import create, preflight
from yuegguf.request.song_request import Reference, SongRequest
from yuegguf.song import voices
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import SongRecord
from yuegguf.song.voices import Voice

CODES = np.random.default_rng(7).integers(0, 1024, 150).astype(np.int16)
VOICE = Voice("anna", CODES, True, ("v.wav", "b.flac"), 1.5, "c0dec", "2026-01-02")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_models: None) -> Path:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    return tmp_path / "voices"


def same(one: Voice, other: Voice) -> bool:
    facts = (replace(each, codes=np.zeros(0, np.int16)).to_json() for each in (one, other))
    return next(facts) == next(facts) and bool((one.codes == other.codes).all())


# The file


def test_a_voice_comes_back_as_it_was_saved(folder: Path) -> None:
    path = voices.save_voice(VOICE)
    assert path == folder / "anna.npz"
    found = voices.load_voice("anna")
    assert same(found, VOICE)
    assert found.codes.dtype == np.int16
    assert (found.seconds, found.start, found.end) == (1.5, 1.5, 3.0)
    assert replace(VOICE, dual=False).seconds == 3.0
    assert voices.voice_names() == ["anna"]
    assert [file.name for file in folder.iterdir()] == ["anna.npz"]


def test_thirty_seconds_of_two_tracks_take_a_few_kilobytes(folder: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, 3000).astype(np.int16)
    assert voices.save_voice(replace(VOICE, codes=codes)).stat().st_size < 6000


def test_a_song_whose_voice_cannot_be_written_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices.save_voice(VOICE)

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(SongFolder, "save_reference", full)
    record = SongRecord(request=SongRequest("pop", "[verse]\nla", reference=Reference(voice="anna")))
    with pytest.raises(StorageError, match="the disk is full"):
        create.created(tmp_path / "songs" / "song", record)
    assert list((tmp_path / "songs").iterdir()) == []


def test_a_voice_is_replaced_on_request_only(folder: Path) -> None:
    voices.save_voice(VOICE)
    other = replace(VOICE, codes=CODES[:10])
    with pytest.raises(RequestError, match="there is a voice called anna already; choose another name"):
        voices.save_voice(other)
    assert same(voices.load_voice("anna"), VOICE)
    voices.save_voice(other, replace=True)
    assert same(voices.load_voice("anna"), other)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".anna", "a/b", "/etc/anna", "a\\b", "a b", "a\0", "x" * 65, "-a"]
)
def test_what_cannot_be_a_name_is_refused(name: str, folder: Path) -> None:
    for act in (voices.load_voice, voices.remove_voice, lambda n: voices.save_voice(replace(VOICE, name=n))):
        with pytest.raises(RequestError, match="cannot be the name of a voice; use up to 64 letters"):
            act(name)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["anna", "Jörg-2", "声", "a.b_c"])
def test_names_of_every_language_are_names(name: str) -> None:
    voices.save_voice(replace(VOICE, name=name))
    assert voices.voice_names() == [name]
    assert voices.load_voice(name).name == name


def test_a_voice_that_is_not_there(folder: Path) -> None:
    sentence = f"there is no voice called anna in {folder}; see: yuegguf voice list"
    for act in (voices.load_voice, voices.remove_voice):
        with pytest.raises(RequestError) as caught:
            act("anna")
        assert str(caught.value) == sentence
    assert voices.voice_names() == []


def read(folder: Path) -> Voice | DamagedFile:
    try:
        return voices.load_voice("anna", folder)
    except DamagedFile as error:
        return error


@pytest.mark.slow
def test_a_spoilt_byte_or_a_cut_never_gives_another_voice(folder: Path) -> None:
    """Any one byte may be wrong: it meant nothing, or the file is refused in words."""
    file = voices.save_voice(VOICE)
    whole = file.read_bytes()
    spoilt = [whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :] for i in range(len(whole))]
    refused = 0
    for content in (*spoilt, *(whole[:n] for n in range(0, len(whole), 7))):
        file.write_bytes(content)
        found = read(folder)
        if isinstance(found, Voice):
            assert same(found, VOICE)
        else:
            refused += 1
            assert str(found).endswith("voice save anna --force")
    assert refused > len(whole) // 2


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        ({"dual": 1}, CODES),
        ({"start": -1}, CODES),
        ({"start": "0"}, CODES),
        ({"start": float("nan")}, CODES),
        ({"codec": 5}, CODES),
        ({"sources": [1]}, CODES),
        ({"sources": 1}, CODES),
        ({"more": 1}, CODES),
        ({}, CODES[:0]),
        ({}, CODES[:149]),  # one code of a pair
        ({}, CODES + 1000),
        ({}, CODES.reshape(2, -1)),
        ({}, CODES.astype(float)),
    ],
)
def test_facts_that_no_voice_can_have_are_damage(facts: dict[str, Any], codes: Any, folder: Path) -> None:
    folder.mkdir()
    whole = {"format": 1, "dual": True, "sources": ["a"], "start": 0, "codec": "c", "saved": "2026-01-02"}
    text = np.frombuffer(json.dumps({**whole, **facts}).encode(), np.uint8)
    np.savez(folder / "anna.npz", codes=codes, facts=text)
    with pytest.raises(
        DamagedFile, match=r"is damaged; save it again from its recording: yuegguf voice save anna"
    ):
        voices.load_voice("anna")


def test_a_voice_of_a_newer_version_is_refused(folder: Path) -> None:
    folder.mkdir()
    whole = {"format": 2, "dual": True, "sources": ["a"], "start": 0, "codec": "c", "saved": "2026-01-02"}
    np.savez(folder / "anna.npz", codes=CODES, facts=np.frombuffer(json.dumps(whole).encode(), np.uint8))
    with pytest.raises(DamagedFile, match=r"of another version \(2\); update yuegguf"):
        voices.load_voice("anna")


def test_a_folder_that_cannot_be_made_is_reported(folder: Path) -> None:
    folder.write_text("a file is in the way")
    with pytest.raises(StorageError):
        voices.save_voice(VOICE)


def test_voices_lie_beside_the_models_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("YUEGGUF_VOICES_DIR")
    monkeypatch.delenv("YUEGGUF_MODELS_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    from yuegguf.models.registry import models_dir

    assert voices_dir() == tmp_path / "yuegguf" / "voices" == models_dir().parent / "voices"


# The commands


def saved(capsys: Capture, *args: object) -> Any:
    result = cli(capsys, "voice", "save", *args, "--threads", 1, "--json")
    assert result.code == 0, result.err
    return result.json


def test_saving_listing_and_removing(capsys: Capture, recordings: Path, folder: Path) -> None:
    made = saved(capsys, "anna", "--ref", recordings / "a.wav", "--ref-start", 0.51, "--ref-end", 1.2)
    codec = preflight.codec_id(resolve.nano_models().codec)
    facts = {"name": "anna", "dual": False, "sources": ["a.wav"], "start": 0.52, "end": 1.2, "seconds": 0.68}
    assert made == {**facts, "codec": codec, "saved": made["saved"], "file": str(folder / "anna.npz")}
    duo = saved(capsys, "duo", "--ref-vocal", recordings / "b.flac", "--ref-inst", recordings / "long.wav")
    assert (duo["dual"], duo["sources"], duo["seconds"]) == (True, ["b.flac", "long.wav"], 1.5)
    (folder / "broken.npz").write_bytes(b"rubbish")
    result = cli(capsys, "voice", "list", "--json")
    assert [row["name"] for row in result.json["voices"]] == ["anna", "broken", "duo"]
    assert [row.get("problem") for row in result.json["voices"]] == [
        None,
        f"the voice {folder / 'broken.npz'} is damaged",
        None,
    ]
    assert cli(capsys, "voice", "list").out.splitlines()[1].split() == [
        "duo", "1.5", "s", "vocal", "and", "backing", "b.flac", "+", "long.wav", duo["saved"],
    ]  # fmt: skip
    size = (folder / "duo.npz").stat().st_size
    assert cli(capsys, "voice", "info", "duo", "--json").json == {**duo, "bytes": size}
    assert "window     0-1.5 s: 1.5 s, vocal and backing\n" in cli(capsys, "voice", "info", "duo").out
    for name in ("anna", "broken"):
        assert cli(capsys, "voice", "rm", name).out == f"removed {folder / f'{name}.npz'}\n"
    assert voices.voice_names() == ["duo"]


def test_no_voices_yet(capsys: Capture, folder: Path) -> None:
    result = cli(capsys, "voice", "list")
    assert (result.code, result.out) == (0, "")
    assert result.err == f"no voice is saved in {folder}; save one with: yuegguf voice save NAME --ref FILE\n"


def test_what_cannot_become_a_voice(capsys: Capture, recordings: Path, folder: Path) -> None:
    ref = ("--ref", recordings / "a.wav")
    voices.save_voice(VOICE)
    before = (folder / "anna.npz").read_bytes()
    for code, args, sentence in (
        (2, ("x",), "pass the recording: --ref FILE, or --ref-vocal FILE --ref-inst FILE"),
        (5, ("anna", *ref), "there is a voice called anna already; choose another name, or pass --force"),
        (5, ("a/b", *ref), "'a/b' cannot be the name of a voice; "),
        (5, ("x", *ref, "--ref-start", 2), "the reference window 2-30 s holds nothing of the recording, "),
        (5, ("x", "--ref", "no.wav"), "there is no audio file no.wav; check the name"),
        (5, ("x", "--ref-vocal", recordings / "a.wav"), "a dual-track reference needs both tracks; "),
        (
            5,
            ("x", *ref, "--ref-vocal", recordings / "a.wav", "--ref-inst", recordings / "a.wav"),
            "a reference is",
        ),
    ):
        assert refused(capsys, code, "voice", "save", *args).startswith(sentence)
    assert [file.name for file in folder.iterdir()] == ["anna.npz"]
    assert (folder / "anna.npz").read_bytes() == before
    saved(capsys, "anna", *ref, "--force")
    assert voices.load_voice("anna").sources == ("a.wav",)


def sing(capsys: Capture, out: Path, *args: object) -> Path:
    result = cli(capsys, "run", *OURS, *FAST, *args, "-o", out, "--json")
    ended(result)
    return Path(result.json["folder"])


@pytest.mark.parametrize("dual", [False, True])
def test_a_voice_gives_the_song_of_its_recording(
    dual: bool, capsys: Capture, recordings: Path, tmp_path: Path
) -> None:
    ref: tuple[object, ...] = ("--ref", recordings / "a.wav")
    if dual:
        ref = ("--ref-vocal", recordings / "a.wav", "--ref-inst", recordings / "b.flac")
    ref += ("--ref-start", 0.3, "--ref-end", 1.3)
    saved(capsys, "anna", *ref)
    by_voice, by_file = sing(capsys, tmp_path, "--voice", "anna"), sing(capsys, tmp_path, *ref)
    assert song_bytes(by_voice) == song_bytes(by_file)
    assert (by_voice / "reference.npz").read_bytes() == (by_file / "reference.npz").read_bytes()
    wanted = json.loads((by_voice / "song.json").read_text())["request"]["reference"]
    window = {"start": 0.3, "end": 1.3}
    assert wanted == {"mix": None, "vocal": None, "instrumental": None, "voice": "anna", **window}


def test_a_song_keeps_its_own_copy_of_the_voice(
    capsys: Capture, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there before the first token, so that removing the voice never strands a song."""
    from yuegguf.errors import Interrupted
    from yuegguf.pipeline import phases

    saved(capsys, "anna", "--ref", recordings / "a.wav")
    whole = sing(capsys, tmp_path / "whole", "--voice", "anna")

    def stopped(*_: object) -> None:
        raise Interrupted("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(phases, "encode_inputs", stopped)
        assert cli(capsys, "run", *OURS, *FAST, "--voice", "anna", "-o", tmp_path / "late").code == 75
    (folder,) = (tmp_path / "late").iterdir()
    assert voices.remove_voice("anna")
    ended(cli(capsys, "resume", folder, "--threads", 1))
    assert song_bytes(folder) == song_bytes(whole)


def test_a_voice_of_another_codec_is_used_with_a_notice(capsys: Capture, tmp_path: Path) -> None:
    voices.save_voice(VOICE)
    result = cli(capsys, "run", *OURS, *FAST, "--voice", "anna", "-o", tmp_path)
    ended(result)
    assert (
        "note: the voice anna was saved with another codec and will sound otherwise; "
        "save it again from v.wav and b.flac\n"
    ) in result.err


def test_voices_that_cannot_be_used(capsys: Capture, recordings: Path, folder: Path, tmp_path: Path) -> None:
    voices.save_voice(VOICE)
    folder.joinpath("broken.npz").write_bytes(b"rubbish")
    out, line = tmp_path / "out", (*OURS, *FAST, "--voice")
    assert run_refused(capsys, 5, out, *line, "nobody").startswith("there is no voice called nobody in ")
    assert run_refused(capsys, 5, out, *line, "../anna").startswith(
        "'../anna' cannot be the name of a voice; "
    )
    assert run_refused(capsys, 7, out, *line, "broken").endswith(": yuegguf voice save broken --force")
    only = "--voice brings its own recording and window; leave out --ref… (see: yuegguf run --help)"
    for more in (("--ref", recordings / "a.wav"), ("--ref-start", 0.0), ("--prompt_end_time", 30)):
        assert run_refused(capsys, 2, out, *line, "anna", *more) == only


def test_a_reference_is_one_thing() -> None:
    from yuegguf.request.song_request import Reference

    for parts, sentence in (
        ({"voice": "a", "mix": "b"}, "a voice is a reference already"),
        ({"voice": "a", "vocal": "b", "instrumental": "c"}, "a voice is a reference already"),
        ({}, "a reference names no recording"),
    ):
        with pytest.raises(RequestError, match=sentence):
            Reference(**parts)
