"""Growth of time and memory with the song: sections of 30 s, from half a minute to five.

    python -m benchmarks.growth --folder DIR [--type Q4_0] [--plot docs/growth.png]

At the real shapes both stages' steps are timed once and summed for every length; with the bundled nano every
length is generated whole, each in a process of its own, with sections that may not end early. DIR keeps
the random models. Needs 16 GiB of memory and 5 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from yuegguf_convert.synthetic import SHAPES, write_synthetic

from yuegguf.api import songs as api
from yuegguf.measure.bench import FIRST_PROMPT_IDS, HEADER_IDS, LATER_PROMPT_IDS
from yuegguf.models.resolve import Models, nano_models
from yuegguf.pipeline import engines, preflight
from yuegguf.planning import hardware, plan
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.cost import StepCost, draft_seconds, refine_seconds
from yuegguf.planning.plan import Plan
from yuegguf.planning.timing import measure
from yuegguf.request.prepared import prepare
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest

LENGTHS = (30, 60, 120, 300)
SECTION = 30
PHASES = ("draft", "refine", "master")
DEFAULT_OPTIONS = ComputeOptions()


def request(seconds: int) -> SongRequest:
    """A song of whole sections that may not end early."""
    lyrics = "[verse]\nla la la la\n\n" * (seconds // SECTION)
    sampling = Sampling(min_new_tokens=100 * SECTION)
    return SongRequest("pop female vocal", lyrics, segment_seconds=SECTION, seed=1, sampling=sampling)


def generate_song(seconds: int) -> dict[str, Any]:
    """One whole song with nano, in this process: seconds in all and by phase, peak bytes."""
    with tempfile.TemporaryDirectory() as name:
        begun = time.perf_counter()
        song = api.generate(request(seconds), output_dir=Path(name))
        passed = time.perf_counter() - begun
        facts = json.loads((song.folder / "song.json").read_text("utf-8"))
    assert song.seconds == seconds, song
    phases = {phase: facts["seconds"][phase] for phase in PHASES}
    return {"seconds": passed, **phases, "peak": hardware.peak_memory()}


def generated_song(seconds: int) -> dict[str, Any]:
    """Seconds and bytes of a song of nano, in a process of its own."""
    child = [sys.executable, "-m", "benchmarks.growth", "--generate", str(seconds)]
    answer = subprocess.run(child, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(answer)
    return found


def planned(
    models: Models, seconds: int, options: ComputeOptions = DEFAULT_OPTIONS
) -> tuple[Plan, list[int]]:
    """The plan of a song, and the frames of its sections."""
    song = prepare(request(seconds))
    facts = preflight.read_models(models).facts
    return plan.make_plan(song, facts, options, engines.find_devices(options)), list(song.caps)


def timed(
    models: Models, options: ComputeOptions = DEFAULT_OPTIONS, budget: float = 10.0, far: int = 2048
) -> tuple[StepCost, StepCost]:
    """Steps of both stages as the longest song would hold them, `budget` seconds each."""
    made, _ = planned(models, LENGTHS[-1], options)
    parts = engines.engine_factory(models, made, options, threading.Event())
    with closing(parts.stage1(made.stage1_rows, made.n_ctx)) as engine:
        first = measure(engine, budget, far)
    with closing(parts.stage2(made.stage2_rows)) as engine:
        return first, measure(engine, budget, far)


def summed(
    models: Models,
    costs: tuple[StepCost, StepCost],
    seconds: int,
    options: ComputeOptions = DEFAULT_OPTIONS,
) -> dict[str, Any]:
    """Seconds of both stages of a song, and the plan's bytes."""
    made, frames = planned(models, seconds, options)
    prompts = [FIRST_PROMPT_IDS, *[LATER_PROMPT_IDS] * (len(frames) - 1)]
    lengths = sorted(plan.chunk_frames(prepare(request(seconds))), reverse=True)
    draft = draft_seconds(costs[0], prompts, frames, guided=True, n_ctx=made.n_ctx, header=HEADER_IDS)
    refine = refine_seconds(costs[1], lengths, made.stage2_rows)
    return {"draft": draft, "refine": refine, "peak": made.memory, "rows": made.stage2_rows}


def random_models(folder: Path, kind: str, layers: int | None = None, stage2: str = "") -> Models:
    """Both stages at the real shapes, or at the real widths with fewer layers, with nano's codec.

    `stage2` is stage 2's number type; empty means `kind`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    for role, own in (("stage1", kind), ("stage2", stage2 or kind)):
        shape = replace(SHAPES[role], layers=layers or SHAPES[role].layers)
        paths[role] = folder / f"{role}-{own}{f'-{layers}' if layers else ''}.gguf"
        if not paths[role].exists():
            write_synthetic(paths[role], role, own, config=shape)
    return replace(
        nano_models(),
        name=f"{layers} layers" if layers else "real shapes",
        stage1=paths["stage1"],
        stage2=paths["stage2"],
    )


def draw(found: dict[str, dict[int, dict[str, Any]]], out: Path) -> None:
    """Two panels, time and memory over the song's length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (name, songs) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        lengths = list(songs)
        for phase in PHASES:
            if phase in songs[lengths[0]]:
                axes.plot(lengths, [song[phase] / 60 for song in songs.values()], marker="o", label=phase)
        axes.set(title=name, xlabel="seconds of music", ylabel="minutes", xlim=(0, None), ylim=(0, None))
        memory = axes.twinx()
        peaks = [song["peak"] / 2**30 for song in songs.values()]
        memory.plot(lengths, peaks, marker="s", linestyle="--", color="#888888", label="memory")
        memory.set(ylabel="GiB", ylim=(0, 1.2 * max(peaks)))
        axes.legend(loc="upper left")
    figure.savefig(out, dpi=100)


def main() -> None:
    """Measure, print a table, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--generate", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        print(json.dumps(generate_song(options.generate)))
        return
    found = {"nano, generated whole": {seconds: generated_song(seconds) for seconds in LENGTHS}}
    if options.folder:
        models = random_models(options.folder, options.type)
        costs = timed(models)
        real = {seconds: summed(models, costs, seconds) for seconds in LENGTHS}
        found[f"real shapes, {options.type}, summed"] = real
    for name, songs in found.items():
        print(
            f"{name}\n| music | {' | '.join(songs[LENGTHS[0]])} |\n{'|---' * (1 + len(songs[LENGTHS[0]]))}|"
        )
        for seconds, song in songs.items():
            cells = [f"{v / 2**30:.2f} GiB" if k == "peak" else f"{v:.1f}" for k, v in song.items()]
            print(f"| {seconds} s | {' | '.join(cells)} |")
    if options.plot and len(found) > 1:
        draw(found, options.plot)


if __name__ == "__main__":
    main()
