"""Time that a plan estimates for a song against the time it takes, phase by phase.

    python -m benchmarks.plan_time [--folder DIR] [--type Q4_0] [--layers 8] [--seconds 4] [--sections 1]
        [--snapshot-every 60] [--stage2-type Q8_0] [--kv-type q8_0] [--max-memory GiB]

Without DIR the bundled nano generates; with it random models of the real shapes (or of fewer layers), kept
there, with nano's codec. The disk is what the song's folder held at most, looked at a hundred times a second.
Sections may not end early, so the plan's "at most" is what is generated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.growth import PHASES, random_models
from yuegguf.measure.forecast import forecast
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import create, engines, preflight, run
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.timing import TimingCache
from yuegguf.request.prepared import prepare
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest


class Letters:
    """The tokenizer of random models, which have none: a letter is an id."""

    def encode(self, text: str) -> list[int]:
        """An id for each byte."""
        return [10 + byte for byte in text.encode()]


def main() -> None:
    """Estimate, generate, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--layers", type=int, help="of both random models")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a section")
    parser.add_argument("--sections", type=int, default=1)
    parser.add_argument("--snapshot-every", type=float, default=60.0, help="seconds of the draft")
    parser.add_argument("--stage2-type", default="", help="of stage 2, if not that of stage 1")
    parser.add_argument("--kv-type")
    parser.add_argument("--max-memory", type=float, help="GiB")
    options = parser.parse_args()
    models = nano_models()
    limit = round(options.max_memory * 2**30) if options.max_memory else None
    compute = ComputeOptions(
        kv_type=options.kv_type, max_memory=limit, snapshot_seconds=options.snapshot_every
    )
    if options.folder:
        models = random_models(options.folder, options.type, options.layers, options.stage2_type)
        for module in (preflight, engines):
            setattr(module, "open_tokenizer", lambda *_: Letters())  # noqa: B010  the models hold no tokenizer
    lyrics = "[verse]\nla la la la\n\n" * options.sections
    sampling = Sampling(min_new_tokens=round(100 * options.seconds))
    request = SongRequest(
        "pop female vocal", lyrics, segment_seconds=options.seconds, seed=1, sampling=sampling
    )
    with tempfile.TemporaryDirectory() as name:
        job = SongJob(prepare(request), models, Path(name), None, compute)
        plan = forecast(job, TimingCache(Path(name) / "speed.json"))
        hardware.forget_peak()
        begun = time.perf_counter()
        folder = create.start(job)
        with largest(folder.path) as sizes:
            song = run.run_song(folder, models, compute, lambda event: None, None)
        passed = time.perf_counter() - begun
        found = json.loads((song.folder / "song.json").read_text("utf-8"))["seconds"]
    print(
        f"{models.name}, {song.seconds:g} s of music\n| phase | foretold | taken | ratio |\n|---|---|---|---|"
    )
    rows = [(phase, plan.seconds[phase], found[phase]) for phase in PHASES]
    for phase, foretold, taken in [*rows, ("all", sum(plan.seconds.values()), passed)]:
        print(f"| {phase} | {foretold:.1f} s | {taken:.1f} s | {foretold / max(taken, 0.1):.2f} |")
    peak = hardware.peak_memory() or 0
    print(f"memory: foretold {plan.plan.memory / 2**30:.2f} GiB, held at most {peak / 2**30:.2f} GiB")
    print(f"disk: foretold {plan.disk / 2**20:.1f} MiB, held at most {max(sizes) / 2**20:.1f} MiB")


@contextmanager
def largest(folder: Path) -> Iterator[list[int]]:
    """Look at the bytes in a folder while it is worked on; the list fills."""
    sizes, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            with suppress(OSError):  # a file may go between its name and its size
                sizes.append(sum(path.stat().st_size for path in folder.rglob("*")))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield sizes
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main()
