"""YuE-UI's projects: read, written, and lyrics that both split alike or that are written anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from shared_data import shared_path

from yuegguf.errors import DamagedFile, RequestError
from yuegguf.exchange import yue_ui
from yuegguf.exchange.yue_ui import FIRST_ID, INVALID, Project, Segment
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.request.prepared import prepare
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest

CODES = np.random.default_rng(5).integers(0, 1024, (2, 8, 30)).astype(np.int16)
LYRICS = "[verse]\nla la\n\n[chorus]\nlo lo\n"
SEGMENTS = (Segment("verse", 0, 18), Segment("chorus", 18, 30))
PROJECT = Project("female pop", LYRICS, SEGMENTS, CODES[:, 0], CODES)


def same(one: Project, other: Project) -> bool:
    arrays = all(
        (getattr(one, name) == getattr(other, name)).all() and getattr(one, name).dtype == np.int16
        for name in ("codes0", "codes")
    )
    rest = ("genre", "lyrics", "segments", "sampling", "segment_seconds", "seed", "notices")
    return arrays and all(getattr(one, name) == getattr(other, name) for name in rest)


def data(**changes: Any) -> dict[str, Any]:
    whole = json.loads(yue_ui.format_project(PROJECT))
    whole["cache"] |= changes.pop("cache", {})
    return {**whole, **changes}


def read(**changes: Any) -> Project:
    return yue_ui.parse_project(json.dumps(data(**changes)).encode(), "p.json")


# Reading and writing


def test_a_project_comes_back_as_it_was_written() -> None:
    for sampling in (Sampling(), Sampling(1.3, 1.3, 1.2, 0.8, top_p=0.9)):
        project = Project(
            "female pop",
            LYRICS,
            SEGMENTS,
            CODES[:, 0],
            CODES[:, :, :20],
            sampling,
            segment_seconds=12.5,
            seed=7,
        )
        assert same(yue_ui.parse_project(yue_ui.format_project(project), "p.json"), project)


def test_ids_are_those_of_the_published_vocabulary_frame_by_frame() -> None:
    tracks = data()["cache"]["tracks"]
    assert tracks[0][1] == [FIRST_ID + int(code) for code in CODES[1, 0]]
    assert tracks[1][0][:9] == [45334 + 1024 * k + int(c) for k, c in enumerate(CODES[0, :, 0])] + [
        45334 + int(CODES[0, 0, 1])
    ]
    assert data()["cache"]["segments"] == [["verse", 0, 18], ["chorus", 18, 30]]
    assert data()["genre_text"] == ["female", "pop"]


def test_the_example_of_yue_ui() -> None:
    content = shared_path("data/yue-ui-example-song.json").read_bytes()
    project = yue_ui.parse_project(content, "example.json")
    raw = json.loads(content)
    assert project.codes0.shape == (2, 9337)
    assert project.codes.shape == (2, 8, 9337)
    assert (project.codes[:, 0] == project.codes0).all()
    assert project.codes.min() >= 0
    assert [(s.name, s.start, s.end) for s in project.segments] == [
        tuple(s) for s in raw["cache"]["segments"]
    ]
    assert project.genre == " ".join(raw["genre_text"])
    again = json.loads(yue_ui.format_project(project))
    assert again["cache"]["tracks"] == raw["cache"]["tracks"]
    assert again["cache"]["segments"] == raw["cache"]["segments"]
    assert again["lyrics_text"] == raw["lyrics_text"]


def test_whole_floats_are_ids() -> None:
    """Before April 2025 YuE-UI wrote stage 2 as floats."""
    tracks = [[[float(i) for i in track] for track in stage] for stage in data()["cache"]["tracks"]]
    assert same(read(cache={"tracks": tracks}), PROJECT)


def test_an_id_of_another_codebook_is_marked_in_stage_2_and_refused_in_stage_1() -> None:
    tracks = data()["cache"]["tracks"]
    tracks[1][0][8 * 3 + 2] += 1024
    found = read(cache={"tracks": tracks}).codes
    assert found[0, 2, 3] == INVALID
    assert (np.delete(found.ravel(), 2 * 30 + 3) == np.delete(CODES.ravel(), 2 * 30 + 3)).all()
    tracks[0][1][4:6] = [45334 + 1024, 32002]
    with pytest.raises(
        DamagedFile, match=r"2 of the stage-1 ids in p\.json are not of codebook 0; redo that part"
    ):
        read(cache={"tracks": tracks})


def test_tracks_of_different_length_are_cut_with_a_notice() -> None:
    (vocal, backing), second = data()["cache"]["tracks"]
    found = read(cache={"tracks": [[vocal, backing[:20]], [second[0], second[1][: 8 * 10 + 3]]]})
    assert found.codes0.shape == (2, 20)
    assert found.codes.shape == (2, 8, 10)
    assert found.segments == (Segment("verse", 0, 18), Segment("chorus", 18, 20))
    assert found.notices == ("the tracks of p.json differ in length; both are cut to 20 frames",)


@pytest.mark.parametrize("second", [[], [[], []], [[FIRST_ID] * 8]])
def test_without_stage_2_there_is_stage_1(second: list[Any]) -> None:
    found = read(cache={"tracks": [data()["cache"]["tracks"][0], second]})
    assert found.codes.shape == (2, 8, 0)
    assert (found.codes0 == CODES[:, 0]).all()


def test_settings_are_taken_over_where_they_can_be() -> None:
    found = read(generation_stage1_cfg_scale=1.4, generation_stage1_top_p=0.8, generation_seed=-1)
    assert found.sampling == Sampling(1.4, 1.4, top_p=0.8)
    assert found.seed == 0
    for seed in (True, 2**63, "7", 7.0, None):
        found = read(generation_seed=seed, default_segment_length=True)
        assert (type(found.seed), found.seed, found.segment_seconds) == (int, 0, 30)
    odd = {"generation_stage1_top_p": 7, "default_segment_length": 900, "audio_prompt": "Single track"}
    found = read(**odd, system_prompt="Sing.", cache={"muted_segments": [0]})
    assert found.sampling == Sampling()
    assert found.segment_seconds == 30
    assert found.notices == (
        "the project's sampling settings are out of range and left out",
        "the project's audio prompt is left out",
        "the project's system prompt is left out",
        "the project's muting of sections is left out",
    )


SPOIL: tuple[Callable[[dict[str, Any]], Any], ...] = (
    lambda d: [],
    lambda d: "text",
    lambda d: {},
    lambda d: {**d, "cache": None},
    lambda d: {**d, "cache": {}},
    lambda d: {**d, "cache": {**d["cache"], "tracks": [[["a"], ["b"]]]}},
    lambda d: {**d, "cache": {**d["cache"], "tracks": [[[0.5], [1]]]}},
    lambda d: {**d, "cache": {**d["cache"], "tracks": [[[float("nan")], [1]]]}},
    lambda d: {**d, "cache": {**d["cache"], "tracks": [[[[1], 2], [1]]]}},
    lambda d: {**d, "cache": {**d["cache"], "tracks": [[[10**400], [1]]]}},
    lambda d: {**d, "cache": {**d["cache"], "tracks": [[[1e300], [-1e300]]]}},
    lambda d: {**d, "cache": {**d["cache"], "segments": [["verse", 0]]}},
    lambda d: {**d, "cache": {**d["cache"], "segments": [["verse", "a", "b"]]}},
    lambda d: {**d, "cache": {**d["cache"], "segments": 5}},
    lambda d: {**d, "lyrics_text": ["a"]},
    lambda d: {**d, "genre_text": [1]},
)


@pytest.mark.parametrize("spoil", SPOIL)
def test_what_is_no_project_is_refused_in_words(spoil: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(
        DamagedFile, match=r"p\.json is not a project of YuE-UI, or it is damaged; pass a \.json"
    ):
        yue_ui.parse_project(json.dumps(spoil(data())).encode(), "p.json")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[" * 100_000, b"RIFF\0\0\0\0WAVE"])
def test_rubbish_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(DamagedFile, match=r"p\.json is not a project of YuE-UI"):
        yue_ui.parse_project(content, "p.json")


@pytest.mark.parametrize("segments", [[["a", 0, 10], ["b", 9, 20]], [["a", 5, 3]], [["a", -4, 3]]])
def test_sections_that_overlap_are_refused(segments: list[Any]) -> None:
    with pytest.raises(DamagedFile, match=r"the sections of p\.json overlap"):
        read(cache={"segments": segments})


@pytest.mark.parametrize("tracks", [[], [[]], [[[], []], []], [[[FIRST_ID], []], []]])
def test_a_project_without_music_is_refused(tracks: list[Any]) -> None:
    with pytest.raises((RequestError, DamagedFile), match=r"p\.json"):
        read(cache={"tracks": tracks})


# Lyrics


def test_yue_ui_opens_a_section_at_every_bracket() -> None:
    found = yue_ui.split_sections(
        "before\n#length 12.5\n[Verse 1]\nla [x2] la\n#mood sad\n#length 600t\n[outro]"
    )
    assert [(s.label, s.body, s.seconds) for s in found] == [
        ("Verse 1", "la", 12.5),
        ("x2", "la", None),
        ("outro", "", 12.0),
    ]


@pytest.mark.parametrize("unit", ["", "t"])
def test_an_absurd_length_is_none(unit: str) -> None:
    lyrics = f"#length {'9' * 5000}{unit}\n[verse]\nla"
    assert [section.seconds for section in yue_ui.split_sections(lyrics)] == [None]
    assert "la" in yue_ui.our_lyrics(lyrics, ["verse"])


@pytest.mark.parametrize(
    ("lyrics", "names"),
    [
        (LYRICS, ["verse", "chorus"]),
        (LYRICS, ["verse"]),
        (LYRICS, []),
        ("[Verse 1]\nla\n[Pre-Chorus]\nlo", ["Verse 1", "Pre-Chorus"]),
        ("#length 12\n[verse]\nla", ["verse"]),
    ],
)
def test_lyrics_that_both_split_alike_stay_as_they_are(lyrics: str, names: list[str]) -> None:
    assert yue_ui.our_lyrics(lyrics, names) == lyrics


@pytest.mark.parametrize(
    ("lyrics", "names", "expected"),
    [
        (
            "[verse]\nla [x2] lo\n[outro]\nli",
            ["verse", "x2", "outro"],
            [("verse", "la"), ("verse", "lo"), ("outro", "li")],
        ),
        ("[chorus]\nla", ["verse"], [("verse", "la")]),
        ("[verse]\nla", ["verse", "chorus"], [("verse", "la"), ("chorus", "")]),
        (
            "[verse]\nla\n[bridge]\nlo\n[outro]\nli",
            ["intro"],
            [("intro", "la"), ("bridge", "lo"), ("outro", "li")],
        ),
        ("no label at all", ["verse"], [("verse", "")]),
        ("", [], [("verse", "")]),
        ("#length 600t\n[x9]\nla", ["x9"], [("verse", "la")]),
    ],
)
def test_other_lyrics_are_written_anew(
    lyrics: str, names: list[str], expected: list[tuple[str, str]]
) -> None:
    ours = parse_lyrics(yue_ui.our_lyrics(lyrics, names), keep_repeats=True)
    assert [(section.label, section.body) for section in ours.sections] == expected
    assert ours.notices == ()


def test_lengths_in_frames_become_seconds() -> None:
    text = yue_ui.our_lyrics("#length 625t\n[verse]\nla\n#length 3\n[chorus]\nlo", ["verse"])
    assert [section.seconds for section in parse_lyrics(text).sections] == [12.5, 3.0]


@pytest.mark.parametrize("sections", ["all", "1", "1-2"])
def test_a_song_from_its_beginning_keeps_its_text(sections: str) -> None:
    text = "#length 12\n[Verse 1]\nla la\n\n[Pre-Chorus]\nlo\n[outro]"
    request = SongRequest("pop", text, sections)
    names = ["Verse 1", "Pre-Chorus", "outro"]
    assert yue_ui.their_lyrics(request) == (text, names[: len(prepare(request).sections)])


@pytest.mark.parametrize(
    ("text", "sections", "expected"),
    [
        ("[verse]\nla [x2]\n[chorus]\nlo", "all", [("verse", "la\nla"), ("chorus", "lo")]),
        ("[verse]\nlove #1\n[chorus]\nlo", "all", [("verse", "love 1"), ("chorus", "lo")]),
        ("la\n[chorus]\nlo", "all", [("verse", "la"), ("chorus", "lo")]),
        ("[verse]\nla\n[chorus]\nlo", "2-2", [("chorus", "lo")]),
        ("[verse]\nla\n[chorus]\nlo", "2,1", [("chorus", "lo"), ("verse", "la")]),
    ],
)
def test_what_yue_ui_would_split_otherwise_is_written_anew(
    text: str, sections: str, expected: list[tuple[str, str]]
) -> None:
    theirs, names = yue_ui.their_lyrics(SongRequest("pop", text, sections))
    assert [(section.label, section.body) for section in yue_ui.split_sections(theirs)] == expected
    assert names == [label for label, _ in expected]
