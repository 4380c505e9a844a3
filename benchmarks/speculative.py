"""Steps of stage 1 that speculative decoding saves on the codes of given songs, by the confidence of a draft.

    python -m benchmarks.speculative real-upstream-songs.npz [--project yue-ui-song.json]

The archive holds the ids that a run of the published model logged, as SONG__new_1, SONG__new_2 … for each
section. The confidence is tuned on the archive's first song and reported on the others. No model is needed: a
draft is accepted where it is the code that the song has.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yuegguf.exchange.yue_ui import FIRST_ID, parse_project
from yuegguf.lm.vocab import CODEBOOK_SIZE, interleave
from yuegguf.stages.lookahead import NgramDrafter

CONFIDENCES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
PRICES = (0.03, 0.1, 0.2)
"""What a step with a draft costs more than one without: Q4_0, between, Q4_K_M (see "A step by its ids")."""


@dataclass(frozen=True)
class Saving:
    """Counts of one song at one confidence."""

    samples: int
    drafts: int
    accepted: int

    @property
    def saved(self) -> float:
        """Share of the steps that are saved."""
        return self.accepted / self.samples

    def net(self, price: float) -> float:
        """Share of stage 1's time that is saved, where a step with a draft costs `price` more."""
        return self.saved - price * self.drafts / self.samples


def saving(sections: Sequence[Sequence[int]], confidence: float) -> Saving:
    """Count drafts as `stages.stage1` makes them: none for a section's first sample, nor at its limit."""
    drafter, samples, drafts, accepted = NgramDrafter(confidence), 0, 0, 0
    for codes in sections:
        needs_step = True
        for position, code in enumerate(codes):
            samples += 1
            at_limit = position + 1 == len(codes) and code < CODEBOOK_SIZE
            draft = drafter.predict() if needs_step and position and not at_limit else None
            drafts += draft is not None
            accepted += draft == code
            needs_step = draft != code
            if code < CODEBOOK_SIZE:  # else end-of-audio
                drafter.update(code)
    return Saving(samples, drafts, accepted)


def logged_songs(path: Path) -> dict[str, list[list[int]]]:
    """Songs of an archive → samples of each section; end-of-audio is beyond the codes."""
    songs: dict[str, list[list[int]]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in sorted(archive.files, key=lambda key: [int(n) for n in re.findall(r"\d+", key)] or [0]):
            if "__new_" in name:
                ids = archive[name].astype(int)
                codes = np.where(ids >= FIRST_ID, ids - FIRST_ID, CODEBOOK_SIZE)
                songs.setdefault(name.split("__")[0], []).append(codes.tolist())
    return songs


def project_sections(path: Path) -> list[list[int]]:
    """Codes of each section of a YuE-UI project."""
    project = parse_project(path.read_bytes(), path.name)
    return [interleave(*project.codes0[:, part.start : part.end]).tolist() for part in project.segments]


def main() -> None:
    """Print a table for each song, and the confidence that is best on the first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("--project", type=Path)
    options = parser.parse_args()
    songs = logged_songs(options.archive)
    if options.project:
        songs[options.project.stem] = project_sections(options.project)
    best = None
    for song, sections in songs.items():
        found = {confidence: saving(sections, confidence) for confidence in CONFIDENCES}
        prices = " | ".join(f"net at {price:.0%}" for price in PRICES)
        print(f"\n| {song}: confidence | saved | drafted | accepted | {prices} |")
        print("|---" * (4 + len(PRICES)) + "|")
        for confidence, each in found.items():
            nets = " | ".join(f"{each.net(price):.1%}" for price in PRICES)
            drafted, taken = each.drafts / each.samples, each.accepted / max(1, each.drafts)
            print(f"| {confidence} | {each.saved:.1%} | {drafted:.1%} | {taken:.1%} | {nets} |")
        if best is None:
            best = max(CONFIDENCES, key=lambda c: sum(found[c].net(price) for price in PRICES))
            print(f"\nbest mean of the three prices on {song}: {best}")


if __name__ == "__main__":
    main()
