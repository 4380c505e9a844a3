"""Steps of stage 1 that speculative decoding saves on the codes of given songs, by the confidence of a draft.

    python -m benchmarks.speculative real-upstream-songs.npz [--project song.json] [--prices 0.16,0.33,0.76]

The archive holds the ids that a run of the published model logged, as SONG__new_1, SONG__new_2 … for each
section. Confidences are tuned on the archive's first song and reported on the others. No model is needed: a
draft is accepted where it is the code that the song has.

The second table of a song is of chains: up to three drafted codes in a step, as long as the product of their
shares is the confidence of that place. `--prices` says what steps with one, two and three drafts cost
more than one without (`benchmarks.draft_step`).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from yuegguf.exchange.yue_ui import FIRST_ID, parse_project
from yuegguf.lm.vocab import CODEBOOK_SIZE, interleave
from yuegguf.stages.lookahead import MIN_CONFIDENCE, N_TRACKS, NgramDrafter, confidence_for

CONFIDENCES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85)
PRICES = (0.03, 0.1, 0.2)
"""What a step with a draft costs more than one without: Q4_0, between, Q4_K_M (see "A step by its ids")."""
CHAIN_PRICES = (
    (0.0, 0.0, 0.0),
    (0.16, 0.33, 0.76),
    (0.19, 0.36, 0.75),
    (0.07, 0.37, 0.35),
    (-0.12, 0.39, 0.57),
    (0.12, 0.74, 1.2),
    (0.32, 1.24, 0.98),
)
"""What steps with one, two and three drafts cost more: free ids, then Q4_0, Q4_K_M and Q8_0 with AMX, and the
same types without (see "What a draft costs")."""
MAX_DRAFTS = 3

Guess = tuple[int, float]
"""A drafted code, and the product of its share and those before it in the chain."""


class ChainDrafter(NgramDrafter):
    """The same statistics, with several codes ahead."""

    def chain(self, count: int) -> list[Guess]:
        """Up to `count` most likely next codes, each by the statistics and the codes drafted before it."""
        codes, found, share = self._codes[-2 * N_TRACKS :], list[Guess](), 1.0
        for ahead in range(count):
            track, at = (len(self._codes) + ahead) % N_TRACKS, len(codes) - N_TRACKS
            contexts: list[tuple[int, ...]] = (
                [(track, codes[at], codes[at - N_TRACKS])] if at >= N_TRACKS else []
            )
            contexts += [(track, codes[at])] if at >= 0 else []
            known = [self._best[context] for context in contexts if context in self._best]
            if not known:
                break
            code, most, total = known[0]
            share *= most / (total + 1)
            found.append((code, share))
            codes = [*codes, code]
        return found


@dataclass(frozen=True)
class Saving:
    """Counts of one song at one confidence, or at those of a chain."""

    samples: int
    steps: tuple[int, ...]
    """Number of steps with no draft, with one, two …"""

    @property
    def accepted(self) -> int:
        """Number of drafts that the song has."""
        return self.samples - sum(self.steps)

    @property
    def saved(self) -> float:
        """Share of the steps that are saved."""
        return self.accepted / self.samples

    @property
    def drafted(self) -> float:
        """Steps with a draft as a share of the samples."""
        return sum(self.steps[1:]) / self.samples

    @property
    def ids(self) -> float:
        """Mean ids of a sequence in a step."""
        return sum(count * (1 + drafts) for drafts, count in enumerate(self.steps)) / sum(self.steps)

    def net(self, *prices: float) -> float:
        """Share of stage 1's time that is saved, where a step with n drafts costs `prices[n - 1]` more."""
        more = sum(count * price for count, price in zip(self.steps[1:], prices, strict=False))
        return self.saved - more / self.samples


class Guesses:
    """Drafts for every sample of a song; they depend on what was sampled, not on what was fed."""

    def __init__(self, sections: Sequence[Sequence[int]], drafts: int = MAX_DRAFTS) -> None:
        drafter = ChainDrafter()
        self.sections = sections
        self._chains: list[list[list[Guess]]] = []
        for codes in sections:
            self._chains.append([])
            for code in codes:
                self._chains[-1].append(drafter.chain(drafts))
                if code < CODEBOOK_SIZE:  # else end-of-audio
                    drafter.update(code)

    def saving(self, *confidences: float) -> Saving:
        """Count steps as `stages.stage1` makes them: none for a section's first code, nor at its limit."""
        steps = [0] * (1 + len(confidences))
        for codes, chains in zip(self.sections, self._chains, strict=True):
            limit = len(codes) - 1 if codes[-1] < CODEBOOK_SIZE else len(codes) + MAX_DRAFTS
            position = 0
            while position < len(codes):
                room = limit - position if position else 0
                fed = _confident(chains[position][:room], confidences)
                steps[len(fed)] += 1
                known = [*codes[position : position + len(fed)], None]
                position += 1 + next(i for i, code in enumerate([*fed, -1]) if code != known[i])
        return Saving(sum(map(len, self.sections)), tuple(steps))


def _confident(chain: Sequence[Guess], confidences: Sequence[float]) -> list[int]:
    """The codes of a chain that are fed."""
    fed: list[int] = []
    for (code, share), confidence in zip(chain, confidences, strict=False):
        if share < confidence:
            break
        fed.append(code)
    return fed


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


def best_confidences(guesses: Guesses, drafts: int, prices: Sequence[float]) -> tuple[float, ...]:
    """Confidences of a chain that save the most time of a song at these prices."""
    tried = CONFIDENCES if drafts < MAX_DRAFTS else CONFIDENCES[1::2]
    return max(product(tried, repeat=drafts), key=lambda chosen: guesses.saving(*chosen).net(*prices))


def single_rows(guesses: Guesses) -> Iterator[str]:
    """Rows of the table of single drafts."""
    yield f"confidence | saved | drafted | accepted | {' | '.join(f'net at {p:.0%}' for p in PRICES)}"
    yield "|".join(["---"] * (4 + len(PRICES)))
    for confidence in CONFIDENCES:
        found = guesses.saving(confidence)
        nets = " | ".join(f"{found.net(price):.1%}" for price in PRICES)
        taken = found.saved / (found.drafted or 1)
        yield f"{confidence} | {found.saved:.1%} | {found.drafted:.1%} | {taken:.1%} | {nets}"


def chain_rows(guesses: Guesses, tuned: dict[tuple[float, ...], list[tuple[float, ...]]]) -> Iterator[str]:
    """Rows of the table of chains, with the confidences tuned for each price."""
    yield "prices | confidences | saved | ids a step | net"
    yield "|".join(["---"] * 5)
    for prices, chosen in tuned.items():
        for confidences in dict.fromkeys(chosen):
            found = guesses.saving(*confidences)
            cells = [", ".join(f"{each:g}" for each in row) for row in (prices, confidences)]
            yield f"{' | '.join(cells)} | {found.saved:.1%} | {found.ids:.2f} | {found.net(*prices):.1%}"


def prices_of(text: str) -> tuple[float, ...]:
    """Prices of one, two and three drafts."""
    one, two, three = (float(each) for each in text.split(","))
    return one, two, three


def main() -> None:
    """Print two tables for each song."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--prices", type=prices_of, action="append")
    options = parser.parse_args()
    songs = logged_songs(options.archive)
    if options.project:
        songs[options.project.stem] = project_sections(options.project)
    guessed = {song: Guesses(sections) for song, sections in songs.items()}
    name, first = next(iter(guessed.items()))
    best = max(CONFIDENCES, key=lambda each: sum(first.saving(each).net(price) for price in PRICES))
    print(f"best mean of {len(PRICES)} prices on {name}: {best}")
    tuned = {
        prices: [
            (MIN_CONFIDENCE,),
            (confidence_for(prices[0]),),
            *(best_confidences(first, drafts, prices) for drafts in range(1, 1 + MAX_DRAFTS)),
        ]
        for prices in options.prices or CHAIN_PRICES
    }
    for song, guesses in guessed.items():
        print(f"\n{song}\n")
        print("\n".join(f"| {row} |" for row in single_rows(guesses)))
        print()
        print("\n".join(f"| {row} |" for row in chain_rows(guesses, tuned)))


if __name__ == "__main__":
    main()
