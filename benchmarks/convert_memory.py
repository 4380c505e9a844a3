"""Peak memory of the converter on a checkpoint of stage 1's widths with fewer layers.

python benchmarks/convert_memory.py [--layers 8] [--types BF16 Q8_0 Q4_K_M]

The peak does not depend on the number of layers, so it holds for the published 12.4 GB. Each
conversion runs in a process of its own under a data limit of 4 GiB. "resident" includes pages of
the input file that llama.cpp's quantiser maps and the kernel may drop; "own" is what the process
itself holds. Each file is then opened by llama.cpp and reads eight ids. Linux only.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 4 << 30


def main() -> None:
    """Write the checkpoint, convert it to each type, print a table and fail above 4 GiB."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--types", nargs="+", default=["BF16", "Q8_0", "Q4_K_M"])
    parser.add_argument("--folder", type=Path, help="where to work; needs about three times the checkpoint")
    parser.add_argument("--child", nargs=3, metavar=("SOURCE", "OUT", "TYPE"), help=argparse.SUPPRESS)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        convert(Path(options.child[0]), Path(options.child[1]), options.child[2])
        return
    if options.load:
        load(options.load)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder) / "checkpoint"
        build(source, options.layers)
        size = (source / "model.safetensors").stat().st_size
        print(f"checkpoint: {size / 1e9:.2f} GB, BF16, {options.layers} layers, untrimmed")
        print("| type | seconds | output GB | peak resident MiB | peak own MiB | loads |")
        print("|---|---|---|---|---|---|")
        for kind in options.types:
            found = measure(source, Path(folder) / "out.gguf", kind)
            print(
                f"| {kind} | {found['seconds']:.0f} | {found['bytes'] / 1e9:.2f} "
                f"| {found['resident'] / 2**20:.0f} | {found['own'] / 2**20:.0f} | {found['loads']} |",
                flush=True,
            )
            worst = found["own"] if kind not in ("F32", "F16", "BF16", "Q8_0") else found["resident"]
            if worst >= LIMIT:
                sys.exit(f"{kind}: more than 4 GiB")


def build(folder: Path, layers: int) -> None:
    """A streamed checkpoint with the published widths of stage 1."""
    sys.path.insert(0, str(ROOT))
    from nano.lm_weights import LlamaSpec, write_llama
    from nano.tokenizer import build_tokenizer

    spec = LlamaSpec(4096, layers, heads=32, kv_heads=4, ffn=11008, vocab=83968, context=16384)
    write_llama(folder, spec, 1, build_tokenizer())


def measure(source: Path, out: Path, kind: str) -> dict[str, Any]:
    """Convert, then load, each in a child process, and read their own account of time and memory."""
    found = ask("--child", str(source), str(out), kind)
    found["bytes"] = out.stat().st_size
    found |= ask("--load", str(out))
    out.unlink()
    return found


def ask(*arguments: str) -> dict[str, Any]:
    """JSON that this program prints for `arguments`, run in a process of its own."""
    child = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(child.stdout))


def convert(source: Path, out: Path, kind: str) -> None:
    """The child: convert under the limit and print seconds and peaks in bytes."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    from yuegguf_convert.lm import convert_lm

    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            status = Path("/proc/self/status").read_text()
            own = int(status.split("RssAnon:")[1].split()[0]) << 10
            peak[0] = max(peak[0], own)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.monotonic()
    convert_lm(source, out, out_type=kind, trim=False)
    seconds = time.monotonic() - start
    done.set()
    watcher.join()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps({"seconds": seconds, "resident": resident, "own": peak[0]}))


def load(path: Path) -> None:
    """The child: open the file in llama.cpp, read eight ids, say how many logits came and were numbers."""
    from contextlib import closing

    import numpy as np

    from yuegguf.lm.llama import EngineOptions, LlamaEngine
    from yuegguf.lm.protocol import SequenceInput

    with closing(LlamaEngine(path, EngineOptions(64, 1, 2))) as engine:
        logits = engine.decode([SequenceInput(0, list(range(8)))])
    good = bool(np.isfinite(logits).all()) and float(logits.std(dtype=np.float64)) > 0
    print(json.dumps({"loads": f"yes, {logits.size:,} logits" if good else "NO"}))


if __name__ == "__main__":
    main()
