"""Laws of reading lyrics, on examples that Hypothesis makes of the forms that people paste."""

from __future__ import annotations

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from yuegguf.errors import RequestError
from yuegguf.exchange import yue_ui
from yuegguf.request.blocks import read_blocks
from yuegguf.request.characters import plain_characters
from yuegguf.request.labels import KNOWN_LABELS
from yuegguf.request.lyrics import Lyrics, Section, format_lyrics, parse_lyrics

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
LABELS = st.sampled_from(("verse", "chorus", "Verse 1", "Pre-Chorus", "outro: soft", "x2", "副歌 2", "la la"))
LENGTHS = st.floats(1, 150) | st.integers(1, 150)
PASTED = st.sampled_from(
    (
        *(
            "[Guitar Solo]",
            "[サビ]",
            "(Chorus)",
            "CHORUS:",
            "**Verse 2** (x2)",
            "[Repeat Chorus]",
            "[end_of_segment]",
        ),
        *(
            "{Bridge}",
            "## Hook",
            "Verse 1: I walk",
            "[fades out]",
            "(instrumental)",
            "[male] la",
            "(Anna) la lo",
        ),
        *(
            "(Anna)",
            "[Verse: Anna & Ben]",
            "Both: hey now",
            "(x2)",
            "la la (x3)",
            "lo lo [2x]",
            "[x2]",
            "(bis)",
        ),
        *(
            "[00:01.00] la",
            "[00:02.50][00:09.00]lo",
            "[00:04.00][verse]",
            "[ar:Anna]",
            "<00:01.00> word <00:02.00>",
        ),
        *(
            "1:23",
            "0:15 la",
            "00:00:01,000 --> 00:00:02,000",
            "12",
            "Am  G  F#m7",
            "[Am]la [G]lo",
            "C",
            "[C]",
        ),
        *(
            "27ContributorsSong Lyrics[Verse]",
            "loveYou might also like[Hook]",
            "la3Embed",
            "Embed",
            "by Anna Lee",
        ),
        *(
            "Title: x",
            "Anna Lee - Song",
            "# Song",
            "作词：某人",
            "我 爱 你",
            "［verse］",
            "【副歌】",
            "🎵",
            "…",
            "",
        ),
        *(
            "e\u0301",
            "\u200bla",
            "[[verse]]",
            "[verse] [chorus]",
            "(verse) [x2] (x2)",
            "**[Drop]**",
            "[oh yeah]",
        ),
        *(
            "<br>la<br/>lo",
            "<p>[verse]<br>",
            "&amp;lt; la &#39;",
            "> la",
            "> > [chorus]",
            "<!-- la -->",
            "<i",
        ),
        *("ANNA: la lo", "BEN & ANNA:", "남) la", "{static}", "*gunshots*", "※くり返し", "＜サビ※＞", "<끝>"),
        *(
            "1. la lo",
            "2. lo",
            "3) la",
            "la [laughs] lo",
            "la [chorus] lo [x2]",
            "Words: Anna",
            "[후렴 반복]",
        ),
        *(
            "[Chorus][Energetic]",
            "[Soft]",
            "[Verse 1]: la",
            "[Chorus] - ",
            "[/verse]",
            "la</verse>",
            "<verse>lo",
        ),
        *("(repeat)", "[Chorus]\n(repeat)", "[verse]\n(same as above)", "(Repeat Chorus x2)", "[Repeat]"),
        *("#length 8s", "#length: 0:20", "#length long", "[verse]\n#length 9", "---", "***", "```text"),
        *(
            "la **lo** li",
            "*la* lo",
            "**Verse 1:** la",
            "**[Verse 1]** la",
            "\\[Chorus\\]",
            "__la__",
            "Verse\nla",
        ),
        *(
            "{soc}",
            "{start_of_verse: Verse 1}",
            "{c: Chorus}",
            "{eov}",
            "1)",
            "(2)",
            "🎤 Chorus 🎤",
            "Chorus",
        ),
        *("[कोरस]", "[Điệp khúc 2]", "Song Lyrics", "[verse]&amp;#91;x&#93;"),
    )
)
LINES = st.one_of(
    PASTED,
    TEXT,
    LABELS.map("[{}]".format),
    LENGTHS.map("#length {}".format),
    st.tuples(LABELS, TEXT).map("[{0[0]}] {0[1]}".format),
    st.tuples(PASTED, PASTED).map(" ".join),
    st.tuples(PASTED, PASTED).map("".join),
)
CLEAN = st.sampled_from(
    (
        *(
            "Staring at the sunset, colors paint the sky",
            "(ooh) I can't, no — “never”",
            "oh yeah (oh yeah)",
            "",
        ),
        *(
            "月亮代表我的心",
            "夜に駆ける 君と",
            "사랑해 그대 (그대)",
            "It's 7:45, and he said: go",
            "A B C, one two three",
        ),
        *(
            "The chorus of birds",
            "Come on!",
            "hold me <close> #1 *now*",
            "Звёзды светят",
            "I, I, I (I)",
            "Hook me up",
        ),
        *("(Forever) I call forever", "na na na x", "Anna: my love", "2 times a day", "by the river", "end"),
    )
)
LYRICS = st.lists(LINES, max_size=12).map("\n".join)


def lyrics_of(text: str, keep_repeats: bool = False) -> Lyrics:
    """Lyrics that are lyrics."""
    try:
        return parse_lyrics(text, keep_repeats)
    except RequestError as error:
        if "apart" in error.message:  # every reading ends
            raise
        return Lyrics(())


@given(LYRICS, st.booleans())
def test_lyrics_are_read_again_as_they_were_written(text: str, keep: bool) -> None:
    sections = lyrics_of(text, keep).sections
    assume(sections)
    assert parse_lyrics(format_lyrics(sections), keep) == Lyrics(sections)


@given(LYRICS, st.booleans())
def test_no_word_of_lyrics_is_lost_without_a_notice(text: str, keep: bool) -> None:
    found = lyrics_of(text, keep)
    assume(found.sections)
    known = format_lyrics(found.sections) + "\n".join(change.text for change in found.changes)
    apart = re.sub("You might also like|Embed", " ", plain_characters(text)[0])  # glued to words
    for word in re.findall(r"[^\W\d_]+", apart):
        assert word in known or word == "length"


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(KNOWN_LABELS)), st.lists(CLEAN, max_size=4)), min_size=1, max_size=6
    )
)
def test_clean_lyrics_are_read_as_upstream_reads_them(parts: list[tuple[str, list[str]]]) -> None:
    text = "".join(f"[{label}]\n" + "".join(f"{line}\n" for line in lines) + "\n" for label, lines in parts)
    upstream = re.findall(r"\[(\w+)\](.*?)(?=\[|\Z)", text, re.DOTALL)  # infer.py
    assert parse_lyrics(text) == Lyrics(tuple(Section(label, body.strip()) for label, body in upstream))


@given(LYRICS, st.lists(LABELS, max_size=5))
def test_lyrics_of_yue_ui_begin_with_the_sections_that_it_named(lyrics: str, names: list[str]) -> None:
    labels = [section.label for section in parse_lyrics(yue_ui.our_lyrics(lyrics, names), True).sections]
    assert labels[: len(names)] == [yue_ui.our_label(name) for name in names]


def test_repeats_of_sections_stay_within_the_most_characters() -> None:
    text = "[verse x20]\n(x20)\na\n" * 50
    blocks, _ = read_blocks(text, False, 3000)
    assert len(blocks) >= 50
    assert sum(len(block.body) for block in blocks) <= 3000 + len(text)
    assert len(blocks) < 1000  # not 50 x 20 x 20
