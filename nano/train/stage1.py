"""Train the miniature stage 1 on the corpus's tags, lyrics and states.

    python -m nano.train.stage1 FOLDER [--share 1] [--device cpu]

The loss is that of the next code or <EOA>. Three helps, in training only, make a small model learn in hours
what else takes days. Before a middle layer, a syllable's sounds and whether it opens its line must be
readable at its last piece, and tags and chords at the end of a section's prompt. Three heads of that layer
are told to look at the syllable that is sung, at the next one and at the prompt's end. After it, the position
in bar, chord, section, line and syllable, the chord and the sounds must be readable from any frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nano.corpus import SongSpec, sample_spec
from nano.lm_weights import LlamaSpec
from nano.tokenizer import CODES, SPECIALS, TEXT_PIECES
from nano.train import options, songs
from nano.train.llama import Llama, rows, write
from nano.train.loop import Plan, Trainer
from nano.train.mistakes import noisy
from nano.train.references import FIRST_SEED, with_reference
from nano.train.references import LONGEST as REFERENCE_FRAMES
from nano.train.songs import UNKNOWN, Ints, SongRow

USED = TEXT_PIECES + len(SPECIALS) + CODES
"""The first ids: text, specials and codebook 0; the others are never seen."""
SPEC = LlamaSpec(hidden=256, layers=5, heads=4, kv_heads=2, ffn=768, vocab=USED, context=16384)
SEED = 1
WATCHED = 2
"""Layer whose attention is trained, whose input must spell and whose output must give the time."""
HEADS = {"syllable": 0, "next": 1, "harmony": 2}
"""Head of that layer that is trained → place to attend to; the first two share their keys."""
BATCH_IDS = 8192
"""Ids of a step, padding included."""
LONGEST = 3600
"""Ids of the longest row, besides a reference; longer songs are not learned."""
SHARES = {"one": 0.15, "two": 0.2, "all": 0.35, "free": 0.1, "reference": 0.2}
"""Share of each kind of rows: songs that end after one or two sections, whole songs, sections without words,
and songs of any length after a reference."""
WEIGHTS = {"chord": 0.3, "onset": 0.3, "vowel": 0.3, "coda": 0.3, "first": 0.3, "last": 0.3}
"""Weights of the facts that differ from 0.1: those that follow from single pieces of tags and lyrics."""
READING = 500
"""Steps at the start that read text alone: ten times the syllables and sections of others."""
STEPS, RATE = 12_000, 2e-3


def rows_of(step: int) -> list[SongRow]:
    """Rows of one kind that fill BATCH_IDS, of about the same length; a function of the step alone."""
    draw = np.random.default_rng([step, 13])
    kind = "text" if step < READING else draw.choice(list(SHARES), p=list(SHARES.values()))
    limit = LONGEST + (2 * REFERENCE_FRAMES if kind == "reference" else 0)
    found: list[SongRow] = []
    while True:
        row = _row(sample_spec(FIRST_SEED + int(draw.integers(1 << 40))), kind, draw)
        longest = max(len(each.ids) for each in [*found, row])
        if found and longest * (len(found) + 1) > BATCH_IDS:
            return found
        if longest <= limit:
            found.append(row)


def _row(spec: SongSpec, kind: str, draw: np.random.Generator) -> SongRow:
    if kind == "text":
        return songs.text_row(spec)
    if kind == "free":
        return songs.free_row(spec, int(draw.integers(len(spec.sections))))
    if kind == "reference":
        spec, reference = with_reference(spec, draw)
        return songs.song_row(spec, draw.choice([1, 2, len(spec.sections)]), reference)
    return songs.song_row(spec, {"one": 1, "two": 2}.get(kind))


@dataclass(frozen=True)
class Batch:
    """Input of a step, all [B, T]; the names are those of `songs.SongRow`."""

    read: Ints
    """Ids, with mistakes."""
    targets: Ints
    named: dict[str, dict[str, Ints]]
    """Looks, facts and said, each by name."""


def batch_of(step: int) -> Batch:
    """The rows of a step, padded."""
    found = rows_of(step)
    named = {
        kind: {name: _padded([getattr(row, kind)[name] for row in found], fill) for name in names}
        for kind, names, fill in (
            ("looks", songs.LOOKS, -1),
            ("facts", songs.FACTS, UNKNOWN),
            ("said", songs.SAID, UNKNOWN),
        )
    }
    read = noisy(_padded([row.ids for row in found], 0), step)
    return Batch(read, _padded([row.targets for row in found], UNKNOWN), named)


class Stage1Loss:
    """The terms of a step."""

    def __init__(self, model: Stage1, device: str) -> None:
        self.model, self.device = model, device

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Weighted terms of the batch of a step."""
        return self.terms(batch_of(step))

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms of a batch."""
        named = {
            kind: {name: rows(values, self.device) for name, values in parts.items()}
            for kind, parts in batch.named.items()
        }
        with torch.autocast(self.device, torch.bfloat16):
            return self.model.losses(rows(batch.read, self.device), rows(batch.targets, self.device), **named)


def _padded(parts: list[Ints], fill: int) -> Ints:
    """Arrays [N] of several lengths → [B, T]."""
    out = np.full((len(parts), max(map(len, parts))), fill)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return out


class Stage1(nn.Module):
    """The LLaMA and what only the training reads."""

    def __init__(self) -> None:
        super().__init__()
        self.llama = Llama(SPEC)
        self.clock = nn.Linear(SPEC.hidden, sum(songs.FACTS.values()))
        self.reader = nn.Linear(SPEC.hidden, sum(songs.SAID.values()))
        self.other = nn.Parameter(torch.zeros(SPEC.hidden))
        """The output row of every id that is never written."""
        names = songs.pieces()
        first = names.index("<xcodec/0/0>")
        written = [names.index("<EOA>"), *range(first, first + CODES)]
        self.register_buffer("written", torch.tensor(written), persistent=False)
        place = torch.full((USED,), UNKNOWN)
        place[written] = torch.arange(len(written))
        self.register_buffer("place", place, persistent=False)

    def losses(
        self,
        ids: Tensor,
        targets: Tensor,
        looks: dict[str, Tensor],
        facts: dict[str, Tensor],
        said: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Terms for ids, targets, and by name looks, facts and what the text says, each [B, T]."""
        outputs: list[Tensor] = []
        heads: list[tuple[Tensor, Tensor]] = []

        def watch(number: int, output: Tensor, query: Tensor, key: Tensor) -> None:
            outputs.append(output)
            heads.append((query, key))

        hidden = self.llama(ids, watch)
        asked = targets != UNKNOWN
        count = asked.sum().clamp_min(1)
        scores = self._scores(hidden[asked]).float()
        piece = torch.stack([*said.values()]).ne(UNKNOWN).any(0)
        query, key = heads[WATCHED]
        looking = [looked(query[:, n], key[:, n], looks[name]) for name, n in HEADS.items()]
        return {
            "code": functional.cross_entropy(scores, self.place[targets[asked]], reduction="sum") / count,
            "size": 1e-4 * scores.logsumexp(-1).square().sum() / count,
            "clock": read_out(self.clock, outputs[WATCHED][asked], _at(facts, asked), songs.FACTS),
            "said": read_out(self.reader, outputs[WATCHED - 1][piece], _at(said, piece), songs.SAID),
            "looks": 0.2 * torch.stack(looking).sum(),
        }

    def _scores(self, hidden: Tensor) -> Tensor:
        """[N, D] → logits of <EOA> and the codes, and the sum of all other ids as one more [N, 1026]."""
        wanted = hidden @ self.llama.lm_head.weight[self.written].T
        rest = hidden @ self.other + math.log(USED - len(self.written))
        return torch.cat([wanted, rest[:, None]], -1)

    @torch.no_grad()
    def finish(self) -> Llama:
        """The LLaMA with rows for every piece of the tokenizer."""
        whole = Llama(replace(SPEC, vocab=len(songs.pieces())))
        head = self.other.repeat(whole.spec.vocab, 1)
        head[self.written] = self.llama.lm_head.weight[self.written]
        read = functional.pad(self.llama.model.embed_tokens.weight, (0, 0, 0, whole.spec.vocab - USED))
        rows = {"lm_head.weight": head, "model.embed_tokens.weight": read}
        whole.load_state_dict(self.llama.state_dict() | rows)
        return whole


def _at(named: dict[str, Tensor], places: Tensor) -> dict[str, Tensor]:
    return {name: values[places] for name, values in named.items()}


def read_out(reader: nn.Linear, states: Tensor, classes: dict[str, Tensor], sizes: dict[str, int]) -> Tensor:
    """Weighted cross-entropies of what READER makes of states [N, D]; 0 where nothing is asked."""
    parts = reader(states).float().split(list(sizes.values()), -1)
    found = []
    for name, part in zip(sizes, parts, strict=True):
        wanted = classes[name]
        total = functional.cross_entropy(part, wanted, ignore_index=UNKNOWN, reduction="sum")
        found.append(WEIGHTS.get(name, 0.1) * total / (wanted != UNKNOWN).sum().clamp_min(1))
    return torch.stack(found).sum()


def looked(query: Tensor, key: Tensor, places: Tensor) -> Tensor:
    """The mean of `pointing` where there is a place; 0 if there is none."""
    there = places >= 0
    return pointing(query, key, places)[there].sum() / there.sum().clamp_min(1)


def pointing(query: Tensor, key: Tensor, places: Tensor) -> Tensor:
    """-log of the attention [B, T] that falls on places [B, T]; queries and keys [B, T, head_dim].

    Meaningless where there is no place.
    """
    scores = (query @ key.transpose(1, 2)).float() * query.shape[-1] ** -0.5
    future = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).triu(1)
    scores = scores.masked_fill(future, -torch.inf)
    return scores.logsumexp(-1) - scores.gather(2, places.clamp_min(0)[..., None])[..., 0]


def train(folder: Path, steps: int = STEPS, device: str = "cpu", fast: bool = True) -> None:
    """Train to the last step and write FOLDER/stage1."""
    torch.manual_seed(SEED)
    model = Stage1().to(device)
    Trainer(Plan(folder, "stage1", steps, RATE, device), model).run(Stage1Loss(model, device))
    write(folder / "stage1", model.finish(), songs.tokenizer_bytes())


if __name__ == "__main__":
    options.run(train, __doc__, STEPS)
