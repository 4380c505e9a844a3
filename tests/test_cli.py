"""The commands on the bundled family: what goes in, what comes out, byte by byte."""

from __future__ import annotations

import io
import json
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers import Result, cli, finish, song_bytes, start

import yuegguf
from yuegguf.engine.llama import build_info
from yuegguf.errors import Interrupted
from yuegguf.models import ModelChoice, nano_models
from yuegguf.plan import Machine

GENRE, LYRICS = "warm folk  female\n", "[verse]\nla la\n[chorus]\nlo lo lo\n[outro]\nla"
FAST = ("--segment-seconds", 1, "--threads", 1, "--seed", 5, "--model", "nano")
OURS = ("-g", GENRE, "--lyrics", LYRICS)
FRAMES = 150
CPU_BUILD = build_info()["gpu"] == "no"
Capture = pytest.CaptureFixture[str]
Run = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the machine's owner has installed must not change a test."""
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(tmp_path / "no models"))


@pytest.fixture
def run(capsys: Capture, tmp_path: Path) -> Run:
    """Sing with the given arguments; returns the song's folder."""

    def sing(*args: object) -> Path:
        result = cli(capsys, "run", *args, *FAST, "-o", tmp_path / "songs", "--json")
        assert result.code == 0, result.err
        return Path(result.json["folder"])

    return sing


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished song that no test changes."""
    result = finish(start("run", *OURS, *FAST, "-o", tmp_path_factory.mktemp("song"), "--json"))
    assert result.code == 0, result.err
    return Path(result.json["folder"])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.wav: 2 s mono at 16 kHz; b.flac: 1.5 s stereo at 44.1 kHz; long.wav: 4 s at 22.05 kHz."""
    folder, chance = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    for name, rate, shape in (
        ("a.wav", 16000, 32000),
        ("b.flac", 44100, (66150, 2)),
        ("long.wav", 22050, 88200),
    ):
        soundfile.write(folder / name, 0.3 * np.sin(np.cumsum(chance.normal(0, 0.2, shape), axis=0)), rate)
    return folder


def request_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "song.json").read_text("utf-8"))["request"]


def reads(text: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="ascii")


# What goes in


def test_text_file_and_stdin_are_the_same_song(
    run: Run, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genre, lyrics = tmp_path / "genre.txt", tmp_path / "lyrics.txt"
    genre.write_text(GENRE)
    lyrics.write_bytes(b"\xef\xbb\xbf" + LYRICS.encode())  # with a byte-order mark
    monkeypatch.setattr("sys.stdin", reads(LYRICS))
    ways = [
        ("-g", genre, "--lyrics", lyrics),
        ("--genre-txt", genre, "--lyrics-txt", lyrics),
        ("--genre_txt", genre, "-l", lyrics),
        ("-g", GENRE, "-l", "-"),
    ]
    expected = song_bytes(song)
    for way in ways:
        assert song_bytes(run(*way)) == expected, way
    monkeypatch.setattr("sys.stdin", reads(GENRE))
    assert song_bytes(run("--genre", "-", "--lyrics", LYRICS)) == expected


def test_the_example_is_bundled(run: Run) -> None:
    folder = run("--example")
    data = Path(yuegguf.__file__).parent / "data" / "example"
    assert request_of(folder)["lyrics"] == (data / "lyrics.txt").read_text("utf-8")
    assert request_of(folder)["genre"] == (data / "genre.txt").read_text("utf-8")


def official(folder: Path, files: Path) -> tuple[object, ...]:
    """A command line as people paste it from YuE's page, but for the model's names."""
    (folder / "g.txt").write_text(GENRE)
    (folder / "l.txt").write_text(LYRICS)
    return (
        "--cuda_idx", 0, "--device", "cpu", "--genre_txt", folder / "g.txt", "--lyrics_txt", folder / "l.txt",
        "--run_n_segments", 2, "--stage2_batch_size", 4, "--output_dir", folder / "out",
        "--max_new_tokens", 150,
        "--repetition_penalty", 1.2, "--use_audio_prompt", "--audio_prompt_path", files / "a.wav",
        "--prompt_start_time", 0.5, "--prompt_end_time", 1.5, "--seed", 5, "--rescale", "--keep_intermediate",
        "--disable_offload_model", "--stage1_model", "nano", "--basic_model_config", "a.yaml",
        "--resume_path",
        "b.pth", "--config_path", "c.yaml", "--vocal_decoder_path", "d.pth", "--inst_decoder_path", "e.pth",
    )  # fmt: skip


def test_infer_pys_command_line_is_understood(capsys: Capture, recordings: Path, tmp_path: Path) -> None:
    result = cli(capsys, "run", *official(tmp_path, recordings), "--threads", 1, "--json")
    assert result.code == 0, result.err
    notes = [line for line in result.err.splitlines() if line.startswith("note: ")]
    assert [note.split(" has no effect: ")[0] for note in notes] == [
        f"note: --{name}"
        for name in (
            "keep-intermediate", "keep-loaded", "basic-model-config", "resume-path", "config-path",
            "vocal-decoder-path", "inst-decoder-path",
        )
    ]  # fmt: skip
    folder = Path(result.json["folder"])
    assert folder.parent == tmp_path / "out"
    request = request_of(folder)
    assert (request["sections"], request["segment_seconds"], request["seed"]) == ("2", 1.5, 5)
    assert request["sampling"]["repetition_penalty"] == 1.2
    assert request["output"]["rescale"] is True
    reference = {
        "mix": str(recordings / "a.wav"),
        "vocal": None,
        "instrumental": None,
        "start": 0.5,
        "end": 1.5,
    }
    assert request["reference"] == reference
    assert [section["label"] for section in result.json["sections"]] == ["verse", "chorus"]
    assert (
        json.loads((folder / "song.json").read_text())["plan"]["stage2_rows"] == 2
    )  # all chunks of a song this short


def test_both_spellings_of_a_flag_are_one(capsys: Capture, recordings: Path, tmp_path: Path) -> None:
    under = official(tmp_path, recordings)
    dashes = [a.replace("_", "-") if isinstance(a, str) and a.startswith("--") else a for a in under]
    first, second = (
        cli(capsys, "run", *args, "--threads", 1, "--json", "-q").json["folder"] for args in (under, dashes)
    )
    assert first != second
    assert song_bytes(Path(first)) == song_bytes(Path(second))
    assert request_of(Path(first)) == request_of(Path(second))


@pytest.mark.skipif(not CPU_BUILD, reason="this llama.cpp can use a GPU")
def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(capsys: Capture, tmp_path: Path) -> None:
    for way in (("--device", "cuda:1"), ("--device", "metal"), ("--gpu-layers", 5)):
        result = cli(capsys, "run", *OURS, *FAST, *way, "-o", tmp_path / "out")
        assert result.code == 1
        assert result.error == (
            "error: the installed llama.cpp has no GPU support; pass --device cpu, or see: yuegguf doctor"
        )
        assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not CPU_BUILD, reason="this llama.cpp can use a GPU")
def test_infer_pys_cuda_index_sings_on_the_cpu_and_says_so(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "run", *OURS, *FAST, "--cuda_idx", 0, "-o", tmp_path)
    assert result.code == 0
    assert "note: --cuda-idx has no effect: the installed llama.cpp has no GPU support\n" in result.err


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("all", ["verse", "chorus", "outro"]),
        ("2", ["verse", "chorus"]),
        ("1,3", ["verse", "outro"]),
        ("3,1-2", ["outro", "verse", "chorus"]),
        ("9", ["verse", "chorus", "outro"]),
    ],
)
def test_sections_are_those_asked_for(spec: str, labels: list[str], run: Run) -> None:
    folder = run(*OURS, "--sections", spec)
    data = json.loads((folder / "song.json").read_text())
    assert [section["label"] for section in data["sections"]] == labels
    assert [section["start"] for section in data["sections"]] == [float(i) for i in range(len(labels))]
    assert np.load(folder / "stage1.npz")["codes"].shape == (2, 50 * len(labels))


def test_sampling_flags_reach_the_request(run: Run) -> None:
    flags = ("--cfg", "2,1.3", "--top-p", 0.8, "--top-k", 30, "--temperature", 0.7)
    sampling = request_of(run(*OURS, *flags))["sampling"]
    assert sampling == {
        "guidance_first": 2.0, "guidance_rest": 1.3, "repetition_penalty": 1.1, "temperature": 0.7,
        "top_k": 30,
        "top_p": 0.8, "min_new_tokens": 100,
    }  # fmt: skip
    assert request_of(run(*OURS, "--cfg", "2"))["sampling"]["guidance_rest"] == 2.0
    plain = run(*OURS, "--no-cfg")
    assert request_of(plain)["sampling"]["guidance_first"] == 1.0
    assert json.loads((plain / "song.json").read_text())["plan"]["stage1_rows"] == 1


def test_without_a_seed_it_is_random_said_and_stored(capsys: Capture, tmp_path: Path) -> None:
    flags = [flag for flag in FAST if flag not in ("--seed", 5)]
    seeds = []
    for _ in range(2):
        result = cli(capsys, "run", *OURS, *flags, "-o", tmp_path, "--json")
        seeds.append(result.json["seed"])
        assert f"seed {seeds[-1]}" in result.err
        assert request_of(Path(result.json["folder"]))["seed"] == seeds[-1]
    assert seeds[0] != seeds[1]


# References


def reference(folder: Path) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.load(folder / "reference.npy")


def test_a_single_reference_is_its_codes_of_the_window(
    run: Run, capsys: Capture, recordings: Path, tmp_path: Path
) -> None:
    for name, seconds in (("a.wav", 2), ("b.flac", 1.5)):
        assert cli(capsys, "encode", recordings / name, "-o", tmp_path, "--threads", 1).code == 0
        codes = np.load(tmp_path / f"{Path(name).stem}.npy")
        assert codes.shape == (8, round(50 * seconds))
        folder = run(*OURS, "--ref", recordings / name, "--ref-start", 0.5, "--ref-end", 1.2)
        assert (reference(folder) == codes[0, 25:60]).all()
        assert (reference(run(*OURS, "--ref", recordings / name)) == codes[0]).all()


def test_a_dual_reference_alternates_and_ends_with_the_shorter(
    run: Run, capsys: Capture, recordings: Path, tmp_path: Path
) -> None:
    files = (recordings / "b.flac", recordings / "long.wav")
    assert cli(capsys, "encode", *files, "-o", tmp_path, "--threads", 1).code == 0
    vocal, backing = (np.load(tmp_path / f"{file.stem}.npy")[0] for file in files)
    assert (vocal.shape, backing.shape) == ((75,), (200,))
    old = ("--use_dual_tracks_prompt", "--vocal_track_prompt_path", files[0])
    old += ("--instrumental_track_prompt_path", files[1], "--audio_prompt_path", recordings / "a.wav")
    for way in (("--ref-vocal", files[0], "--ref-inst", files[1]), old):
        found = reference(run(*OURS, *way, "--prompt_start_time", 1))
        assert (found[0::2] == vocal[50:75]).all()
        assert (found[1::2] == backing[50:75]).all()


def test_a_reference_changes_the_song(run: Run, song: Path, recordings: Path) -> None:
    with_one = song_bytes(run(*OURS, "--ref", recordings / "a.wav"))
    assert with_one["tokens.log"] != song_bytes(song)["tokens.log"]


# What comes out


def test_json_anywhere_is_one_object_and_talk_goes_to_stderr(capsys: Capture, tmp_path: Path) -> None:
    line = ["run", *OURS, *FAST, "-o", tmp_path]
    for place in (0, 1, len(line)):
        result = cli(capsys, *line[:place], "--json", *line[place:])
        assert result.code == 0
        assert result.out.count("\n") == 1
        folder = result.json["folder"]
        said = f"3 sections, seed 5, nano → {folder}\n3.00 s of music, seed 5\n"
        assert result.err == said
    assert result.json["seconds"] == FRAMES / 50
    assert result.json["files"] == [f"{folder}/{name}.wav" for name in ("mix", "vocals", "instrumental")]
    keys = {"label": "chorus", "start": 1.0, "seconds": 1.0, "complete": False}
    assert result.json["sections"][1] == keys


def test_without_json_stdout_lists_the_files(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "run", *OURS, *FAST, "-o", tmp_path, "--no-stems")
    assert result.out == f"{next(tmp_path.glob('*/mix.wav'))}\n"


def test_quiet_says_nothing(capsys: Capture, tmp_path: Path) -> None:
    for way in (("-q", "run"), ("run", "--quiet")):
        result = cli(capsys, *way, *OURS, *FAST, "-o", tmp_path)
        assert (result.code, result.err) == (0, "")
        assert len(result.out.splitlines()) == 3


def test_singing_with_the_miniature_unasked_is_noted(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "-q", "run", *OURS, *FAST[:-2], "-o", tmp_path)
    assert result.code == 0
    assert result.err == (
        "note: no model is installed, so the bundled miniature 'nano' sings; it is not YuE's quality\n"
    )


def test_every_format_has_882_samples_a_frame_and_says_where_it_is_from(run: Run) -> None:
    folder = run(*OURS, "--format", "wav,FLAC, mp3")
    names = sorted(path.name for path in folder.glob("*.*") if path.suffix in (".wav", ".flac", ".mp3"))
    tracks = ("instrumental", "mix", "vocals")
    assert names == sorted(f"{track}.{kind}" for track in tracks for kind in ("flac", "mp3", "wav"))
    waves = {name: soundfile.read(folder / name) for name in names}
    for name, (wave, rate) in waves.items():
        assert (wave.shape, rate) == ((882 * FRAMES,), 44100), name
        with soundfile.SoundFile(folder / name) as file:
            credit = f"AI-generated with YuE by HKUST/M-A-P (yuegguf {yuegguf.__version__})"
            assert (file.title, file.comment) == (GENRE.strip(), credit)
    for track in tracks:
        assert (waves[f"{track}.wav"][0] == waves[f"{track}.flac"][0]).all()
        assert 0 < np.abs(waves[f"{track}.mp3"][0] - waves[f"{track}.wav"][0]).mean() < 0.02


def test_no_tags_and_no_stems(run: Run, song: Path) -> None:
    folder = run(*OURS, "--no-tags", "--no-stems", "--format", "wav,flac,mp3")
    audio = sorted(path.name for path in folder.iterdir() if path.stem in ("mix", "vocals", "instrumental"))
    assert audio == ["mix.flac", "mix.mp3", "mix.wav"]
    for name in audio:
        assert b"AI-generated" not in (folder / name).read_bytes()
    assert b"AI-generated" in (song / "mix.wav").read_bytes()
    assert (soundfile.read(folder / "mix.wav")[0] == soundfile.read(song / "mix.wav")[0]).all()


def test_24_bits_are_finer_than_16(run: Run, song: Path) -> None:
    folder = run(*OURS, "--bits", 24, "--format", "wav,flac")
    fine, _ = soundfile.read(folder / "mix.wav", dtype="int32")
    coarse, _ = soundfile.read(song / "mix.wav", dtype="int32")
    assert (
        soundfile.info(folder / "mix.wav").subtype == soundfile.info(folder / "mix.flac").subtype == "PCM_24"
    )
    assert np.abs(fine.astype(np.int64) - coarse).max() <= 2**15  # half a step of 16 bits
    assert (fine & 0xFFFF).any()


@pytest.mark.parametrize("mix", ["upstream", "vocos", "codec", "split"])
def test_other_mixes_are_of_the_same_codes_and_sound_different(mix: str, run: Run, song: Path) -> None:
    found, usual = song_bytes(run(*OURS, "--mix", mix)), song_bytes(song)
    assert found["stage2.npz"] == usual["stage2.npz"]
    assert found["mix.wav"] != usual["mix.wav"]
    assert len(found["mix.wav"]) == len(usual["mix.wav"])


def test_gain_and_rescale_change_the_mix_but_not_the_codes(run: Run, song: Path) -> None:
    louder = run(*OURS, "--vocal-gain", 6, "--inst-gain", -60)
    assert song_bytes(louder)["vocals.wav"] == song_bytes(song)["vocals.wav"]
    assert song_bytes(louder)["mix.wav"] != song_bytes(song)["mix.wav"]


def test_the_song_folder_holds_what_its_manual_says(song: Path) -> None:
    names = (
        "instrumental.wav",
        "markers.txt",
        "mix.wav",
        "song.json",
        "stage1.npz",
        "stage2.npz",
        "tokens.log",
    )
    assert sorted(path.name for path in song.iterdir()) == sorted((*names, "vocals.wav"))
    assert song.name.startswith("warm-folk-female-")
    data = json.loads((song / "song.json").read_text("utf-8"))
    assert (data["format"], data["state"], data["family"]) == (1, "done", "nano")
    assert data["credit"] == "AI-generated with YuE by HKUST/M-A-P"
    stage1, stage2 = np.load(song / "stage1.npz"), np.load(song / "stage2.npz")["codes"]
    assert (stage1["codes"] == stage2[:, 0]).all()
    assert stage2.shape == (2, 8, FRAMES)
    assert stage1["frames"].tolist() == [50, 50, 50]
    log = (song / "tokens.log").read_text().split("section ")[1].split()
    assert log[1:3] == [str(stage1["codes"][0, 0]), str(stage1["codes"][1, 0])]
    marks = "0.000000\t1.000000\tverse\n1.000000\t2.000000\tchorus\n2.000000\t3.000000\toutro\n"
    assert (song / "markers.txt").read_text() == marks


def test_name_is_the_folders(run: Run) -> None:
    assert run(*OURS, "--name", "Mein Lied/№ 1").name.startswith("mein-lied-1-")


# decode and encode


def test_decoding_a_song_gives_its_files_again(capsys: Capture, song: Path, tmp_path: Path) -> None:
    result = cli(capsys, "decode", song, "-o", tmp_path, "--threads", 1, "--json")
    assert result.json == {
        "files": [str(tmp_path / f"{name}.wav") for name in ("mix", "vocals", "instrumental")],
        "seconds": FRAMES / 50,
    }
    for name in ("mix.wav", "vocals.wav", "instrumental.wav"):
        assert (tmp_path / name).read_bytes() == (song / name).read_bytes()


def official_pair(song: Path, folder: Path, names: tuple[str, str], kind: type) -> list[Path]:
    codes = np.load(song / "stage2.npz")["codes"]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for path, track in zip(paths, codes, strict=True):
        np.save(path, track.astype(kind))
    return paths


@pytest.mark.parametrize("kind", [np.int16, np.uint32])
@pytest.mark.parametrize("turned", [False, True])
def test_decoding_the_official_pair_in_either_order(
    kind: type, turned: bool, capsys: Capture, song: Path, tmp_path: Path
) -> None:
    pair = official_pair(song, tmp_path, ("cot_x_vtrack.npy", "cot_x_itrack.npy"), kind)
    args = (*(reversed(pair) if turned else pair), "-o", tmp_path / "out", "--threads", 1)
    assert cli(capsys, "decode", *args).code == 0
    for name in ("mix", "vocals", "instrumental"):
        ours, theirs = (soundfile.read(folder / f"{name}.wav")[0] for folder in (song, tmp_path / "out"))
        assert (ours == theirs).all()


def test_decoding_exl2s_folder_beside_itself(capsys: Capture, song: Path, tmp_path: Path) -> None:
    official_pair(song, tmp_path / "stage2", ("vtrack.npy", "itrack.npy"), np.int16)
    assert cli(capsys, "decode", tmp_path, "--no-tags", "--no-stems", "--threads", 1).code == 0
    assert (soundfile.read(tmp_path / "mix.wav")[0] == soundfile.read(song / "mix.wav")[0]).all()
    refused = cli(capsys, "decode", tmp_path, "--threads", 1)
    assert refused.code == 5
    assert refused.error == (
        f"error: {tmp_path / 'mix.wav'} is already there; pass -o FOLDER, or --force to replace it"
    )
    assert cli(capsys, "decode", tmp_path, "--threads", 1, "--force").code == 0
    assert (tmp_path / "vocals.wav").is_file()


def test_decoding_one_track_is_that_stem(capsys: Capture, song: Path, tmp_path: Path) -> None:
    official_pair(song, tmp_path, ("a_vtrack.npy", "a_itrack.npy"), np.int16)
    for name, stem in (("a_vtrack", "vocals"), ("a_itrack", "instrumental")):
        result = cli(capsys, "decode", tmp_path / f"{name}.npy", "--threads", 1, "--json")
        assert result.json["files"] == [str(tmp_path / f"{name}.wav")]
        assert (soundfile.read(tmp_path / f"{name}.wav")[0] == soundfile.read(song / f"{stem}.wav")[0]).all()


@pytest.mark.parametrize(("name", "samples"), [("a.wav", 32000), ("b.flac", 24000), ("long.wav", 64000)])
def test_encoding_any_rate_gives_50_frames_a_second(
    name: str, samples: int, capsys: Capture, recordings: Path, tmp_path: Path
) -> None:
    result = cli(capsys, "encode", recordings / name, "-o", tmp_path, "--threads", 1, "--json")
    target = tmp_path / f"{Path(name).stem}.npy"
    frames = (samples + 240) // 320
    assert result.json == {"files": [{"file": str(target), "codebooks": 8, "frames": frames}]}
    codes = np.load(target, allow_pickle=False)
    assert (codes.dtype, codes.shape) == (np.int16, (8, frames))
    assert 0 <= codes.min() <= codes.max() < 1024


def test_encoding_a_window_and_fewer_codebooks_cuts_the_whole(
    capsys: Capture, recordings: Path, tmp_path: Path
) -> None:
    assert cli(capsys, "encode", recordings / "a.wav", "-o", tmp_path / "all", "--threads", 1).code == 0
    cut = ("--codebooks", 1, "--start", 0.3, "--end", 1.1, "-o", tmp_path / "cut")
    assert cli(capsys, "encode", recordings / "a.wav", *cut, "--threads", 1).code == 0
    whole, part = np.load(tmp_path / "all" / "a.npy"), np.load(tmp_path / "cut" / "a.npy")
    assert part.shape == (1, 40)
    assert (part == whole[:1, 15:55]).all()


# From published checkpoints to a song


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    """A models folder made from checkpoints in the published layout by the three commands."""
    from nano.untrained import write_checkpoints

    root = tmp_path_factory.mktemp("published")
    write_checkpoints(root)
    stage1, stage2 = (
        root / "YuE-s1-7B-anneal-en-cot",
        root / "models--m-a-p--YuE-s2-1B-general" / "snapshots" / "1",
    )
    stage2.parent.mkdir(parents=True)
    shutil.move(root / "stage1", stage1)
    shutil.move(root / "stage2", stage2)
    models = root / "models"
    lines = [
        ("convert", stage1),
        ("convert", stage2),
        ("convert", stage1, "--type", "f16", "--name", "zh-cot", "--no-trim"),
        ("export-codec", root / "codec"),
    ]
    return models, [finish(start("--models-dir", models, *line, "--json")) for line in lines]


def test_converted_files_are_installed_under_their_ids(installed: tuple[Path, list[Result]]) -> None:
    models, results = installed
    assert [result.code for result in results] == [0] * 4, [result.err for result in results]
    names = ("en-cot-Q8_0.gguf", "s2-general-Q8_0.gguf", "zh-cot-F16.gguf")
    for name, result in zip(names, results, strict=False):
        assert result.json == {"file": str(models / name), "bytes": (models / name).stat().st_size}
    roles = ("encoder", "decoder", "vocal_upsampler", "instrumental_upsampler")
    assert results[3].json == {"files": [str(models / "xcodec" / f"{role}.onnx") for role in roles]}
    assert sorted(path.name for path in models.iterdir()) == sorted([*names, "xcodec"])


@pytest.fixture(scope="module")
def by_files(installed: tuple[Path, list[Result]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song of the installed family with every file named."""
    models = installed[0]
    files = ("--model", models / "en-cot-Q8_0.gguf", "--stage2-model", models / "s2-general-Q8_0.gguf")
    line = ("run", *OURS, *FAST[:-2], *files, "--codec", models / "xcodec", "--json")
    result = finish(start(*line, "-o", tmp_path_factory.mktemp("by-files")))
    assert result.code == 0, result.err
    return Path(result.json["folder"])


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("--model", "en-cot", "--stage2-model", "s2-general"),
        ("--stage1_model", "m-a-p/YuE-s1-7B-anneal-en-cot", "--stage2_model", "m-a-p/YuE-s2-1B-general"),
        ("--quant", "q8_0"),
        ("--model", "{models}/en-cot-Q8_0.gguf", "--codec", "{models}/xcodec"),
    ],
)
def test_an_installed_family_sings_by_name_what_its_files_sing(
    names: tuple[str, ...],
    capsys: Capture,
    installed: tuple[Path, list[Result]],
    by_files: Path,
    tmp_path: Path,
) -> None:
    """The same files, so the same song to the byte."""
    models = installed[0]
    args = [name.format(models=models) for name in names]
    line = ("--models-dir", models, "run", *OURS, *FAST[:-2], *args, "-o", tmp_path, "--json")
    result = cli(capsys, *line)
    assert result.code == 0, result.err
    assert "note:" not in result.err
    assert song_bytes(Path(result.json["folder"])) == song_bytes(by_files)


def test_an_untrimmed_f16_model_sings_too(
    capsys: Capture, installed: tuple[Path, list[Result]], tmp_path: Path
) -> None:
    line = (
        "--models-dir",
        installed[0],
        "run",
        *OURS,
        *FAST[:-2],
        "--model",
        "zh-cot",
        "-o",
        tmp_path,
        "--json",
    )
    result = cli(capsys, *line)
    assert (result.code, result.json["seconds"]) == (0, 3.0)
    again = tmp_path / "trimmed.gguf"
    made = cli(capsys, "convert", installed[0] / "zh-cot-F16.gguf", "-o", again, "--json")
    assert made.json == {"file": str(again), "bytes": again.stat().st_size}
    assert again.stat().st_size < (installed[0] / "zh-cot-F16.gguf").stat().st_size


def test_models_list_and_doctor_show_what_is_installed(
    capsys: Capture, installed: tuple[Path, list[Result]]
) -> None:
    models = installed[0]
    listed = cli(capsys, "--models-dir", models, "models", "list", "--json").json
    there = {row["id"]: row["installed"] for row in listed["models"] if row["installed"]}
    assert there == {
        "en-cot": [str(models / "en-cot-Q8_0.gguf")],
        "zh-cot": [str(models / "zh-cot-F16.gguf")],
        "s2-general": [str(models / "s2-general-Q8_0.gguf")],
        "xcodec": [str(models / "xcodec")],
    }
    assert listed["models_dir"] == str(models)
    lines = cli(capsys, "--models-dir", models, "models", "list").out.splitlines()
    assert len(lines) == 12
    assert lines[0] == (
        "en-cot       stage1    installed Apache-2.0  English; sings from tags and lyrics (en-cot-Q8_0.gguf)"
    )
    assert lines[2] == (
        "zh-cot       stage1    installed Apache-2.0  Mandarin and Cantonese; sings from tags and lyrics "
        "(zh-cot-F16.gguf)"
    )
    facts = cli(capsys, "--models-dir", models, "doctor", "--json").json
    assert facts["models"] == ["en-cot-Q8_0.gguf", "s2-general-Q8_0.gguf", "zh-cot-F16.gguf"]
    assert (facts["codec"], facts["models_dir"]) == (str(models / "xcodec"), str(models))


def test_doctor_on_a_bare_machine(capsys: Capture) -> None:
    result = cli(capsys, "doctor", "--json")
    facts = result.json
    assert result.code == (1 if facts["problems"] else 0)
    assert result.err == ""
    assert (facts["models"], facts["codec"]) == ([], "bundled nano")
    assert set(facts["fits"]) == {"Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"}
    text = cli(capsys, "doctor").out
    assert "models       none installed; the bundled nano sings\n" in text
    assert text.count(" needs ") == 5


# The whole program


def test_python_dash_m_and_version(tmp_path: Path) -> None:
    assert finish(start("--version")).out == f"yuegguf, version {yuegguf.__version__}\n"
    result = finish(start("run", *OURS, *FAST, "-o", tmp_path, "--json"))
    assert result.code == 0
    assert result.out.count("\n") == 1


@pytest.mark.parametrize(
    "command", ["run", "resume", "encode", "decode", "convert", "export-codec", "models", "doctor"]
)
def test_every_command_explains_itself_with_an_example(command: str, capsys: Capture) -> None:
    result = cli(capsys, command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: yuegguf {command}")
    if command != "models":
        assert f"  yuegguf {command.replace('_', '-')}" in result.out.split("\n", 1)[1]


def test_resume_without_a_name_takes_the_newest_interrupted(
    capsys: Capture, song: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "songs" / "mine"
    shutil.copytree(song, folder)
    data = json.loads((folder / "song.json").read_text())
    (folder / "song.json").write_text(json.dumps({**data, "state": "draft"}))
    for name in ("stage1.npz", "stage2.npz", "mix.wav"):
        (folder / name).unlink()
    result = cli(capsys, "resume", "-o", tmp_path / "songs", "--threads", 1, "--json")
    assert result.json["folder"] == str(folder)
    assert song_bytes(folder) == song_bytes(song)
    nothing = cli(capsys, "resume", "-o", tmp_path / "songs")
    assert nothing.error == (
        f"error: there is no interrupted song in {tmp_path / 'songs'}; pass the song folder to resume"
    )


def test_a_song_of_other_models_is_resumed_with_them(
    capsys: Capture, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundled stage 1 with a stage 2 of one's own, which was named relative to another folder."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.gguf"
    own.write_bytes(nano_models().stage2.read_bytes() + bytes(32))  # another file of the same weights
    folder = Path(cli(capsys, "run", *OURS, *FAST, "--stage2-model", "own.gguf", "--json").json["folder"])
    unrefine(folder.absolute())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = tmp_path / folder
    assert cli(capsys, "resume", folder, "--threads", 1).code == 0
    assert song_bytes(folder) == song_bytes(song)
    unrefine(folder)
    own.unlink()
    gone = cli(capsys, "resume", folder, "--threads", 1)
    assert gone.code == 7
    assert gone.error == (
        f"error: {nano_models().stage2} is not the stage2 model that this song was started with ({own}); put "
        f"that file back, or start a new song; then go on with: yuegguf resume {folder}"
    )


def unrefine(folder: Path) -> None:
    """Take a finished song back to the beginning of stage 2."""
    data = json.loads((folder / "song.json").read_text("utf-8"))
    (folder / "song.json").write_text(json.dumps({**data, "state": "refine"}))
    (folder / "stage2.npz").unlink()


# From Python


def test_generate_reports_progress_and_stops_when_told(tmp_path: Path) -> None:
    request = yuegguf.SongRequest("pop", LYRICS, segment_seconds=1, seed=5)
    events: list[yuegguf.Event] = []
    options = {"machine_options": Machine(threads=1), "models": ModelChoice("nano")}
    song = yuegguf.generate(request, output_dir=tmp_path, name="whole", progress=events.append, **options)
    assert isinstance(song, yuegguf.Song)
    assert (song.seconds, song.seed, len(song.files)) == (3.0, 5, 3)
    phases = [event.phase for event in events]
    assert phases == sorted(phases, key=("draft", "refine", "master").index)
    assert [e.done for e in events if e.phase == "refine"][-1] == 2 * FRAMES
    drafted = [e.done for e in events if e.phase == "draft"]
    assert drafted == sorted(drafted)
    assert events[-1] == yuegguf.Event("master", FRAMES, FRAMES)

    stop = threading.Event()

    def stop_soon(event: yuegguf.Event) -> None:
        if event.done >= 60:
            stop.set()

    with pytest.raises(Interrupted) as caught:
        yuegguf.generate(request, output_dir=tmp_path, name="whole", progress=stop_soon, stop=stop, **options)
    folder = caught.value.folder
    assert folder is not None
    assert (folder / "tokens.log").read_bytes().count(b"\n") == 1 + 2 + 2 * 60
    assert not (folder / "mix.wav").exists()
    resumed = yuegguf.resume(folder, machine_options=Machine(threads=1))
    assert song_bytes(resumed.folder) == song_bytes(song.folder)


def test_the_bundled_models_are_found_where_the_package_is() -> None:
    assert nano_models().stage1.parent == Path(yuegguf.__file__).parent / "data" / "nano"
    assert sys.modules["yuegguf"].__file__
