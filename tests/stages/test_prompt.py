"""Prompt assembly: references cut on whole frames, tags on one line, markers in calls of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import PIECES

from yuegguf.errors import RequestError
from yuegguf.lm.vocab import stage1_vocab
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.stages.prompt import (
    INSTRUCTION,
    build,
    dual_reference,
    header_text,
    reference_window,
    single_reference,
)

VOCAB = stage1_vocab(PIECES)
Golden = Callable[[str], Path]


def spell(text: str) -> list[int]:
    """A tokenizer that makes each call visible: a start id, then one id per byte."""
    return [1, *(3 + byte for byte in text.encode())]


def track(frames: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + frames, dtype=np.int16)[None]


def test_header_is_one_call_and_every_marker_its_own() -> None:
    sections = parse_lyrics("[verse]\nla\n[chorus]\nlo").sections
    built = build(spell, VOCAB, " pop ", sections, sections)
    assert built.header == spell(f"{INSTRUCTION}\n[Genre] pop\n[verse]\nla\n\n\n[chorus]\nlo\n\n")
    start = spell("[start_of_segment]")
    assert built.sections[1] == [*start, *spell("[chorus]\nlo\n\n"), VOCAB.soa, VOCAB.xcodec]
    assert built.end_of_segment == spell("[end_of_segment]")


def test_header_holds_all_lyrics_also_when_some_are_generated() -> None:
    sections = parse_lyrics("[verse]\nla\n[chorus]\nlo").sections
    whole, one = (build(spell, VOCAB, "pop", sections, chosen) for chosen in (sections, sections[1:]))
    assert one.header == whole.header
    assert one.sections == whole.sections[1:]


def test_reference_block_follows_the_header() -> None:
    sections = parse_lyrics("[verse]\nla").sections
    plain = build(spell, VOCAB, "pop", sections, sections)
    built = build(spell, VOCAB, "pop", sections, sections, reference=np.array([5, 6], np.int16))
    block = [
        *spell("[start_of_reference]"),
        VOCAB.soa,
        VOCAB.xcodec,
        VOCAB.codebook0 + 5,
        VOCAB.codebook0 + 6,
    ]
    assert built.header == [*plain.header, *block, VOCAB.eoa, *spell("[end_of_reference]")]
    assert built.sections == plain.sections


def test_a_newline_cannot_end_the_tags() -> None:
    assert header_text("pop\n[verse]\r\nrock\n", []) == f"{INSTRUCTION}\n[Genre] pop [verse] rock\n"


def test_single_reference_is_codebook_0_of_the_window() -> None:
    assert single_reference(np.vstack([track(100), track(100, 500)]), 0.5, 1.0).tolist() == list(
        range(25, 50)
    )
    assert single_reference(track(100), 0.58, 0.6).tolist() == [29]  # int(0.58 · 50) would be 28
    assert single_reference(track(10), 0.0, 30.0).tolist() == list(range(10))


@pytest.mark.parametrize("start", [0.0, 0.01, 0.02, 0.13, 0.57])
def test_dual_reference_always_starts_with_a_vocal_code(start: float) -> None:
    codes = dual_reference(track(100), track(100, 500), start, 1.5)
    assert len(codes) % 2 == 0
    assert (codes[0::2] < 500).all()
    assert (codes[1::2] == codes[0::2] + 500).all()


def test_tracks_of_different_length_are_cut_to_the_shorter() -> None:
    assert dual_reference(track(100), track(40, 500), 0, 30).tolist()[-2:] == [39, 539]


@pytest.mark.parametrize(
    ("start", "end", "window"),
    [
        (0.8, 2.0, "0.8-2 s"),
        (0.9, 1e308, "0.9-1e+308 s"),
        (0.0, 0.009, "0-0.009 s"),
        (0.501, 0.509, "0.501-0.509 s"),
    ],
)
def test_a_window_without_a_frame_is_refused_with_the_recordings_length(
    start: float, end: float, window: str
) -> None:
    sentence = (
        f"the reference window {window} holds nothing of the recording, which is 0.8 s long; "
        "pass an earlier --ref-start or a later --ref-end"
    )
    for make in (
        lambda: single_reference(track(40), start, end),
        lambda: dual_reference(track(100), track(40), start, end),
    ):
        with pytest.raises(RequestError) as caught:
            make()
        assert str(caught.value) == sentence


@pytest.mark.parametrize("frames", [1, 40, 1499, 7777])
def test_a_window_is_cut_on_whole_frames_and_ends_with_the_recording(frames: int) -> None:
    length = frames / 50
    assert reference_window(0, 30, frames) == slice(0, min(frames, 1500))
    assert (
        reference_window(0, length, frames) == reference_window(0, length + 1e9, frames) == slice(0, frames)
    )
    assert reference_window(length - 0.02, length, frames) == slice(frames - 1, frames)


def test_windows_of_encoded_references_equal_upstream(golden: Golden) -> None:
    """From the official encoder's codes to the reference ids inside the official prompts."""
    codes, prompts = np.load(golden("codec_full.npz")), np.load(golden("prompts.npz"))

    def official(case: str) -> list[int]:
        ids = prompts[f"{case}__input_1"]
        start, end = np.flatnonzero(ids == 32001)[0] + 2, np.flatnonzero(ids == 32002)[0]
        return (ids[start:end] - 45334).tolist()

    one = {name: codes[f"codes_{name}"].reshape(1, -1) for name in ("mix_16k", "vocal_16k", "inst_16k")}
    stereo = codes["codes_mix_44k_stereo"].reshape(1, -1)
    dual = (one["vocal_16k"], one["inst_16k"])
    assert single_reference(one["mix_16k"], 0, 30).tolist() == official("single_default")
    assert single_reference(one["mix_16k"], 0.5, 2.0).tolist() == official("single_0.5_2.0")
    assert single_reference(stereo, 0, 30).tolist() == official("single_44k_stereo")
    assert dual_reference(*dual, 0, 30).tolist() == official("dual_default")
    assert dual_reference(*dual, 0.5, 2.0).tolist() == official("dual_0.5_2.0")
    assert dual_reference(*dual, 0, 30).tolist() == official("both_flags")
