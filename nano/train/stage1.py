"""Train the miniature stage 1 on the corpus's tags, lyrics and states.

    python -m nano.train.stage1 FOLDER [--steps 7500] [--device cpu]

The loss is that of the next code or <EOA>. Two helps, in training only, make a small model learn in minutes
what else takes days: one head of a middle layer is told which piece of the lyrics is being sung, and from
a middle layer the position in bar, chord, section and syllable, and the syllable's sounds, must be readable.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nano.corpus import SongSpec, sample_spec
from nano.lm_weights import LlamaSpec
from nano.tokenizer import CODES, SPECIALS, TEXT_PIECES
from nano.train import options
from nano.train.llama import Llama, rows, write
from nano.train.loop import Plan, Trainer
from nano.train.songs import FACTS, UNKNOWN, SongRow, free_row, pieces, song_row, tokenizer_bytes

USED = TEXT_PIECES + len(SPECIALS) + CODES
"""The first ids: text, specials and codebook 0; the others are never seen."""
SPEC = LlamaSpec(hidden=256, layers=5, heads=4, kv_heads=2, ffn=768, vocab=USED, context=16384)
SEED = 1
FIRST_SEED = 1_000_000
"""Songs from here on are for training; lower seeds are held out."""
WATCHED = 2
"""The layer whose head 0 is told what is sung and whose output must tell the time."""
BATCH_IDS = 4096
"""Of a step, with the padding."""
LONGEST = 3600
"""Ids of the longest row; longer songs end with an earlier section."""
SHARES = {"one": 0.4, "two": 0.3, "all": 0.2, "free": 0.1}
"""Of the rows: songs that end after one or two sections, whole songs, sections without words."""
WEIGHTS = {"chord": 0.3, "onset": 0.3, "vowel": 0.3, "coda": 0.3}
"""Of what must be readable, where it is not 0.1: what follows from single pieces of tags and lyrics."""
NOISE = 0.02
"""Share of codes that are read as another one: at run time the model reads its own mistakes."""
STEPS, RATE = 7500, 2e-3


class Songs:
    """Batches of rows of about the same length; the batch of a step is a function of the step alone."""

    def batch(self, step: int) -> list[SongRow]:
        """Rows of one kind that fill BATCH_IDS."""
        draw = np.random.default_rng([step, 13])
        kind = draw.choice(list(SHARES), p=list(SHARES.values()))
        found: list[SongRow] = []
        while True:
            row = self._row(sample_spec(FIRST_SEED + int(draw.integers(1 << 40))), kind, draw)
            longest = max(len(each.ids) for each in [*found, row])
            if found and longest * (len(found) + 1) > BATCH_IDS:
                return found
            if longest <= LONGEST:
                found.append(row)

    def _row(self, spec: SongSpec, kind: str, draw: np.random.Generator) -> SongRow:
        if kind == "free":
            return free_row(spec, int(draw.integers(len(spec.sections))))
        return song_row(spec, {"one": 1, "two": 2}.get(kind))


class Stage1Loss:
    """The terms of a step."""

    def __init__(self, model: Stage1, device: str) -> None:
        self.model, self.device, self.songs = model, device, Songs()

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Weighted terms of the batch of a step."""
        batch = self.songs.batch(step)
        ids, targets, words = (_padded([getattr(r, n) for r in batch], f) for n, f in _FILLS.items())
        facts = {name: _padded([row.facts[name] for row in batch], UNKNOWN) for name in FACTS}
        read = noisy(ids, step)
        with torch.autocast(self.device, torch.bfloat16):
            return self.model.losses(
                rows(read, self.device),
                rows(targets, self.device),
                rows(words, self.device),
                {name: rows(values, self.device) for name, values in facts.items()},
            )


_FILLS = {"ids": 0, "targets": UNKNOWN, "words": -1}


def _padded(parts: list[np.ndarray], fill: int) -> np.ndarray:
    """Arrays [N, …] of several lengths → [B, T, …]."""
    out = np.full((len(parts), max(map(len, parts)), *parts[0].shape[1:]), fill)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return out


def noisy(ids: np.ndarray, step: int) -> np.ndarray:
    """Every second row as it is; in the others some codes are replaced by codes of the same batch."""
    draw = np.random.default_rng([step, 14])
    codes = np.flatnonzero(ids >= TEXT_PIECES + len(SPECIALS))
    hit = codes[(draw.random(len(codes)) < NOISE) & (codes // ids.shape[1] % 2 == 1)]
    out = ids.copy()
    out.flat[hit] = ids.flat[draw.choice(codes, len(hit))]
    return out


class Stage1(nn.Module):
    """The LLaMA and what only the training reads."""

    def __init__(self) -> None:
        super().__init__()
        self.llama = Llama(SPEC)
        self.clock = nn.Linear(SPEC.hidden, sum(FACTS.values()))
        self.other = nn.Parameter(torch.zeros(SPEC.hidden))
        """The output row of every id that is never written."""
        names = pieces()
        first = names.index("<xcodec/0/0>")
        written = [names.index("<EOA>"), *range(first, first + CODES)]
        self.register_buffer("written", torch.tensor(written), persistent=False)
        place = torch.full((USED,), UNKNOWN)
        place[written] = torch.arange(len(written))
        self.register_buffer("place", place, persistent=False)

    def losses(
        self, ids: Tensor, targets: Tensor, words: Tensor, facts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Terms for ids [B, T], targets [B, T], words [B, T, 3] and facts [B, T]."""
        watched: list[Tensor] = []

        def watch(number: int, output: Tensor, query: Tensor, key: Tensor) -> None:
            if number == WATCHED:
                watched.extend((output, query, key))

        hidden = self.llama(ids, watch)
        asked = targets != UNKNOWN
        scores = self._scores(hidden[asked]).float()
        wanted = self.place[targets[asked]]
        output, query, key = watched
        clock = self.clock(output[asked]).float().split(list(FACTS.values()), -1)
        told = [
            WEIGHTS.get(name, 0.1) * functional.cross_entropy(part, facts[name][asked], ignore_index=UNKNOWN)
            for name, part in zip(FACTS, clock, strict=True)
        ]
        sung = words[..., 0] >= 0
        pointed = pointing(query, key, words, sung).mean() if sung.any() else hidden.new_zeros(()).float()
        return {
            "code": functional.cross_entropy(scores, wanted),
            "size": 1e-4 * scores.logsumexp(-1).square().mean(),
            "clock": torch.stack(told).sum(),
            "words": 0.2 * pointed,
        }

    def _scores(self, hidden: Tensor) -> Tensor:
        """[N, D] → logits of <EOA> and the codes, and the sum of all other ids as one more [N, 1026]."""
        wanted = hidden @ self.llama.lm_head.weight[self.written].T
        rest = hidden @ self.other + math.log(USED - len(self.written))
        return torch.cat([wanted, rest[:, None]], -1)

    @torch.no_grad()
    def finish(self) -> Llama:
        """The LLaMA with rows for every piece of the tokenizer."""
        whole = Llama(replace(SPEC, vocab=len(pieces())))
        head = self.other.repeat(whole.spec.vocab, 1)
        head[self.written] = self.llama.lm_head.weight[self.written]
        read = functional.pad(self.llama.model.embed_tokens.weight, (0, 0, 0, whole.spec.vocab - USED))
        rows = {"lm_head.weight": head, "model.embed_tokens.weight": read}
        whole.load_state_dict(self.llama.state_dict() | rows)
        return whole


def pointing(query: Tensor, key: Tensor, words: Tensor, sung: Tensor) -> Tensor:
    """-log of the attention [B, T, head_dim] that falls on the sung pieces, where there are some."""
    scores = (query @ key.transpose(1, 2)).float() * query.shape[-1] ** -0.5
    future = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).triu(1)
    scores = scores.masked_fill(future, -torch.inf)[sung]
    there = words[sung]
    picked = scores.gather(1, there.clamp_min(0)).masked_fill(there < 0, -torch.inf)
    return scores.logsumexp(-1) - picked.logsumexp(-1)


def train(folder: Path, steps: int = STEPS, device: str = "cpu", fast: bool = True) -> None:
    """Train to the last step and write FOLDER/stage1."""
    torch.manual_seed(SEED)
    model = Stage1().to(device)
    Trainer(Plan(folder, "stage1", steps, RATE, device), model).run(Stage1Loss(model, device))
    write(folder / "stage1", model.finish(), tokenizer_bytes())


if __name__ == "__main__":
    options.run(train, __doc__, STEPS)
