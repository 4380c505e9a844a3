"""Mutated GGUF headers: each is refused by our reader, or llama.cpp opens, runs and quantises it alive.

python tests/reliability/gguf_fuzz.py --count 5000 --seed 1
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from adapters import write_peft
from tiny_gguf import mutated, write_tiny
from yuegguf_convert.lora import convert_lora

from yuegguf.errors import DamagedFile, EngineError, RequestError
from yuegguf.lm.adapters import Lora, read_adapter
from yuegguf.lm.gguf_header import read_gguf
from yuegguf.lm.gguf_model import read_model

AT_ONCE = 100
"""Files of one child."""


def fuzz(count: int, seed: int, whole: Path, base: Path | None = None) -> tuple[int, list[bytes]]:
    """Try so many mutations of a model, or of an adapter of the model `base`.

    Returns how many were refused, and the files that ended a child.
    """
    content, header, chance = whole.read_bytes(), read_gguf(whole).data_start, random.Random(seed)
    weights = read_model(base).shape.projections() if base else {}
    refused, accepted, fatal = 0, [], []
    for number in range(count):
        path = whole.with_name(f"{number}.gguf")
        path.write_bytes(mutated(content, header, chance))
        try:
            read_adapter(path, weights, "base.gguf") if base else read_model(path)
            accepted.append(path)
        except DamagedFile:
            refused += 1
            path.unlink()
        if len(accepted) == AT_ONCE or number == count - 1:
            fatal += [path.read_bytes() for path in dead(accepted, base)]
            for path in accepted:
                path.unlink()
            accepted = []
    return refused, fatal


def dead(paths: list[Path], base: Path | None) -> list[Path]:
    """Those of the files over which a child ends without a word of its own."""
    left, found = list(paths), []
    while left:
        command = [sys.executable, __file__, *(("--base", str(base)) if base else ()), "--open"]
        child = subprocess.run(
            [*command, *map(str, left)],
            capture_output=True,
            text=True,
            check=False,
            # a backtrace would call a debugger, seconds each time
            env=os.environ | {"GGML_NO_BACKTRACE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        done = child.stdout.splitlines().count("done")
        if child.returncode == 0:
            assert done == len(left)
            return found
        assert done < len(left), child.stderr
        found.append(left[done])
        left = left[done + 1 :]
    return found


def open_all(paths: list[Path], base: Path | None) -> None:
    """Open, run and quantise each file; a refusal is fine. Prints a word for each that is done."""
    from yuegguf_convert.quantize import quantize_gguf

    from yuegguf.lm.llama import EngineOptions, LlamaEngine
    from yuegguf.lm.protocol import SequenceInput

    for path in paths:
        loras = (Lora(path),) if base else ()
        options = EngineOptions(16, 2, 1, loras=loras)
        with suppress(DamagedFile, EngineError), closing(LlamaEngine(base or path, options)) as engine:
            engine.decode([SequenceInput(0, [1, 2, 3]), SequenceInput(1, [5])])
        out = path.with_suffix(".q8")
        with suppress(DamagedFile, EngineError, RequestError):
            quantize_gguf(path, out, "Q8_0", threads=1, overwrite=True)
        out.unlink(missing_ok=True)
        print("done", flush=True)


def main() -> None:
    """Print the counts; exit code 1 where a child ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that ended a child")
    parser.add_argument("--adapter", action="store_true", help="mutate an adapter")
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--open", type=Path, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        open_all(options.open, options.base)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = write_tiny(root / "base.gguf")
        if options.adapter:
            whole = convert_lora(write_peft(root / "peft", model), root / "whole.gguf", base=model)
        refused, fatal = fuzz(
            options.count,
            options.seed,
            whole if options.adapter else model,
            model if options.adapter else None,
        )
    for number, content in enumerate(fatal if options.keep else []):
        (options.keep / f"fatal-{number}.gguf").write_bytes(content)
    print(f"{options.count} headers: {refused} refused, {len(fatal)} ended llama.cpp")
    sys.exit(bool(fatal))


if __name__ == "__main__":
    main()
