"""Laws of the pure parts, on examples that Hypothesis makes up: the same ones in every run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers import limited
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from yuegguf_convert.gguf_file import GgufFile, Tensor, TensorType, Value, ValueType, read_gguf, write_gguf

from yuegguf.audio import limiter
from yuegguf.errors import RequestError
from yuegguf.exchange import yue_ui
from yuegguf.lm.gguf_header import NUMBERS
from yuegguf.request.lyrics import Section, choose_sections
from yuegguf.request.sampling import Sampling
from yuegguf.stages import stage2
from yuegguf.stages.stage2 import Chunk

# --- lyrics ---

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4)), min_size=2, max_size=5))
def test_a_choice_of_sections_is_those_numbers_in_that_order(
    count: int, ranges: list[tuple[int, int]]
) -> None:
    sections = tuple(Section(f"verse{number}", "la") for number in range(1, count + 1))
    spec = ",".join(f"{low}-{low + more}" if more else str(low) for low, more in ranges)
    wanted = [number for low, more in ranges for number in range(low, low + more + 1)]
    if max(wanted) > count:
        with pytest.raises(RequestError):
            choose_sections(sections, spec)
    else:
        assert [section.label for section in choose_sections(sections, spec)] == [f"verse{n}" for n in wanted]


@given(st.text("0123456789,-al ", max_size=12))
def test_any_other_choice_is_refused_or_within(spec: str) -> None:
    sections = tuple(Section(f"verse{number}", "la") for number in range(5))
    try:
        chosen = choose_sections(sections, spec)
    except RequestError:
        return
    assert chosen
    assert set(chosen) <= set(sections)


# --- YuE-UI ---


@given(st.integers(1, 40), st.integers(0, 40), st.data())
def test_a_project_is_read_as_it_was_saved(frames: int, refined: int, data: st.DataObject) -> None:
    codes = st.integers(0, 1023)
    codes0 = data.draw(arrays(np.int16, (2, frames), elements=codes))
    more = data.draw(arrays(np.int16, (2, 8, min(refined, frames)), elements=codes))
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), min_size=2, max_size=6)))
    segments = [yue_ui.Segment("verse", a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    sampling = Sampling(top_p=0.9, temperature=0.8, guidance_first=1.3, guidance_rest=1.3)
    project = yue_ui.Project("a b", "[verse]\nla", tuple(segments), codes0, more, sampling, 20.0, 7)
    found = yue_ui.parse_project(yue_ui.format_project(project), "project.json")
    np.testing.assert_array_equal(found.codes0, codes0)
    np.testing.assert_array_equal(found.codes, more)
    plain = ("genre", "lyrics", "segments", "sampling", "segment_seconds", "seed", "notices")
    assert [getattr(found, name) for name in plain] == [getattr(project, name) for name in plain]


# --- stage 2 ---


@given(st.integers(0, 2000), st.sampled_from(((0, 1), (0,), (1,), ())))
def test_chunks_are_every_frame_once(frames: int, tracks: Sequence[int]) -> None:
    grid = stage2.chunk_grid(frames, tracks)
    covered = [(c.track, frame) for c in grid for frame in range(c.start, c.start + c.frames)]
    assert covered == [(track, frame) for track in tracks for frame in range(frames)]
    assert all(0 < chunk.frames <= stage2.CHUNK_FRAMES for chunk in grid)


def effort_of(lengths: Sequence[int], rows: int) -> int:
    """The cost of refining chunks step by step, a row taking the longest that is left as it gets free."""
    left, total = sorted(lengths, reverse=True), 0
    while left:
        wave, left = left[:rows], left[rows:]
        while wave := [frames for frames in wave if frames]:
            total += stage2.cpu_step_cost(len(wave))
            wave = [frames - 1 for frames in wave]
    return total


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 20))
def test_the_rows_of_stage_2_are_the_best_of_all(lengths: list[int], most: int) -> None:
    efforts = {rows: effort_of(lengths, rows) for rows in range(1, min(most, len(lengths)) + 1)}
    best = min(efforts.values())
    assert stage2.best_rows(lengths, most) == min(rows for rows, effort in efforts.items() if effort == best)


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_chunks_of_the_same_codes_are_refined_once(first: list[int], second: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage2, "CHUNK_FRAMES", 2)
        frames = min(len(first), len(second))
        codes0 = np.array([first[:frames], second[:frames]], np.int16).reshape(2, frames)
        found = stage2.distinct_chunks(codes0)

    def content(chunk: Chunk) -> list[int]:
        return [int(code) for code in codes0[chunk.track, chunk.start : chunk.start + chunk.frames]]

    assert all(content(chunk) == content(same) for chunk, same in found.items())
    assert len({*found.values()}) == len({tuple(content(chunk)) for chunk in found})


# --- the limiter ---

RATE = 8000
REACH = round(limiter.ATTACK_SECONDS * RATE)
QUIET = st.floats(-1, 1, width=32)


@st.composite
def waves(draw: st.DrawFn) -> np.ndarray:
    """Noise with a few peaks above full scale."""
    wave = np.random.default_rng(draw(st.integers(0, 9))).uniform(-0.9, 0.9, 3 * RATE).astype(np.float32)
    for place in draw(st.lists(st.integers(0, 3 * RATE - 1), max_size=4)):
        wave[place] = draw(st.floats(-4, 4, width=32))
    return wave


@given(waves())
def test_a_limited_wave_is_within_the_ceiling_and_nowhere_louder(wave: np.ndarray) -> None:
    out = limited(wave, RATE)
    assert out.shape == wave.shape
    assert np.abs(out).max() <= np.float32(limiter.CEILING)
    assert (np.abs(out) <= np.abs(wave) * (1 + 1e-6)).all()
    assert (out * wave >= 0).all()
    over = np.flatnonzero(np.abs(wave) > np.float32(limiter.CEILING))
    untouched = slice(0, max(0, int(over[0]) - REACH - 1)) if len(over) else slice(None)
    np.testing.assert_array_equal(out[untouched], wave[untouched])


@given(waves(), st.integers(100, 5000))
def test_the_limiter_does_not_depend_on_its_blocks(wave: np.ndarray, block: int) -> None:
    whole = limited(wave, RATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limiter, "BLOCK_SAMPLES", block)
        np.testing.assert_allclose(limited(wave, RATE), whole, rtol=0, atol=1e-6)


# --- GGUF ---

KEYS = st.text("abcdefghij.", min_size=1, max_size=20).map("x.{}".format)
STRINGS = TEXT.map(str.encode)


@st.composite
def values(draw: st.DrawFn) -> Value:
    """Metadata of any type."""
    kind = draw(st.sampled_from([kind for kind in ValueType if kind != ValueType.ARRAY]))
    if kind == ValueType.STRING:
        array = draw(st.booleans())
        return Value(kind, draw(st.lists(STRINGS, max_size=5) if array else STRINGS), array)
    if kind == ValueType.BOOL:
        return Value(kind, draw(st.booleans()))
    elements = {"allow_nan": False} if NUMBERS[kind].startswith("<f") else {}
    found = draw(arrays(np.dtype(NUMBERS[kind]), st.integers(1, 5), elements=elements or None))
    return Value(kind, found, array=True) if draw(st.booleans()) else Value(kind, found[0].item())


@st.composite
def tensors(draw: st.DrawFn) -> list[Tensor]:
    """Tensors of a few types and shapes."""
    names = draw(st.lists(st.text("abc.", min_size=1, max_size=8), max_size=4, unique=True))
    kinds = st.sampled_from((TensorType.F32, TensorType.F16, TensorType.Q8_0, TensorType.Q4_0))
    shapes = st.sampled_from(((32,), (3, 64), (1, 32), (2, 3, 32)))
    return [Tensor(name, draw(kinds), draw(shapes)) for name in names]


def same(found: Value, wanted: Value) -> bool:
    data = np.array_equal(found.data, wanted.data) if wanted.array else found.data == wanted.data
    return (found.kind, found.array) == (wanted.kind, wanted.array) and bool(data)


def content(tensor: Tensor) -> np.ndarray:
    chance = np.random.default_rng(len(tensor.name))
    return chance.integers(0, 256, (tensor.rows, tensor.row_bytes)).astype(np.uint8)


def written(metadata: dict[str, Value], tensors: Sequence[Tensor], folder: str) -> GgufFile:
    path = Path(folder) / "a.gguf"
    write_gguf(path, metadata, tensors, lambda tensor: iter([content(tensor)]))
    return read_gguf(path)


@given(st.dictionaries(KEYS, values(), max_size=5), tensors())
@settings(max_examples=40)
def test_a_gguf_is_read_as_it_was_written(metadata: dict[str, Value], given_: list[Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = written(metadata, given_, folder)
        assert list(found.metadata) == list(metadata)
        assert all(same(found.metadata[key], value) for key, value in metadata.items())
        assert list(found.tensors) == [tensor.name for tensor in given_]
        for tensor in given_:
            kept = found.tensors[tensor.name]
            assert (kept.kind, kept.shape) == (tensor.kind, tensor.shape)
            np.testing.assert_array_equal(found.read(kept, 0, kept.rows), content(tensor))
