"""What `models check` measures on right and on deliberately wrong conversions of the bundled family.

    python -m benchmarks.broken_models [--stage 1] [--model FILE] [--folder DIR]

Each wrong file has one fault that a converter can have; all are read by llama.cpp without complaint. The
samples are the family's own (`nano.samples`). With --model, an unquantised stage 1 such as one of seeded
weights, they are two sections that this file generates first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from gguf import dequantize
from numpy.typing import NDArray
from yuegguf_convert.gguf_file import Tensor, TensorType, Value, ValueType, number, read_gguf, write_gguf
from yuegguf_convert.llama_tensors import rope_row_order
from yuegguf_convert.quantize import quantize_gguf

from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.tokenizer import open_tokenizer
from yuegguf.lm.vocab import stage1_vocab
from yuegguf.measure.model_check import check_stage1, check_stage2
from yuegguf.measure.samples import SampledSection, Stage1Samples, stage1_samples, stage2_samples
from yuegguf.models.resolve import nano_models
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.request.sampling import Sampling
from yuegguf.song.token_log import TokenLog
from yuegguf.stages import prompt, stage1
from yuegguf.stages.stage1_task import Stage1Task

Weights = NDArray[np.float32]
Change = Callable[[str, Weights, int], Weights]
"""Tensor name, its values [rows, columns] and the head size → other values of that shape."""
ROPE_KEY = "llama.rope.freq_base"


def _hf_rows(name: str, values: Weights, head: int) -> Weights:
    if name.endswith(("attn_q.weight", "attn_k.weight")):
        return values[np.argsort(rope_row_order(len(values), head))]
    return values


def _transposed(name: str, values: Weights, _head: int) -> Weights:
    square = name.endswith(("attn_q.weight", "attn_output.weight")) and values.shape[0] == values.shape[1]
    return values.T if square else values


def _shifted(name: str, values: Weights, _head: int) -> Weights:
    return np.roll(values, 1, axis=0) if name in ("token_embd.weight", "output.weight") else values


def _shifted_output(name: str, values: Weights, _head: int) -> Weights:
    return np.roll(values, 1, axis=0) if name == "output.weight" else values


def _random(name: str, values: Weights, _head: int) -> Weights:
    if len(values) == 1:
        return values
    chance = np.random.default_rng(sum(name.encode()))
    return chance.permutation(values.ravel()).reshape(values.shape)


def _without_norms(name: str, values: Weights, _head: int) -> Weights:
    return np.ones_like(values) if name.endswith("norm.weight") else values


def _layer_lost(name: str, values: Weights, _head: int) -> Weights:
    return np.zeros_like(values) if name.startswith("blk.1.") and len(values) > 1 else values


def _same(_name: str, values: Weights, _head: int) -> Weights:
    return values


WRONG: dict[str, tuple[Change, float | None]] = {
    "rows of q and k in Hugging Face's order": (_hf_rows, None),
    "RoPE base 500,000 instead of 10,000": (_same, 500_000.0),
    "RoPE base 100 instead of 10,000": (_same, 100.0),
    "vocabulary shifted by one": (_shifted, None),
    "output rows shifted by one": (_shifted_output, None),
    "square projections transposed": (_transposed, None),
    "norms of one": (_without_norms, None),
    "a layer of zeros": (_layer_lost, None),
    "weights shuffled within each tensor": (_random, None),
}
"""Fault of a conversion → its change of the weights, and of the RoPE base."""
TYPES = ("Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
NARROW_TYPES = ("Q8_0", "Q5_0", "Q4_0")
"""Types for rows that do not divide into blocks of 256."""
FRAMES, SEED = 300, 3
"""Most frames of each section that --model generates, and its seed."""


def write_changed(source: Path, out: Path, change: Change = _same, rope: float | None = None) -> Path:
    """Write a model as F16 with other weights, and another RoPE base if one is given."""
    file = read_gguf(source)
    head = read_model(source).shape.head_dim
    metadata: dict[str, Value] = dict(file.metadata)
    if rope is not None:
        metadata[ROPE_KEY] = number(ValueType.FLOAT32, rope)
    kinds = {name: TensorType.F16 if len(t.shape) > 1 else TensorType.F32 for name, t in file.tensors.items()}
    tensors = [replace(tensor, kind=kinds[name]) for name, tensor in file.tensors.items()]

    def blocks(tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        stored = file.tensors[tensor.name]
        values = dequantize(file.read(stored, 0, stored.rows), stored.kind).reshape(stored.rows, -1)
        dtype = np.float16 if tensor.kind == TensorType.F16 else np.float32
        yield np.ascontiguousarray(change(tensor.name, values, head), dtype).view(np.uint8)

    write_gguf(out, metadata, tensors, blocks)
    return out


def variants(source: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Right files of several types, then wrong ones."""
    exact = write_changed(source, folder / "exact.gguf")
    yield "F16", exact
    for kind in TYPES if read_model(source).shape.hidden % 256 == 0 else NARROW_TYPES:
        yield kind, quantize_gguf(exact, folder / f"{kind}.gguf", kind)
    for place, (name, (change, rope)) in enumerate(WRONG.items()):
        yield name, write_changed(source, folder / f"wrong{place}.gguf", change, rope)


def own_samples(path: Path) -> Stage1Samples:
    """Two sections that a stage 1 generates for the lyrics of the published samples."""
    texts, model = stage1_samples("en-cot"), read_model(path)
    vocab, lyrics = stage1_vocab(model.pieces), parse_lyrics(texts.lyrics).sections
    encode = open_tokenizer(model.metadata, model.pieces, path).encode
    built = prompt.build(encode, vocab, texts.tags, lyrics, lyrics[:2])
    task = Stage1Task(built, [FRAMES, FRAMES], Sampling(), SEED)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        log = opened.enter_context(closing(TokenLog.open(Path(folder) / "tokens.log")))
        engine = opened.enter_context(closing(LlamaEngine(path, EngineOptions(4096, 2, 1))))
        codes = stage1.generate_codes(task, engine, vocab, log)
    sections = [SampledSection(part.tolist(), len(part) < 2 * FRAMES) for part in codes]
    return replace(texts, model=path.name, source=path.name, sections=sections)


def main() -> None:
    """Make the files and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", type=int, choices=(1, 2), default=1)
    parser.add_argument("--model", type=Path, help="Another stage 1, unquantised.")
    parser.add_argument("--folder", type=Path, help="Keep the files here.")
    options = parser.parse_args()
    nano = nano_models()
    source = options.model or (nano.stage1 if options.stage == 1 else nano.stage2)
    samples = own_samples(source) if options.model else stage1_samples("nano")
    with tempfile.TemporaryDirectory() as scratch:
        print("| file | within | deficit | mean log-probability | verdict |\n|---|---|---|---|---|")
        for name, path in variants(source, options.folder or Path(scratch)):
            if options.stage == 1:
                report = check_stage1(path, samples, sections=2)
            else:
                report = check_stage2(path, stage2_samples("nano").array)
            found = report.likelihood
            print(
                f"| {name} | {found.within:.1%} | {found.deficit:.2f} | "
                f"{found.mean_log_probability:.2f} | {report.verdict} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
