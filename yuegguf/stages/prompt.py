"""Stage-1 prompt ids: the header, the reference block and one prompt per section (`infer.py`).

Each structural marker is tokenised in its own call, as upstream does: concatenated text would give
other ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE, whole_frames
from yuegguf.errors import RequestError
from yuegguf.lm.vocab import Stage1Vocab, interleave
from yuegguf.request.lyrics import Section

EncodeText = Callable[[str], list[int]]
INSTRUCTION = "Generate music from the given lyrics segment by segment."


@dataclass(frozen=True)
class Prompt:
    """Prompt ids of a song."""

    header: list[int]
    """Instruction, tags, all lyrics and the reference; always in the context."""
    sections: list[list[int]]
    """Ids of each section: start marker, text, <SOA>, <xcodec>."""
    end_of_segment: list[int]
    """Marker between one section's audio and the next section."""


def build(
    encode: EncodeText,
    vocab: Stage1Vocab,
    genre: str,
    lyrics: Sequence[Section],
    chosen: Sequence[Section],
    *,
    reference: NDArray[np.int16] | None = None,
) -> Prompt:
    """Assemble the prompt of the `chosen` sections.

    The header holds all `lyrics`, as upstream's does. `reference` holds codebook-0 codes [N] in stage-1 order
    (one track, or V0 I0 V1 I1 …).
    """
    header = encode(header_text(genre, [section.text for section in lyrics]))
    if reference is not None:
        header += [*encode("[start_of_reference]"), vocab.soa, vocab.xcodec]
        header += [*vocab.ids(reference), vocab.eoa]
        header += encode("[end_of_reference]")
    start = encode("[start_of_segment]")
    prompts = [start + encode(section.text) + [vocab.soa, vocab.xcodec] for section in chosen]
    return Prompt(header, prompts, encode("[end_of_segment]"))


def header_text(genre: str, texts: Sequence[str]) -> str:
    """Instruction, tags and every section as one text."""
    tags = " ".join(line.strip() for line in genre.strip().splitlines())  # a newline would end the tags
    return f"{INSTRUCTION}\n[Genre] {tags}\n" + "\n".join(texts)


def single_reference(codes: NDArray[np.int16], start: float, end: float) -> NDArray[np.int16]:
    """Codes [K, T] of one track → codebook 0 of the window in seconds. Raises RequestError for none."""
    return codes[0, reference_window(start, end, codes.shape[1])].astype(np.int16)


def dual_reference(
    vocal: NDArray[np.int16], instrumental: NDArray[np.int16], start: float, end: float
) -> NDArray[np.int16]:
    """Codes [K, T] of two tracks → interleaved codebook 0 of the window in seconds, cut on whole frames.

    The longer track is cut to the shorter one. Raises RequestError for an empty window.
    """
    window = reference_window(start, end, min(vocal.shape[1], instrumental.shape[1]))
    return interleave(vocal[0, window], instrumental[0, window])


def reference_window(start: float, end: float, frames: int) -> slice:
    """Whole frames between two times in seconds of a reference of `frames`. Raises RequestError for none."""
    window = whole_frames(start, end, frames)
    if window.start == window.stop:
        raise RequestError(
            f"the reference window {start:g}-{end:g} s holds nothing of the recording, "
            f"which is {frames / FRAME_RATE:g} s long",
            "pass an earlier --ref-start or a later --ref-end",
        )
    return window
