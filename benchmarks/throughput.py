"""Songs per hour: N songs on one scheduler, beside N processes of one song each that share the cores.

    python -m benchmarks.throughput [--folder DIR] [--type Q4_0] [--layers 4] [--seconds 2]
        [--threads N] [--parallel 1,2,4,8,16] [--processes 1,2,4,8]

Without DIR the bundled nano generates; with it random models of the real shapes, kept there, of as many
layers as named, with nano's codec. Sections may not end early, so all songs are equally long; their seeds and
prompts differ. Times are of whole processes, loading included: by the clock, and what the cores spend on a
song, which other programs hardly change. Memory is the largest resident size, of N processes the sum. The
last song joins the others at their tenth frame: the delay until its own first frame.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.growth import random_models
from benchmarks.plan_time import Letters
from yuegguf.models.resolve import Models, nano_models
from yuegguf.pipeline import create, engines, preflight
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event
from yuegguf.request.prepared import prepare
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest

WORDS = "la la lo li la lo lu la " * 12
"""Words of a section: a prompt of some hundred ids."""
JOINING_FRAME = 10


def request(seed: int, seconds: float) -> SongRequest:
    """A song of one section that may not end early, with a prompt of its own."""
    lyrics = f"[verse]\n{WORDS}{'la ' * (seed % 7)}\n"
    sampling = Sampling(min_new_tokens=round(100 * seconds))
    return SongRequest("pop female vocal", lyrics, segment_seconds=seconds, seed=seed, sampling=sampling)


class Joining:
    """The song that joins the others, and the seconds until its first frame."""

    def __init__(self, scheduler: Scheduler, work: SongWork) -> None:
        self._scheduler, self._work = scheduler, work
        self._submitted: float | None = None
        self.delay: float | None = None

    def others(self, event: Event) -> None:
        """Let the song join once the others have some frames."""
        if self._submitted is None and event.phase == "draft" and event.done >= JOINING_FRAME:
            self._submitted = time.perf_counter()
            self._scheduler.submit(self._work)

    def own(self, event: Event) -> None:
        """Note the first frame of the song."""
        if self.delay is None and self._submitted is not None and event.done and not event.warning:
            self.delay = time.perf_counter() - self._submitted


def generate(models: Models, parallel: int, seconds: float, seed: int, threads: int | None) -> dict[str, Any]:
    """Generate so many songs together in this process, the last one of which joins the others later."""
    options = ComputeOptions(threads, snapshot_seconds=0)
    with tempfile.TemporaryDirectory() as name:
        folders = [
            create.start(SongJob(prepare(request(seed + n, seconds)), models, Path(name), None, options))
            for n in range(parallel)
        ]
        scheduler = Scheduler(parallel)
        joining: list[Joining] = []

        def others(event: Event) -> None:
            for each in joining:
                each.others(event)

        works = [SongWork(folder, models, options, others) for folder in folders]
        if parallel > 1:
            works[-1] = SongWork(folders[-1], models, options, lambda event: joining[0].own(event))
            joining.append(Joining(scheduler, works[-1]))
        for work in works[: max(1, parallel - 1)]:
            scheduler.submit(work)
        scheduler.run()
        music = sum(work.result().seconds for work in works)
    delay = joining[0].delay if joining else None
    return {"music": music, "peak": hardware.peak_memory() or 0, "delay": delay}


def measured(arguments: list[str], processes: int, parallel: int) -> dict[str, Any]:
    """Wall seconds, bytes and delay of so many processes at once, each with so many songs."""
    command = [sys.executable, "-m", "benchmarks.throughput", *arguments, "--generate", str(parallel)]
    begun, cores = time.perf_counter(), core_seconds()
    children = [
        subprocess.Popen([*command, "--seed", str(100 * n)], stdout=subprocess.PIPE, text=True)
        for n in range(1, processes + 1)
    ]
    answers = [json.loads(child.communicate()[0]) for child in children]
    passed = time.perf_counter() - begun
    peak = sum(answer["peak"] for answer in answers)
    used = core_seconds() - cores
    return {"seconds": passed, "core": used, "peak": peak, "delay": answers[0]["delay"]}


def core_seconds() -> float:
    """Seconds that the cores spent on ended child processes, which hardly depend on other programs."""
    times = os.times()
    return times.children_user + times.children_system


def numbers(text: str) -> list[int]:
    """The numbers of a comma list."""
    return [int(part) for part in text.split(",") if part]


def table(arguments: list[str], parallel: list[int], processes: list[int]) -> None:
    """Measure and print a row for each number of songs."""
    print("| songs | together | an hour | ratio | cores a song | ratio | memory | delay | apart | memory |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    first: dict[str, Any] | None = None
    for count in parallel:
        found = measured(arguments, 1, count)
        first = first or found
        hourly, core = 3600 * count / found["seconds"], found["core"] / count
        row = [f"{count}", f"{found['seconds']:.1f} s", f"{hourly:.0f}"]
        row += [
            f"{count * first['seconds'] / found['seconds']:.2f}",
            f"{core:.1f} s",
            f"{first['core'] / core:.2f}",
        ]
        row.append(f"{found['peak'] / 2**30:.2f} GiB")
        row.append("" if found["delay"] is None else f"{found['delay']:.2f} s")
        apart = measured(arguments, count, 1) if count in processes else None
        row.append(f"{apart['seconds']:.1f} s, {apart['core'] / count:.1f} s a song" if apart else "")
        row.append(f"{apart['peak'] / 2**30:.2f} GiB" if apart else "")
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    """Measure and print a table; or, with --generate, one process of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--layers", type=int, default=4, help="of both random models")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a song")
    parser.add_argument("--threads", type=int, help="of each process; default: one for each core")
    parser.add_argument("--parallel", default="1,2,4,8,16")
    parser.add_argument("--processes", default="1,2,4,8")
    parser.add_argument("--generate", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    models = nano_models()
    arguments = ["--seconds", str(options.seconds)]
    arguments += [] if options.threads is None else ["--threads", str(options.threads)]
    if options.folder:
        models = random_models(options.folder, options.type, options.layers)
        arguments += [
            "--folder",
            str(options.folder),
            "--type",
            options.type,
            "--layers",
            str(options.layers),
        ]
        for module in (preflight, engines):
            setattr(module, "open_tokenizer", lambda *_: Letters())  # noqa: B010  the models hold no tokenizer
    if options.generate:
        print(json.dumps(generate(models, options.generate, options.seconds, options.seed, options.threads)))
        return
    print(
        f"{hardware.cpu_name()}, {hardware.physical_cores()} cores, {models.name}, {options.seconds:g} s each"
    )
    table(arguments, numbers(options.parallel), numbers(options.processes))


if __name__ == "__main__":
    main()
