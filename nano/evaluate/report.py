"""Targets and what was reached, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """Target of the family for one measure."""

    name: str
    limit: float
    words: str

    def met(self, value: float) -> bool:
        """Whether a value reaches the target."""
        return value >= self.limit


SINGING = (
    Target("tempo", 0.80, "songs with the asked tempo (±4 %, double, half)"),
    Target("key", 0.70, "songs whose mix fits the asked key best of 24"),
    Target("silence", 0.90, "sections without words whose vocal is 25 dB below those with words"),
    Target("onsets", 0.70, "sections with words that have the asked number of syllables ±20 %"),
    Target("register", 0.90, "songs in the asked voice, male or female"),
    Target("vowels", 0.50, "vowels as asked (6 vowels: chance is 0.17)"),
    Target("ended", 0.90, "sections that end by <EOA>"),
    Target("length", 0.90, "sections of the asked length ±25 %"),
)
CODING = (
    Target("ratio", 2.0, "log-mel distance with codebook 0 alone / with all eight"),
    Target("sdr", 3.0, "SI-SDR of instrumentals, dB"),
    Target("order", 1.0, "more codebooks are never worse"),
    Target("high", 0.8, "correlation above 8 kHz"),
)


def codec_values(found: Mapping[str, float]) -> dict[str, float]:
    """Results of `coding` as the values of CODING; both tracks have the same weight."""
    tracks = ("vocal", "instrumental")
    mean = {n: sum(found[f"{track}_mel_{n}"] for track in tracks) / 2 for n in (1, 2, 4, 6, 8)}
    falling = [mean[a] >= mean[b] for a, b in ((1, 2), (2, 4), (4, 6), (6, 8))]
    return {
        "ratio": mean[1] / mean[8],
        "sdr": found["instrumental_sdr_8"],
        "order": float(all(falling)),
        "high": sum(found[f"{track}_high"] for track in tracks) / 2,
    }


def table(targets: tuple[Target, ...], values: Mapping[str, float]) -> str:
    """Lines: measure, target, value, met or missed."""
    lines = []
    for target in targets:
        value = values[target.name]
        verdict = "met" if target.met(value) else "MISSED"
        lines.append(f"| {target.words} | ≥ {target.limit:g} | {value:.3f} | {verdict} |")
    return "\n".join(["| measure | target | reached | |", "|---|---|---|---|", *lines])


def save(path: Path, results: Mapping[str, object], tell: Callable[[str], None]) -> None:
    """Write everything that was measured."""
    path.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tell(f"all figures: {path}")
