"""A given track: silent, or a recording that the other track is made to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import Capture, cli, edit_song, ended, refused
from song_examples import all_content

from yuegguf.errors import RequestError
from yuegguf.files.arrays import load_arrays, save_arrays
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline.engines import open_codec
from yuegguf.request.prepared import prepare, shared_frames
from yuegguf.request.song_request import GuideTrack, SongRequest
from yuegguf.song.encoding import EncodingMemory
from yuegguf.song.recordings import encode_guide_track, recorded_frames, silence_codes, wordless_lyrics

MACHINE = ("--threads", 1, "--stage2-batch", 2, "-m", "nano")
RATE, SECONDS = 22_050, 4.31


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels of a falling tone, at another rate than ours."""
    time = np.arange(round(RATE * SECONDS)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * (440 - 40 * time) * time) * (time % 0.5 < 0.4)
    path = tmp_path_factory.mktemp("recording") / "tone.flac"
    soundfile.write(path, np.stack([wave, 0.5 * wave], 1), RATE)
    return path


def wave_of(folder: Path, name: str) -> np.ndarray:
    wave, rate = soundfile.read(folder / f"{name}.wav", dtype="float32")
    assert rate == 44_100
    return wave


def codes_of(folder: Path) -> np.ndarray:
    return load_arrays(folder / "stage2.npz", ("codes",))["codes"]


@pytest.mark.parametrize(("option", "track"), [("--vocal", 0), ("--inst", 1)])
def test_the_recording_is_mixed_as_it_is_and_its_codes_are_the_tracks(
    option: str, track: int, recording: Path, tmp_path: Path, capsys: Capture
) -> None:
    lyrics = tmp_path / "lyrics.txt"
    lyrics.write_text("[verse]\nla la\n\n[chorus]\nlo lo\n")
    options = ("stems", option, recording, "-g", "pop", "-l", lyrics, "--seed", 1, "-o", tmp_path)
    level = ("--mix", "codec", "--loudness", "off", "--fade", 0)
    folder = Path(cli(capsys, *options, *MACHINE, *level, "--json").json["folder"])
    codes, frames = codes_of(folder), int(50 * SECONDS)
    assert codes.shape == (2, 8, frames)
    given, heard = encode_guide_track(
        GuideTrack(("vocal", "instrumental")[track], str(recording)),
        open_codec(nano_models().codec, 1),
        frames,
        EncodingMemory(),
    )
    assert (codes[track] == given).all()
    names = ("vocals", "instrumental")
    assert heard is not None
    assert np.abs(wave_of(folder, names[track]) - heard).max() < 2 / 32768
    both = wave_of(folder, names[0]) + wave_of(folder, names[1])
    assert np.abs(wave_of(folder, "mix") - both).max() < 4 / 32768
    sections = load_arrays(folder / "stage1.npz", ("frames",))["frames"]
    assert sections.tolist() == [frames // 2, frames - frames // 2]


def test_a_backing_needs_no_words_and_begins_at_its_offset(
    recording: Path, tmp_path: Path, capsys: Capture
) -> None:
    options = ("stems", "--vocal", recording, "-g", "pop", "--offset", 1.0, "--seed", 1, "-o", tmp_path)
    folder = Path(cli(capsys, *options, *MACHINE, "--json").json["folder"])
    assert codes_of(folder).shape[2] == int(50 * SECONDS) - 50
    whole = encode_guide_track(
        GuideTrack("vocal", str(recording)), open_codec(nano_models().codec, 1), 200, EncodingMemory()
    )
    assert (codes_of(folder)[0, :, :100] == whole[0][:, 50:150]).all()


@pytest.mark.parametrize(("flag", "track"), [("--instrumental", 0), ("--a-cappella", 1)])
def test_a_silent_track_is_silent_and_not_refined(
    flag: str, track: int, tmp_path: Path, capsys: Capture
) -> None:
    lyrics = ("--lyrics", "[verse]\nla la la\n")
    options = ("run", "-g", "pop", *lyrics, flag, "--segment-seconds", 3, "--seed", 1, "-o", tmp_path)
    folder = Path(cli(capsys, *options, *MACHINE, "--json").json["folder"])
    codes = codes_of(folder)
    quiet = silence_codes(open_codec(nano_models().codec, 1))
    assert (codes[track] == quiet[:, None]).all()
    assert (codes[1 - track] != quiet[:, None]).any()
    names = ("vocals", "instrumental")
    assert not wave_of(folder, names[track]).any()
    assert wave_of(folder, names[1 - track]).any()
    assert (wave_of(folder, "mix") == wave_of(folder, names[1 - track])).all()


def test_an_instrumental_needs_no_lyrics(tmp_path: Path, capsys: Capture) -> None:
    options = (
        "run",
        "-g",
        "pop",
        "--instrumental",
        "--segment-seconds",
        1.5,
        "--sections",
        2,
        "-o",
        tmp_path,
    )
    made = cli(capsys, *options, *MACHINE, "--draft", "--json").json
    assert [section["label"] for section in made["sections"]] == ["intro", "verse"]


def test_the_other_track_of_a_recording_does_not_depend_on_an_interruption(
    recording: Path, tmp_path: Path, capsys: Capture
) -> None:
    options = ("stems", "--vocal", recording, "-g", "pop", "--seed", 1, "-o", tmp_path, *MACHINE, "--json")
    folder = Path(cli(capsys, *options).json["folder"])
    whole, log = codes_of(folder), (folder / "tokens.log").read_bytes()
    (folder / "stage1.npz").unlink()
    (folder / "stage2.npz").unlink()
    (folder / "tokens.log").write_bytes(b"".join(log.splitlines(keepends=True)[:150]))
    ended(cli(capsys, "resume", folder, "--threads", 1))
    assert (folder / "tokens.log").read_bytes() == log
    assert (codes_of(folder) == whole).all()


@pytest.mark.parametrize(
    ("seconds", "frames", "expected"),
    [
        ([None], 100, [100]),
        ([None, None, None], 100, [33, 33, 34]),
        ([1.0, None], 120, [50, 70]),
        ([1.0, 1.4], 120, [50, 70]),
    ],
)
def test_sections_share_a_recording(seconds: list[float | None], frames: int, expected: list[int]) -> None:
    assert shared_frames(seconds, frames) == expected


@pytest.mark.parametrize(("seconds", "frames"), [([1.0, 1.0], 120), ([3.0, None], 120), ([None] * 3, 2)])
def test_sections_that_do_not_fit_a_recording_are_refused(seconds: list[float | None], frames: int) -> None:
    with pytest.raises(RequestError, match="do not fit the recording's"):
        shared_frames(seconds, frames)


def test_a_request_with_a_track_travels_through_json() -> None:
    track = GuideTrack("vocal", "/a.wav", 1.5, 200, True)
    request = SongRequest("pop", "[verse]\nla\n", track=track, take=3, retries=0)
    assert SongRequest.from_json(request.to_json()) == request
    assert prepare(request).caps == (200,)


def test_what_cannot_be_is_refused(recording: Path, tmp_path: Path, capsys: Capture) -> None:
    assert recorded_frames(GuideTrack("vocal", str(recording))) == int(50 * SECONDS)
    assert wordless_lyrics(61, 30).count("[verse]") == 3
    common = ("-g", "pop", "-o", tmp_path, *MACHINE)
    assert "pass the track that is there" in refused(capsys, 2, "stems", *common)
    assert "a vocal needs words" in refused(capsys, 2, "stems", "--inst", recording, *common)
    assert "too little is left of it" in refused(
        capsys, 5, "stems", "--vocal", recording, "--offset", 4, *common
    )
    assert "no audio file" in refused(capsys, 5, "stems", "--vocal", tmp_path / "no.wav", *common)
    both = ("--instrumental", "--a-cappella", "--lyrics", "[verse]\nla\n")
    assert "leave no track" in refused(capsys, 2, "run", *both, *common)


def test_a_silent_track_stays_silent_when_its_song_goes_on(tmp_path: Path, capsys: Capture) -> None:
    """Also behind sections that are longer than sections may be from now on."""
    lyrics = ("--lyrics", "[verse]\nla la\n\n[chorus]\nlo lo\n")
    options = ("--instrumental", "--sections", "1-1", "--segment-seconds", 3, "--seed", 1, "-o", tmp_path)
    song = cli(capsys, "run", "-g", "pop", *lyrics, *options, *MACHINE, "--json").json["folder"]
    more = ("extend", song, "--segment-seconds", 1, "--seed", 2, "-o", tmp_path)
    folder = Path(cli(capsys, *more, *MACHINE, "--json").json["folder"])
    codes = codes_of(folder)
    assert codes.shape[2] > codes_of(Path(song)).shape[2]
    assert (codes[0] == silence_codes(open_codec(nano_models().codec, 1))[:, None]).all()
    assert not wave_of(folder, "vocals").any()


def test_a_guide_track_that_does_not_fit_is_refused_before_any_work(tmp_path: Path, capsys: Capture) -> None:
    options = ("--instrumental", "--lyrics", "[verse]\nla la\n", "--segment-seconds", 1, "-o", tmp_path)
    folder = Path(cli(capsys, "run", "-g", "pop", *options, *MACHINE, "--json").json["folder"])
    save_arrays(folder / "track.npz", {"codes": np.zeros((8, 20), np.int16)})
    for state, gone in (("refine", "stage2.npz"), ("draft", "stage1.npz")):
        (folder / gone).unlink()
        edit_song(folder, state=state)
        before = all_content(folder)
        assert "track.npz has 20 frames, of 50 of the song" in refused(capsys, 7, "resume", folder)
        assert all_content(folder) == before


def test_takes_encode_a_recording_once(
    recording: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []

    def counted(*args: object) -> object:
        encoded.append(args)
        return encode_guide_track(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("yuegguf.pipeline.phases.encode_guide_track", counted)
    options = ("stems", "--vocal", recording, "-g", "pop", "--seed", 1, "-o", tmp_path, "-n", 3)
    takes = cli(capsys, *options, *MACHINE, "--json").json["takes"]
    assert len(encoded) == 1
    tracks = [load_arrays(Path(take["folder"]) / "track.npz", ("codes",))["codes"] for take in takes]
    assert all((track == tracks[0]).all() for track in tracks)
