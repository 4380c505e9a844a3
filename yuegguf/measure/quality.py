"""Comparison of two model files by their predictions for the same song.

With teacher forcing: each next id is the song's own, so that differences do not add up. Only the ids that the
runtime allows are compared, since no other can be sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.lm import header
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.protocol import SequenceInput, TokenEngine
from yuegguf.lm.tokenizer import open_tokenizer
from yuegguf.lm.vocab import CODEBOOK_SIZE, Stage1Vocab, Stage2Vocab, role_of, stage1_vocab, stage2_vocab
from yuegguf.measure.scoring_engine import READ_BLOCK, open_scoring_engine, stage_of
from yuegguf.song.folder import SongFolder
from yuegguf.stages import prompt, stage2

JSON_KEYS = {"predictions": "draws", "same_argmax": "top1"}
"""Field of Agreement → its key in reports."""


@dataclass(frozen=True)
class Prediction:
    """One position at which a model predicts the next id."""

    position: int
    """Index of the last id before it."""
    choices: NDArray[np.int64]
    """Allowed ids."""
    chosen: int
    """Index of the song's id in `choices`."""
    codebook: int


@dataclass(frozen=True)
class Passage:
    """Ids decoded from an empty KV cache, and the predictions among them."""

    ids: list[int]
    predictions: list[Prediction]


@dataclass(frozen=True)
class Agreement:
    """Agreement of two models over the predictions of one codebook, or of all."""

    predictions: int
    kl: float
    """Kullback-Leibler divergence of the second file from the first, in nats, mean."""
    same_argmax: float
    """Share of predictions with the same most probable id."""
    perplexity: float
    """Perplexity of the song's codes by the first file: e to the mean of -log p."""
    perplexity_second: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {JSON_KEYS.get(name, name): value for name, value in asdict(self).items()}


def stage1_passages(
    written: prompt.Prompt, sections: Sequence[NDArray[np.int16]], vocab: Stage1Vocab
) -> list[Passage]:
    """A prompt and the codes [2·frames] of its first sections → one passage."""
    choices = np.array([vocab.eoa, *range(vocab.codebook0, vocab.codebook0 + CODEBOOK_SIZE)])
    ids, predictions = list(written.header), list[Prediction]()
    for number, (own, codes) in enumerate(zip(written.sections, sections, strict=False)):
        ids += [*([vocab.eoa, *written.end_of_segment] if number else []), *own]
        for code in codes:
            predictions.append(Prediction(len(ids) - 1, choices, 1 + int(code), 0))
            ids.append(vocab.codebook0 + int(code))
    return [Passage(ids, predictions)]


def stage2_passages(codes: NDArray[np.int16], vocab: Stage2Vocab) -> list[Passage]:
    """Codes [2, 8, T] → a passage for each chunk of both tracks."""
    every = [np.arange(start, start + CODEBOOK_SIZE) for start in vocab.codebooks]
    found = []
    for chunk in stage2.chunk_grid(codes.shape[2]):
        own = codes[chunk.track, :, chunk.start : chunk.start + chunk.frames].astype(np.int64)
        ids = [vocab.soa, vocab.stage_1, *(int(vocab.codebooks[0]) + own[0]), vocab.stage_2]
        predictions = []
        for frame in own.T:
            for k, code in enumerate(frame):
                if k:
                    predictions.append(Prediction(len(ids) - 1, every[k], int(code), k))
                ids.append(int(vocab.codebooks[k]) + int(code))
        found.append(Passage([int(i) for i in ids], predictions))
    return found


def song_passages(folder: SongFolder, model: Path, seconds: float) -> list[Passage]:
    """Passages of the first `seconds` of a finished song for a model of either stage.

    Raises RequestError, DamagedFile.
    """
    model_header = header.read_header(model, stage_of(model))
    frames = round(FRAME_RATE * seconds)
    if role_of(model_header.metadata) == "stage2":
        return codes_passages(folder.load_stage2(), model, seconds)
    vocab, request = stage1_vocab(model_header.pieces), folder.request
    encode = open_tokenizer(model_header.metadata, model_header.pieces, model).encode
    song, reference = folder.song, folder.load_reference()
    written = prompt.build(
        encode, vocab, request.genre, song.all_sections, song.sections, reference=reference
    )
    codes, lengths = folder.load_stage1()
    ends = [int(end) for end in np.cumsum(lengths)[:-1] if end < frames]
    return stage1_passages(
        written, [part.T.ravel() for part in np.split(codes[:, :frames], ends, axis=1)], vocab
    )


def codes_passages(codes: NDArray[np.int16], model: Path, seconds: float) -> list[Passage]:
    """Passages of the first `seconds` of codes [2, 8, T]. Raises RequestError unless for stage 2."""
    model_header = header.read_header(model, stage_of(model))
    if role_of(model_header.metadata) != "stage2":
        raise RequestError(f"{model.name} needs the song's lyrics", "pass --song FOLDER")
    return stage2_passages(codes[:, :, : round(FRAME_RATE * seconds)], stage2_vocab(model_header.pieces))


def compare_models(
    first: Path,
    second: Path,
    passages: Sequence[Passage],
    threads: int | None = None,
    kv_type: str = "f16",
) -> dict[int, Agreement]:
    """Codebook → agreement of two files on the same passages; `kv_type` is that of the second's caches.

    Raises RequestError when their vocabularies differ or there is no prediction, and what opening raises.
    """
    predictions = [prediction for passage in passages for prediction in passage.predictions]
    if not predictions:
        raise RequestError("the song holds no code that this stage predicts", "pass a longer one")
    pieces, first_scores = _read_model(first, passages, threads)
    _, second_scores = _read_model(second, passages, threads, kv_type, pieces)
    found: dict[int, list[tuple[float, bool, float, float]]] = {}
    for p, q, prediction in zip(first_scores, second_scores, predictions, strict=True):
        divergence = float(np.sum(np.exp(p, dtype=np.float64) * (p - q)))
        facts = (
            divergence,
            bool(p.argmax() == q.argmax()),
            -float(p[prediction.chosen]),
            -float(q[prediction.chosen]),
        )
        found.setdefault(prediction.codebook, []).append(facts)
    return {codebook: _mean_agreement(facts) for codebook, facts in sorted(found.items())}


def _read_model(
    path: Path,
    passages: Sequence[Passage],
    threads: int | None,
    kv_type: str = "f16",
    pieces: Sequence[str] | None = None,
) -> tuple[Sequence[str], list[NDArray[np.float32]]]:
    """A file's pieces and its log-probabilities of every prediction; refuses pieces other than `pieces`."""
    longest = max(len(passage.ids) for passage in passages)
    with closing(open_scoring_engine(read_model(path), longest, 1, threads, kv_type)) as engine:
        if pieces is not None and engine.pieces != pieces:
            raise RequestError(
                f"{path.name} and the file before it have other vocabularies",
                "trim both alike: yuegguf convert",
            )
        scores = [
            each.astype(np.float32) for passage in passages for each in log_probabilities(engine, passage)
        ]
        return engine.pieces, scores


def overall_agreement(parts: dict[int, Agreement]) -> Agreement:
    """Agreement over all codebooks."""
    total = sum(part.predictions for part in parts.values())

    def mean(values: Iterator[tuple[int, float]]) -> float:
        return sum(count * value for count, value in values) / total

    own = list(parts.values())
    return Agreement(
        total,
        mean((part.predictions, part.kl) for part in own),
        mean((part.predictions, part.same_argmax) for part in own),
        exp(mean((part.predictions, log(part.perplexity)) for part in own)),
        exp(mean((part.predictions, log(part.perplexity_second)) for part in own)),
    )


def _mean_agreement(facts: list[tuple[float, bool, float, float]]) -> Agreement:
    kl, same, one, other = (float(np.mean(column)) for column in zip(*facts, strict=True))
    return Agreement(len(facts), kl, same, exp(one), exp(other))


def read_through(engine: TokenEngine, passage: Passage) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Decode a passage in blocks: yields each block's first position and logits [ids, n_vocab]."""
    engine.forget(0, 0)
    for start in range(0, len(passage.ids), READ_BLOCK):
        block = passage.ids[start : start + READ_BLOCK]
        yield start, engine.decode([SequenceInput(0, block, len(block))])


def log_probabilities(engine: TokenEngine, passage: Passage) -> Iterator[NDArray[np.float64]]:
    """Log-probabilities of the choices of each prediction, in order."""
    predictions = iter(passage.predictions)
    prediction = next(predictions, None)
    for start, logits in read_through(engine, passage):
        while prediction is not None and prediction.position < start + len(logits):
            yield _log_softmax(logits[prediction.position - start, prediction.choices])
            prediction = next(predictions, None)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values = logits.astype(np.float64)
    values -= values.max()
    return np.asarray(values - np.log(np.exp(values).sum()))
