"""The command line: what comes out, on the terminal and in the song's folder, byte by byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import FAST, FRAMES, GENRE, OURS, Capture, Run, cli, ended, song_bytes

import yuegguf

SONG = (*OURS, *FAST)
pytestmark = pytest.mark.usefixtures("no_models")


def test_json_anywhere_is_one_object_and_talk_goes_to_stderr(capsys: Capture, tmp_path: Path) -> None:
    line = ["run", *OURS, *FAST, "-o", tmp_path]
    for place in (0, 1, len(line)):
        result = cli(capsys, *line[:place], "--json", *line[place:])
        ended(result)
        assert result.out.count("\n") == 1
        folder = result.json["folder"]
        said = f"3 sections, seed 5, nano → {folder}\n3.00 s of music, seed 5\n"
        assert result.err == said
    assert result.json["seconds"] == FRAMES / 50
    assert result.json["files"] == [f"{folder}/{name}.wav" for name in ("mix", "vocals", "instrumental")]
    keys = {"label": "chorus", "start": 1.0, "seconds": 1.0, "complete": False, "fault": "", "lost_lines": 0}
    assert result.json["sections"][1] == keys


def test_without_json_stdout_lists_the_files(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "run", *OURS, *FAST, "-o", tmp_path, "--no-stems")
    assert result.out == f"{next(tmp_path.glob('*/mix.wav'))}\n"


def test_quiet_prints_nothing(capsys: Capture, tmp_path: Path) -> None:
    for way in (("-q", "run"), ("run", "--quiet")):
        result = cli(capsys, *way, *OURS, *FAST, "-o", tmp_path)
        ended(result)
        assert result.err == ""
        assert len(result.out.splitlines()) == 3


def test_falling_back_to_the_miniature_is_noted(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "-q", "run", *OURS, *FAST[:-2], "-o", tmp_path)
    ended(result)
    assert result.err == (
        "note: no model is installed, so the bundled miniature 'nano' is used; it is not YuE's quality\n"
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
        lossy, exact = (waves[f"{track}.{kind}"][0] for kind in ("mp3", "wav"))
        assert 0 < np.abs(lossy - exact).mean() < 0.5 * np.abs(exact).mean()


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
    assert song_bytes(louder)["stage2.npz"] == song_bytes(song)["stage2.npz"]
    assert song_bytes(louder)["mix.wav"] != song_bytes(song)["mix.wav"]


def test_the_song_folder_holds_what_its_manual_says(song: Path) -> None:
    names = (
        "instrumental.wav",
        "lyrics.lrc",
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
    log = [line.split(" ")[0] for line in (song / "tokens.log").read_text().splitlines()]
    assert log[2:4] == [str(stage1["codes"][0, 0]), str(stage1["codes"][1, 0])]
    marks = "0.000000\t1.000000\tverse\n1.000000\t2.000000\tchorus\n2.000000\t3.000000\toutro\n"
    assert (song / "markers.txt").read_text() == marks


def test_name_is_the_folders(run: Run) -> None:
    assert run(*OURS, "--name", "Mein Lied/№ 1").name.startswith("mein-lied-1-")
