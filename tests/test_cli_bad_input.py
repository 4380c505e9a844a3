"""Wrong files, wrong values, full disks: one sentence, the right exit code, and nothing lost or left."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from helpers import Result, cli, finish, song_bytes, start

from yuegguf import files, tokenlog
from yuegguf.codec.ort import METADATA_KEY
from yuegguf.models import nano_models

LYRICS = "[verse]\nla la\n[chorus]\nlo lo"
TEXT = ("-g", "pop", "--lyrics", LYRICS)
FAST = ("--segment-seconds", 1, "--threads", 1, "--seed", 5)
NANO = nano_models()
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(tmp_path / "no models"))


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished song that no test changes."""
    parent = tmp_path_factory.mktemp("song")
    result = finish(start("run", *TEXT, *FAST, "--model", "nano", "-o", parent, "--json"))
    assert result.code == 0, result.err
    return Path(result.json["folder"])


def refused(capsys: Capture, code: int, *args: object) -> str:
    """The one error line of a command that must fail with this exit code and say what to do."""
    result = cli(capsys, *args)
    assert (result.code, result.out) == (code, ""), result
    assert result.err.endswith("\n")
    assert "; " in result.error or " (see: yuegguf" in result.error, "it must say what to do next"
    return result.error.removeprefix("error: ")


def run_refused(capsys: Capture, code: int, out: Path, *args: object) -> str:
    """The same for `run`, which must leave no folder behind."""
    said = refused(capsys, code, "run", *args, "-o", out)
    assert not out.exists()
    return said


# Lyrics, tags, options


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (
            ("-g", "pop", "-l", "none.txt"),
            5,
            "the lyrics file none.txt cannot be read (No such file or directory); check the name",
        ),
        (("-g", "pop", "-l", "."), 5, "the lyrics file . cannot be read (Is a directory); check the name"),
        (
            ("--genre-txt", "none.txt", "--lyrics", LYRICS),
            5,
            "the genre file none.txt cannot be read (No such file or directory); check the name",
        ),
        (
            ("-g", "pop", "--lyrics", ""),
            5,
            "the lyrics are empty; write sections such as [verse] with their lines",
        ),
        (
            ("-g", "pop", "--lyrics", " \n\t\n"),
            5,
            "the lyrics are empty; write sections such as [verse] with their lines",
        ),
        (
            ("-g", "pop", "--lyrics", "la la"),
            5,
            "the lyrics have no section label; put [verse], [chorus], … on a line of its own before each "
            "part",
        ),
        (
            ("-g", " ", "--lyrics", LYRICS),
            5,
            'the genre tags are empty; pass tags such as "inspiring female pop airy vocal"',
        ),
        (("-g", "pop", "-l", "binary"), 5, "binary is not UTF-8 text; save the lyrics as UTF-8"),
        (
            ("--genre-txt", "binary", "--lyrics", LYRICS),
            5,
            "binary is not UTF-8 text; save the genre as UTF-8",
        ),
        (("-g", "pop", "-l", "zeros"), 5, "the lyrics are not text; pass a UTF-8 text file"),
        (
            ("--genre-txt", "zeros", "--lyrics", LYRICS),
            5,
            "the genre tags are not text; pass a UTF-8 text file",
        ),
        (("-g", "a\udcff", "--lyrics", LYRICS), 5, "the genre tags are not text; pass a UTF-8 text file"),
        (("-g", "pop", "--lyrics", "[verse]\n\udce9"), 5, "the lyrics are not text; pass a UTF-8 text file"),
        (("-g", "pop"), 2, "pass the lyrics once: -l lyrics.txt (or --example) (see: yuegguf run --help)"),
        (
            ("--lyrics", LYRICS),
            2,
            'pass the genre once: -g "female pop" (or --example) (see: yuegguf run --help)',
        ),
        (
            (*TEXT, "-l", "binary"),
            2,
            "pass the lyrics once: -l lyrics.txt (or --example) (see: yuegguf run --help)",
        ),
    ],
)
def test_texts_that_cannot_be_sung(
    args: tuple[str, ...],
    code: int,
    sentence: str,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "zeros").write_bytes(b"[verse]\n\0\0")
    assert run_refused(capsys, code, tmp_path / "out", *args) == sentence


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (("--top-p", "2"), 5, "top-p 2.0 is out of range; use 0 to 1"),
        (("--top-p", "nan"), 5, "top-p nan is out of range; use 0 to 1"),
        (("--top-k", "-1"), 5, "top-k -1 is out of range; use 0 to 1025"),
        (("--temperature", "-1"), 5, "temperature -1.0 is out of range; use 0 to 10"),
        (("--repetition-penalty", "0"), 5, "repetition penalty 0.0 is out of range; use 0.1 to 10"),
        (("--cfg", "11"), 5, "guidance 11.0 is out of range; use 0 to 10"),
        (("--bits", "12"), 5, "12 bits per sample is not offered; use --bits 16 or 24"),
        (("--format", "ogg"), 5, "unknown format in 'ogg'; use wav, flac, mp3"),
        (("--format", ""), 5, "unknown format in ''; use wav, flac, mp3"),
        (("--vocal-gain", "99"), 5, "a gain is out of range; use -60 to 60 dB"),
        (
            ("--sections", "9-1"),
            5,
            "--sections 9-1 is not among the 2 sections of these lyrics; count them from 1",
        ),
        (("--sections", "0"), 5, "--sections 0 leaves nothing to sing; write all, 2 or 1,3-4"),
        (("--sections", "two"), 5, "--sections 'two' is not a choice of sections; write all, 2 or 1,3-4"),
        (
            ("--segment-seconds", "0.5"),
            5,
            "sections of 0.5 s are out of range; use --segment-seconds 1 to 150",
        ),
        (("--seed", "-1"), 5, "seed -1 is not a whole number in range; use 0 to 2^63-1"),
        (("--device", "quantum"), 5, "there is no device 'quantum'; use auto, cpu, cuda, metal or vulkan"),
        (
            ("--use-audio-prompt",),
            5,
            "a reference was asked for but not named; pass --ref, or --ref-vocal and --ref-inst",
        ),
        (("--ref", "none.wav"), 5, "there is no audio file none.wav; check the name"),
        (
            ("--ref-vocal", __file__),
            5,
            "a dual-track reference needs both tracks; pass --ref-vocal and --ref-inst",
        ),
        (
            ("--ref", __file__, "--ref-vocal", __file__, "--ref-inst", __file__),
            5,
            "a reference is one file or two tracks; pass --ref, or both tracks",
        ),
        (
            ("--ref", __file__, "--ref-start", "5", "--ref-end", "5"),
            5,
            "the reference window 5-5 s is empty; pass --ref-start < --ref-end",
        ),
        (
            ("--cfg", "x"),
            2,
            "Invalid value for --cfg: 'x' is not FIRST[,REST], such as 1.5,1.2 (see: yuegguf run --help)",
        ),
        (
            ("--cfg", "1,2,3"),
            2,
            "Invalid value for --cfg: '1,2,3' is not FIRST[,REST], such as 1.5,1.2 (see: yuegguf run --help)",
        ),
        (
            ("--ctx", "100"),
            2,
            "Invalid value for '--ctx': 100 is not in the range 512<=x<=131072 (see: yuegguf run --help)",
        ),
        (
            ("--max-memory", "much"),
            2,
            "Invalid value for '--max-memory': 'much' is not a size such as 6G or 800M (see: yuegguf run "
            "--help)",
        ),
        (("extra",), 2, "Got unexpected extra argument (extra) (see: yuegguf run --help)"),
        (
            ("--max-memory", "10M"),
            4,
            "stage 1 needs about 0.3 GiB and 0.0 GiB may be used; a machine with more memory would fit",
        ),
        (
            ("--model", "en-icl"),
            3,
            "en-icl is not installed in {root}; get m-a-p/YuE-s1-7B-anneal-en-icl, then: yuegguf convert "
            "FOLDER --name en-icl",
        ),
        (("--model", "none.gguf"), 3, "there is no model file none.gguf; see: yuegguf models list"),
        (
            ("--stage2-model", "s2-general"),
            3,
            "s2-general is not installed in {root}; get m-a-p/YuE-s2-1B-general, then: yuegguf convert "
            "FOLDER --name s2-general",
        ),
        (("--codec", "nowhere"), 3, "nowhere/encoder.onnx is not there; make it with: yuegguf export-codec"),
    ],
)
def test_values_that_are_not_possible(
    flags: tuple[str, ...], code: int, sentence: str, capsys: Capture, tmp_path: Path
) -> None:
    said = run_refused(capsys, code, tmp_path / "out", *TEXT, "--model", "nano", *flags)
    assert said == sentence.format(root=tmp_path / "no models")


def test_a_section_that_cannot_fit_is_refused_however_late_it_comes(capsys: Capture, tmp_path: Path) -> None:
    lyrics = "[verse]\nla\n[chorus]\nlo\n#length 30\n[outro]\nla"
    line = ("-g", "pop", "--lyrics", lyrics, *FAST, "--model", "nano", "--ctx", 512)
    said = run_refused(capsys, 5, tmp_path / "out", *line)
    assert re.fullmatch(
        r"section 3 needs 30\d\d ids of context, of 512; "
        r"use a larger --ctx, a shorter --segment-seconds or fewer lyrics",
        said,
    )


def test_an_unknown_command_and_an_unread_song(capsys: Capture, tmp_path: Path) -> None:
    assert refused(capsys, 2, "sing").startswith("No such command 'sing'")
    assert run_refused(capsys, 2, tmp_path / "out", *TEXT, "--strange").startswith("No such option")
    nothing = f"{tmp_path} is not a song folder; pass a folder that holds a song.json"
    assert refused(capsys, 5, "resume", tmp_path) == nothing
    assert refused(capsys, 5, "decode", tmp_path).endswith("; pass a song folder, or name the two files")
    assert (
        refused(capsys, 5, "encode", tmp_path / "a.wav")
        == f"no audio file at {tmp_path / 'a.wav'}; check the name"
    )
    assert refused(capsys, 3, "convert", tmp_path, "--name", "en-cot").startswith("there is no ")
    assert refused(capsys, 3, "export-codec", tmp_path).endswith("; name a copy of m-a-p/xcodec_mini_infer")


def test_with_json_the_error_is_an_object_too(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "run", *TEXT, "--model", "en-cot", "--json", "-o", tmp_path / "out")
    assert result.code == result.json["error"]["code"] == 3
    assert result.error == f"error: {result.json['error']['message']}; {result.json['error']['hint']}"


def test_an_error_of_ours_is_one_line_as_well(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("yuegguf.models.resolve", broken)
    sentence = "unexpected ZeroDivisionError: by zero; set YUEGGUF_DEBUG=1 for details and report it"
    assert run_refused(capsys, 1, tmp_path / "out", *TEXT) == sentence


# Model files


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stage1 and stage2 with the whole vocabulary, and all four again without our own metadata."""
    from yuegguf_convert.lm import convert_lm

    from nano.untrained import write_checkpoints

    root = tmp_path_factory.mktemp("models")
    write_checkpoints(root)
    for stage in ("stage1", "stage2"):
        convert_lm(root / stage, root / f"{stage}-full.gguf", out_type="Q8_0", trim=False)
        shutil.copy(getattr(NANO, stage), root / f"{stage}.gguf")
        for name in (stage, f"{stage}-full"):
            without_our_keys(root / f"{name}.gguf", root / f"{name}-foreign.gguf")
    return root


def without_our_keys(source: Path, out: Path) -> None:
    """The same model as another tool would have written it."""
    from yuegguf_convert.gguf_file import read_gguf, write_gguf

    model = read_gguf(source)
    plain = {key: value for key, value in model.metadata.items() if not key.startswith("yuegguf.")}
    tensors = list(model.tensors.values())
    write_gguf(out, plain, tensors, lambda t: iter([np.ascontiguousarray(model.read(t, 0, t.rows))]))


SWAP = "swap the files, or check --stage1-model and --stage2-model"


@pytest.mark.parametrize("kind", ["", "-full", "-foreign", "-full-foreign"])
def test_each_stage_given_as_the_other(kind: str, models: Path, capsys: Capture, tmp_path: Path) -> None:
    first, second = models / f"stage1{kind}.gguf", models / f"stage2{kind}.gguf"
    codec = ("--codec", NANO.codec, *FAST)
    said = run_refused(
        capsys, 7, tmp_path / "out", *TEXT, "--model", second, "--stage2-model", second, *codec
    )
    assert said == f"{second.name} is a stage-2 model, but it was given as stage-1; {SWAP}"
    said = run_refused(capsys, 7, tmp_path / "out", *TEXT, "--model", "nano", "--stage2-model", first, *codec)
    assert said == f"{first.name} is a stage-1 model, but it was given as stage-2; {SWAP}"


def test_a_foreign_stage1_needs_its_tokenizer_beside_it(
    models: Path, capsys: Capture, song: Path, tmp_path: Path
) -> None:
    model = tmp_path / "other tool.gguf"
    shutil.copy(models / "stage1-foreign.gguf", model)
    line = (*TEXT, *FAST, "--model", model, "--stage2-model", "nano", "--codec", NANO.codec)
    said = run_refused(capsys, 3, tmp_path / "out", *line)
    beside = tmp_path / "tokenizer.model"
    assert said == f"other tool.gguf carries no tokenizer; put YuE's tokenizer.model beside it, as {beside}"
    beside.write_bytes(b"rubbish")
    assert "tokenizer is damaged" in run_refused(capsys, 7, tmp_path / "out", *line)
    shutil.copy(models / "stage1" / "tokenizer.model", beside)
    result = cli(capsys, "run", *line, "-o", tmp_path / "out", "--json")
    assert song_bytes(Path(result.json["folder"])) == song_bytes(song)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_cut_or_foreign_gguf_is_refused_before_a_token_is_drawn(
    stage: str, capsys: Capture, tmp_path: Path
) -> None:
    whole, bad = getattr(NANO, stage).read_bytes(), tmp_path / "bad.gguf"
    flags = {"stage1": ("--model", bad), "stage2": ("--model", "nano", "--stage2-model", bad)}[stage]
    if stage == "stage1":
        flags += ("--stage2-model", "nano", "--codec", NANO.codec)
    contents = [whole[: len(whole) * i // 8] for i in range(8)] + [
        whole[:-40],
        b"GGUF" + bytes(200),
        b"RIFF" * 99,
    ]
    contents.append(os.urandom(4096))
    for content in contents:
        bad.write_bytes(content)
        said = run_refused(capsys, 7, tmp_path / "out", *TEXT, *FAST, *flags)
        assert said.startswith("bad.gguf is not a GGUF that llama.cpp can load")
        assert said.endswith("; convert it again")


def codec_copy(parent: Path) -> Path:
    folder = parent / "codec"
    folder.mkdir()
    for path in NANO.codec.glob("*.onnx"):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("role", ["encoder", "decoder", "vocal_upsampler", "instrumental_upsampler"])
def test_a_bad_codec_is_refused_before_a_token_is_drawn(role: str, capsys: Capture, tmp_path: Path) -> None:
    folder = codec_copy(tmp_path)
    file = folder / f"{role}.onnx"
    whole = file.read_bytes()
    line = (tmp_path / "out", *TEXT, *FAST, "--model", "nano", "--codec", folder)
    for content in (
        b"",
        whole[:50],
        whole[: len(whole) // 2],
        whole[:-10],
        b"rubbish" * 99,
        os.urandom(4096),
    ):
        file.write_bytes(content)
        said = run_refused(capsys, 7, *line)
        assert said.startswith(str(file))
        assert said.endswith("; export the codec again")
    file.write_bytes(with_header(whole, fingerprint="0" * 64))
    assert run_refused(capsys, 7, *line).endswith(
        "are of different codecs: their codebooks differ; export them again"
    )
    file.write_bytes(with_header(whole, width=7))
    assert "are of different codecs: 1024 codes" in run_refused(capsys, 7, *line)
    file.write_bytes(with_header(whole, format=99))
    assert run_refused(capsys, 7, *line) == f"{file} was written by a newer yuegguf; update yuegguf"
    file.unlink()
    assert run_refused(capsys, 3, *line) == f"{file} is not there; make it with: yuegguf export-codec"


def with_header(content: bytes, **facts: object) -> bytes:
    model = onnx.load_from_string(content)
    header = json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({**header, **facts})})
    return bytes(model.SerializeToString())


def test_a_codec_whose_graph_is_damaged_loses_no_work(capsys: Capture, song: Path, tmp_path: Path) -> None:
    """A header can be whole where weights are not: found when the graph is loaded, and mended by a resume."""
    folder = codec_copy(tmp_path)
    file = folder / "vocal_upsampler.onnx"
    model = onnx.load(file)
    model.graph.node[0].op_type = "NoSuchOperator"
    model.graph.node[0].domain = "nowhere"
    file.write_bytes(model.SerializeToString())
    result = cli(capsys, "run", *TEXT, *FAST, "--model", "nano", "--codec", folder, "-o", tmp_path / "out")
    assert result.code == 7
    made = next((tmp_path / "out").iterdir())
    assert f"{file} cannot be loaded" in result.error
    assert result.error.endswith(f"; export it again; then go on with: yuegguf resume {made}")
    assert np.load(made / "stage2.npz")["codes"].shape == (2, 8, 100)
    shutil.copy(NANO.codec / file.name, file)
    assert cli(capsys, "resume", made, "--threads", 1).code == 0
    assert song_bytes(made) == song_bytes(song)


# References


def test_references_that_cannot_be_used(capsys: Capture, tmp_path: Path) -> None:
    line = (tmp_path / "out", *TEXT, *FAST, "--model", "nano", "--ref")
    text = tmp_path / "text.wav"
    text.write_text("not audio")
    said = run_refused(capsys, 5, *line, text)
    assert said.startswith(f"{text} could not be read as audio (")
    assert said.endswith("; use a wav, flac, mp3 or ogg file that plays elsewhere")
    empty, short = tmp_path / "empty.wav", tmp_path / "short.wav"
    soundfile.write(empty, np.zeros(0), 16000)
    assert (
        run_refused(capsys, 5, *line, empty) == f"{empty} holds no samples; use a recording that is not empty"
    )
    soundfile.write(short, np.zeros(16000), 16000)
    said = run_refused(capsys, 5, *line, short, "--ref-start", 1)
    assert said == (
        "the reference window 1-30 s holds no frame of the recording; "
        "pass an earlier --ref-start or a later --ref-end"
    )
    run_refused(capsys, 5, *line, short, "--ref-end", 0.005)
    said = run_refused(capsys, 5, *line, short, "--ref-end", "inf")
    assert said == "the reference window 0-inf s is empty; pass --ref-start < --ref-end"


def test_a_reference_too_short_for_the_codec_leaves_no_folder(capsys: Capture, tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(100), 16000)
    line = (tmp_path / "out", *TEXT, *FAST, "--model", "nano", "--ref", short)
    assert "holds no frame of the recording" in run_refused(capsys, 5, *line)


# Damaged songs


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def taken_back(song: Path, parent: Path, state: str) -> Path:
    """A copy of a finished song that has this phase still to do."""
    folder = parent / "copy"
    shutil.copytree(song, folder)
    data = json.loads((folder / "song.json").read_text("utf-8"))
    (folder / "song.json").write_text(json.dumps({**data, "state": state}))
    gone = {"draft": ("stage1.npz", "stage2.npz"), "refine": ("stage2.npz",), "master": (), "done": ()}[state]
    for name in gone:
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize(
    ("state", "name", "spoil"),
    [
        ("draft", "song.json", lambda b: b[:100]),
        ("draft", "song.json", lambda b: b"\xff\xfe"),
        ("draft", "song.json", lambda b: b'{"format": 2}'),
        ("draft", "song.json", lambda b: b.replace(b'"plan": {', b'"plan": {"more": 1, ')),
        ("draft", "song.json", lambda b: b.replace(b'"models"', b'"mottles"')),
        ("draft", "tokens.log", lambda b: b.replace(b"section 1", b"section 7")),
        ("draft", "tokens.log", lambda b: b"rubbish\n" + b),
        ("refine", "stage1.npz", lambda b: b[:-30]),
        ("refine", "stage1.npz", lambda b: b"rubbish"),
        ("refine", "chunks/0-000000.npy", lambda b: b"rubbish"),
        ("master", "stage2.npz", lambda b: b[: len(b) // 2]),
        ("master", "stage2.npz", lambda b: b""),
        ("done", "stage1.npz", lambda b: b[:-30]),
    ],
)
def test_a_damaged_song_is_refused_and_left_as_it_is(
    state: str, name: str, spoil: Callable[[bytes], bytes], song: Path, capsys: Capture, tmp_path: Path
) -> None:
    folder = taken_back(song, tmp_path, state)
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(spoil(file.read_bytes() if file.exists() else b""))
    before = content(folder)
    said = refused(capsys, 7, "resume", folder, "--threads", 1)
    assert content(folder) == before
    if spoil(b"") == b'{"format": 2}':
        assert said == f"{folder} was made by a newer yuegguf; update yuegguf to open it"


@pytest.mark.parametrize(
    ("state", "name"),
    [("refine", "stage1.npz"), ("master", "stage2.npz"), ("done", "stage1.npz"), ("done", "stage2.npz")],
)
def test_what_a_damaged_file_held_is_made_again_once_it_is_deleted(
    state: str, name: str, song: Path, capsys: Capture, tmp_path: Path
) -> None:
    """As the sentence promises: the log holds every draw, so nothing is drawn anew."""
    folder = taken_back(song, tmp_path, state)
    (folder / name).write_bytes(b"rubbish")
    if (state, name) != ("done", "stage2.npz"):  # a finished song does not look into its codes
        assert "; delete it and resume to make it again" in refused(capsys, 7, "resume", folder)
    (folder / name).unlink()
    assert cli(capsys, "resume", folder, "--threads", 1).code == 0
    assert song_bytes(folder) == song_bytes(song)


def test_damaged_codes_are_refused(capsys: Capture, song: Path, tmp_path: Path) -> None:
    folder = taken_back(song, tmp_path, "done")
    (folder / "stage2.npz").write_bytes(b"rubbish")
    before = content(folder)
    refused(capsys, 7, "decode", folder, "-o", tmp_path / "out")
    assert content(folder) == before
    (tmp_path / "a_vtrack.npy").write_bytes(b"rubbish")
    np.save(tmp_path / "a_itrack.npy", np.zeros((8, 5), np.int16))
    said = refused(capsys, 7, "decode", tmp_path / "a_vtrack.npy", tmp_path / "a_itrack.npy")
    assert said.startswith(f"{tmp_path / 'a_vtrack.npy'} is not a readable .npy file; ")


# Disks


class FullDisk:
    """`os` for the token log, on a disk that has room for so many more bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, handle: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return os.write(handle, part)


FULL = "the disk is full: {file} could not be written; free some space and try again"


@pytest.mark.parametrize("room", [0, 300, 301, 302, 303])
def test_a_disk_that_fills_up_while_drawing_loses_no_token(
    room: int, song: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tokenlog, "os", FullDisk(room))
        result = cli(capsys, "run", *TEXT, *FAST, "--model", "nano", "-o", tmp_path)
    folder = next(tmp_path.glob("*/song.json")).parent
    assert result.code == 1
    sentence = FULL.format(file=folder / "tokens.log")
    assert result.error == f"error: {sentence}; then go on with: yuegguf resume {folder}"
    assert (folder / "tokens.log").read_bytes() == song_bytes(song)["tokens.log"][:room]
    assert cli(capsys, "resume", folder, "--threads", 1).code == 0
    assert song_bytes(folder) == song_bytes(song)


@pytest.mark.parametrize(
    "name",
    ["stage1.npz", "0-000000.npy", "1-000000.npy", "stage2.npz", "mix.wav", "vocals.wav", "markers.txt"],
)
def test_a_disk_that_fills_up_at_a_file_keeps_all_before_it(
    name: str, song: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flush(path: Path) -> None:
        if f".{name}." in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "flush", flush)
        result = cli(capsys, "run", *TEXT, *FAST, "--model", "nano", "-o", tmp_path)
    folder = next(tmp_path.glob("*/song.json")).parent
    file = folder / "chunks" / name if name.endswith(".npy") else folder / name
    assert result.code == 1
    assert result.error == f"error: {FULL.format(file=file)}; then go on with: yuegguf resume {folder}"
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part") or path.name == name]
    assert (folder / "tokens.log").read_bytes() == song_bytes(song)["tokens.log"]
    assert cli(capsys, "resume", folder, "--threads", 1).code == 0
    assert song_bytes(folder) == song_bytes(song)


def test_a_disk_without_room_for_the_first_file_leaves_no_folder(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flush(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "flush", flush)
    said = refused(capsys, 1, "run", *TEXT, *FAST, "--model", "nano", "-o", tmp_path / "out")
    assert said.startswith("the disk is full: ")
    assert list((tmp_path / "out").iterdir()) == []


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A real file system of a few kilobytes; skips where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs rights that this user does not have")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", ["4k", "8k", "16k", "128k", "256k", "512k"])
def test_a_real_disk_that_is_full(size: str, song: Path, capsys: Capture, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, size):
        result = cli(capsys, "run", *TEXT, *FAST, "--model", "nano", "-o", disk)
        assert result.code == 1
        assert "the disk is full: " in result.error or "; check the free space" in result.error
        made = [path.parent for path in disk.glob("*/song.json")]
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        if made:
            assert result.error.endswith(f"go on with: yuegguf resume {made[0]}")
            assert cli(capsys, "resume", made[0], "--threads", 1).code == 0
            assert song_bytes(made[0]) == song_bytes(song)
        else:
            assert list(disk.iterdir()) == []


def test_folders_that_cannot_be_written(capsys: Capture, song: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    said = refused(capsys, 1, "run", *TEXT, *FAST, "--model", "nano", "-o", file)
    assert said.startswith(f"{file}/pop-")
    assert said.endswith(" could not be written (Not a directory); check the path")
    said = refused(capsys, 1, "decode", song, "-o", file)
    assert said == f"{file} could not be written (File exists); check the path"
    recording = tmp_path / "a.wav"
    soundfile.write(recording, np.zeros(16000), 16000)
    refused(capsys, 1, "encode", recording, "-o", file, "--threads", 1)
    refused(capsys, 1, "--models-dir", file, "convert", tmp_path, "--name", "en-cot")
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(capsys: Capture, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    said = refused(capsys, 1, "run", *TEXT, *FAST, "--model", "nano", "-o", locked)
    assert said.endswith(" is not writable; choose another folder or change its permissions")


# In another process: nothing but the line reaches the terminal


def test_no_library_talks_over_the_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(NANO.stage1.read_bytes()[:5000])
    result: Result = finish(
        start("run", *TEXT, "--model", bad, "--stage2-model", "nano", "--codec", NANO.codec)
    )
    assert (result.code, result.err.count("\n"), result.out) == (7, 1, "")
    assert sys.version_info >= (3, 11)
