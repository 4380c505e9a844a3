"""Make the bundled family: seeded random weights in the published layout, then our own converters.

    python -m nano.build            writes yuegguf/data/nano
    python -m nano.build FOLDER     writes FOLDER, and the checkpoints to FOLDER/checkpoints

The weights are random, so the family proves the whole path and nothing about quality.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from yuegguf_convert.lm import convert_lm
from yuegguf_onnx_codec.export import export_codec, find_checkpoints

from nano import codec_weights, tokenizer
from nano.lm_weights import LlamaSpec, write_llama

BUNDLE = Path(__file__).resolve().parent.parent / "yuegguf" / "data" / "nano"
STAGE1_SEED, STAGE2_SEED = 1, 2


def spec(vocab: int, context: int) -> LlamaSpec:
    """A LLaMA small enough for git and quick enough for a first try."""
    return LlamaSpec(hidden=64, layers=2, heads=4, kv_heads=2, ffn=160, vocab=vocab, context=context)


def write_checkpoints(folder: Path) -> None:
    """`stage1/`, `stage2/` and `codec/` as m-a-p publishes them."""
    model = tokenizer.build_tokenizer()
    pieces = tokenizer.TEXT_PIECES + len(tokenizer.appended_pieces())
    write_llama(folder / "stage1", spec(pieces, 16384), STAGE1_SEED, model)
    write_llama(folder / "stage2", spec(pieces, 8192), STAGE2_SEED, model)
    codec_weights.write(folder / "codec")


def convert(checkpoints: Path, out: Path) -> None:
    """Checkpoints → stage1.gguf, stage2.gguf and the four ONNX files in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for stage in ("stage1", "stage2"):
        convert_lm(checkpoints / stage, out / f"{stage}.gguf", out_type="Q8_0", overwrite=True)
    export_codec(*find_checkpoints(checkpoints / "codec"), out, overwrite=True)


def main() -> None:
    """Build into the package, or into a folder of one's own."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    folder = parser.parse_args().folder
    if folder:
        write_checkpoints(folder / "checkpoints")
        convert(folder / "checkpoints", folder)
        return
    with tempfile.TemporaryDirectory() as checkpoints:
        write_checkpoints(Path(checkpoints))
        convert(Path(checkpoints), BUNDLE)


if __name__ == "__main__":
    main()
