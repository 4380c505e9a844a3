"""Mutated files for every reader: each is read or refused in words, in time, and harms nothing.

    PYTHONPATH=tests/support:. python tests/reliability/fuzzing.py --seconds 600 --seed 1
    PYTHONPATH=tests/support:. python tests/reliability/fuzzing.py --only gguf --seconds 60
    PYTHONPATH=tests/support:. python tests/reliability/fuzzing.py --replay fuzz-findings/gguf-1-77.json

An input is a pure function of (seed, reader, number). Every reader runs in a child process with a limit on
memory and time, so that one that ends or never returns is a finding too.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuzz_driver import Place, Report, Target, attempt, bound_memory, in_children, mutated
from fuzz_targets import TARGETS
from mutators import Content, Link


def save(folder: Path, target: Target, seed: int, number: int, what: str, content: Content) -> Path:
    """Keep a finding with its input."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        name: {"link": data.target} if isinstance(data, Link)
        else None if data is None
        else base64.b64encode(data).decode()
        for name, data in content.items()
    }  # fmt: skip
    path = folder / f"{target.name.replace(' ', '-')}-{seed}-{number}.json"
    path.write_text(json.dumps({"target": target.name, "what": what, "files": files}, indent=1))
    return path


def load(path: Path) -> tuple[str, Content]:
    """A reader's name and an input that `save` kept."""
    found = json.loads(path.read_text())
    content: Content = {
        name: Link(data["link"]) if isinstance(data, dict)
        else None if data is None
        else base64.b64decode(data)
        for name, data in found["files"].items()
    }  # fmt: skip
    return found["target"], content


def main() -> None:
    """Print a table of counts and every kind of fault once; exit code 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one reader's name", choices=[target.name for target in TARGETS])
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for findings")
    parser.add_argument("--replay", type=Path, help="a file of that folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        os.environ |= place.environment
        if options.replay:
            name, content = load(options.replay)
            target = next(target for target in TARGETS if target.name == name)
            place.seeds(target)
            bound_memory()
            print(attempt(target, content, place))
            return
        chosen = [target for target in TARGETS if options.only in (None, target.name)]
        found = run(chosen, place, options.seed, options.seconds, options.keep)
    sys.exit(bool(found))


def run(targets: Sequence[Target], place: Place, seed: int, seconds: float, keep: Path) -> int:
    """Try every reader for its share of the time; returns the number of findings."""
    print("| reader | inputs | read | refused | findings |\n|---|---|---|---|---|")
    total: Counter[str] = Counter()
    kinds: dict[str, list[Path]] = {}
    for target in targets:
        report = Report()
        in_children(target, place, seed, seconds / len(targets), report)
        _row(target.name, report.counts)
        total += report.counts
        for number, outcome in report.findings:
            files = kinds.setdefault(f"{target.name}: {outcome.what}", [])
            if len(files) < 3:
                content = mutated(target, place.seeds(target), seed, number)
                files.append(save(keep, target, seed, number, outcome.what, content))
    _row("all", total)
    for what, files in kinds.items():
        print(f"\n{what}\n  {files[0]}")
    return total["finding"]


def _row(name: str, counts: Counter[str]) -> None:
    cells = (name, counts.total(), counts["read"], counts["refused"], counts["finding"])
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
