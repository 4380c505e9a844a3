"""Generate the held-out requests with a family and print the results beside the targets."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from nano.evaluate import report
from nano.evaluate.agreement import stage1_agreement, stage2_agreement
from nano.evaluate.coding import coding
from nano.evaluate.requests import held_out
from nano.evaluate.songs import evaluate
from nano.measure.validate import corpus_classifier
from yuegguf import ModelChoice
from yuegguf.models.resolve import nano_models

CODEC_SEEDS = list(range(5000, 5012))
AGREEMENT_SEEDS = list(range(6000, 6006))


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="nano.evaluate", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="for songs and figures; songs that are there are not redone"
    )
    parser.add_argument("--family", type=Path, help="folder of stage1.gguf, stage2.gguf and the codec")
    parser.add_argument("--against", type=Path, help="folder of stage1.gguf and stage2.gguf in F16")
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    family = options.family or nano_models().codec
    choice = ModelChoice(str(family / "stage1.gguf"), str(family / "stage2.gguf"), nano_models().codec)
    results: dict[str, object] = {}

    codec = coding(nano_models().codec, CODEC_SEEDS)
    results["coding"] = codec
    print(report.table(report.CODING, report.codec_values(codec)), flush=True)

    started = time.monotonic()
    measured = evaluate(held_out(options.count), choice, options.folder, corpus_classifier(), _print_progress)
    seconds = time.monotonic() - started
    results["singing"] = measured.shares()
    results["real_time_factor"] = seconds / sum(measured.seconds)
    print(report.table(report.SINGING, measured.shares()))
    print(f"{sum(measured.seconds):.0f} s of music in {seconds:.0f} s, with the measuring")

    if options.against:
        for stage in ("stage1", "stage2"):
            pair = (options.against / f"{stage}.gguf", family / f"{stage}.gguf")
            found = (
                stage1_agreement(*pair, AGREEMENT_SEEDS)
                if stage == "stage1"
                else stage2_agreement(*pair, nano_models().codec, AGREEMENT_SEEDS)
            )
            results[stage] = asdict(found)
            print(f"{stage} against F16: KL {found.kl:.5f} nats, same best choice {found.same_argmax:.4f}")
    report.save(options.folder / "figures.json", results, _print_progress)


def _print_progress(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
