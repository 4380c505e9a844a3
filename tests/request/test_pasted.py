"""Songs as they stand on lyric sites, in prompts and old files; labels, marks and repeats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import cli

from yuegguf.errors import RequestError
from yuegguf.request.fit import merged_sections
from yuegguf.request.lyrics import Lyrics, Section, format_lyrics, parse_lyrics
from yuegguf.request.prepared import prepare
from yuegguf.request.scripts import line_scripts, model_advice
from yuegguf.request.short_heads import SHORT_HEAD
from yuegguf.request.song_request import SongRequest
from yuegguf.request.text_decoding import decode_text

PASTED = Path(__file__).parent / "pasted"
SONGS = sorted(path.stem for path in PASTED.glob("*.txt"))


def read(name: str) -> tuple[Lyrics, list[str]]:
    decoded = decode_text((PASTED / f"{name}.txt").read_bytes(), "lyrics", f"{name}.txt")
    parsed = parse_lyrics(decoded.text)
    return parsed, [notice for notice in (decoded.notice, *parsed.notices) if notice]


def test_there_are_seventeen_songs() -> None:
    assert len(SONGS) == 17


@pytest.mark.parametrize("name", SONGS)
def test_a_pasted_song_is_read_as_it_is_meant(name: str) -> None:
    """`NAME.expected` holds the canonical text, a line of dashes, and the notices."""
    parsed, notices = read(name)
    text, _, said = (PASTED / f"{name}.expected").read_text("utf-8").partition("-----\n")
    assert format_lyrics(parsed.sections) == text
    assert notices == said.splitlines()
    assert parse_lyrics(text) == Lyrics(parsed.sections)


@pytest.mark.parametrize("name", SONGS)
def test_check_shows_every_line_of_a_pasted_song_in_order(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed, notices = read(name)
    result = cli(capsys, "lyrics", "check", PASTED / f"{name}.txt")
    assert result.code == 0
    said = [line.removeprefix("note: ").replace(f"{PASTED}/", "") for line in result.err.splitlines()]
    assert said == notices
    shown = [line.strip() for line in result.out.splitlines() if line.startswith(" " * 6)]
    lines = [line.strip() for section in parsed.sections for line in section.body.splitlines()]
    assert shown == [line for line in lines if line]
    formatted = cli(capsys, "lyrics", "format", PASTED / f"{name}.txt")
    assert formatted.out.rstrip() == format_lyrics(parsed.sections).rstrip()


def test_small_verses_of_many_scripts_are_merged_and_their_model_is_none() -> None:
    sections = read("small_verses")[0].sections
    assert [len(merged_sections(sections, seconds)) for seconds in (10, 30, 60)] == [8, 2, 1]
    assert model_advice(script for s in sections for script in line_scripts(s.body)) == (
        "no model of YuE was trained on Cyrillic script"
    )


# Labels


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("[Guitar Solo]", "solo"),
        ("[Instrumental Break]", "instrumental"),
        ("[Main Theme - piano]", "instrumental"),
        ("[Climax - powerful]", "chorus"),
        ("[Drop]", "chorus"),
        ("[Hook]", "chorus"),
        ("[Refrain]", "chorus"),
        ("[Post-Chorus]", "postchorus"),
        ("[Pre Chorus 2]", "prechorus"),
        ("[Interlude: strings]", "interlude"),
        ("[Spoken]", "verse"),
        ("[Verse One]", "verse"),
        ("[Final Chorus]", "chorus"),
        ("[Second Verse]", "verse"),
        ("[Big Finish]", "outro"),
        ("[Chorus: Name]", "chorus"),
        ("[Verse 1: A, B & C]", "verse"),
        ("[Anna: Verse 2]", "verse"),
        ("[Middle 8]", "bridge"),
        ("[Intro/Hook]", "intro"),
        ("[主歌]", "verse"),
        ("[副歌]", "chorus"),
        ("[第二段主歌]", "verse"),
        ("[预副歌]", "prechorus"),
        ("[桥段]", "bridge"),
        ("[サビ]", "chorus"),
        ("[Bメロ]", "prechorus"),
        ("[大サビ]", "chorus"),
        ("[間奏]", "interlude"),
        ("[1番]", "verse"),
        ("[후렴]", "chorus"),
        ("[2절]", "verse"),
        ("[브릿지]", "bridge"),
        ("[Estribillo]", "chorus"),
        ("[Couplet 1]", "verse"),
        ("[Refrão]", "chorus"),
        ("[Припев 3]", "chorus"),
        ("Verse 1:", "verse"),
        ("{Chorus}", "chorus"),
        ("CHORUS", "chorus"),
        ("**Chorus**", "chorus"),
        ("## Chorus", "chorus"),
        ("(Chorus)", "chorus"),
        ("Pre-Chorus", "prechorus"),
        ("<Bridge>", "bridge"),
        ("--- Outro ---", "outro"),
        ("**[Verse 2]**", "verse"),
        ("副歌：", "chorus"),
        ("サビ", "chorus"),
        ("후렴", "chorus"),
    ],
)
def test_a_label_becomes_the_nearest_word_that_the_model_knows(written: str, label: str) -> None:
    parsed = parse_lyrics(f"{written}\nla la lo\n")
    assert parsed.sections == (Section(label, "la la lo"),)
    assert parsed.notices == (f"labels are read as words that the model knows: {written} as [{label}]",)


@pytest.mark.parametrize(
    "line",
    [
        "The bridge",
        "the chorus of birds",
        "A verse",
        "Come out, come out",
        "(hold on)",
        "Solo",
        "Drop it",
        "I: the king",
        "*loud*",
        "I __ you ** and ___ me",
        "#1 in length",
        "1. la",
        "> la",
        "NOTE: la",
        "5 > 4 & 3 < 4",
        "AT&T; <3",
        "feel my heart (heartbeat)",
    ],
)
def test_words_that_are_no_head_stay_words(line: str) -> None:
    assert parse_lyrics(f"[verse]\nla\n{line}\nlo") == Lyrics((Section("verse", f"la\n{line}\nlo"),))


def test_a_head_without_words_stands_for_an_earlier_section() -> None:
    text = "Chorus:\nla la\n\nVerse:\nlo\n\nChorus:\n\n[Repeat Verse]\n"
    assert [(s.label, s.body) for s in parse_lyrics(text).sections] == [
        *(("chorus", "la la"), ("verse", "lo"), ("chorus", "la la"), ("verse", "lo")),
    ]
    plain = "[chorus]\nla\n[verse]\nlo\n[chorus]\n"  # as upstream reads it: an instrumental
    assert parse_lyrics(plain).sections[2] == Section("chorus", "")


def test_a_verse_or_chorus_without_words_is_said() -> None:
    song = SongRequest("pop", "[intro]\n[verse]\nla\n[Chorus]\n[bridge]\n[solo]\n")
    sentence = (
        "sections without words are instrumental: section 3 [Chorus], section 4 [bridge]; "
        "write [Repeat Chorus] to repeat an earlier one"
    )
    assert sentence in prepare(song).notices
    assert not prepare(replace(song, lyrics="[verse]\n[chorus]\n")).notices  # all is instrumental
    assert sentence not in prepare(replace(song, sections="1-2")).notices


# Marks


@pytest.mark.parametrize(
    "mark",
    [
        *(
            "[male]",
            "[female]",
            "[Both]",
            "[singer 1: male]",
            "[Male Vocals]",
            "(female)",
            "（男）",
            "(함께)",
        ),
        *("[合唱]", "[男声]"),
    ],
)
def test_singer_marks_are_left_out_alone_and_before_words(mark: str) -> None:
    assert parse_lyrics(f"[verse]\n{mark}\nla\n{mark} lo").sections == (Section("verse", "la\nlo"),)
    assert parse_lyrics(f"[verse]\n{mark}\nla\n{mark} lo").notices == (
        f"singer marks are left out, since YuE has none: {mark}",
    )


def test_names_are_singer_marks_where_nothing_else_says_them() -> None:
    alone = parse_lyrics("[verse]\n(Anna)\nla la\n\n(Ben)\nlo lo\n(Anna) li")
    assert alone.sections[0].body == "la la\n\nlo lo\nli"
    labelled = parse_lyrics("[verse: Anna & Ben]\nla\n(Ben) lo\n[Anna]\nli\n[Anna & Ben:]\nle")
    assert labelled.sections[0].body == "la\nlo\nli\nle"
    assert labelled.notices[1:] == (
        "singer marks are left out, since YuE has none: (Ben), [Anna], [Anna & Ben:]",
    )


@pytest.mark.parametrize(
    "body",
    [
        "I will love you forever\n(Forever)\nand a day",
        "(Forever)\nI say forever",
        "(Yeah)\nla la",
        "la la\n(Believe)\nlo lo",
        "(Come on) la",
        "la (Anna) lo",
    ],
)
def test_echoes_and_exclamations_are_words(body: str) -> None:
    assert parse_lyrics(f"[verse]\n{body}") == Lyrics((Section("verse", body),))


def test_directions_are_said_in_one_notice() -> None:
    text = (
        "[verse]\nla\n[Vocal chop: 'believe']\n[Acoustic guitar melody fades out]\n[abrupt silence]\n"
        "(instrumental)\nlo [laughs]"
    )
    assert parse_lyrics(text).sections == (Section("verse", "la\nlo"),)
    assert parse_lyrics(text).notices == (
        "stage directions are left out: [Vocal chop: 'believe'], [Acoustic guitar melody fades out], "
        "[abrupt silence], (instrumental), [laughs]",
    )


# Repeats


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        ("la (x2)\nlo", ["la\nla\nlo"]),
        ("la [2x]\nlo", ["la\nla\nlo"]),
        ("la x3", ["la\nla\nla"]),
        ("la（×2）", ["la\nla"]),
        ("la (bis)", ["la\nla"]),
        ("la (repeat 2 times)", ["la\nla"]),
        ("la\nlo\n\nli\nle\n(x2)", ["la\nlo\n\nli\nle\nli\nle"]),
        ("(x2)\nla", ["la", "la"]),
        ("la (x1)", ["la"]),
        ("la (x100)", ["la (x100)"]),
        ("la (x2) lo", ["la (x2) lo"]),
    ],
)
def test_repeats_of_lines(text: str, bodies: list[str]) -> None:
    assert [s.body for s in parse_lyrics(f"[verse]\n{text}").sections] == bodies


@pytest.mark.parametrize(
    "head", ["[verse x2]", "[verse] (x2)", "[verse] x2", "[Verse (x2)]", "**Verse** (x2)", "Verse x2:"]
)
def test_repeats_of_sections(head: str) -> None:
    assert [(s.label.lower(), s.body) for s in parse_lyrics(f"{head}\nla").sections] == [("verse", "la")] * 2
    kept = parse_lyrics(f"{head}\nla", keep_repeats=True).sections
    assert len(kept) == 1
    assert "la" in kept[0].body


def test_repeats_stay_where_they_are_kept() -> None:
    body = "la (x2)\n(x3)\nlo [2x]"
    assert parse_lyrics(f"[verse]\n{body}", keep_repeats=True) == Lyrics((Section("verse", body),))


def test_repeats_end_where_lyrics_are_too_long() -> None:
    with pytest.raises(RequestError, match="at most"):
        parse_lyrics("[verse]\n" + "la la la la (x20)\n" * 4000)


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("V1:\nla\nC:\nhey\nV2: na na\nC:", "verse la, chorus hey, verse na na, chorus hey"),
        ("[V1]\nla\n[PC]\noh\n[C]\nhey", "verse la, prechorus oh, chorus hey"),
        ("V 1\nla\n\nChor\nhey\n\nBr.\nho", "verse la, chorus hey, bridge ho"),
        ("(V)\nla\n\n(C)\nhey", "verse la, chorus hey"),
        ("(V)\nAm  F  C\nla\n(C)\nhey", "verse la, chorus hey"),
        ("(C)\nla\n(G)\nhey", "verse la\nhey"),  # chords
        ("V: la la\nJ: hey hey", "verse V: la la\nJ: hey hey"),  # singers
        ("C: la\nB: hey", "verse C: la\nB: hey"),
        ("V\nI\nC", "verse V\nI\nC"),  # letters that are spelled
        ("[1番]\n[Aメロ]\nさくら\n[2番]\n\n[サビ]\nはな", "verse さくら, chorus はな"),
        ("[1절]\n[후렴]\n사랑", "chorus 사랑"),
        ("[1番]\nさくら\n[2番]\nゆき", "verse さくら, verse ゆき"),
        ("[verse]\nla\n[2番]", "verse la, verse "),
    ],
)
def test_abbreviated_heads_and_heads_over_heads(text: str, sections: str) -> None:
    assert ", ".join(f"{s.label} {s.body}" for s in parse_lyrics(text).sections) == sections


def test_a_head_over_another_is_said_as_left_out() -> None:
    assert parse_lyrics("[1番]\n[サビ]\nはな").notices == (
        "labels are read as words that the model knows: [サビ] as [chorus]",
        "stage directions are left out: [1番]",
    )


@pytest.mark.parametrize("blank", [" ", "\t", "\u3000", "[", "*"])
def test_a_head_is_looked_for_in_linear_time(blank: str) -> None:
    match = SHORT_HEAD.match(blank * 200_000 + "x")  # a pattern that tries each start would take an hour
    assert match is None
    assert parse_lyrics("[V1]\nla\n" + blank * 20 + "C:\nhey").sections[0].label == "verse"
