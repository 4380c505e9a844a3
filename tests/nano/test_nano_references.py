"""References that nano's stage 1 learns from, and how the evaluation hears what was taken up."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nano.corpus import parse_tags, sample_spec
from nano.corpus.genres import GENRES
from nano.corpus.spec import GENDERS, SongSpec
from nano.corpus.states import HELD, PITCHES, SILENT, VOICED_CONSONANT, VOWEL_STARTS, states
from nano.corpus.voice import LOWEST, SPAN
from nano.evaluate.referring import references, written, written_genre
from nano.evaluate.requests import frames
from nano.train import references as made
from nano.train.songs import TAGS, UNKNOWN, pieces, song_row, tag_classes, tokenizer_bytes
from yuegguf.lm.tokenizer import Tokenizer
from yuegguf.lm.vocab import split_tracks, stage1_vocab
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.stages.prompt import build

SUNG = [spec for spec in map(sample_spec, range(1_000_000, 1_000_400)) if spec.gender]


def drawn(count: int) -> list[tuple[SongSpec, SongSpec, made.Reference]]:
    """Songs, what is left of them, and their references."""
    draw = np.random.default_rng(5)
    return [(spec, *made.with_reference(spec, draw)) for spec in SUNG[:count]]


def test_a_reference_says_what_the_tags_leave_out() -> None:
    overruled, kinds = 0, []
    for spec, left, reference in drawn(200):
        was, now = parse_tags(spec.tags), parse_tags(left.tags)
        if not reference.tells:
            overruled += 1
            assert left == spec
            continue
        kinds.append(tuple(reference.tells))
        assert reference.tells == {name: getattr(spec, name) for name in reference.tells}
        assert not any(getattr(now, name) for name in reference.tells)
        kept = [name for name in vars(was) if name not in reference.tells]
        assert [getattr(now, name) for name in kept] == [getattr(was, name) for name in kept]
        assert replace(left, tags=spec.tags) == spec
    assert 30 < overruled < 70  # a quarter of 200
    shares = [kinds.count(kind) / len(kinds) for kind in made.TELLS.values()]
    assert shares == pytest.approx(list(made.TRACKS.values()), abs=0.12)


def test_a_recording_is_of_the_voice_and_genre_that_follow_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "HEARD", 0.0)  # as the studio wrote it
    draw = np.random.default_rng(1)
    for genre in GENRES:
        for gender in GENDERS:
            like = {"genre": genre, "gender": gender}
            vocal, instrumental = split_tracks(made.recording(like, "both", draw))
            assert made.SHORTEST <= len(vocal) <= made.LONGEST
            assert np.mean(vocal != SILENT) > made.SUNG
            held = instrumental[(instrumental >= HELD) & (instrumental < HELD + 24 * len(GENRES))]
            assert {list(GENRES)[code // 24] for code in held - HELD} == {genre}
            vowels = vocal[(vocal >= VOWEL_STARTS) & (vocal < VOICED_CONSONANT)] - VOWEL_STARTS
            pitches = {PITCHES[code % len(PITCHES)] for code in vowels}
            assert pitches
            assert pitches <= set(range(LOWEST[gender], LOWEST[gender] + SPAN + 1))
    assert made.recording({"gender": "male"}, "vocal", draw).min() == SILENT
    assert made.recording({"genre": "jazz"}, "instrumental", draw).min() > SILENT


def test_a_row_with_a_reference_is_what_the_runtime_feeds() -> None:
    vocab, encode = stage1_vocab(pieces()), Tokenizer(tokenizer_bytes(), pieces()).encode
    for spec, left, reference in drawn(12):
        lyrics = parse_lyrics(spec.lyrics).sections
        codes = reference.codes.astype(np.int16)
        prompt = build(encode, vocab, left.tags, lyrics, lyrics[:1], reference=codes)
        row, plain = song_row(left, 1, reference), song_row(replace(spec, tags=left.tags), 1)
        header = len(prompt.header)
        assert row.ids[:header].tolist() == prompt.header
        assert (row.targets[: header - 1] == UNKNOWN).all()  # a reference is read, not learned
        learned = row.targets != UNKNOWN
        assert (row.targets[learned] == plain.targets[plain.targets != UNKNOWN]).all()
        told = tag_classes(left.tags) | {n: TAGS[n].index(v) for n, v in reference.tells.items()}
        for name in TAGS:
            said = row.said[name][row.said[name] != UNKNOWN].tolist()
            assert said == ([told[name]] * 2 if name in told else [])
            assert name not in told or row.said[name][header - 1] == told[name]


def test_the_evaluation_requests_every_kind_and_measures_it(tmp_path: Path) -> None:
    asked = list(references(12))
    assert {(spec.genre, spec.gender) for spec in asked} == {(a, b) for a in GENRES for b in GENDERS}
    assert [spec.seed for spec in references(3)] == [spec.seed for spec in islice(asked, 3)]
    for spec in asked:
        assert frames(spec) >= 1500
        assert spec.seed < made.FIRST_SEED  # held out
        np.savez(tmp_path / "stage1.npz", codes=states(spec).astype(np.int16))
        assert written_genre(tmp_path) == spec.genre
    dual, vocal, instrumental = written(asked[0], tmp_path)
    assert (dual.vocal, dual.instrumental) == (vocal.mix, instrumental.mix)
    for path in (vocal.mix, instrumental.mix):
        assert soundfile.info(str(path)).frames == frames(asked[0]) * 882
