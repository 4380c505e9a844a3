"""Importance matrix of a model: the mean square of the activations that each matrix column multiplies.

A quantiser rounds important columns with more care. The calibration data are songs, since text says nothing
about a model of codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import EngineError
from yuegguf.measure.quality import Passage, read_through
from yuegguf.measure.scoring_engine import READ_BLOCK
from yuegguf.pipeline.engines import may_repack
from yuegguf.planning import hardware

MATRICES = {
    "attn_norm": ("attn_q", "attn_k", "attn_v"),
    "kqv_out": ("attn_output",),
    "ffn_norm": ("ffn_gate", "ffn_up"),
    "ffn_swiglu": ("ffn_down",),
}
"""llama.cpp's name of an activation → the matrices that multiply it."""
LAST_NODE = "result_norm"
"""llama.cpp's name of the output matrix's activation."""


class _SquareSums:
    """Sums of squared activations by node; an observer of the engine's tensors."""

    def __init__(self) -> None:
        self.squares: dict[str, NDArray[np.float64]] = {}
        self.counts: dict[str, int] = {}

    def wants(self, node: str) -> bool:
        return node == LAST_NODE or node.rpartition("-")[0] in MATRICES

    def observe(self, node: str, values: NDArray[np.float32]) -> None:
        found = np.square(values, dtype=np.float64).sum(axis=0)
        self.squares[node] = self.squares.get(node, 0.0) + found
        self.counts[node] = self.counts.get(node, 0) + len(values)


def importance_matrix(
    model: Path, passages: Sequence[Passage], threads: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """Tensor name → importance [columns] of a model (F32, F16 or BF16 is best) on these passages.

    Raises what opening raises, and EngineError when this llama.cpp uses other node names.
    """
    from yuegguf.lm.llama import EngineOptions, LlamaEngine

    sums = _SquareSums()
    ids = max(len(passage.ids) for passage in passages)
    options = EngineOptions(
        ids,
        1,
        threads or hardware.physical_cores(),
        outputs=READ_BLOCK,
        repack=may_repack(),
        observer=sums,
    )
    with closing(LlamaEngine(model, options)) as engine:
        for passage in passages:
            for _logits in read_through(engine, passage):
                pass
    found: dict[str, NDArray[np.float32]] = {}
    for node, squares in sums.squares.items():
        mean = (squares / sums.counts[node]).astype(np.float32)
        name, _, layer = node.rpartition("-")
        own = ["output"] if node == LAST_NODE else [f"blk.{layer}.{matrix}" for matrix in MATRICES[name]]
        found |= {f"{matrix}.weight": mean for matrix in own}
    layers = int(engine.metadata["llama.block_count"])
    if len(found) != 7 * layers + 1:
        raise EngineError("this llama.cpp does not show what it computes", "quantise without --song")
    return found
