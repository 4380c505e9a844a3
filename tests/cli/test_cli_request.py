"""The command line: what goes in, as text, files, flags and references."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers import FAST, GENRE, LYRICS, OURS, Capture, Run, cli, ended, song_bytes

import yuegguf
from yuegguf.lm.build import build_info

CPU_BUILD = build_info()["gpu"] == "no"
SONG = (*OURS, *FAST)
pytestmark = pytest.mark.usefixtures("no_models")


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
    ended(result)
    notes = [line for line in result.err.splitlines() if line.startswith("note: ")]
    assert [note.split(" has no effect: ")[0] for note in notes] == [
        f"note: --{name}"
        for name in (
            "keep-intermediate", "disable-offload-model", "basic-model-config", "resume-path", "config-path",
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
        "voice": None,
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
def test_a_gpu_that_is_requested_and_not_there_is_an_error(capsys: Capture, tmp_path: Path) -> None:
    for way in (("--device", "cuda:1"), ("--device", "metal"), ("--gpu-layers", 5)):
        result = cli(capsys, "run", *OURS, *FAST, *way, "-o", tmp_path / "out")
        assert result.code == 1
        assert result.error == (
            "error: the installed llama.cpp has no GPU support; pass --device cpu, or see: yuegguf doctor"
        )
        assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not CPU_BUILD, reason="this llama.cpp can use a GPU")
def test_infer_pys_cuda_index_runs_on_the_cpu_with_a_note(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "run", *OURS, *FAST, "--cuda_idx", 0, "-o", tmp_path)
    ended(result)
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
def test_sections_are_those_requested(spec: str, labels: list[str], run: Run) -> None:
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


def test_without_a_seed_it_is_random_printed_and_stored(capsys: Capture, tmp_path: Path) -> None:
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
    return np.load(folder / "reference.npz")["codes"]


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


def test_tracks_of_different_length_are_cut_with_a_notice(
    capsys: Capture, recordings: Path, tmp_path: Path
) -> None:
    pair = ("--ref-vocal", recordings / "b.flac", "--ref-inst", recordings / "long.wav")
    result = cli(capsys, "run", *OURS, *FAST, *pair, "-o", tmp_path, "--json")
    ended(result)
    notice = "note: b.flac is 1.5 s and long.wav is 4 s long: the longer track is cut to the shorter\n"
    assert notice in result.err
    folder = Path(result.json["folder"])
    assert len(reference(folder)) == 150
    wanted = request_of(folder)["reference"]
    assert (wanted["start"], wanted["end"]) == (0.0, 1.5)  # what there is, not the 30 s that were asked for


@pytest.mark.parametrize(
    ("kind", "rate", "channels"),
    [
        ("WAV", 8000, 1),
        ("WAV", 96000, 6),
        ("FLAC", 22050, 2),
        ("OGG", 48000, 2),
        ("AIFF", 11025, 1),
        ("MP3", 44100, 2),
    ],
)
def test_any_format_rate_and_channel_count_is_a_reference(
    kind: str, rate: int, channels: int, capsys: Capture, tmp_path: Path
) -> None:
    wave = 0.2 * np.sin(np.arange(rate)[:, None] * np.arange(1, channels + 1) / 30)
    file = tmp_path / f"a.{kind.lower()}"
    soundfile.write(file, wave, rate, format=kind)
    samples = -(-soundfile.info(file).frames * 16000 // rate)  # a lossy format may add some
    result = cli(capsys, "run", *OURS, *FAST, "--ref", file, "-o", tmp_path / "songs", "--json")
    ended(result)
    assert len(reference(Path(result.json["folder"]))) == (samples + 240) // 320


def test_a_reference_changes_the_song(run: Run, song: Path, recordings: Path) -> None:
    with_one = song_bytes(run(*OURS, "--ref", recordings / "a.wav"))
    assert with_one["tokens.log"] != song_bytes(song)["tokens.log"]
