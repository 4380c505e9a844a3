"""The studio reads any text by fixed rules, and requests come back as what they ask for."""

from __future__ import annotations

from collections import defaultdict

import pytest

from nano.corpus import (
    CONSONANTS,
    VOWELS,
    SectionSpec,
    make_song,
    make_tags,
    parse_tags,
    sample_spec,
    spec_from,
    syllables,
)
from nano.corpus.genres import MOODS
from nano.corpus.lexicon import FEWEST, MOST, WORDS
from nano.corpus.spelling import RULES, phonemes, words
from nano.corpus.theory import BEAT_FRAMES, KEYS, MODES
from nano.corpus.voice import FORMANTS, HISSES
from yuegguf.request.lyrics import parse_lyrics

SEEDS = range(60)
LONG = "Hold the golden lantern, sister\nOver the hill\n" * 2


# --- spelling ---

SPELLINGS = {
    "the": "F EH", "stone": "S T OW N", "sky": "S K AA", "night": "N AA T", "time": "T AA M",
    "name": "N EH M", "burning": "P ER N IY N", "river": "R IY F ER", "follow": "F OW L OW", "tree": "T R IY",
    "moon": "M UW N", "little": "L IY T UW L", "memory": "M EH M OW R IY", "me": "M IY", "oh": "OW",
    "phone": "F OW N", "know": "N OW", "wrong": "R OW N", "queen": "K IY N", "city": "S IY T IY",
    "you": "Y UW", "day": "T EH", "church": "SH ER SH", "bread": "P R IY T", "x": "K", "boy": "P OW IY",
    "sing": "S IY N", "dance": "T AA N S",
}  # fmt: skip


@pytest.mark.parametrize("word", SPELLINGS)
def test_spelling_rules(word: str) -> None:
    assert " ".join(phonemes(word)) == SPELLINGS[word]


def test_any_text_is_read() -> None:
    assert words("Don't  go: CAFÉ-noir, 42 月亮!") == ["dont", "go", "cafe", "noir", "月亮"]
    assert syllables("月亮 42 ...") == []
    assert [s.phonemes for s in syllables("hm, stop")] == [("M", "ER"), ("S", "OW", "P")]
    assert [s.phonemes for s in syllables("winter")] == [("W", "IY", "N"), ("T", "ER")]
    for code in range(32, 0x250):
        syllables(chr(code) * 3 + "a" + chr(code))


def test_every_rule_gives_known_phonemes_and_every_phoneme_has_a_sound() -> None:
    known = {*VOWELS, *CONSONANTS}
    assert {p for _, found in RULES for p in found.split()} - {"="} == known
    assert {*FORMANTS, *HISSES} == known


def test_the_lexicon_is_small_and_sings_everything() -> None:
    sung = defaultdict(int)
    for word in WORDS:
        for syllable in syllables(word):
            for phoneme in syllable.phonemes:
                sung[phoneme] += 1
    assert 300 <= len(WORDS) <= 600
    assert {*sung} == {*VOWELS, *CONSONANTS}
    assert min(sung[vowel] for vowel in VOWELS) > 25


def test_lyrics_of_the_corpus_use_the_lexicon_in_lines_of_four_to_eight() -> None:
    for seed in SEEDS:
        for section in sample_spec(seed).sections:
            assert {*words(section.body)} <= {*WORDS}
            for line in section.body.splitlines():
                assert FEWEST <= len(syllables(line)) <= MOST


# --- tags and lyrics ---


def test_tags_say_little_or_nothing_but_never_wrong() -> None:
    missing, free = 0, 0
    for seed in range(300):
        spec = sample_spec(seed)
        tags = parse_tags(spec.tags)
        said = (tags.bpm, tags.key, tags.mode)
        assert said in [(round(spec.bpm), spec.key, spec.mode), (None, None, None)]
        assert tags.gender == spec.gender
        assert tags.genre in (spec.genre, None)
        assert tags.mood in (spec.mood, None)
        missing += tags.genre is None
        free += tags.bpm is None
    assert 0 < missing < 60
    assert 0 < free < 40


@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("beat", BEAT_FRAMES)
def test_a_request_comes_back_as_its_spec(mood: str, beat: int) -> None:
    for key in KEYS:
        for mode in MODES:
            tags = make_tags("jazz", mood, "male", beat, key=key, mode=mode)
            spec = spec_from(tags, "[verse]\nOh hello\n\n[outro]\n")
            assert (spec.mood, spec.beat_frames, spec.key, spec.mode) == (mood, beat, key, mode)
            assert (spec.genre, spec.gender, spec.tags) == ("jazz", "male", tags)
            assert spec.sections == (SectionSpec("verse", "Oh hello"), SectionSpec("outro"))


def test_tags_in_any_order_and_case() -> None:
    assert parse_tags("a Minor, F# MAJOR 150BPM dark Folk") == parse_tags("folk sad 150 bpm a minor")


def test_lyrics_are_read_by_the_runtime_as_they_are_meant() -> None:
    for seed in SEEDS:
        spec = sample_spec(seed)
        parsed = parse_lyrics(spec.lyrics)
        assert parsed.notices == ()
        assert [(s.label, s.body) for s in parsed.sections] == [(s.label, s.body) for s in spec.sections]


def test_a_request_of_ones_own_is_generated() -> None:
    song = make_song(spec_from("rock 125 bpm E minor male vocal", f"[Verse 1]\n{LONG}[solo]\n", seed=5))
    verse, solo = song.labels.sections
    assert len(verse.syllables) == len(syllables(LONG))
    assert (verse.label, solo.label, solo.syllables, solo.bars) == ("verse", "solo", (), 2)
