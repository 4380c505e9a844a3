"""Codes that right models sampled, shipped to check an installed file on them; each set states its source."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import ModelNotFound
from yuegguf.files import typed_json

T = TypeVar("T")


@dataclass(frozen=True)
class SampledSection:
    """Codes that stage 1 sampled in one section."""

    codes: list[int]
    """V0 I0 V1 I1 … of codebook 0 [2·frames]."""
    ended: bool
    """Whether end-of-audio was sampled after them."""


@dataclass(frozen=True)
class Stage1Samples:
    """The first sections of a song that stage 1 generated with the default sampling options."""

    model: str
    """Id of the model that sampled them."""
    source: str
    licence: str
    tags: str
    lyrics: str
    """Lyrics of the whole song: the prompt holds all of them."""
    sections: list[SampledSection]


@dataclass(frozen=True)
class Stage2Samples:
    """Whole chunks of a song as stage 2 refined them."""

    model: str
    source: str
    licence: str
    codes: list[list[list[int]]]
    """[2, 8, T]"""

    @property
    def array(self) -> NDArray[np.int16]:
        """Codes [2, 8, T]."""
        return np.array(self.codes, np.int16)


@dataclass(frozen=True)
class CodecSamples:
    """Codebook 0 of a recording that a user has to download."""

    model: str
    source: str
    licence: str
    codes: list[int]
    """[T]"""


def stage1_samples(model: str) -> Stage1Samples:
    """Samples of a stage 1, "en-cot" or "nano"."""
    return _read("nano-stage1" if model == "nano" else model, Stage1Samples)


def stage2_samples(model: str) -> Stage2Samples:
    """Samples of a stage 2, "s2-general" or "nano"."""
    return _read("nano-stage2" if model == "nano" else model, Stage2Samples)


def codec_samples() -> CodecSamples:
    """Codes of the published codec."""
    return _read("xcodec", CodecSamples)


def _read(name: str, kind: type[T]) -> T:
    path = Path(str(resources.files("yuegguf") / "data" / "samples" / f"{name}.json"))
    if not path.is_file():
        raise ModelNotFound("this yuegguf was built without its samples", "install it again")
    return typed_json.read_file(path, kind, "install yuegguf again")
