"""Marks beside labels, closing marks, repeats and lengths as people write them, and Markdown."""

from __future__ import annotations

import pytest

from yuegguf.request.lyrics import parse_lyrics


@pytest.mark.parametrize(
    ("text", "sections", "left_out"),
    [
        ("[Chorus][Energetic]\nla", [("Chorus", "la")], "[Energetic]"),
        ("[Verse 1] [Melancholic]\nla", [("verse", "la")], "[Melancholic]"),
        ("[Verse 1][Acoustic][Slow] la", [("verse", "la")], "[Acoustic], [Slow]"),
        ("[Pre-Chorus][Building]\nla", [("prechorus", "la")], "[Building]"),
        ("[Outro][Big Finish]\nla", [("Outro", "la")], "[Big Finish]"),
        ("[Intro][Instrumental]\n[verse]\nla", [("Intro", ""), ("verse", "la")], "[Instrumental]"),
        ("[Chorus][Soft chorus][Drop]\nla", [("Chorus", "la")], "[Soft chorus], [Drop]"),
        ("[Chorus][Energetic][x2]\nla", [("Chorus", "la")] * 2, "[Energetic]"),
        ("[Verse 1]\n[Soft]\n[Slow]\nla", [("verse", "la")], "[Soft], [Slow]"),
        ("[Verse 1] [Loud]\n[Soft]\nla", [("verse", "la")], "[Loud], [Soft]"),
    ],
)
def test_marks_right_after_a_label_belong_to_it(
    text: str, sections: list[tuple[str, str]], left_out: str
) -> None:
    parsed = parse_lyrics(text)
    assert [(s.label, s.body) for s in parsed.sections] == sections
    assert parsed.notices[-1 if "x2" not in text else 0] == f"stage directions are left out: {left_out}"


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("[verse] [chorus]\nla", [("verse", ""), ("chorus", "la")]),
        ("[Intro][Verse: soft]\nla", [("Intro", ""), ("verse", "la")]),
        ("[intro]\n[Drop]\nla", [("intro", ""), ("chorus", "la")]),
        ("[intro]\n[rap]\nla", [("intro", ""), ("rap", "la")]),
        ("[intro]\n\n[Strobe]\nla", [("intro", ""), ("Strobe", "la")]),
        ("[intro]\n#length 9\n[Strobe]\nla", [("intro", ""), ("Strobe", "la")]),
        ("[verse]\nla\n[Strobe]\nlo", [("verse", "la"), ("Strobe", "lo")]),
        ("[verse] la\n[Strobe]\nlo", [("verse", "la"), ("Strobe", "lo")]),
        ("[Chorus]\n[Yeah]\nla", [("Chorus", "[Yeah]\nla")]),
        ("[Chorus][Yeah]\nla", [("Chorus", "[Yeah]\nla")]),
        ("[00:00.00][intro]\n[00:09.00][Strobe]\n[00:09.00] la", [("intro", ""), ("Strobe", "la")]),
    ],
)
def test_other_labels_below_a_label_open_sections(text: str, sections: list[tuple[str, str]]) -> None:
    assert [(s.label, s.body) for s in parse_lyrics(text).sections] == sections


@pytest.mark.parametrize(
    ("text", "sections", "notice"),
    [
        (
            "[Verse 1]:\nla",
            "verse la",
            "labels are read as words that the model knows: [Verse 1]: as [verse]",
        ),
        ("[verse] - la", "verse la", "labels are read as words that the model knows: [verse] - as [verse]"),
        (
            "[verse] 🎵\nla",
            "verse la",
            "labels are read as words that the model knows: [verse] 🎵 as [verse]",
        ),
        ("[verse] — [Soft]\nla", "verse la", "stage directions are left out: [Soft]"),
        (
            "[verse]\nla\n[/verse]\n\n[Strobe]\nlo[/Strobe]",
            "verse la, Strobe lo",
            "marks that close a section are left out: [/verse], [/Strobe]",
        ),
        (
            "<verse>\nla\n</verse>\n<chorus>lo</chorus>",
            "verse la, chorus lo",
            "marks that close a section are left out: </verse>, </chorus>",
        ),
        ("{verse}\nla\n{/verse}", "verse la", "marks that close a section are left out: {/verse}"),
        ("[verse]\nla\n[End of Verse 1]", "verse la", "stage directions are left out: [End of Verse 1]"),
    ],
)
def test_signs_behind_labels_and_closing_marks_are_left_out(text: str, sections: str, notice: str) -> None:
    parsed = parse_lyrics(text)
    assert ", ".join(f"{s.label} {s.body}" for s in parsed.sections) == sections
    assert notice in parsed.notices


@pytest.mark.parametrize("line", ["-la", "(la)", "5", "…la", "[end]", "</close> la", "and/or"])
def test_words_behind_a_label_stay_words(line: str) -> None:
    parsed = parse_lyrics(f"[chorus]\nlo\n[verse] {line}\nli")
    assert parsed.sections[-1].body == f"{line}\nli" or line == "[end]"


@pytest.mark.parametrize(
    ("mark", "times"),
    [
        *(("(repeat)", 1), ("[Repeat]", 1), ("(Repeat Chorus)", 1), ("[Repeat Chorus]", 1), ("(again)", 1)),
        *(("(same as above)", 1), ("(Same as first chorus)", 1), ("(重复)", 1), ("(bis)", 1)),
        *(("(repeat chorus x2)", 2), ("(x2)", 2), ("[3x]", 3)),
    ],
)
def test_a_repeat_mark_alone_below_a_label_stands_for_an_earlier_section(mark: str, times: int) -> None:
    for between in ("\n", " "):
        parsed = parse_lyrics(f"[chorus]\nla\n\n[Chorus]{between}{mark}\n\n[outro]\nlo")
        assert [(s.label, s.body) for s in parsed.sections] == [
            *(("chorus", "la"), *(("Chorus", "la"),) * times, ("outro", "lo")),
        ]
        assert any(notice.startswith("repeats are written out") for notice in parsed.notices)


def test_a_repeat_mark_below_a_blank_line_repeats_the_lines_above_that() -> None:
    for labels in (("[verse]\n", "[chorus]\n"), ("", "")):
        parsed = parse_lyrics(f"{labels[0]}la la\nlo lo\n\n(x2)\n\n{labels[1]}li li\nho ho")
        assert [section.body.split() for section in parsed.sections] == [
            ["la", "la", "lo", "lo"] * 2,
            ["li", "li", "ho", "ho"],
        ]
        assert "repeats are written out: (x2)" in parsed.notices


def test_a_repeat_mark_above_words_or_without_an_earlier_section_is_said() -> None:
    above = parse_lyrics("[chorus]\nla\n\n[chorus]\n(repeat)\nlo")
    assert [s.body for s in above.sections] == ["la", "lo"]
    assert above.notices == ("stage directions are left out: (repeat)",)
    first = parse_lyrics("[chorus]\n(repeat)\n\n[verse]\nla")
    assert [s.body for s in first.sections] == ["", "la"]
    assert first.notices == ("labels are read as words that the model knows: [chorus] (repeat) as [chorus]",)
    other = parse_lyrics("[chorus]\nla\n\n[verse]\n(same as chorus)")
    assert other.sections[1].body == "(same as chorus)"
    twice = parse_lyrics("[chorus]\nla\n\n[Chorus x2]\n\n[verse x2]")
    assert [s.body for s in twice.sections] == ["la", "la", "la", "", ""]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        *(("#length 8s", 8.0), ("#length: 8", 8.0), ("# length 8", 8.0), ("#length 8,5", 8.5)),
        *(("#length 0:20", 20.0), ("#Length = 20 seconds", 20.0), ("#length：1:05", 65.0), ("#length8", 8.0)),
        *(("# length of days", None), ("#lengths 8", None), ("length 8", None)),
    ],
)
def test_lengths_are_read_as_people_write_them(line: str, seconds: float | None) -> None:
    sections = parse_lyrics(f"[verse]\nla\n\n{line}\n[chorus]\nlo").sections
    body = "la" if seconds else f"la\n\n{line}"
    assert [(s.body, s.seconds) for s in sections] == [(body, None), ("lo", seconds)]


def test_a_length_without_seconds_is_said() -> None:
    parsed = parse_lyrics("[verse]\nla\n#length long\n[chorus]\nlo")
    assert [s.body for s in parsed.sections] == ["la", "lo"]
    assert parsed.notices == ("#length lines without a number of seconds are left out: #length long",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("[verse]\n#length 9\nla\n[chorus]\nlo", [9, None]),
        ("[verse] #length 9\nla\n[chorus]\nlo", [9, None]),
        ("[intro]\n#length 5\n[verse]\n#length 9\nla", [5, 9]),
        ("[intro]\n#length 9\n[verse]\nla", [None, 9]),
        ("[verse]\nla\n#length 9\nlo\n[chorus]\nli", [None, 9]),
    ],
)
def test_a_length_right_below_a_label_and_above_words_belongs_to_them(
    text: str, seconds: list[float | None]
) -> None:
    assert [s.seconds for s in parse_lyrics(text).sections] == seconds


@pytest.mark.parametrize(
    ("text", "body", "marks"),
    [
        ("la\n---\nlo", "la\n\nlo", "---"),
        ("la\n* * *\nlo", "la\n\nlo", "* * *"),
        ("```lyrics\nla\n```", "la", "```lyrics, ```"),
        ("la **lo** li\n__le__", "la lo li\nle", "**, __"),
        ("***la***", "la", "***"),
        ("**la** lo\n*li* le", "la lo\nli le", "**, *"),
        ("la\\_lo", "la_lo", "\\_"),
    ],
)
def test_markdown_is_left_out_with_one_notice(text: str, body: str, marks: str) -> None:
    parsed = parse_lyrics(f"[verse]\n{text}")
    assert [s.body for s in parsed.sections] == [body]
    assert parsed.notices == (f"marks of Markdown are left out: {marks}",)


@pytest.mark.parametrize(
    "head", ["**Verse 1:**", "**[Verse 1]**", "**[Verse 1]:**", "\\[Verse 1\\]", "**Verse**:"]
)
def test_labels_in_markdown_may_stand_before_words(head: str) -> None:
    assert [(s.label.lower(), s.body) for s in parse_lyrics(f"{head} la\nlo").sections] == [
        ("verse", "la\nlo")
    ]


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("Verse\nla\n\nChorus\nlo\n\n[Outro]\nli", "verse la, chorus lo, Outro li"),
        ("[Intro]\n\nVerse\nla\n\nChorus\nlo", "Intro , verse la, chorus lo"),
        ("[verse]\nla\n\nChorus\nlo", "verse la\n\nChorus\nlo"),
        ("[verse]\nChorus\nla\n\nlo\nBridge\nli", "verse Chorus\nla\n\nlo\nBridge\nli"),
        ("[verse]\n\nHook\nla\n\nChorus\nlo", "verse Hook\nla\n\nChorus\nlo"),
        ("Bridge\n\n[verse]\nla", "verse Bridge, verse la"),
    ],
)
def test_plain_labels_beside_labels_in_brackets(text: str, sections: str) -> None:
    assert ", ".join(f"{s.label} {s.body}" for s in parse_lyrics(text).sections) == sections


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("{start_of_verse}\nla\n{end_of_verse}\n{soc}\nlo\n{eoc}", "verse la, chorus lo"),
        ("{sov: Verse 1}\nla\n{eov}\n{start_of_bridge}\nlo\n{end_of_bridge}", "verse la, bridge lo"),
        (
            '{start_of_verse: label="Pre-Chorus"}\nla\n{c: Chorus}\nlo\n{chorus}',
            "prechorus la, chorus lo, chorus lo",
        ),
        ("{soc}\nla\n{comment: Slowly}\nlo\n{sot}\ne|--0--1--|\n{eot}", "chorus la\nlo"),
        ("[verse]\nla\n🎤 Chorus 🎤\nlo\n♪ oh ♪", "verse la, chorus lo\n♪ oh ♪"),
        ("[verse]\nla\nDrop 🔥\n🎵 Chorus of birds 🎵", "verse la\nDrop 🔥\n🎵 Chorus of birds 🎵"),
        ("1)\nla\nlo\n\n2)\nli", "verse la\nlo, verse li"),
        ("(1)\nla\n\n(2)\nli", "verse la, verse li"),
        ("1)\n\nla", "verse 1), verse la"),
    ],
)
def test_sections_of_chord_sheets_and_heads_with_pictures_or_numbers(text: str, sections: str) -> None:
    parsed = parse_lyrics(text)
    assert ", ".join(f"{s.label} {s.body}" for s in parsed.sections) == sections


@pytest.mark.parametrize(
    "text",
    [
        "**a ",
        "[/a]",
        "{/verse}",
        "*a ",
        "</",
        "(repeat",
        "#length ",
        "-\t",
        "\\[",
        "<verse",
        "__a ",
        "[a] - ",
    ],
)
def test_marks_are_read_in_linear_time(text: str) -> None:
    """Lines of thousands of beginnings that never end; a pattern that tries each again would take minutes."""
    line = (text * 20_000)[:19_000]
    parse_lyrics(f"[verse]\nla\n{line}\nlo")
