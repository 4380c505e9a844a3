"""A song that goes on from another: what stays, what is drawn, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import Capture, cli, edit_song, ended, refused

from yuegguf.errors import RequestError
from yuegguf.files.arrays import load_arrays
from yuegguf.lm.vocab import split_tracks
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import takes
from yuegguf.pipeline.extend import DraftedSong, ExtendRequest, extend
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.kept_part import read_kept_part
from yuegguf.song.token_log import TokenLog
from yuegguf.stages.stage1_task import END_OF_AUDIO, KeptPrefix

LYRICS = "[verse]\nla\n\n[chorus]\nlo\n\n[bridge]\nli\n\n[outro]\nlu\n"
REQUEST = SongRequest("pop", LYRICS, sections="3", segment_seconds=2, seed=1)
FRAMES = (100, 60, 80)
CODES = np.random.default_rng(1).integers(0, 1024, (2, 8, sum(FRAMES))).astype(np.int16)
SONG = DraftedSong(REQUEST, FRAMES, CODES)


def test_the_next_section_follows_whole_ones() -> None:
    made = extend(SONG, ExtendRequest(7))
    assert (made.request.sections, made.request.seed) == ("1,2,3,4", 7)
    assert made.base.prefix == KeptPrefix(3)
    assert made.base.frames == FRAMES
    assert (made.base.before == CODES).all()
    assert made.base.after.shape == (2, 8, 0)
    assert [len(draws) for draws in made.draws] == [201, 121, 161]
    assert all(draws[-1] == END_OF_AUDIO for draws in made.draws)
    drawn = [code for draws in made.draws for code in draws if code != END_OF_AUDIO]
    assert (split_tracks(drawn) == CODES[:, 0]).all()


@pytest.mark.parametrize(
    ("seconds", "same", "given", "frames", "sections"),
    [
        (0.5, False, KeptPrefix(3), (100, 60, 55), "1,2,3,4"),
        (0.5, True, KeptPrefix(2, 110), (100, 60, 55), "1,2,3"),
        (1.6, False, KeptPrefix(2), (100, 60), "1,2,3"),
        (1.6, True, KeptPrefix(1, 120), (100, 60), "1,2"),
        (2.0, True, KeptPrefix(1, 80), (100, 40), "1,2"),
        (3.0, True, KeptPrefix(0, 180), (90,), "1-1"),
        (3.0, False, KeptPrefix(1), (90,), "1,2"),
    ],
)
def test_rewinding_cuts_where_it_falls(
    seconds: float, same: bool, given: KeptPrefix, frames: tuple[int, ...], sections: str
) -> None:
    wanted = ExtendRequest(7, rewind=seconds, same_section=same)
    made = extend(SONG, wanted)
    assert (made.base.prefix, made.base.frames, made.request.sections) == (given, frames, sections)
    assert (made.base.before == CODES[:, :, : sum(frames)]).all()
    begun = [draws[-1] == END_OF_AUDIO for draws in made.draws]
    assert begun == [True] * given.sections + [False] * (len(frames) - given.sections)


@pytest.mark.parametrize(
    ("wanted", "notices"),
    [
        (ExtendRequest(7), ()),
        (ExtendRequest(7, "1"), ()),
        (ExtendRequest(7, "9"), ("--sections 9: the lyrics have 1 section more, which is generated",)),
        (
            ExtendRequest(7, "9", rewind=1.6),
            ("--sections 9: the lyrics have 2 sections more, which are all generated",),
        ),
    ],
)
def test_more_sections_than_there_are_give_a_notice(wanted: ExtendRequest, notices: tuple[str, ...]) -> None:
    assert extend(SONG, wanted).notices == notices


@pytest.mark.parametrize("keep", [False, True])
def test_a_retake_keeps_what_is_before_and_on_request_what_is_after(keep: bool) -> None:
    made = extend(SONG, ExtendRequest(7, retake=2, keep_after=keep))
    assert made.base.prefix == KeptPrefix(1)
    assert (made.base.before == CODES[:, :, :100]).all()
    assert made.request.sections == ("1,2,3" if keep else "1,2")
    assert made.base.after_frames == ((80,) if keep else ())
    assert (made.base.after == CODES[:, :, 160 if keep else 240 :]).all()


def test_new_lyrics_bring_more_sections() -> None:
    more = LYRICS + "\n[verse]\nle\n\n[outro]\nly\n"
    made = extend(SONG, ExtendRequest(7, lyrics=more, sections="2"))
    assert (made.request.lyrics, made.request.sections) == (more, "1,2,3,4,5")
    assert extend(SONG, ExtendRequest(7, lyrics=more, sections="all")).request.sections == "1,2,3,4,5,6"
    assert extend(SONG, ExtendRequest(7, lyrics=more, sections="5-6")).request.sections == "1,2,3,5,6"


@pytest.mark.parametrize(
    ("options", "bodies", "others"),
    [
        ({}, ["la", "lo", "li", "ly"], "section 1 [verse], section 3 [bridge]"),
        ({"rewind": 1.6}, ["la", "lo", "oh", "ly"], "section 1 [verse]"),
        ({"rewind": 1.0, "same_section": True}, ["la", "lo", "oh", "ly"], "section 1 [verse]"),
        ({"retake": 1}, ["hey", "lo", "oh", "ly"], ""),
        ({"retake": 1, "keep_after": True}, ["hey", "lo", "li", "ly"], "section 3 [bridge]"),
    ],
)
def test_kept_sections_keep_their_words(options: dict[str, object], bodies: list[str], others: str) -> None:
    other = "[Intro 1]\nhey\n\n[Chorus]\nLo!\n\n[bridge]\noh\n\n[outro]\nly\n"
    made = extend(SONG, ExtendRequest(7, lyrics=other, **options))  # type: ignore[arg-type]
    sections = parse_lyrics(made.request.lyrics).sections
    assert [re.sub(r"\W", "", section.body.lower()) for section in sections] == bodies
    assert sections[0].label == ("verse" if bodies[0] == "la" else "intro")
    told = f"sections that are kept keep their words, although the new lyrics have others: {others}"
    labels = "labels are read as words that the model knows: [Intro 1] as [intro]"
    assert made.notices == ((labels, told) if others else ())
    if not others:
        assert made.request.lyrics == other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewind": 5.0}, "the song is 4.8 s long, so nothing is left"),
        ({"retake": 4}, "there is no section 4 to retake"),
        ({"retake": 1, "rewind": 1.0}, "a retake adds nothing"),
        ({"keep_after": True}, "--keep-after belongs to --retake"),
        ({"sections": "9"}, None),
        ({"sections": "7-8"}, "--sections 7-8 is not among the 4 sections"),
        ({"sections": "²"}, "--sections '²' is not a choice of sections"),
        ({"sections": "9" * 5000}, "--sections '9{80}' is not a choice of sections"),
        ({"sections": "0"}, "--sections 0 leaves nothing to generate"),
        ({"sections": "", "same_section": True}, "--sections '' is not a choice of sections"),
        ({"sections": "", "retake": 1}, "a retake adds nothing"),
        ({"lyrics": ""}, "the lyrics are empty"),
        ({"segment_seconds": 0.0}, "segment-seconds 0"),
        ({"lyrics": "[verse]\nla\n"}, "the one section of the lyrics is generated"),
        ({"rewind": 2.8, "same_section": True}, "section 1 has 2 s of at most 2 s already"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str | None) -> None:
    if message is None:
        assert extend(SONG, ExtendRequest(7, **options)).request.sections == "1,2,3,4"  # type: ignore[arg-type]
        return
    with pytest.raises(RequestError, match=message):
        extend(SONG, ExtendRequest(7, **options))  # type: ignore[arg-type]


MACHINE = ("--threads", 1, "--stage2-batch", 2)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short song of nano, two of whose three sections are sung."""
    from yuegguf import generate

    request = SongRequest("pop", LYRICS, sections="2", segment_seconds=3, seed=4)
    options = ComputeOptions(threads=1, stage2_rows=2)
    return generate(request, output_dir=tmp_path_factory.mktemp("song"), compute=options).folder


def codes_of(folder: Path) -> np.ndarray:
    return load_arrays(folder / "stage2.npz", ("codes",))["codes"]


def test_what_is_given_comes_out_as_it_was_and_is_not_refined_again(
    song: Path, tmp_path: Path, capsys: Capture
) -> None:
    made = cli(capsys, "extend", song, "--seed", 2, "-o", tmp_path, *MACHINE, "--json").json
    folder = Path(made["folder"])
    before, after = codes_of(song), codes_of(folder)
    assert (after[:, :, : before.shape[2]] == before).all()
    assert after.shape[2] > before.shape[2]
    assert [section["label"] for section in made["sections"]] == ["verse", "chorus", "bridge"]
    facts = json.loads((folder / "song.json").read_text("utf-8"))
    assert facts["from"] == {"folder": song.name, "seed": 4}
    base = read_kept_part(folder)
    assert base
    assert base.refined


def test_new_lyrics_report_their_changes(song: Path, tmp_path: Path) -> None:
    old, events = SongFolder.open(song), list[Event]()
    job = SongJob(old.song, nano_models(), tmp_path, None, ComputeOptions(threads=1, stage2_rows=2))
    more = f"{LYRICS}[Verse 2: soft]\nle\n"
    takes.start_extension(old, ExtendRequest(7, lyrics=more), job, events.append)
    assert [event.warning for event in events] == [
        "labels are read as words that the model knows: [Verse 2: soft] as [verse]"
    ]
    takes.start_extension(old, ExtendRequest(7), job, events.append)
    assert len(events) == 1


def test_the_markers_of_a_kept_section_are_those_that_it_was_generated_with(
    song: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("[intro]\n\n[chorus]\nlo\n\n[outro]\nlu\n")
    made = cli(capsys, "extend", song, "-l", other, "--seed", 2, "-o", tmp_path, *MACHINE)
    assert "note: sections that are kept keep their words" in made.err
    (folder,) = (path.parent for path in tmp_path.glob("*/song.json"))
    assert re.findall(r"[a-z]+$", (folder / "markers.txt").read_text(), re.MULTILINE) == [
        *("verse", "chorus", "outro")
    ]
    assert "] la\n" in (folder / "lyrics.lrc").read_text()


def test_a_retake_in_the_middle_leaves_both_ends_as_they_are(
    song: Path, tmp_path: Path, capsys: Capture
) -> None:
    options = ("--retake", 1, "--keep-after", "--seed", 3)
    result = cli(capsys, "extend", song, *options, "-o", tmp_path, *MACHINE, "--json")
    assert "left out" not in result.err
    folder = Path(result.json["folder"])
    old, new = codes_of(song), codes_of(folder)
    first, second = load_arrays(song / "stage1.npz", ("frames",))["frames"].tolist()
    assert (new[:, :, -second:] == old[:, :, first:]).all()
    drawn = new[:, 0, :-second]
    assert drawn.shape[1] != first or (drawn != old[:, 0, :first]).any()


def test_a_retake_says_what_it_drops(song: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ("--retake", 1, "--seed", 3, "--max-memory", "1K")  # refused before anything is generated
    result = cli(capsys, "extend", song, *options, "-o", tmp_path, *MACHINE)
    assert "note: section 2 is left out of the new song; --keep-after keeps what follows\n" in result.err
    assert result.code == 4


def test_a_song_that_goes_on_and_is_interrupted_ends_the_same(
    song: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Cut back to any draw, as a kill leaves it."""
    options = ("extend", song, "--rewind", 0.4, "--same-section", "--segment-seconds", 4, "--seed", 5)
    folder = Path(cli(capsys, *options, "-o", tmp_path, *MACHINE, "--json").json["folder"])
    whole, log = codes_of(folder), (folder / "tokens.log").read_bytes()
    base = read_kept_part(folder)
    assert base
    lines = log.splitlines(keepends=True)
    given = len(lines) - len(TokenLog.open(folder / "tokens.log").codes(1)) + base.prefix.codes
    for cut in (given, given + 7, len(lines) - 1):
        edit_song(folder, state="draft")
        (folder / "tokens.log").write_bytes(b"".join(lines[:cut]))
        ended(cli(capsys, "resume", folder, "--threads", 1))
        assert (folder / "tokens.log").read_bytes() == log
        assert (codes_of(folder) == whole).all()


def test_a_song_in_its_draft_or_of_a_recording_is_not_extended(
    song: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(song / "song.json", other)
    edit_song(other, state="draft")
    assert "is still being drafted; run first: yuegguf resume" in refused(capsys, 5, "extend", other)
    assert "is not a song folder" in refused(capsys, 5, "extend", tmp_path)


def recording(song: Path, tmp_path: Path) -> tuple[object, ...]:
    """Options that go on from the stems of a song, in `tmp_path / "out"`."""
    lyrics = tmp_path / "lyrics.txt"
    lyrics.write_text(LYRICS)
    stems = ("--vocal", song / "vocals.wav", "--inst", song / "instrumental.wav", "--take", 2)
    options = ("-g", "pop", "-l", lyrics, "--segment-seconds", 3, "--seed", 1, "-m", "nano")
    return (*stems, *options, "-o", tmp_path / "out", *MACHINE)


def test_a_recording_goes_on_from_its_beginning(song: Path, tmp_path: Path, capsys: Capture) -> None:
    options = recording(song, tmp_path)
    stems = options[:6]
    made = cli(capsys, "extend", *options, "--json").json
    base = read_kept_part(Path(made["folder"]))
    assert base
    assert (base.prefix, base.frames, base.refined) == (KeptPrefix(1), (100,), True)
    assert (codes_of(Path(made["folder"]))[:, :, :100] == base.before).all()
    assert [section["label"] for section in made["sections"]] == ["verse", "chorus"]
    assert "pass SONG, or a recording" in refused(capsys, 2, "extend", *stems)
    assert "pass SONG, or a recording" in refused(capsys, 2, "extend", song, *stems)
    imported = json.loads((Path(made["folder"]) / "song.json").read_text("utf-8"))["imported"]
    assert imported["files"] == ["vocals.wav", "instrumental.wav"]


def test_a_recording_leaves_no_song_but_the_new_one(
    song: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    options = recording(song, tmp_path)
    made = ended(cli(capsys, "extend", *options, "--json")).folder
    assert [path.name for path in (tmp_path / "out").iterdir()] == [made.name]
    shutil.rmtree(tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr("yuegguf.pipeline.create.new_record", lambda job: 1 / 0)  # after the import
        cli(capsys, "extend", *options)
    assert not (tmp_path / "out").exists()
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("wrong", [("--sections", "bogus"), ("--retake", 7), ("--rewind", 99)])
def test_a_wrong_request_about_a_recording_is_said_before_it_is_encoded(
    song: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, wrong: tuple[object, ...]
) -> None:
    monkeypatch.setattr("yuegguf.song.encoding.encode_stems", lambda *_: pytest.fail("it is encoded"))
    refused(capsys, 5, "extend", *recording(song, tmp_path), *wrong)
    assert not (tmp_path / "out").exists()


def test_a_recording_may_have_several_sections(song: Path, tmp_path: Path, capsys: Capture) -> None:
    options = recording(song, tmp_path)
    told = ended(cli(capsys, "extend", *options, "--json"))
    assert "say where they begin with --at" in told.err
    made = ended(cli(capsys, "extend", *options, "--at", "0.5", "--json"))
    base = read_kept_part(made.folder)
    assert base
    assert base.frames == (25, 75)
    assert [section["label"] for section in made.json["sections"]] == ["verse", "chorus", "bridge"]
    assert "--at" not in made.err
    assert "pass SONG, or a recording" in refused(capsys, 2, "extend", song, "--at", "0.5")
    assert "is not a list such as 28.5,57" in refused(capsys, 2, "extend", *options, "--at", "x")
