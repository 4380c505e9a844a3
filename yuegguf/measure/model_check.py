"""Check of a language model file by the likelihood of codes that a right model sampled.

The thresholds lie between right and wrong conversions of the bundled family and of seeded weights
(`python -m benchmarks.broken_models`; the figures are in docs/fidelity.md).
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import RequestError
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.tokenizer import open_tokenizer
from yuegguf.lm.vocab import StageRole, stage1_vocab, stage2_vocab
from yuegguf.measure.likelihood import (
    Likelihood,
    SampleScore,
    mean_likelihood,
    stage1_ids,
    stage1_scores,
    stage2_scores,
)
from yuegguf.measure.quality import stage2_passages
from yuegguf.measure.samples import Stage1Samples
from yuegguf.measure.scoring_engine import open_scoring_engine, stage_of
from yuegguf.models.resolve import nano_models
from yuegguf.progress import Progress, silent
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.request.sampling import Sampling
from yuegguf.stages import prompt

Verdict = Literal["right", "doubtful", "wrong"]


@dataclass(frozen=True)
class Thresholds:
    """Bounds of the verdict on a stage."""

    right_within: float
    right_deficit: float
    wrong_within: float
    wrong_deficit: float

    def verdict(self, likelihood: Likelihood) -> Verdict:
        """Right within both bounds, wrong beyond one of the others."""
        within, deficit = likelihood.within, likelihood.deficit
        if within < self.wrong_within or deficit > self.wrong_deficit:
            return "wrong"
        return "right" if within >= self.right_within and deficit <= self.right_deficit else "doubtful"


THRESHOLDS: dict[StageRole, Thresholds] = {
    "stage1": Thresholds(right_within=0.93, right_deficit=0.3, wrong_within=0.8, wrong_deficit=0.65),
    "stage2": Thresholds(right_within=0.88, right_deficit=0.1, wrong_within=0.7, wrong_deficit=0.5),
}


@dataclass(frozen=True)
class ModelReport:
    """Likelihood of samples under a file."""

    file: Path
    stage: StageRole
    likelihood: Likelihood
    parts: dict[int, Likelihood]
    """Likelihoods by section from 1 (stage 1), or by codebook (stage 2)."""

    @property
    def verdict(self) -> Verdict:
        """Whether the file is the model that sampled the codes, up to the rounding of its type."""
        return THRESHOLDS[self.stage].verdict(self.likelihood)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        parts = {str(number): _figures(part) for number, part in self.parts.items()}
        name = "sections" if self.stage == "stage1" else "codebooks"
        facts = {"file": str(self.file), "stage": self.stage, "verdict": self.verdict}
        return {**facts, **_figures(self.likelihood), name: parts}


def _figures(likelihood: Likelihood) -> dict[str, Any]:
    return {**asdict(likelihood), "perplexity": likelihood.perplexity}


def is_nano(path: Path) -> bool:
    """Whether a file has the shape of the bundled family."""
    nano = nano_models()
    bundled = nano.stage1 if stage_of(path) == "stage1" else nano.stage2
    return read_model(path).shape == read_model(bundled).shape


def check_stage1(
    path: Path,
    samples: Stage1Samples,
    *,
    sections: int = 1,
    threads: int | None = None,
    progress: Progress = silent,
) -> ModelReport:
    """Score the first `sections` of a song that stage 1 generated.

    Raises NotEnoughMemory, and what opening and decoding raise.
    """
    model, lyrics = read_model(path), parse_lyrics(samples.lyrics).sections
    vocab, chosen = stage1_vocab(model.pieces), samples.sections[:sections]
    encode = open_tokenizer(model.metadata, model.pieces, path).encode
    built = prompt.build(encode, vocab, samples.tags, lyrics, lyrics[: len(chosen)])
    with closing(open_scoring_engine(model, stage1_ids(built, chosen), 2, threads)) as engine:
        scores = list(stage1_scores(engine, vocab, built, chosen, Sampling(), progress=progress))
    ends = np.cumsum([0, *(len(section.codes) + section.ended for section in chosen)]).tolist()
    parts = {
        number: mean_likelihood(scores[start:end]) for number, (start, end) in enumerate(pairwise(ends), 1)
    }
    return ModelReport(path, "stage1", mean_likelihood(scores), parts)


def check_stage2(
    path: Path, codes: NDArray[np.int16], *, threads: int | None = None, progress: Progress = silent
) -> ModelReport:
    """Score codes [2, 8, T] that stage 2 refined.

    Raises RequestError for none, NotEnoughMemory, and what opening and decoding raise.
    """
    model = read_model(path)
    passages = stage2_passages(codes, stage2_vocab(model.pieces))
    if not passages:
        raise RequestError("the song holds no code that this stage predicts", "pass a longer one")
    books: dict[int, list[SampleScore]] = {}
    ids = max(len(passage.ids) for passage in passages)
    with closing(open_scoring_engine(model, ids, 1, threads)) as engine:
        for codebook, score in stage2_scores(engine, passages, progress=progress):
            books.setdefault(codebook, []).append(score)
    parts = {codebook: mean_likelihood(scores) for codebook, scores in sorted(books.items())}
    every = [score for scores in books.values() for score in scores]
    return ModelReport(path, "stage2", mean_likelihood(every), parts)
