"""Types of the fields of requests and options: NumPy's numbers are taken, other types are said."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import yuegguf
from yuegguf.errors import RequestError

VALID: dict[str, dict[str, Any]] = {
    "SongRequest": {"genre": "pop", "lyrics": "[verse]\nla"},
    "Sampling": {},
    "Output": {},
    "Reference": {"mix": "a.wav"},
    "GuideTrack": {"track": "vocal"},
    "ExtendRequest": {"seed": 1},
    "PreviewOptions": {},
    "ComputeOptions": {},
    "ModelChoice": {},
    "Lora": {"path": "a.gguf"},
    "EncodeOptions": {},
    "ImportFacts": {},
    "StemFiles": {"vocal": "a.wav", "instrumental": "b.wav"},
}
"""Requests and options, and what they cannot do without."""
FIELDS = [(kind, field.name) for kind in VALID for field in dataclasses.fields(getattr(yuegguf, kind))]


class Tags(str):
    """A text of a class of its own."""


def made(kind: str, **values: object) -> Any:
    return getattr(yuegguf, kind)(**{**VALID[kind], **values})


@pytest.mark.parametrize(("kind", "field"), FIELDS)
@pytest.mark.parametrize("value", [object(), {}, b"pop", 1j])
def test_a_value_of_another_type_is_said(kind: str, field: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"{field} is of type {type(value).__name__}; pass "):
        made(kind, **{field: value})


def test_the_types_that_a_field_takes_are_named() -> None:
    for values, sentence in (
        ({"sections": 1}, "sections is of type int; pass str"),
        ({"lyrics": None}, "lyrics is of type NoneType; pass str"),
        ({"lyrics": Path("words.txt")}, r"lyrics is of type \w*Path; pass str"),
        ({"seed": 1.0}, "seed is of type float; pass int"),
        ({"seed": True}, "seed is of type bool; pass int"),
        ({"seed": np.bool_(True)}, r"seed is of type bool_?; pass int"),
        ({"segment_seconds": "2"}, "segment_seconds is of type str; pass float"),
        ({"reference": "a.wav"}, "reference is of type str; pass Reference or None"),
    ):
        with pytest.raises(RequestError, match=f"^{sentence}$"):
            made("SongRequest", **values)


def test_numbers_of_numpy_become_pythons() -> None:
    sampling = made("Sampling", top_k=np.uint8(5), temperature=np.float64(0.5), top_p=np.float32(0.5))
    request = made("SongRequest", seed=np.int64(5), segment_seconds=np.float32(1), sampling=sampling)
    same = yuegguf.Sampling(top_k=5, temperature=0.5, top_p=0.5)
    assert request == made("SongRequest", seed=5, segment_seconds=1.0, sampling=same)
    assert {type(value) for value in dataclasses.astuple(sampling)} == {int, float}
    assert (type(request.seed), type(request.segment_seconds)) == (int, float)
    assert type(made("ComputeOptions", threads=np.int16(1)).threads) is int
    with pytest.raises(RequestError, match="seed -1 is out of range"):
        made("SongRequest", seed=np.int64(-1))


def test_paths_texts_and_lists_are_taken_where_they_mean_the_same() -> None:
    assert made("Reference", mix=Path("a.wav")) == made("Reference", mix="a.wav")
    assert made("GuideTrack", file=Path("a.wav")).file == "a.wav"
    assert made("StemFiles", vocal="v.wav").vocal == Path("v.wav")
    assert made("ModelChoice", stage1=Path("a.gguf"), codec="c") == made(
        "ModelChoice", stage1="a.gguf", codec=Path("c")
    )
    assert made("Output", formats=["flac"]).formats == ("flac",)
    assert made("Output", formats={"wav", "flac"}).formats == ("flac", "wav")
    nothing = made("ModelChoice", models_dir="", codec="")
    assert (nothing.models_dir, nothing.codec) == (None, None)
    assert made("Output", stems=np.bool_(False)).stems is False
    assert made("ComputeOptions", flash_attention=np.True_).flash_attention is True
    genre = made("SongRequest", genre=Tags("pop")).genre
    assert (genre, type(genre)) == ("pop", str)


def test_a_class_with_types_that_are_not_known_at_run_time_keeps_those_of_its_base() -> None:
    @dataclasses.dataclass(frozen=True)
    class Own(yuegguf.Sampling):
        more: Unknown | None = None  # type: ignore[name-defined]  # noqa: F821

    assert type(Own(top_k=np.int8(5), more=1).top_k) is int
    with pytest.raises(RequestError, match="top_k is of type str"):
        Own(top_k="5")  # type: ignore[arg-type]


def test_the_number_of_takes_is_a_whole_one(tmp_path: Path) -> None:
    for takes in (2.0, "2", True):
        with pytest.raises(RequestError, match="takes is of type"):
            yuegguf.draft_takes(made("SongRequest"), takes, output_dir=tmp_path)  # type: ignore[arg-type]


def test_takes_may_be_numbered_by_numpy(tmp_path: Path) -> None:
    nano, compute = yuegguf.ModelChoice("nano"), yuegguf.ComputeOptions(threads=1)
    request = made("SongRequest", segment_seconds=1, seed=np.int64(7))
    drafts = yuegguf.draft_takes(request, np.int64(2), nano, tmp_path, compute=compute)  # type: ignore[arg-type]
    assert [draft.seed for draft in drafts] == [7, 7]
