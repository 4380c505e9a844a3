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
