"""The section parser: upstream's text where upstream is right, nothing lost where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from shared_data import shared_path

from yuegguf.errors import RequestError
from yuegguf.request.lyrics import choose_sections, parse_lyrics
from yuegguf.stages.prompt import header_text


def labels(text: str) -> list[str]:
    return [section.label for section in parse_lyrics(text).sections]


def kept_lines(text: str) -> list[str]:
    return [line for section in parse_lyrics(text).sections for line in section.body.split("\n") if line]


def test_official_example_gives_the_official_section_and_header_texts(golden: Callable[[str], Path]) -> None:
    facts = json.loads(golden("prompts.json").read_text())
    sections = parse_lyrics(shared_path("data/lyrics.txt").read_text()).sections
    assert [section.text for section in sections] == facts["lyrics_segments"]
    genre = shared_path("data/genre.txt").read_text()
    assert header_text(genre, [section.text for section in sections]) == facts["prompt_texts"][0]


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("[verse]", "verse"),
        ("[Verse]", "Verse"),  # upstream keeps the case of a one-word label
        ("[verse_2]", "verse_2"),
        ("[Verse 1]", "verse"),
        ("[Pre-Chorus]", "prechorus"),
        ("[pre chorus]", "prechorus"),
        ("[Verse 1: Soft, slow]", "verse"),
        ("  [bridge]  ", "bridge"),
        ("[Strobe]", "Strobe"),
    ],
)
def test_label_of_a_header_line(written: str, label: str) -> None:
    assert labels(f"{written}\nla la\n") == [label]


@pytest.mark.parametrize("line", ["la [x2] la", "la [oh] la", "[oh yeah]", "la [oh, yeah]", "x2y", "(x99)"])
def test_brackets_inside_a_line_and_exclamations_stay_lyrics(line: str) -> None:
    parsed = parse_lyrics(f"[verse]\nfirst\n{line}\nlast")
    assert [s.label for s in parsed.sections] == ["verse"]
    assert parsed.sections[0].body == f"first\n{line}\nlast"
    assert parsed.notices == ()


def test_every_line_of_mixed_lyrics_survives() -> None:
    text = (
        "[Verse 1]\r\nStaring at the sunset\r\n月亮代表我的心 [x2]\r\n\r\n"
        "[Pre-Chorus]\r\n夜に駆ける\r\n[chorus]\r\n사랑해요 <EOA> <s>\r\n[intro]\r\n[verse]\r\n[outro]\r\nbye"
    )
    parsed = parse_lyrics(text)
    assert [s.label for s in parsed.sections] == ["verse", "prechorus", "chorus", "intro", "verse", "outro"]
    assert kept_lines(text) == [  # once more where the text says so
        "Staring at the sunset",
        "月亮代表我的心",
        "月亮代表我的心",
        "夜に駆ける",
        "사랑해요 <EOA> <s>",
        "bye",
    ]
    assert parsed.sections[3].text == "[intro]\n\n\n"


def test_twelve_sections_and_one_section() -> None:
    assert len(labels("".join(f"[verse]\nline {i}\n\n" for i in range(12)))) == 12
    assert labels("[chorus]\nonly one, no newline") == ["chorus"]


def test_text_on_the_label_line_is_lyrics() -> None:
    assert parse_lyrics("[verse] hello\nthere").sections[0].body == "hello\nthere"


def test_lines_before_the_first_label_become_a_verse_with_a_notice() -> None:
    parsed = parse_lyrics("\ufeffMy Song\n\n[chorus]\nla")
    assert [(s.label, s.body) for s in parsed.sections] == [("verse", "My Song"), ("chorus", "la")]
    assert any("before the first label" in notice for notice in parsed.notices)


def test_what_is_changed_is_reported_once_for_each_kind() -> None:
    text = "[Verse 1]\nla\n[start_of_segment] la\n[so it goes]\n[Verse 2]\nla\n[on it goes]\n"
    assert parse_lyrics(text).notices == (
        "control markers of the model are left out: [start_of_segment]",
        "labels are read as words that the model knows: [Verse 1] as [verse], [Verse 2] as [verse]",
        "stage directions are left out: [so it goes], [on it goes]",
    )
    assert parse_lyrics("[verse]\nla\n").notices == ()


def test_length_line_sets_the_seconds_of_the_next_section() -> None:
    sections = parse_lyrics("#length 12.5\n[verse]\nla\n[chorus]\nla").sections
    assert [s.seconds for s in sections] == [12.5, None]


@pytest.mark.parametrize("text", ["", "  \n\n", "…\n🎵", "[fades out]", "bin\0ary"])
def test_lyrics_that_cannot_be_generated_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_lyrics(text)


@pytest.mark.parametrize(
    ("spec", "chosen"), [("all", "abcd"), ("2", "ab"), ("9", "abcd"), ("1,3-4", "acd"), ("4,1", "da")]
)
def test_choice_of_sections(spec: str, chosen: str) -> None:
    sections = parse_lyrics("[a]\n1\n[b]\n2\n[c]\n3\n[d]\n4").sections
    assert "".join(s.label for s in choose_sections(sections, spec)) == chosen


def test_a_reversed_choice_and_one_of_a_single_section_are_said() -> None:
    with pytest.raises(RequestError, match="--sections 5-2 runs backwards; write 2-5"):
        choose_sections(parse_lyrics("[a]\n1").sections, "1,5-2")
    with pytest.raises(RequestError, match="--sections 1-2 is not among the 1 section of these"):
        choose_sections(parse_lyrics("[a]\n1").sections, "1-2")


@pytest.mark.parametrize("spec", ["", "0", "x", "1,9", "3-2", "-1", "1;2"])
def test_impossible_choice_is_refused(spec: str) -> None:
    with pytest.raises(RequestError):
        choose_sections(parse_lyrics("[a]\n1\n[b]\n2").sections, spec)
