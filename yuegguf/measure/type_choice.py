"""The 4-bit type of stage 1 that suits this processor: steps of random models, timed once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from yuegguf.errors import EngineError, YueError, explained
from yuegguf.files import typed_json
from yuegguf.files.atomic import check_free_disk, storage_errors, workspace
from yuegguf.files.child import child_environment, module_command
from yuegguf.lm.protocol import TokenEngine
from yuegguf.models import install, registry
from yuegguf.pipeline import engines
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.timing import NEAR, MeasurementCache, cache_dir, measure

FINER, FASTER = "Q4_K_M", "Q4_0"
"""The 4-bit type that is nearer to the original, and the one that many processors compute faster."""
MIN_GAIN = 0.15
"""Least share of a step's time that FASTER must save to be taken."""
BENCH_SECONDS = 30.0
"""Most seconds of the whole measurement, its models included."""
LAYERS, STAGE1_LAYERS = 2, 32
"""Layers of the random models, and of the published stage 1."""
HEAD = "head"
"""Name of the time of a step of FASTER with a layer less, which tells the layers from the rest."""
SEQUENCES, FAR, ROUND_SECONDS = 2, 64, 0.6
ROUNDS, LAST_ROUND = 5, 15.0
"""Most rounds of timing, and the seconds after which none begins but the first."""
DISK_BYTES = 3 << 29
"""Bytes of disk that the random models take at most."""
TIMES = "times.json"
CHOOSE = "--quant chooses another"


def default_type(
    names: Sequence[str], root: Path, tell: Callable[[str], object], note: Callable[[str], object]
) -> str | None:
    """The 4-bit type of stage-1 models that are named without one; None leaves it to the memory alone.

    A type that one of them is installed as in the folder `root` stays. Else, where the memory allows just
    4 bits and no GPU computes, both are measured, once for this machine and build: `tell` is called with a
    sentence before, `note` with the outcome. A measurement that fails leads to a note and None.
    """
    memory = hardware.available_memory()
    if not names or registry.default_quant("stage1", memory) != FINER:
        return None
    there = [registry.installed_quants(name, root) for name in names]
    for kind in (FINER, FASTER):
        if any(kind in quants for quants in there):
            return kind
    try:
        if engines.find_devices(ComputeOptions()).gpu:
            return None
        steps = _known_steps(tell)
    except (YueError, ImportError, OSError, RuntimeError) as error:
        reason = explained(error).message if isinstance(error, YueError | OSError) else str(error)
        note(f"stage 1 is taken as {FINER}, since 4-bit types were not measured ({reason}); {CHOOSE}")
        return None
    chosen, reason = choose(steps)
    note(f"stage 1 is taken as {chosen}: {reason}; {CHOOSE}")
    return chosen


def choose(steps: Mapping[str, float]) -> tuple[str, str]:
    """The type to take, and why, by the seconds of a step with each."""
    gain = 1 - steps[FASTER] / steps[FINER]
    if gain >= MIN_GAIN:
        return FASTER, f"its step is {gain:.0%} shorter here than {FINER}'s"
    compared = f"{gain:.0%} shorter" if gain > 0 else "no shorter"
    return FINER, f"it is nearer to the original, and {FASTER}'s step is {compared} here"


def whole_steps(times: Mapping[str, float]) -> dict[str, float]:
    """Seconds of a step of the published stage 1 by type, from those of LAYERS layers and of LAYERS - 1.

    The output matrix has the same type in both, and LAYERS layers leave it a far larger share of the step.
    `times[HEAD]` is the step of FASTER with a layer less.
    """
    layer = max(times[FASTER] - times[HEAD], 0.0)
    head = max(times[FASTER] - LAYERS * layer, 0.0)
    head = min(head, times[FASTER] / 2, times[FINER] / 2)  # noise must not leave the layers nothing
    return {kind: head + (times[kind] - head) * STAGE1_LAYERS / LAYERS for kind in (FINER, FASTER)}


def _known_steps(tell: Callable[[str], object]) -> dict[str, float]:
    """Seconds of a step by type, as they were measured before, or now. Raises YueError."""
    from yuegguf.lm.build import build_files, build_info

    engines.check_build()
    stored = MeasurementCache(cache_dir() / "types.json", dict[str, float])
    facts = hardware.cpu_name(), hardware.physical_cores(), build_info(), build_files()
    steps = stored.find(*facts)
    if steps is None:
        tell(f"measuring which 4-bit type of stage 1 is faster here: at most {BENCH_SECONDS:.0f} s, once")
        steps = whole_steps(measure_types())
        stored.keep(steps, *facts)
    return steps


def measure_types() -> dict[str, float]:
    """Seconds of a step of both types with LAYERS layers, and of FASTER with a layer less as HEAD.

    In a process of its own, which ends after BENCH_SECONDS. Raises YueError.
    """
    folder = cache_dir()
    check_free_disk(folder, DISK_BYTES, "the measurement of 4-bit types", "YUEGGUF_CACHE_DIR")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with workspace(folder) as scratch:
            command, environment = module_command(__name__, str(scratch)), child_environment()
            try:
                done = subprocess.run(
                    command, capture_output=True, env=environment, timeout=BENCH_SECONDS, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise EngineError(f"it took longer than {BENCH_SECONDS:.0f} s", "name a type") from error
            if done.returncode:
                lines = done.stderr.decode(errors="replace").splitlines() or [f"code {done.returncode}"]
                raise EngineError(f"its process failed with {lines[-1][:200]}", "see: yuegguf doctor")
            return typed_json.read_file(scratch / TIMES, dict[str, float], "measure again")


def _open(path: Path) -> TokenEngine:
    from yuegguf.lm.llama import EngineOptions, LlamaEngine

    options = EngineOptions(2 * FAR, SEQUENCES, hardware.physical_cores(), repack=engines.may_repack())
    return LlamaEngine(path, options)


def _step(engine: TokenEngine) -> float:
    """Seconds of a step of all sequences near the start of the context."""
    return measure(engine, ROUND_SECONDS, FAR).seconds(SEQUENCES, SEQUENCES * NEAR)


def main(folder: Path) -> None:
    """Write random models into a folder, time them in turns, and store the shortest times there."""
    begun = time.monotonic()
    models = {FINER: (FINER, LAYERS), FASTER: (FASTER, LAYERS), HEAD: (FASTER, LAYERS - 1)}
    times: dict[str, list[float]] = {name: [] for name in models}
    with ExitStack() as opened:
        running = {}
        for name, (kind, layers) in models.items():
            path = install.write_random_stage1(folder / f"{name}.gguf", kind, layers)
            running[name] = opened.enter_context(closing(_open(path)))
        for i in range(ROUNDS):
            if i and time.monotonic() - begun > LAST_ROUND:
                break
            for name, engine in running.items():
                times[name].append(_step(engine))
    best = {name: min(each) for name, each in times.items()}  # other programs only lengthen a step
    (folder / TIMES).write_bytes(typed_json.encode(best))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
