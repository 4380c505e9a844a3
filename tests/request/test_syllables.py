"""Whether words fit: what is counted, what is said, and what comes back as it was."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from helpers import Capture, cli
from sections import logged_sections, yue_ui_sections
from shared_data import shared_path

from yuegguf.request.fit import MAX_PACE, SectionFit, lines_in_time, merged_sections, section_fit
from yuegguf.request.lyrics import Section, parse_lyrics
from yuegguf.request.scripts import line_scripts, model_advice
from yuegguf.request.syllables import count_syllables, line_syllables


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
        ("Ночь тиха, и спит река", 7),
        ("Звёзды светят свысока", 7),
        ("Η νύχτα είναι μεγάλη", 8),
        ("naïve Ünïcödé", 6),
        ("한 사람\n夢を見た\n月亮代表我的心", 16),
        ("नमस्ते दुनिया", 6),
        ("สวัสดี", 2),
        ("שלום", 2),
        ("1 2 3 …", 0),
        ("", 0),
    ],
)
def test_syllables_are_counted_in_every_script(text: str, count: int) -> None:
    assert count_syllables(text) == count


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("hello there", ["Latin"]),
        ("月亮代表我的心", ["Chinese"]),
        ("夢を見た", ["Japanese"]),
        ("사랑 baby", ["Korean"]),
        ("oh yeah baby my love 사", ["Latin"]),
        ("月亮代表我的心\n夢を見た\n사랑해요", ["Chinese", "Japanese", "Korean"]),
        ("夢の中\n東京\n会いたい", ["Japanese"] * 3),
        ("东京\n北京\nの", ["Chinese", "Chinese", "Japanese"]),
        ("Ночь тиха\n…\n\nla", ["Cyrillic", "Latin"]),
        ("Η νύχτα", ["Greek"]),
        ("สวัสดี", ["other"]),
        ("", []),
    ],
)
def test_scripts_are_those_of_the_lines(text: str, scripts: list[str]) -> None:
    assert line_scripts(text) == scripts


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hello", "the en models fit if this is English; YuE has none for other languages in Latin letters"),
        ("月亮代表我的心\nbaby", "the zh models fit"),
        ("夢を見た\n사랑해요\nbaby", "the jp-kr models fit"),
        (
            "月亮代表我的心\n夢を見た\n사랑해요",
            "no model of YuE was trained on all of these scripts: Chinese, Japanese, Korean",
        ),
        ("Ночь тиха\nla", "no model of YuE was trained on Cyrillic script"),
        ("…", ""),
    ],
)
def test_the_model_that_fits_or_that_none_does(text: str, sentence: str) -> None:
    assert model_advice(line_scripts(text)) == sentence


@pytest.mark.parametrize(
    ("count", "seconds", "rap", "verdict"),
    [
        (0, 30, False, "instrumental"),
        (23, 30, False, "few words"),
        (24, 30, False, "fits"),
        (43, 30, True, "few words"),
        (69, 30, False, "fits"),
        (70, 30, False, "tight"),
        (105, 30, False, "tight"),
        (106, 30, False, "too long"),
        (106, 30, True, "fits"),
        (190, 30, True, "too long"),
    ],
)
def test_the_verdict_follows_the_pace(count: int, seconds: float, rap: bool, verdict: str) -> None:
    assert SectionFit("verse", "en", count, seconds, rap).verdict == verdict


def test_following_the_advice_makes_it_fit() -> None:
    for count in range(70, 340, 7):
        late = SectionFit("verse", "en", count, 30)
        words = late.advice.split()
        fewer, seconds = int(words[3]), float(words[8])
        assert late.advice.endswith(f"(#length {seconds:g})")
        assert SectionFit("verse", "en", count - fewer, 30).verdict == "fits"
        assert SectionFit("verse", "en", count, seconds).verdict == "fits"
    for count in range(1, 24):
        few = SectionFit("verse", "en", count, 30)
        seconds = float(few.advice.partition("#length ")[2].partition(")")[0])
        assert SectionFit("verse", "en", max(count, 4), seconds).verdict == "fits"
    assert SectionFit("verse", "en", 69, 30).advice == ""
    assert SectionFit("verse", "en", 400, 30).advice == "take out about 331 syllables, or split it in two"


def test_a_section_is_likely_to_have_the_usual_pace_within_its_limit() -> None:
    assert SectionFit("verse", "en", 32, 30).likely_seconds == 20
    assert SectionFit("verse", "en", 64, 30).likely_seconds == 30
    assert SectionFit("rap", "en", 72, 30, rap=True).likely_seconds == pytest.approx(25)
    assert SectionFit("intro", "en", 0, 12).likely_seconds == 12


def test_sections_of_real_songs_have_the_likely_length_in_all_and_none_was_too_fast_to_fit() -> None:
    lyrics = parse_lyrics(shared_path("data/lyrics.txt").read_text("utf-8")).sections
    project = json.loads(shared_path("data/yue-ui-example-song.json").read_text("utf-8"))
    texts = [*lyrics, *lyrics, *parse_lyrics(project["lyrics_text"]).sections]
    real = [*logged_sections(), *yue_ui_sections()]
    fits = [section_fit(section, 30) for section in texts]
    sung = [(fit, part) for fit, part in zip(fits, real, strict=True) if part.words]
    assert len(sung) == 18
    seconds = [part.tracks.shape[1] / 50 for _, part in sung]
    assert sum(fit.likely_seconds for fit, _ in sung) == pytest.approx(sum(seconds), rel=0.02)
    paces = [fit.syllables / own for (fit, part), own in zip(sung, seconds, strict=True) if part.ended]
    assert len(paces) == 13
    assert [round(min(paces), 1), round(max(paces), 1)] == [1.1, 2.3]
    assert {fit.verdict for fit, _ in sung} == {"fits"}


def test_a_sections_own_length_and_rap_count() -> None:
    section = Section("verse", "la " * 60, seconds=20)
    assert (section_fit(section, 30).seconds, section_fit(section, 30).verdict) == (20, "tight")
    assert section_fit(section, 30, "hard rap beats").verdict == "fits"
    assert section_fit(Section("rap", "la " * 60, 20), 30).rap
    assert not section_fit(section, 30, "trap scrap").rap


def test_two_lines_each_are_merged_as_far_as_they_fit() -> None:
    lines = "Staring at the sunset, colors paint the sky\nThoughts of you keep swirling, can't deny"  # 20
    sections = [Section("verse", lines)] * 7 + [Section("chorus", lines), Section("chorus", lines, 10)]
    merged = merged_sections(sections, 30)
    three = "\n\n".join([lines] * 3)
    assert merged == [
        *(Section("verse", three), Section("verse", three), Section("verse", lines)),
        *(Section("chorus", lines), Section("chorus", lines, 10)),
    ]
    assert merged_sections(merged, 30) == merged
    instrumental = [Section("verse", ""), Section("verse", "")]
    assert merged_sections(instrumental, 30) == instrumental


def test_lines_that_a_section_has_time_for() -> None:
    section = Section("verse", "la la la la\n\nla la la\nla")  # 4, 3 and 1 syllables
    assert lines_in_time(section, 2, "") == (["la la la la", "", "la la la"], 1)
    assert lines_in_time(section, 1.9, "") == (["la la la la", ""], 2)
    assert lines_in_time(section, 1.1, "") == ([], 3)
    assert lines_in_time(section, 1.3, "rap") == (section.body.splitlines(), 0)
    assert lines_in_time(Section("verse", ""), 1, "") == ([], 0)


LYRICS = "[Verse 1]\nla la la\n\n#length 2\n[chorus]\n" + "many words are in here " * 3 + "\n[outro]\n"


def test_check_says_what_to_change(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_text(LYRICS)
    result = cli(capsys, "lyrics", "check", file)
    assert result.code == 0
    assert "labels are read as words that the model knows: [Verse 1] as [verse]" in result.err
    assert result.out.splitlines() == [
        "3 sections, at most 62 s of music",
        "  1 [verse] few words: 3 syllables in 30 s, 0.1 a second, Latin; write more lines, give it 5 s "
        "(#length 5), or merge it with its neighbour",
        "      la la la",
        "  2 [chorus] too long: 18 syllables in 2 s, 9.0 a second, Latin; take out about 14 syllables, "
        "or give it 8 s (#length 8)",
        "      many words are in here many words are in here many words are in here",
        "  3 [outro] instrumental",
        "the en models fit if this is English; YuE has none for other languages in Latin letters",
    ]
    strict = cli(capsys, "lyrics", "check", file, "--strict")
    assert strict.code == 5
    assert "[chorus] will be cut off; take out about 14 syllables, or give it 8 s (#length 8)" in strict.err
    found = cli(capsys, "lyrics", "check", file, "--json").json
    assert [section["verdict"] for section in found["sections"]] == ["few words", "too long", "instrumental"]


def test_format_writes_what_is_read_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_text(LYRICS)
    text = cli(capsys, "lyrics", "format", file).out
    assert parse_lyrics(text).sections == parse_lyrics(LYRICS).sections
    assert parse_lyrics(text).notices == ()
    file.write_text(text)
    assert cli(capsys, "lyrics", "format", file).out == text


def test_format_merges_and_keeps_repeats(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_text("[verse]\nla la (x2)\n[verse]\nlo\n")
    merged = cli(capsys, "lyrics", "format", file, "--merge")
    assert merged.out == "[verse]\nla la\nla la\n\nlo\n"
    assert "2 sections are merged into 1" in merged.err
    kept = cli(capsys, "lyrics", "format", file, "--keep-repeats")
    assert (kept.out, kept.err) == ("[verse]\nla la (x2)\n\n[verse]\nlo\n", "")
    file.write_text("[fades out slowly]\nla")
    found = cli(capsys, "lyrics", "format", file, "--json").json
    assert found["changes"] == [
        {"kind": "direction", "text": "[fades out slowly]"},
        {"kind": "stanzas", "text": "1 [verse]"},
    ]


def test_check_advises_to_merge(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_text("[verse]\nStaring at the sunset\nColors paint the sky\n" * 14)
    assert cli(capsys, "lyrics", "check", file).out.splitlines()[-1] == (
        f"neighbours of one label fit into 3 sections: yuegguf lyrics format {file} --merge"
    )


@pytest.mark.parametrize("part", ["check", "format"])
@pytest.mark.parametrize("text", ["…", "[fades out]", " "])
def test_lyrics_without_words_are_refused(part: str, text: str, capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_text(text, "utf-8")
    assert cli(capsys, "lyrics", part, file).code == 5


def test_lines_in_time_count_the_syllables_of_the_whole_section() -> None:
    section = Section("verse", "さくらの花が\n東京都\n\n見えるよね")
    assert line_syllables(section.body) == [7, 6, 0, 6]
    fit = section_fit(section, 19 / MAX_PACE)
    assert (fit.syllables, fit.excess) == (19, 0)
    assert lines_in_time(section, 19 / MAX_PACE, "") == (section.body.splitlines(), 0)
    assert lines_in_time(section, 18.9 / MAX_PACE, "") == (section.body.splitlines()[:3], 1)


@pytest.mark.parametrize("text", ["la la\nla", "さくら\n東京都\n\nlove", "", "\n\n", "привет\n!!"])
def test_the_syllables_of_lines_are_those_of_the_text(text: str) -> None:
    counts = line_syllables(text)
    assert len(counts) == len(text.splitlines())
    assert sum(counts) == count_syllables(text)


def test_the_command_that_merges_has_the_options_of_the_check(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "two verses.txt"
    file.write_text("[verse]\nla la la la\n\n[verse]\nlo lo lo lo\n")
    options = ("--segment-seconds", 20, "-g", "rap")
    advice = cli(capsys, "lyrics", "check", file, *options, "--json").json["advice"]
    command = advice[-1].partition(": yuegguf ")[2]
    merged = cli(capsys, *shlex.split(command))
    assert merged.out == "[verse]\nla la la la\n\nlo lo lo lo\n"
    assert "fit into 1 section:" in advice[-1]
