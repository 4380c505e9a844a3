"""Numbers and texts that no song can have: refused as JSON, as options and in Python alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from yuegguf.errors import RequestError
from yuegguf.lm.adapters import Lora
from yuegguf.planning.compute_options import ComputeOptions, check_threads
from yuegguf.request.changes import Change, Kind
from yuegguf.request.labels import MAX_LABEL_CHARS
from yuegguf.request.lyrics import MAX_BODY_CHARS, MAX_SECTIONS, choose_sections, parse_lyrics
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import MAX_GENRE_CHARS, GuideTrack, Output, Reference, SongRequest
from yuegguf.request.valid_text import MAX_LYRICS_CHARS
from yuegguf.stages.sampler import sample_choice

LYRICS = "[verse]\nla"
NEVER = (math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, -(10**400), 10**5000, "7", True, [], {})
"""What no number of a request may be."""
REFUSED = "is out of range; use |is of type (str|bool|list|dict|float); pass (int|float)"
WHOLE = (Sampling, "top_k"), (Sampling, "min_new_tokens"), (SongRequest, "seed"), (SongRequest, "take")
WHOLE += (
    (SongRequest, "retries"),
    (ComputeOptions, "threads"),
    (ComputeOptions, "ctx"),
    (ComputeOptions, "stage2_rows"),
)
WHOLE += (
    (ComputeOptions, "ubatch"),
    (ComputeOptions, "gpu_layers"),
    (ComputeOptions, "main_gpu"),
    (ComputeOptions, "max_memory"),
)
WHOLE += ((GuideTrack, "frames"),)
REAL = (Sampling, "guidance_first"), (Sampling, "guidance_rest"), (Sampling, "repetition_penalty")
REAL += ((Sampling, "temperature"), (Sampling, "top_p"), (SongRequest, "segment_seconds"))
REAL += ((Reference, "start"), (Reference, "end"), (GuideTrack, "offset"), (Output, "vocal_gain"))
REAL += ((Output, "fade"), (Output, "loudness"))
REAL += ((Output, "inst_gain"), (ComputeOptions, "snapshot_seconds"), (PreviewOptions, "preview_seconds"))
NEEDED: dict[type, dict[str, Any]] = {
    SongRequest: {"genre": "pop", "lyrics": LYRICS},
    Reference: {"mix": "a.wav"},
    GuideTrack: {"track": "vocal", "file": "a.wav"},
}


def made(kind: Any, field: str, value: object) -> object:
    return kind(**{**NEEDED.get(kind, {}), field: value})


@pytest.mark.parametrize(("kind", "field"), [*WHOLE, *REAL])
@pytest.mark.parametrize("value", NEVER, ids=lambda value: str(type(value).__name__))
def test_what_is_no_number_in_range_is_refused(kind: type, field: str, value: object) -> None:
    with pytest.raises(RequestError, match=REFUSED):
        made(kind, field, value)


@pytest.mark.parametrize(("kind", "field"), WHOLE)
@pytest.mark.parametrize("value", [1.5, 5e-324])
def test_a_whole_number_has_no_fraction(kind: type, field: str, value: float) -> None:
    with pytest.raises(RequestError, match=REFUSED):
        made(kind, field, value)


@pytest.mark.parametrize("field", ["temperature", "repetition_penalty"])
def test_scores_are_never_divided_by_almost_nothing(field: str) -> None:
    for value in (5e-324, 1e-320, 1e-9):
        with pytest.raises(RequestError):
            made(Sampling, field, value)


@pytest.mark.parametrize("options", [{"top_p": 5e-324}, {"temperature": 0.01}, {"repetition_penalty": 10}])
def test_the_edges_of_the_ranges_draw(options: dict[str, float]) -> None:
    scores = np.random.default_rng(0).normal(0, 3, 1025)
    with np.errstate(all="raise", under="ignore"):
        assert sample_choice(scores, Sampling(**options), 0.5) >= 0


def test_numbers_are_refused_in_json_too() -> None:
    data = SongRequest("pop", LYRICS).to_json()
    for changed in ({"take": 10**20}, {"sampling": {**data["sampling"], "temperature": 1e-320}}):
        with pytest.raises(RequestError, match="is out of range"):
            SongRequest.from_json({**data, **changed})


@pytest.mark.parametrize("scale", [math.nan, math.inf, 101, -101])
def test_the_scale_of_an_adapter_has_a_range(scale: float) -> None:
    with pytest.raises(RequestError, match="write a number up to 100"):
        Lora.parse(f"opera.gguf:{scale}")


def test_threads_are_at_most_four_for_each_core() -> None:
    for cores, most in ((1, 8), (2, 8), (16, 64), (500, 1024)):
        check_threads(most, cores)
        with pytest.raises(RequestError, match=f"too many for {cores} cores?; use --threads 1 to {most}"):
            check_threads(most + 1, cores)
    check_threads(None, 1)


# Texts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[verse]\n" + "a" * MAX_LYRICS_CHARS, "the lyrics have 100,008 characters; use at most 100,000"),
        (
            "[verse]\n" + "a" * (MAX_BODY_CHARS + 1),
            r"the lines of \[verse\] have 20,001 characters; use at most",
        ),
        ("a" * (MAX_BODY_CHARS + 1) + "\n[chorus]", r"the lines of \[verse\] have 20,001 characters"),
        ("[verse]\n" * (MAX_SECTIONS + 1), "the lyrics have more than 200 sections"),
    ],
)
def test_lyrics_have_limits_that_are_reported(text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        parse_lyrics(text)


def test_lyrics_at_the_limits_are_read() -> None:
    assert len(parse_lyrics("[verse]\n" * MAX_SECTIONS).sections) == MAX_SECTIONS
    assert len(parse_lyrics("[verse]\n" + "a" * MAX_BODY_CHARS).sections[0].body) == MAX_BODY_CHARS
    assert len(SongRequest("a" * MAX_GENRE_CHARS, LYRICS).genre) == MAX_GENRE_CHARS
    with pytest.raises(RequestError, match="the genre tags have 5,001 characters; use at most 5,000"):
        SongRequest("a" * (MAX_GENRE_CHARS + 1), LYRICS)


def test_a_long_text_in_brackets_is_a_stage_direction_and_its_notice_is_short() -> None:
    label = "verse " + "x" * MAX_LABEL_CHARS
    parsed = parse_lyrics(f"[verse]\n[{label}]\nla")
    assert [(s.label, s.body) for s in parsed.sections] == [("verse", "la")]
    assert parsed.changes == (Change(Kind.DIRECTION, f"[{label}]"),)
    assert max(map(len, parsed.notices)) < 2 * MAX_LABEL_CHARS


@pytest.mark.parametrize("spec", ["9" * 5000, "1-" + "9" * 30, "1," * 1500 + "1", "1-2," * 150 + "1"])
def test_a_choice_of_sections_has_limits(spec: str) -> None:
    with pytest.raises(RequestError, match="--sections"):
        choose_sections(parse_lyrics("[verse]\n[chorus]\n").sections, spec)


def test_no_error_repeats_all_that_it_was_given() -> None:
    """Found by fuzzing: a queue's list of formats, a name in its notes."""
    error = RequestError("x" * 100_000 + " is wrong", "y" * 100_000 + " helps")
    assert len(str(error)) < 2000
    assert error.message.startswith("xxx")
    assert error.message.endswith(" is wrong")
    assert error.hint.endswith(" helps")
    with pytest.raises(RequestError) as caught:
        Output(formats=("flac",) * 1000 + ("exe",))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200
