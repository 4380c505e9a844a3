"""The states of frames agree with the labels, and rows of training are laid out as at run time."""

from __future__ import annotations

import numpy as np
import pytest

from nano.corpus import VOWELS, make_song, sample_spec
from nano.corpus.arrange import arrange
from nano.corpus.details import all_rows, details, sizes
from nano.corpus.genres import GENRES, MOODS, STEP_COUNT, drums
from nano.corpus.spelling import word_syllables, words
from nano.corpus.states import (
    CHORDS,
    COUNT,
    HELD,
    HISS,
    LEADS,
    PITCHES,
    SILENT,
    STROKE,
    STROKES,
    VOICED_CONSONANT,
    VOWEL_GOES_ON,
    VOWEL_STARTS,
    states,
)
from nano.train.songs import (
    HARMONY,
    SOUNDS,
    TAGS,
    UNKNOWN,
    free_row,
    last_pieces,
    pieces,
    song_row,
    tag_classes,
    text_row,
    tokenizer_bytes,
)
from yuegguf.lm.tokenizer import Tokenizer
from yuegguf.lm.vocab import split_tracks, stage1_vocab
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.stages.prompt import build

SEEDS = range(20)


def test_the_rows_fit_into_a_codebook_without_a_gap() -> None:
    firsts = [SILENT, VOWEL_STARTS, VOWEL_GOES_ON, VOICED_CONSONANT, HISS, STROKE, HELD, LEADS, COUNT]
    assert firsts == sorted(set(firsts))
    assert (firsts[:2], COUNT) == ([0, 1], 1016)
    assert VOICED_CONSONANT - VOWEL_STARTS == 2 * 6 * len(PITCHES) == 240
    assert len(STROKES) * len(CHORDS) == HELD - STROKE


@pytest.mark.parametrize("seed", SEEDS)
def test_a_vowel_starts_once_per_syllable_at_its_pitch(seed: int) -> None:
    spec = sample_spec(seed)
    vocal = states(spec)[0]
    sung = [s for section in arrange(spec)[1].sections for s in section.syllables]
    starts = np.flatnonzero((vocal >= VOWEL_STARTS) & (vocal < VOWEL_GOES_ON))
    assert starts.tolist() == [s.vowel_start for s in sung]
    assert [PITCHES[(vocal[i] - VOWEL_STARTS) % len(PITCHES)] for i in starts] == [s.pitch for s in sung]


@pytest.mark.parametrize("seed", SEEDS)
def test_silence_is_where_the_vocal_stem_is_zero(seed: int) -> None:
    song = make_song(seed)
    loud = np.abs(song.vocal).reshape(-1, 882).max(axis=1)
    assert (loud[states(song.spec)[0] == SILENT] == 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_strokes_are_the_patterns_of_the_genre(seed: int) -> None:
    spec = sample_spec(seed)
    backing = states(spec)[1]
    struck = set(np.flatnonzero((backing >= STROKE) & (backing < HELD)).tolist())
    expected = set()
    for section in arrange(spec)[1].sections:
        layers = drums(spec.genre, section.label, spec.mood in ("happy", "energetic"))
        hits = {step for p in layers.values() for step in range(STEP_COUNT) if p[step] != "."}
        step = spec.beat_frames // 4
        for bar in range(section.bars):
            expected |= {section.start + bar * 4 * spec.beat_frames + h * step for h in hits}
    assert struck == expected


def test_leads_play_where_nobody_sings_and_name_the_genre() -> None:
    for seed in SEEDS:
        spec = sample_spec(seed)
        vocal, backing = states(spec)
        assert (vocal[backing >= LEADS] == SILENT).all()
        assert {*(backing[backing >= LEADS] - LEADS) // 12} <= {list(GENRES).index(spec.genre)}


def test_a_training_row_is_what_the_runtime_feeds() -> None:
    spec = sample_spec(5)
    vocab = stage1_vocab(pieces())
    lyrics = parse_lyrics(spec.lyrics).sections
    prompt = build(Tokenizer(tokenizer_bytes(), pieces()).encode, vocab, spec.tags, lyrics, lyrics)
    row = song_row(spec)
    labels = arrange(spec)[1].sections
    at = len(prompt.header)
    assert row.ids[:at].tolist() == prompt.header
    for ids, label in zip(prompt.sections, labels, strict=True):
        assert row.ids[at : at + len(ids)].tolist() == ids
        at += len(ids)
        codes = row.ids[at : at + 2 * label.frames] - vocab.codebook0
        expected = states(spec)[:, label.start : label.start + label.frames]
        np.testing.assert_array_equal(split_tracks(codes), expected)
        at += len(codes)
        assert row.ids[at] == vocab.eoa
        assert row.targets[at - 1] == vocab.eoa
        at += 1 + len(prompt.end_of_segment)
    assert at == len(row.ids)
    learned = row.targets != UNKNOWN
    assert learned.sum() == sum(2 * label.frames + 1 for label in labels)
    np.testing.assert_array_equal(row.targets[learned], row.ids[1:][learned[:-1]])


def test_a_row_without_words_starts_at_the_separator() -> None:
    spec = sample_spec(5)
    vocab = stage1_vocab(pieces())
    row = free_row(spec, 1)
    assert (row.ids[0], row.ids[-1]) == (vocab.xcodec, vocab.eoa)
    assert len(row.ids) == 2 + 2 * arrange(spec)[1].sections[1].frames
    assert all((places == -1).all() for places in row.looks.values())


def test_every_syllable_ends_with_a_piece_of_its_own() -> None:
    body = "Remember, my stranger night!\nIt is you"
    found = last_pieces("verse", body)
    ids = Tokenizer(tokenizer_bytes(), pieces()).encode(f"[verse]\n{body}\n\n")
    sung = [pieces()[ids[place]].replace("▁", "").lower() for place in found]
    ends = ["re", "mem", "ber", "my", "stran", "ger", "night", "it", "is", "you"]
    assert all(end.endswith(piece) for end, piece in zip(ends, sung, strict=True))
    assert (np.diff(found) > 0).all()


def test_the_text_says_the_sounds_that_are_sung() -> None:
    spec = sample_spec(5)
    row, label = song_row(spec, 1), arrange(spec)[1].sections[0]
    first = int(np.flatnonzero(row.targets != UNKNOWN)[0])
    for syllable in label.syllables:
        place = first + 2 * (syllable.vowel_start - label.start)
        assert row.facts["sung"][place] == syllable.vowel_start - syllable.onset
        piece = row.looks["syllable"][place]
        assert pieces()[row.ids[piece]].strip("▁").lower() in label.body.lower()
        assert row.said["vowel"][piece] - 1 == VOWELS.index(syllable.vowel)
        for name in SOUNDS:
            assert row.said[name][piece] == row.facts[name][place]
    places = {*row.looks["syllable"][row.looks["syllable"] >= 0]} - {
        *np.flatnonzero(row.said["vowel"] != UNKNOWN)
    }
    assert {pieces()[row.ids[i]] for i in places} == {"<0x0A>"}  # where nothing is left to sing


def test_a_syllable_knows_its_place_in_its_line() -> None:
    spec = sample_spec(5)
    row, label = song_row(spec, 1), arrange(spec)[1].sections[0]
    first = int(np.flatnonzero(row.targets != UNKNOWN)[0])
    places = [first + 2 * (syllable.vowel_start - label.start) for syllable in label.syllables]
    counts = [sum(len(word_syllables(word)) for word in words(line)) for line in label.body.splitlines()]
    opens = np.cumsum([0, *counts])[:-1].tolist()
    closes = (np.cumsum(counts) - 1).tolist()
    assert [i for i, place in enumerate(places) if row.facts["first"][place] == 2] == opens
    assert [i for i, place in enumerate(places) if row.facts["last"][place] == 2] == closes
    pieces_of = [row.looks["syllable"][place] for place in places]
    assert [row.looks["next"][place] for place in places[:-1]] == pieces_of[1:]
    for place, piece in zip(places, pieces_of, strict=True):
        assert row.said["first"][piece] == row.facts["first"][place]


def test_the_header_says_what_the_tags_do() -> None:
    said = tag_classes("calm male vocal 107 bpm D# minor")
    assert said == {"mood": [*MOODS].index("calm"), "gender": 1, "beat": 2, "key": 3, "mode": 1}
    row = song_row(sample_spec(5), 1)
    asked = tag_classes(sample_spec(5).tags)
    for name, value in asked.items():
        assert row.said[name][row.said[name] != UNKNOWN].tolist() == [value] * 2  # the header, the section
        assert (row.said[name][row.looks["harmony"][row.targets != UNKNOWN]] == value).all()
    assert all((row.said[name] == UNKNOWN).all() for name in TAGS if name not in asked)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_section_s_prompt_says_its_chords(seed: int) -> None:
    spec = sample_spec(seed)
    row = song_row(spec)
    ends = np.unique(row.looks["harmony"])[1:]
    assert {pieces()[row.ids[end]] for end in ends} == {"<xcodec>"}
    for end, label in zip(ends, arrange(spec)[1].sections, strict=True):
        assert (row.ids[end + 1 : end + 3] > 0).all()
        bars = {name: row.said[name][end] for name in HARMONY}
        assert [CHORDS[i] for i in bars.values()] == [chord.name for chord in label.chords[:4]]
        shown = row.facts["chord"][end : end + 2 * label.frames : 2]
        assert [shown[chord.frame - label.start] for chord in label.chords[:4]] == [*bars.values()]
        assert (row.looks["harmony"][end : end + 2 * label.frames] == end).all()


def test_a_text_row_is_all_prompts_and_nothing_to_write() -> None:
    spec = sample_spec(5)
    row, whole = text_row(spec), song_row(spec)
    assert (row.targets == UNKNOWN).all()
    for name in row.said:
        np.testing.assert_array_equal(
            row.said[name][row.said[name] != UNKNOWN], whole.said[name][whole.said[name] != UNKNOWN]
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_ages_count_up_from_each_stroke(seed: int) -> None:
    spec = sample_spec(seed)
    rows = details(spec)
    assert rows.shape == (4, arrange(spec)[1].frames)
    assert (rows.max(axis=1) < np.array(sizes())).all()
    for row, ages, nothing in zip(rows, (36, 72, None, 36), np.array(sizes()) - 1, strict=True):
        if ages:
            same = (row[1:] // ages == row[:-1] // ages) & (row[1:] < nothing) & (row[:-1] < nothing)
            step = (row[1:] - row[:-1])[same]
            assert set(step.tolist()) <= {0, 1} | set(range(1 - ages, 0))  # goes on, stays the oldest, begins
    strokes = (states(spec)[1] >= STROKE) & (states(spec)[1] < HELD)
    assert (rows[2][strokes] < sizes()[2] - 1).all()


def test_all_rows_are_of_five_codebooks() -> None:
    spec = sample_spec(5)
    found = all_rows(spec)
    assert found.shape[:2] == (5, 2)
    np.testing.assert_array_equal(found[0], states(spec))
    assert (found[1:, 0] == -1).all()
    np.testing.assert_array_equal(found[1:, 1], details(spec))
    assert max(sizes()) < 1024
