"""What small types and quantised KV caches cost: divergence of nano's stages from themselves in F16.

    python -m benchmarks.small_types [--types Q4_K_M,Q3_K_M,Q3_K_S,Q2_K] [--caches q8_0,q4_0] [--seconds 12]

The bundled files are Q8_0; as F16 they hold the same numbers. Each type is made without and with an
importance matrix of two songs, and reads a third one. Caches are those of the F16 files.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf.quants import dequantize
from numpy.typing import NDArray
from yuegguf_convert.gguf_file import GgufFile, Tensor, TensorType, read_gguf, write_gguf
from yuegguf_convert.quantize import quantize_gguf

from yuegguf.api import songs as api
from yuegguf.lm.vocab import StageRole
from yuegguf.measure import quality
from yuegguf.measure.importance import importance_matrix
from yuegguf.models.resolve import nano_models
from yuegguf.planning.hardware import cpu_name
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder

LYRICS = (
    "[verse]\nStaring at the sunset, colors paint the sky\nThoughts of you keep swirling, can't deny\n",
    "[verse]\nRun along the river till the morning light\nCount the silver windows of the night\n",
    "[verse]\nEvery road you take, I'll be one step behind\nEvery dream you make is on my mind\n",
)
GENRES = ("inspiring female pop bright vocal", "slow male folk guitar vocal", "fast female disco synth vocal")
STAGES: tuple[StageRole, ...] = ("stage1", "stage2")
COLUMNS = [f"{role}, {way}" for role in STAGES for way in ("plain", "with an importance matrix")]


def write_f16(source: Path, out: Path) -> Path:
    """Write a GGUF of Q8_0 again as F16."""
    file: GgufFile = read_gguf(source)
    kinds = {TensorType.F32: TensorType.F32, TensorType.Q8_0: TensorType.F16}
    tensors = [Tensor(t.name, kinds[t.kind], t.shape) for t in file.tensors.values()]

    def blocks(tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        stored = file.tensors[tensor.name]
        rows = file.read(stored, 0, stored.rows)
        if stored.kind is TensorType.Q8_0:
            rows = dequantize(rows, stored.kind).astype(np.float16)
        yield np.ascontiguousarray(rows).view(np.uint8).ravel()

    write_gguf(out, file.metadata, tensors, blocks)
    return out


def generated(folder: Path, seconds: float) -> list[SongFolder]:
    """Songs of nano, the last one to be read by all types."""
    found = []
    for seed, (genre, lyrics) in enumerate(zip(GENRES, LYRICS, strict=True), 1):
        request = SongRequest(genre, lyrics, segment_seconds=seconds, seed=seed)
        found.append(SongFolder.open(api.generate(request, output_dir=folder).folder))
    return found


def compare(first: Path, second: Path, song: SongFolder, seconds: float, kv_type: str = "f16") -> str:
    """Divergence in nats and best choices in common, in words."""
    passages = quality.song_passages(song, first, seconds)
    whole = quality.overall_agreement(quality.compare_models(first, second, passages, kv_type=kv_type))
    return f"{whole.kl:.4f}, {whole.same_argmax:.1%}"


def main() -> None:
    """Generate, quantise, compare, print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--types", default="Q4_K_M,Q3_K_M,Q3_K_S,Q2_K")
    parser.add_argument("--caches", default="q8_0,q4_0")
    parser.add_argument("--seconds", type=float, default=12.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, nano = Path(name), nano_models()
        *read, judged = generated(folder, options.seconds)
        exact = {role: write_f16(getattr(nano, role), folder / f"{role}-F16.gguf") for role in STAGES}
        print(f"{cpu_name()}, {options.seconds:g} s\n| type | {' | '.join(COLUMNS)} |\n{'|---' * 5}|")
        matrices = {
            role: importance_matrix(
                path, [p for song in read for p in quality.song_passages(song, path, options.seconds)]
            )
            for role, path in exact.items()
        }
        for kind in options.types.split(","):
            cells = []
            for role, path in exact.items():
                for matrix in (None, matrices[role]):
                    out = folder / f"{role}-{kind}.gguf"
                    quantize_gguf(path, out, kind, importance=matrix, overwrite=True)
                    cells.append(compare(path, out, judged, options.seconds))
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)
        print("\n| caches | stage 1 | stage 2 |\n|---|---|---|")
        for kv_type in options.caches.split(","):
            cells = [compare(path, path, judged, options.seconds, kv_type) for path in exact.values()]
            print(f"| {kv_type} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
