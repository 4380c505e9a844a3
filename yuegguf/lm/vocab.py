"""Token layout, read from the model's piece names; no id is a constant.

Piece names and their meaning: YuE `mm_tokenizer_v0.2_hf` and `codecmanipulator.py`. Both tracks use
codebook 0 in stage 1 and alternate (vocal first); stage 2 writes frames of eight
codes, codebook 0 first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile

CODEBOOK_SIZE = 1024
"""Codes per codebook of X-Codec."""
STAGE2_CODEBOOKS = 8
"""Codes of a frame that stage 2 writes."""
ROLE_KEY = "yuegguf.role"
"""GGUF metadata key of the role: "stage1" or "stage2"."""
MAX_TOKENIZER_BYTES = 32 << 20
"""Maximum bytes of a tokenizer.model; YuE's has 1.4 MB."""
TOKENIZER_KEY = "yuegguf.tokenizer.model"
"""GGUF metadata key of the sentencepiece file, base64."""
StageRole = Literal["stage1", "stage2"]
ROLE_OF_CONTEXT: dict[int, StageRole] = {16384: "stage1", 8192: "stage2"}
"""Context length in the published configs → stage, for files of other tools."""


@dataclass(frozen=True)
class Stage1Vocab:
    """Ids of stage 1's special pieces and codes."""

    soa: int
    eoa: int
    xcodec: int
    """Separator that precedes codec ids; the unconditional sequence starts at it."""
    codebook0: int
    """Id of code 0 of codebook 0; the other 1,023 follow."""

    def ids(self, codes: NDArray[np.integer]) -> list[int]:
        """Codebook-0 codes → ids."""
        return [int(c) for c in np.asarray(codes, np.int64) + self.codebook0]


@dataclass(frozen=True)
class Stage2Vocab:
    """Ids of stage 2's special pieces and codes."""

    soa: int
    stage_1: int
    stage_2: int
    codebooks: NDArray[np.int32]
    """Id of code 0 of each codebook [8]; the other 1,023 follow."""


def stage1_vocab(pieces: Sequence[str]) -> Stage1Vocab:
    """Stage 1's ids by piece name. Raises DamagedFile naming a missing piece."""
    index = _index(pieces)
    soa, eoa, xcodec = (_id(index, name, "stage-1") for name in ("<SOA>", "<EOA>", "<xcodec>"))
    if "▁[" not in index and "[" not in index:
        raise DamagedFile(
            "this is not a YuE stage-1 model: its vocabulary has no text pieces",
            "a trimmed stage-2 file cannot be used as stage 1; pass the stage-1 file",
        )
    return Stage1Vocab(soa, eoa, xcodec, _codebook(index, 0, "stage-1"))


def stage2_vocab(pieces: Sequence[str]) -> Stage2Vocab:
    """Stage 2's ids by piece name. Raises DamagedFile naming a missing piece."""
    index = _index(pieces)
    soa, first, second = (_id(index, name, "stage-2") for name in ("<SOA>", "<stage_1>", "<stage_2>"))
    starts = np.array([_codebook(index, k, "stage-2") for k in range(STAGE2_CODEBOOKS)], np.int32)
    return Stage2Vocab(soa, first, second, starts)


def role_of(metadata: Mapping[str, str]) -> str | None:
    """Stage of a GGUF; None where it is unknown.

    Read from the role key, else from the context length of the published configs.
    """
    by_context = {str(context): role for context, role in ROLE_OF_CONTEXT.items()}
    return metadata.get(ROLE_KEY) or by_context.get(metadata.get("llama.context_length", ""))


def check_role(metadata: Mapping[str, str], role: str, name: str) -> None:
    """Refuse a model of the other stage. Raises DamagedFile."""
    actual = role_of(metadata) or role  # another context length proves nothing
    if actual != role:
        words = {"stage1": "stage-1", "stage2": "stage-2"}
        raise DamagedFile(
            f"{name} is a {words.get(actual, actual)} model, but it was given as {words[role]}",
            "swap the files, or check --stage1-model and --stage2-model",
        )


def interleave(vocal: NDArray[np.integer], instrumental: NDArray[np.integer]) -> NDArray[np.int16]:
    """Codes [T] of both tracks → V0 I0 V1 I1 … [2·T]."""
    return np.stack([vocal, instrumental], axis=1).astype(np.int16).ravel()


def split_tracks(codes: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int16]:
    """V0 I0 V1 I1 … → [2, T]; an odd last code is dropped, as upstream does."""
    interleaved = np.asarray(codes, np.int16)
    frames = interleaved[: len(interleaved) // 2 * 2].reshape(-1, 2)
    return np.ascontiguousarray(frames.T)


def _index(pieces: Sequence[str]) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(pieces)}


def _id(index: Mapping[str, int], name: str, stage: str) -> int:
    if name not in index:
        raise DamagedFile(
            f"this is not a YuE {stage} model: its vocabulary has no piece {name}",
            "pass a GGUF made from a YuE checkpoint",
        )
    return index[name]


def _codebook(index: Mapping[str, int], k: int, stage: str) -> int:
    start = _id(index, f"<xcodec/{k}/0>", stage)
    if any(_id(index, f"<xcodec/{k}/{code}>", stage) != start + code for code in range(CODEBOOK_SIZE)):
        raise DamagedFile(f"the pieces of codebook {k} are not in order", "convert the model again")
    return start
