"""What the evaluation asks and how it judges, on audio whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import yuegguf
from nano.corpus import make_song, parse_tags, sample_spec, spec_from
from nano.corpus.arrange import arrange
from nano.evaluate import report
from nano.evaluate.agreement import stage1_agreement, stage2_agreement
from nano.evaluate.requests import LONGEST, frames, held_out, lengths
from nano.evaluate.songs import Results, assess, generate_song
from nano.measure.validate import corpus_classifier
from nano.measure.vowels import VowelClassifier
from nano.train import codec, coded, references
from yuegguf.models.resolve import nano_models
from yuegguf.request.song_request import FinishedSection

LYRICS = "[intro]\n\n[verse]\nRemember the summer night\nMoon over the silver sea\n"


@pytest.fixture(scope="module")
def classifier() -> VowelClassifier:
    return corpus_classifier(12)


def test_requests_are_held_out_and_say_what_is_measured() -> None:
    specs = held_out(40)
    seeds = [spec.seed for spec in specs]
    assert seeds == sorted(set(seeds))
    assert max(seeds) < min(codec.FIRST_SEED, coded.FIRST_SEED, references.FIRST_SEED)
    for spec in specs:
        tags = parse_tags(spec.tags)
        assert (tags.bpm, tags.key, tags.mode) == (round(spec.bpm), spec.key, spec.mode)
        assert sum(lengths(spec)) == frames(spec) == arrange(spec)[1].frames <= LONGEST


def as_song(folder: Path, spec: object, gain: float = 1.0) -> yuegguf.Song:
    """What the studio makes of a request, as if yuegguf had sung it; `gain` is that of the voice."""
    made = make_song(spec)
    waves = {"mix": made.mix, "vocals": gain * made.vocal, "instrumental": made.instrumental}
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave, 44_100)
    sections = [FinishedSection(s.label, s.start / 50, s.frames / 50, True) for s in made.labels.sections]
    return yuegguf.Song(folder, made.labels.frames / 50, 0, (), tuple(sections))


def test_the_studio_itself_is_measured_right(tmp_path: Path, classifier: VowelClassifier) -> None:
    spec = spec_from("pop happy female vocal 125 bpm C major", LYRICS, 3)
    heard = assess(as_song(tmp_path, spec), spec, classifier)
    shares = heard.shares()
    assert {name: shares[name] for name in shares if name != "vowels"} == dict.fromkeys(
        ("tempo", "key", "register", "silence", "onsets", "ended", "length"), 1.0
    )
    assert shares["vowels"] > 0.95


def test_another_song_is_measured_wrong(tmp_path: Path, classifier: VowelClassifier) -> None:
    asked = spec_from("pop happy female vocal 125 bpm C major", LYRICS, 3)
    other = spec_from(
        "rock sad male vocal 83 bpm F# minor", LYRICS.replace("Moon", "Snow and stormy moon"), 3
    )
    shares = assess(as_song(tmp_path, other), asked, classifier).shares()
    assert (shares["tempo"], shares["key"], shares["register"]) == (0, 0, 0)
    assert shares["length"] < 1
    assert shares["vowels"] < 0.5


def test_answers_add_up() -> None:
    heard = Results(tempo=[True], vowels=[("AA", "AA"), ("IY", "EH")])
    heard.add(Results(tempo=[False], key=[True]))
    shares = heard.shares()
    assert (shares["tempo"], shares["key"], shares["vowels"]) == (0.5, 1.0, 0.5)
    assert np.isnan(shares["register"])


def test_the_codec_s_values() -> None:
    found = {f"{track}_mel_{n}": 8.0 / n for track in ("vocal", "instrumental") for n in (1, 2, 4, 6, 8)}
    found |= {"vocal_high": 0.7, "instrumental_high": 0.9, "instrumental_sdr_8": 5.0}
    assert report.codec_values(found) == {"ratio": 8.0, "sdr": 5.0, "order": 1.0, "high": pytest.approx(0.8)}
    found["vocal_mel_8"] = 5.0
    assert report.codec_values(found)["order"] == 0.0


def test_the_table_says_what_is_missed() -> None:
    values = dict.fromkeys((target.name for target in report.SINGING), 0.85)
    lines = report.table(report.SINGING, values).splitlines()[2:]
    assert [line.split("|")[-2].strip() for line in lines] == [
        "met", "met", "MISSED", "met", "MISSED", "met", "MISSED", "MISSED",
    ]  # fmt: skip


def test_a_file_agrees_with_itself() -> None:
    models = nano_models()
    first = stage1_agreement(models.stage1, models.stage1, [7])
    assert (first.kl, first.same_argmax) == (0.0, 1.0)
    assert first.predictions == 2 * lengths(sample_spec(7))[0] + 1
    second = stage2_agreement(models.stage2, models.stage2, models.codec, [7])
    assert (second.kl, second.same_argmax, second.predictions) == (0.0, 1.0, 700)


def test_a_song_that_is_there_is_not_generated_again(tmp_path: Path) -> None:
    spec = spec_from("pop happy female vocal 150 bpm C major", "[verse]\nMoon over the sea\n", 1)
    models = yuegguf.ModelChoice("nano")
    first, again = (generate_song(spec, models, tmp_path, "0001") for _ in range(2))
    assert first.folder == again.folder
    assert [path.name for path in tmp_path.iterdir()] == [first.folder.name]
