"""Whether words fit: what is counted, what is said, and what comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import cli

from yuegguf.request.lyrics import Section, parse_lyrics
from yuegguf.request.syllables import SectionFit, count_syllables, detect_language, section_fit


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Staring at the sunset, colors paint the sky", 11),
        ("Thoughts of you keep swirling, can't deny", 9),
        ("love me like a table", 6),
        ("I walked, I wanted, we danced all day", 9),
        ("rhythm", 1),
        ("hmm shh", 2),
        ("don’t", 1),
        ("月亮代表我的心", 7),
        ("사랑해요 그대", 6),
        ("きょうはいいてんき", 8),
        ("夢を見た", 6),
        ("baby 사랑해", 5),
        ("1 2 3 …", 0),
        ("", 0),
    ],
)
def test_syllables_are_counted_in_every_script(text: str, count: int) -> None:
    assert count_syllables(text) == count


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hello there", "en"),
        ("月亮代表我的心", "zh"),
        ("夢を見た", "ja"),
        ("사랑 baby", "ko"),
        ("oh yeah baby my love 사", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_that_of_the_script(text: str, name: str) -> None:
    assert detect_language(text) == name


@pytest.mark.parametrize(
    ("count", "seconds", "rap", "verdict"),
    [
        (0, 30, False, "instrumental"),
        (75, 30, False, "fits"),
        (76, 30, False, "tight"),
        (105, 30, False, "tight"),
        (106, 30, False, "too long"),
        (106, 30, True, "fits"),
        (190, 30, True, "too long"),
    ],
)
def test_the_verdict_follows_the_pace(count: int, seconds: float, rap: bool, verdict: str) -> None:
    assert SectionFit("verse", "en", count, seconds, rap).verdict == verdict


def test_following_the_advice_makes_it_fit() -> None:
    for count in range(76, 370, 7):
        late = SectionFit("verse", "en", count, 30)
        words = late.advice.split()
        fewer, seconds = int(words[3]), float(words[8])
        assert late.advice.endswith(f"(#length {seconds:g})")
        assert SectionFit("verse", "en", count - fewer, 30).verdict == "fits"
        assert SectionFit("verse", "en", count, seconds).verdict == "fits"
    assert SectionFit("verse", "en", 75, 30).advice == ""
    assert SectionFit("verse", "en", 400, 30).advice == "take out about 325 syllables, or split it in two"


def test_a_sections_own_length_and_rap_count() -> None:
    section = Section("verse", "la " * 60, seconds=20)
    assert (section_fit(section, 30).seconds, section_fit(section, 30).verdict) == (20, "tight")
    assert section_fit(section, 30, "hard rap beats").verdict == "fits"
    assert section_fit(Section("rap", "la " * 60, 20), 30).rap
    assert not section_fit(section, 30, "trap scrap").rap


LYRICS = "[Verse 1]\nla la la\n\n#length 2\n[chorus]\n" + "many words are in here " * 3 + "\n[outro]\n"


def test_check_says_what_to_change(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_text(LYRICS)
    result = cli(capsys, "lyrics", "check", file)
    assert result.code == 0
    assert "line 1: [Verse 1] is read as [verse]" in result.err
    first, *rest = result.out.splitlines()
    assert first == "3 sections, at most 62 s of music"
    assert "fits: 3 syllables in 30 s, 0.1 a second, Latin script" in rest[0]
    assert "[chorus] too long: 18 syllables in 2 s" in rest[1]
    assert rest[2].endswith("[outro] instrumental")
    strict = cli(capsys, "lyrics", "check", file, "--strict")
    assert strict.code == 5
    assert "[chorus] will be cut off; take out about 13 syllables, or give it 8 s (#length 8)" in strict.err
    found = cli(capsys, "lyrics", "check", file, "--json").json
    assert [section["verdict"] for section in found["sections"]] == ["fits", "too long", "instrumental"]


def test_format_writes_what_is_read_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_text(LYRICS)
    text = cli(capsys, "lyrics", "format", file).out
    assert parse_lyrics(text).sections == parse_lyrics(LYRICS).sections
    assert parse_lyrics(text).notices == ()
    file.write_text(text)
    assert cli(capsys, "lyrics", "format", file).out == text


def test_lyrics_that_cannot_be_generated_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for part in ("check", "format"):
        assert cli(capsys, "lyrics", part, "no label here").code == 5
