"""Train the whole family from nothing, and bundle it.

    python -m nano.train FOLDER [--jobs 2] [--share 1] [--device cpu]

Stage 1 learns from the studio's labels, so it can be trained beside the codec; the upsamplers and stage 2
need the codec's codes. Each part is a process of its own with its share of the cores, keeps its state in
FOLDER, and goes on where it stopped when the command is given again. With `--share 0.02` the whole chain
runs in minutes, to see that it does; what comes out hums.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from nano import build
from nano.train.options import share

NEEDS: dict[str, tuple[str, ...]] = {
    "codec": (),
    "stage1": (),
    "books": ("codec",),
    "coded": ("books",),
    "stage2": ("coded",),
    "upsampler": ("coded",),
    "decoder": ("books",),
}
"""Part → parts that must be done before it; all are modules of this package."""
KEEP_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 32))
"""glibc shall keep freed blocks: asking the system for them anew takes a third of the coder's time."""


def start(part: str, folder: Path, device: str, share: float, threads: int) -> subprocess.Popen[bytes]:
    """Begin or go on with a part; its talk goes to FOLDER/PART.log."""
    command = [sys.executable, "-m", f"nano.train.{part}", str(folder)]
    command += ["--device", device, "--share", str(share)]
    env = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": str(threads)}
    with (folder / f"{part}.log").open("ab") as log:  # the process keeps a copy of its own
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)


def run(folder: Path, jobs: int, device: str, share: float) -> None:
    """Run all parts, as many at once as there are jobs. Raises SystemExit when one fails."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting, running, done = dict(NEEDS), dict[str, subprocess.Popen[bytes]](), set[str]()
    try:
        while waiting or running:
            for part in [p for p, needs in waiting.items() if done.issuperset(needs)][: jobs - len(running)]:
                del waiting[part]
                running[part] = start(part, folder, device, share, threads)
                print(f"{part}: begun, see {folder / part}.log", flush=True)
            time.sleep(1)
            for part, process in list(running.items()):
                if process.poll() is not None:
                    del running[part]
                    if process.returncode:
                        raise SystemExit(f"{part} failed, see {folder / part}.log")
                    done.add(part)
                    print(f"{part}: done", flush=True)
    finally:
        for process in running.values():
            process.terminate()


def main() -> None:
    """Parse the command line, train, convert."""
    parser = argparse.ArgumentParser(
        prog="nano.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="parts trained at once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--share", type=share, default=1.0, help="of every part's steps")
    parser.add_argument("--out", type=Path, default=build.BUNDLE, help="where the family goes")
    options = parser.parse_args()
    run(options.folder, options.jobs, options.device, options.share)
    build.convert(options.folder, options.out)


if __name__ == "__main__":
    main()
