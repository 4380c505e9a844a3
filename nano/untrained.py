"""A family of seeded random weights in the published layout: what tests and benchmarks convert and run.

python -m nano.untrained FOLDER     writes stage1/, stage2/ and codec/
"""

from __future__ import annotations

import sys
from pathlib import Path

from nano import codec_weights, tokenizer
from nano.lm_weights import LlamaSpec, write_llama

STAGE1_SEED, STAGE2_SEED = 1, 2


def spec(vocab: int, context: int) -> LlamaSpec:
    """A LLaMA small enough for a first try."""
    return LlamaSpec(hidden=64, layers=2, heads=4, kv_heads=2, ffn=160, vocab=vocab, context=context)


def write_checkpoints(folder: Path) -> None:
    """`stage1/`, `stage2/` and `codec/` as m-a-p publishes them."""
    model = tokenizer.build_tokenizer()
    pieces = tokenizer.TEXT_PIECES + len(tokenizer.appended_pieces())
    write_llama(folder / "stage1", spec(pieces, 16384), STAGE1_SEED, model)
    write_llama(folder / "stage2", spec(pieces, 8192), STAGE2_SEED, model)
    codec_weights.write(folder / "codec")


if __name__ == "__main__":
    write_checkpoints(Path(sys.argv[1]))
