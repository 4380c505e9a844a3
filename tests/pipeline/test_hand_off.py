"""A finished song in another shape: rendered anew, as a zip; the commands' own documentation."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import FakeCodec
from helpers import Capture, cli, ended, refused, song_bytes
from mido import MidiFile
from mutagen.flac import FLAC
from mutagen.id3 import ID3

from yuegguf.audio.loudness import integrated_loudness
from yuegguf.audio.tags import Tags
from yuegguf.exchange.zip_bundle import without_paths
from yuegguf.pipeline.write_audio import with_estimates, write_song
from yuegguf.progress import Event
from yuegguf.request.song_request import Output
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import SONG_AUDIO

ROOT = Path(__file__).resolve().parents[2]
REQUEST = ("-g", "pop", "--lyrics", "[verse]\nla la la\n\n[outro]\n", "--segment-seconds", 2, "--seed", 3)
BY_FFMPEG = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg writes this format")
MACHINE = ("--threads", 1, "--stage2-batch", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from yuegguf import ComputeOptions, ModelChoice, SongRequest, generate

    request = SongRequest("pop", "[verse]\nla la la\n\n[outro]\n", segment_seconds=2, seed=3, retries=0)
    options = ComputeOptions(threads=1, stage2_rows=2)
    out = tmp_path_factory.mktemp("song")
    return generate(request, ModelChoice("nano"), out, name="song", compute=options).folder


@pytest.fixture
def song(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "song"))


def test_rendering_anew_changes_files_and_nothing_else(song: Path, whole: Path, capsys: Capture) -> None:
    made = cli(
        capsys,
        "render",
        song,
        "--mix",
        "vocos",
        "--format",
        "flac",
        "--bits",
        24,
        "--no-stems",
        "--force",
        "--json",
    )
    assert [Path(file).name for file in made.json["files"]] == ["mix.flac"]
    assert not (song / "mix.wav").exists()
    assert soundfile.info(song / "mix.flac").subtype == "PCM_24"
    for name in ("tokens.log", "stage1.npz", "stage2.npz"):
        assert (song / name).read_bytes() == (whole / name).read_bytes()
    back = cli(capsys, "render", song, "--mix", "hybrid", "--format", "wav", "--bits", 16, "--force")
    assert back.code == 0
    assert (song / "mix.wav").read_bytes() == (whole / "mix.wav").read_bytes()
    assert not (song / "vocals.wav").exists()  # --no-stems was not taken back


def test_a_gain_alone_keeps_everything_else_of_the_song(song: Path, whole: Path, capsys: Capture) -> None:
    assert cli(capsys, "render", song, "--vocal-gain", -6).code == 0
    before, after = song_bytes(whole), song_bytes(song)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {"mix.wav", "vocals.wav", "instrumental.wav"}  # the stems sum to the mix
    output = json.loads((song / "song.json").read_text("utf-8"))["request"]["output"]
    assert (output["vocal_gain"], output["formats"], output["stems"]) == (-6, ["wav"], True)


def test_stems_come_back_raw_at_their_own_level(song: Path, whole: Path, capsys: Capture) -> None:
    assert cli(capsys, "render", song, "--no-stems", "--force").code == 0
    assert cli(capsys, "render", song, "--stems", "raw", "--loudness", "off", "--fade", 0).code == 0
    mix, *stems = (soundfile.read(song / f"{name}.wav")[0] for name in SONG_AUDIO)
    assert np.abs(mix - sum(stems)).max() > 0.001
    joined = [soundfile.read(whole / f"{name}.wav")[0] for name in SONG_AUDIO]
    assert np.abs(joined[0] - joined[1] - joined[2]).max() < 2 / 32768
    assert integrated_loudness([joined[0].astype(np.float32)], 44100) == pytest.approx(-14, abs=0.5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--mix", "upstream", "--loudness", -16), "--loudness has no effect with --mix upstream"),
        (("--rescale", "--loudness", -16), "--loudness has no effect with --rescale"),
        (("--mix", "upstream", "--fade", 5), "--fade has no effect with --mix upstream"),
        (("--mix", "upstream", "--stems", "joined"), "--stems joined has no effect with --mix upstream"),
        (("--mix", "upstream", "--stereo"), "--stereo has no effect with --mix upstream"),
        (("--no-stems", "--stems", "raw"), "--stems has no effect with --no-stems"),
        (("--loudness", -99), "the loudness -99.0 is out of range"),
        (("--fade", "nan"), "the fade nan is out of range"),
    ],
)
def test_options_that_do_nothing_are_refused(
    song: Path, whole: Path, options: tuple[object, ...], complaint: str, capsys: Capture
) -> None:
    assert complaint in refused(capsys, 5, "render", song, *options)
    assert song_bytes(song) == song_bytes(whole)
    assert "is not a loudness" in refused(capsys, 2, "render", song, "--loudness", "loud")


def test_a_song_is_widened_and_in_mono_the_same(song: Path, whole: Path, capsys: Capture) -> None:
    assert cli(capsys, "render", song, "--stereo", "--loudness", "off").code == 0
    plain = Path(shutil.copytree(whole, song.parent / "plain"))
    assert cli(capsys, "render", plain, "--loudness", "off").code == 0
    for name in SONG_AUDIO:
        wide, mono = (soundfile.read(folder / f"{name}.wav")[0] for folder in (song, plain))
        assert wide.shape == (len(mono), 2)
        assert np.abs(wide.mean(axis=1) - mono).max() < 2 / 32768


def test_tags_hold_names_lyrics_and_sections(song: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "cover.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    options = ("--format", "mp3,flac", "--artist", "Ann", "--year", 2025, "--cover", picture, "--no-stems")
    assert cli(capsys, "render", song, *options).code == 0
    tags = ID3(song / "mix.mp3")
    names = {name: str(tags[name]) for name in ("TIT2", "TPE1", "TCON", "TDRC")}
    assert names == {"TIT2": "song", "TPE1": "Ann", "TCON": "pop", "TDRC": "2025"}
    assert str(tags.getall("USLT")[0]) == "[verse]\nla la la\n\n[outro]"
    assert tags.getall("SYLT")[0].text == [("la la la", 0)]
    assert [(c.start_time, c.end_time) for c in tags.getall("CHAP")] == [(0, 2000), (2000, 4000)]
    assert tags.getall("APIC")[0].data == picture.read_bytes()
    again = cli(capsys, "render", song, "--format", "flac", "--force")
    assert again.code == 0  # the names are those that it had
    assert (FLAC(song / "mix.flac")["ARTIST"], FLAC(song / "mix.flac")["DATE"]) == (["Ann"], ["2025"])
    assert "--artist has no effect with --no-tags" in refused(
        capsys, 5, "render", song, "--no-tags", "--artist", "Bea"
    )


def test_a_cover_that_is_gone_stops_no_rendering_but_that_which_names_it(
    song: Path, tmp_path: Path, capsys: Capture
) -> None:
    picture = tmp_path / "cover.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    named = ("--cover", picture)
    assert cli(capsys, "render", song, "--format", "mp3", "--no-stems", *named).code == 0
    picture.unlink()
    told = cli(capsys, "render", song, "--vocal-gain", 1)
    assert (told.code, told.err.count("there is no cover picture: the picture")) == (0, 1)
    assert not ID3(song / "mix.mp3").getall("APIC")
    assert "cover.png cannot be read" in refused(capsys, 5, "render", song, *named)
    for options in (("--format", "wav"), ("--format", "mp3", "--no-tags")):
        quiet = cli(capsys, "render", song, *options)
        assert (quiet.code, "cover" in quiet.err) == (0, False)
    assert ended(cli(capsys, "extend", song, "--retake", 1, "--seed", 1, *MACHINE, "-o", tmp_path / "new"))
    assert cli(capsys, "render", song, "--cover", "off").code == 0
    assert SongFolder.open(song).request.output.cover is None


def test_a_picture_that_is_gone_costs_no_song(song: Path) -> None:
    """It was there when the song began."""
    told: list[Event] = []
    codes = np.zeros((2, 8, 30), np.int16)
    output = Output(("mp3",), stems=False, cover=str(song / "gone.png"))
    (file,) = write_song(codes, FakeCodec(), output, song, "T", progress=told.append)
    assert not ID3(file).getall("APIC")
    warnings = [event.warning for event in told if event.warning]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        f"there is no cover picture: the picture {song / 'gone.png'} cannot be read"
    )


def test_a_song_that_is_not_refined_cannot_be_rendered(song: Path, capsys: Capture) -> None:
    (song / "stage2.npz").unlink()
    assert f"has no stage2.npz yet; run: yuegguf resume {song}" in refused(capsys, 5, "render", song)


def test_a_bundle_holds_everything_and_no_paths(song: Path, tmp_path: Path, capsys: Capture) -> None:
    found = cli(capsys, "bundle", song, "--json").json
    assert found["file"] == str(tmp_path / "song.zip")
    with zipfile.ZipFile(tmp_path / "song.zip") as archive:
        names = archive.namelist()
        facts = json.loads(archive.read("song/song.json"))
        assert archive.read("song/mix.wav") == (song / "mix.wav").read_bytes()
        assert archive.testzip() is None
    audio = ["mix.wav", "vocals.wav", "instrumental.wav"]
    assert names == [f"song/{name}" for name in (*audio, "markers.txt", "lyrics.lrc", "song.json")]
    assert str(ROOT) not in json.dumps(facts)
    assert facts["request"]["seed"] == 3


def test_a_bundle_of_a_song_with_a_beat_has_its_tempo_map(
    song: Path, tmp_path: Path, capsys: Capture
) -> None:
    place = np.arange(8 * 44_100) % 22_050
    beat = np.random.default_rng(0).standard_normal(len(place)) * np.exp(-place / 500) * 0.3
    soundfile.write(song / "mix.wav", beat, 44_100)
    told = cli(capsys, "bundle", song, "--json")
    assert told.json["estimate"]["bpm"] == pytest.approx(120, rel=0.01)
    assert {"tempo.mid", "beats.txt"} <= set(told.json["holds"])
    assert "estimated: 120" in told.err
    with zipfile.ZipFile(tmp_path / "song.zip") as archive:
        tempi = [m.tempo for m in MidiFile(file=archive.open("song/tempo.mid")) if m.type == "set_tempo"]
        assert np.median(tempi) == pytest.approx(500_000, rel=0.02)
        assert len(archive.read("song/beats.txt").splitlines()) in (len(tempi), len(tempi) + 1)


def test_tempo_and_key_are_in_the_tags_where_they_are_sure() -> None:
    place = np.arange(8 * 44_100) % 22_050
    beat = np.random.default_rng(0).standard_normal(len(place)) * np.exp(-place / 500) * 0.3
    assert with_estimates(Tags(), beat.astype(np.float32)).bpm == "120"
    hiss = (0.1 * np.random.default_rng(1).standard_normal(8 * 44_100)).astype(np.float32)
    assert with_estimates(Tags(), hiss).bpm == ""
    assert with_estimates(Tags(), hiss[:1000]) == Tags()


def test_the_same_song_gives_the_same_bundle(song: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in ("one.zip", "two.zip"):
        assert cli(capsys, "bundle", song, "-o", tmp_path / name).code == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_bundle_is_replaced_on_request_only_and_needs_a_finished_song(
    song: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert cli(capsys, "bundle", song).code == 0
    assert "is already there" in refused(capsys, 5, "bundle", song)
    assert cli(capsys, "bundle", song, "--force").code == 0
    (song / "mix.wav").unlink()
    assert "is not finished; run first: yuegguf resume" in refused(
        capsys, 5, "bundle", song, "-o", tmp_path / "x.zip"
    )
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize("left", [0, 4, 20, 5000])
def test_a_mix_that_is_cut_short_is_not_done_and_mended(
    song: Path, whole: Path, tmp_path: Path, capsys: Capture, left: int
) -> None:
    (song / "mix.wav").write_bytes((song / "mix.wav").read_bytes()[:left])
    assert cli(capsys, "songs", "status", song, "--json").json["state"] == "master"
    said = refused(capsys, 5, "bundle", song, "-o", tmp_path / "x.zip")
    assert "is not finished; run first: yuegguf resume" in said
    assert not (tmp_path / "x.zip").exists()
    assert cli(capsys, "resume", song, *MACHINE).code == 0
    assert (song / "mix.wav").read_bytes() == (whole / "mix.wav").read_bytes()


@pytest.mark.parametrize(
    "kind", ["flac", "mp3", *(pytest.param(kind, marks=BY_FFMPEG) for kind in ("opus", "m4a"))]
)
def test_a_bundle_of_a_file_that_is_cut_short_is_refused(
    song: Path, tmp_path: Path, capsys: Capture, kind: str
) -> None:
    assert cli(capsys, "render", song, "--format", kind, "--force").code == 0
    file = song / f"vocals.{kind}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    said = refused(capsys, 5, "bundle", song, "-o", tmp_path / "x.zip")
    assert f"{file} is damaged or cut short; write it again with: yuegguf render {song}" in said
    assert not (tmp_path / "x.zip").exists()
    assert cli(capsys, "render", song).code == 0
    assert cli(capsys, "bundle", song, "-o", tmp_path / "x.zip").code == 0


def test_paths_become_names_at_any_depth() -> None:
    facts = {"models": {"stage1": {"file": "/a/b.gguf"}}, "list": [{"mix": "/x/y.wav", "n": 1}], "mix": None}
    expected = {"models": {"stage1": {"file": "b.gguf"}}, "list": [{"mix": "y.wav", "n": 1}], "mix": None}
    assert without_paths(facts) == expected


def test_a_dry_run_says_what_will_be_and_writes_nothing(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    made = cli(capsys, "run", *REQUEST, *MACHINE, "-m", "nano", "-o", out, "--dry-run", "--json").json
    assert [(s["label"], s["verdict"]) for s in made["sections"]] == [
        ("verse", "fits"),
        ("outro", "instrumental"),
    ]
    assert made["music"] == 4.0
    assert made["disk"] > 3 * 4 * 44_100 * 2
    assert not out.exists()
