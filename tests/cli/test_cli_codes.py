"""The commands decode and encode: codes to audio, audio to codes, nothing replaced unasked."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import FAST, FRAMES, OURS, Capture, cli, edit_song

from yuegguf.errors import RequestError
from yuegguf.exchange.encode_files import EncodeOptions
from yuegguf.models.resolve import nano_models

SONG = (*OURS, *FAST)
pytestmark = pytest.mark.usefixtures("no_models")


def recording(path: Path, seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(round(16000 * seconds)) / 9), 16000)
    return path


# What they make


def test_decoding_a_song_gives_its_files_again(capsys: Capture, song: Path, tmp_path: Path) -> None:
    result = cli(capsys, "decode", song, "-o", tmp_path, "--threads", 1, "--json")
    assert result.json == {
        "files": [str(tmp_path / f"{name}.wav") for name in ("mix", "vocals", "instrumental")],
        "seconds": FRAMES / 50,
    }
    for name in ("mix.wav", "vocals.wav", "instrumental.wav"):
        assert (tmp_path / name).read_bytes() == (song / name).read_bytes()


def test_decoding_a_song_keeps_its_title(capsys: Capture, song: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(song, tmp_path / "song"))
    edit_song(folder, title="River")
    assert cli(capsys, "decode", folder, "-o", tmp_path / "out", "--threads", 1).code == 0
    with soundfile.SoundFile(tmp_path / "out" / "mix.wav") as mix:
        assert mix.title == "River"


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
        f"error: {tmp_path / 'mix.wav'} is already there; "
        "choose another place with -o, or replace it with --force"
    )
    assert cli(capsys, "decode", tmp_path, "--threads", 1, "--force").code == 0
    assert (tmp_path / "vocals.wav").is_file()


def test_decoding_one_track_is_that_stem_by_itself(capsys: Capture, song: Path, tmp_path: Path) -> None:
    official_pair(song, tmp_path, ("a_vtrack.npy", "a_itrack.npy"), np.int16)
    raw = tmp_path / "raw"
    assert cli(capsys, "decode", song, "-o", raw, "--stems", "raw", "--threads", 1).code == 0
    for name, stem in (("a_vtrack", "vocals"), ("a_itrack", "instrumental")):
        result = cli(capsys, "decode", tmp_path / f"{name}.npy", "--threads", 1, "--json")
        assert result.json["files"] == [str(tmp_path / f"{name}.wav")]
        assert (soundfile.read(tmp_path / f"{name}.wav")[0] == soundfile.read(raw / f"{stem}.wav")[0]).all()


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


def test_the_bundled_codec_is_said_once_unless_it_was_named(
    capsys: Capture, song: Path, recordings: Path, tmp_path: Path
) -> None:
    encode = ("encode", recordings / "a.wav", "-o", tmp_path, "--threads", 1)
    sentence = "no codec is installed, so the bundled miniature 'nano' is used"
    assert cli(capsys, *encode).err.count(sentence) == 1
    assert cli(capsys, "decode", tmp_path / "a.npy", "--threads", 1).err.count("bundled miniature") == 1
    assert "miniature" not in cli(capsys, *encode, "--force", "--codec", nano_models().codec).err
    assert "miniature" not in cli(capsys, "decode", song, "-o", tmp_path / "song", "--threads", 1).err


def test_encoding_a_window_and_fewer_codebooks_cuts_the_whole(
    capsys: Capture, recordings: Path, tmp_path: Path
) -> None:
    assert cli(capsys, "encode", recordings / "a.wav", "-o", tmp_path / "all", "--threads", 1).code == 0
    cut = ("--codebooks", 1, "--start", 0.3, "--end", 1.1, "-o", tmp_path / "cut")
    assert cli(capsys, "encode", recordings / "a.wav", *cut, "--threads", 1).code == 0
    whole, part = np.load(tmp_path / "all" / "a.npy"), np.load(tmp_path / "cut" / "a.npy")
    assert part.shape == (1, 40)
    assert (part == whole[:1, 15:55]).all()


# What they refuse


def test_two_recordings_of_one_name_are_refused_before_any_work(capsys: Capture, tmp_path: Path) -> None:
    a, b = recording(tmp_path / "a" / "song.wav"), recording(tmp_path / "b" / "song.flac")
    out = tmp_path / "codes"
    result = cli(capsys, "encode", a, b, "-o", out, "--force", "--threads", 1)
    assert (result.code, out.exists()) == (5, False)
    assert result.error.startswith(f"error: {a} and {b} would both become {out / 'song.npy'}; ")
    twice = cli(capsys, "encode", a, a.parent / ".." / "a" / a.name, "--threads", 1)
    assert (twice.code, sorted(a.parent.iterdir())) == (5, [a])
    apart = cli(capsys, "encode", a, b, "--threads", 1)
    assert apart.out.split() == [str(a.with_suffix(".npy")), str(b.with_suffix(".npy"))]


def test_codes_that_are_there_are_replaced_on_request_only(capsys: Capture, tmp_path: Path) -> None:
    first, second = recording(tmp_path / "a.wav"), recording(tmp_path / "vocal.wav")
    kept = tmp_path / "vocal.npy"
    kept.write_bytes(b"mine")
    result = cli(capsys, "encode", first, second, "--threads", 1)
    assert (result.code, kept.read_bytes(), (tmp_path / "a.npy").exists()) == (5, b"mine", False)
    assert (
        result.error
        == f"error: {kept} is already there; choose another place with -o, or replace it with --force"
    )
    assert cli(capsys, "encode", first, second, "--threads", 1, "--force").code == 0
    assert np.load(kept).shape == (8, 50)


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        (("--start", "100"), "the window from 100 s holds nothing of {file}, which is 1 s long; "),
        (("--start", "1"), "the window from 1 s holds nothing of {file}, which is 1 s long; "),
        (("--start", "1e308"), "the window from 1e+308 s holds nothing of {file}, which is 1 s long; "),
        (("--start", "0.001", "--end", "0.002"), "the window from 0.001 s holds nothing of {file}"),
        (("--start", "inf"), "the window inf-inf s is empty; pass --start < --end"),
        (("--start", "2", "--end", "1"), "the window 2-1 s is empty; pass --start < --end"),
    ],
)
def test_windows_without_a_frame_are_refused(
    window: tuple[str, ...], sentence: str, capsys: Capture, tmp_path: Path
) -> None:
    file = recording(tmp_path / "a.wav")
    result = cli(capsys, "encode", file, *window, "--threads", 1)
    assert (result.code, list(tmp_path.iterdir())) == (5, [file])
    assert result.error.startswith("error: " + sentence.format(file=file))


@pytest.mark.parametrize("end", ["inf", "1e308", "1000"])
def test_an_end_past_the_file_is_its_end(end: str, capsys: Capture, tmp_path: Path) -> None:
    file = recording(tmp_path / "a.wav")
    result = cli(capsys, "encode", file, "--start", 0.5, "--end", end, "--threads", 1, "--json")
    assert result.json["files"][0]["frames"] == 25


def test_codes_of_no_frames_become_no_audio(capsys: Capture, tmp_path: Path) -> None:
    for name in ("a_vtrack.npy", "a_itrack.npy"):
        np.save(tmp_path / name, np.zeros((8, 0), np.int16))
    before = sorted(tmp_path.iterdir())
    for given in (tmp_path / "a_vtrack.npy", tmp_path):
        result = cli(capsys, "decode", given, "--threads", 1)
        assert (result.code, sorted(tmp_path.iterdir())) == (5, before)
        assert result.error.startswith(f"error: {given} holds no frames of music; ")


def test_the_window_of_a_request_is_refused_as_one() -> None:
    assert EncodeOptions(start=0.5).window == slice(25, sys.maxsize)
    assert EncodeOptions(start=0.3, end=1.1).window == slice(15, 55)
    for start, end in ((1.0, 1.0), (-0.5, 1.0), (math.nan, None)):
        with pytest.raises(RequestError, match="is empty"):
            EncodeOptions(start=start, end=end)
    with pytest.raises(RequestError, match="codebooks"):
        EncodeOptions(codebooks=9)


def test_a_folder_that_is_a_circle_of_links_is_refused(capsys: Capture, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    (tmp_path / "loop").symlink_to("loop")
    result = cli(capsys, "encode", tmp_path / "a.wav", "-o", tmp_path / "loop")
    assert result.code == 1
    assert "could not be written" in result.error
