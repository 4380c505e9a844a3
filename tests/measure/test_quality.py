"""Two files on one song: what is read, which draws are compared, what comes out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fakes import PIECES, FakeEngine
from helpers import QUICK, TWO_SECTIONS, cli

from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.protocol import SequenceInput
from yuegguf.lm.vocab import stage1_vocab, stage2_vocab
from yuegguf.measure import quality
from yuegguf.measure.quality import Agreement, Passage, Prediction
from yuegguf.measure.scoring_engine import READ_BLOCK, open_scoring_engine
from yuegguf.models.resolve import nano_models
from yuegguf.planning.cost import KV_BYTES
from yuegguf.song.folder import SongFolder
from yuegguf.stages import stage2
from yuegguf.stages.prompt import Prompt

VOCAB1, VOCAB2 = stage1_vocab(PIECES), stage2_vocab(PIECES)
NANO = nano_models()
SONG = ("-g", "pop", "--lyrics", TWO_SECTIONS, *QUICK, "--model", "nano")


def test_stage_1_predicts_every_code_after_the_ids_it_was_sampled_with() -> None:
    written = Prompt([4, 5], [[10, VOCAB1.soa, VOCAB1.xcodec], [11, VOCAB1.xcodec]], [20, 21])
    sung = [np.array([7, 8], np.int16), np.array([9, 7, 6, 5], np.int16)]
    (passage,) = quality.stage1_passages(written, sung, VOCAB1)
    code = VOCAB1.codebook0
    assert passage.ids == [
        4, 5, 10, VOCAB1.soa, VOCAB1.xcodec, code + 7, code + 8, VOCAB1.eoa,
        20, 21, 11, VOCAB1.xcodec, code + 9, code + 7, code + 6, code + 5,
    ]  # fmt: skip
    assert [(draw.position, draw.chosen, draw.codebook) for draw in passage.predictions] == [
        (4, 8, 0), (5, 9, 0), (11, 10, 0), (12, 8, 0), (13, 7, 0), (14, 6, 0),
    ]  # fmt: skip
    for draw in passage.predictions:
        assert draw.choices[draw.chosen] == passage.ids[draw.position + 1]


def test_stage_2_predicts_exactly_what_its_loop_feeds() -> None:
    given = np.random.default_rng(1).integers(0, 1024, (2, 40)).astype(np.int16)
    engine = FakeEngine(n_rows=2)
    codes = stage2.refine_codes(given, engine, VOCAB2)
    passages = quality.stage2_passages(codes, VOCAB2)
    assert len(passages) == 2
    for row, passage in enumerate(passages):
        assert passage.ids[: len(engine.fed[row])] == engine.fed[row]
        assert len(passage.ids) == len(engine.fed[row]) + 1  # the last pick is never fed
        assert len(passage.predictions) == 7 * 40
        for draw in passage.predictions:
            assert draw.choices[draw.chosen] == passage.ids[draw.position + 1]
            assert draw.choices[0] == VOCAB2.codebooks[draw.codebook]


def test_all_codebooks_together_are_their_mean_by_draws() -> None:
    parts = {1: Agreement(1, 0.4, 1.0, 2.0, 3.0), 2: Agreement(3, 0.0, 0.0, 8.0, 3.0)}
    whole = quality.overall_agreement(parts)
    assert (whole.predictions, whole.same_argmax) == (4, 0.25)
    assert whole.kl == pytest.approx(0.1)
    assert whole.perplexity == pytest.approx((2 * 8**3) ** 0.25)
    assert whole.perplexity_second == pytest.approx(3.0)


class Known(FakeEngine):
    """A model whose choices have probabilities that are known: 1/2, 1/4, 1/4 of three, or the reverse."""

    def __init__(self, reverse: bool) -> None:
        super().__init__(n_rows=1)
        self.reverse = reverse

    def _logits(self, ids: object) -> np.ndarray:
        logits = np.zeros(len(PIECES), np.float32)
        logits[[5, 6, 7]] = np.log([0.25, 0.25, 0.5] if self.reverse else [0.5, 0.25, 0.25])
        return logits


def test_the_figures_are_those_of_their_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    engines, caches = iter([Known(False), Known(True)]), []

    def opened(_model: object, _ids: int, _rows: int, _threads: int | None, kv_type: str) -> Known:
        caches.append(kv_type)
        return next(engines)

    monkeypatch.setattr(quality, "read_model", lambda _path: None)
    monkeypatch.setattr(quality, "open_scoring_engine", opened)
    draws = [Prediction(place, np.array([5, 6, 7]), place % 3, 1) for place in range(99)]
    passages = [Passage(list(range(100)), draws)]
    found = quality.compare_models(Path("a"), Path("b"), passages, kv_type="q8_0")
    assert caches == ["f16", "q8_0"]  # those of the second file alone
    assert list(found) == [1]
    assert found[1].predictions == 99
    assert found[1].same_argmax == 0.0
    assert found[1].kl == pytest.approx(0.5 * np.log(2) - 0.25 * np.log(2))
    assert found[1].perplexity == pytest.approx(32 ** (1 / 3)) == found[1].perplexity_second


@pytest.mark.parametrize("kv_type", sorted(KV_BYTES))
def test_caches_of_every_type_can_be_read(kv_type: str) -> None:
    """llama.cpp opens quantised ones with flash attention alone."""
    with closing(open_scoring_engine(read_model(NANO.stage1), 64, 1, 1, kv_type)) as engine:
        logits = engine.decode([SequenceInput(0, list(range(10, 40)), 2)])
        assert np.isfinite(logits).all()


def test_a_file_agrees_with_itself(capsys: pytest.CaptureFixture[str], song: Path) -> None:
    for role, file in (("stage1", NANO.stage1), ("stage2", NANO.stage2)):
        same = cli(capsys, "bench", "quality", file, file, "--song", song, "--seconds", 1, "--json").json
        assert (same["kl"], same["top1"]) == (0.0, 1.0)
        assert same["perplexity"] == same["perplexity_second"] >= 1.0
        assert list(same["codebooks"]) == (["0"] if role == "stage1" else [str(k) for k in range(1, 8)])
        assert same["draws"] == (2 * 50 if role == "stage1" else 2 * 7 * 50)
    lines = cli(capsys, "bench", "quality", NANO.stage2, NANO.stage2, "--song", song, "--seconds", 1).out
    assert lines.splitlines()[-1].split() == ["all", "700", "0.00000", "100.0%", *lines.split()[-2:]]


def test_reading_in_blocks_is_reading_step_by_step(song: Path) -> None:
    """Up to the last bits: other batches, other sums."""
    from yuegguf.lm.llama import EngineOptions, LlamaEngine

    (passage,) = quality.song_passages(SongFolder.open(song), NANO.stage1, 1.0)
    engine = LlamaEngine(NANO.stage1, EngineOptions(len(passage.ids), 1, 1, outputs=READ_BLOCK))
    blocks = list(quality.log_probabilities(engine, passage))
    engine.forget(0, 0)
    first = passage.predictions[0].position
    logits = engine.decode([SequenceInput(0, passage.ids[: first + 1])])[0]
    steps = [quality._log_softmax(logits[passage.predictions[0].choices])]
    for draw in passage.predictions[1:]:
        steps.append(
            quality._log_softmax(
                engine.decode([SequenceInput(0, [passage.ids[draw.position]])])[0][draw.choices]
            )
        )
    engine.close()
    assert len(blocks) == len(steps)
    off = [np.abs(np.exp(a) - np.exp(b)).max() for a, b in zip(blocks, steps, strict=True)]
    assert np.median(off) < 1e-4
    assert np.quantile(off, 0.95) < 0.02
    assert max(off) < 0.1  # where the model is of two minds


def test_what_cannot_be_compared_is_refused(
    capsys: pytest.CaptureFixture[str], song: Path, tmp_path: Path
) -> None:
    one, two = NANO.stage1, NANO.stage2
    assert "a song's codes are needed" in cli(capsys, "bench", "quality", one, one).err
    codes = tmp_path / "codes"
    codes.mkdir()
    for number, mark in enumerate(("vtrack", "itrack")):
        np.save(codes / f"x_{mark}.npy", SongFolder.open(song).load_stage2()[number])
    assert "needs the song's lyrics" in cli(
        capsys, "bench", "quality", one, one, "--codes", codes
    ).err  # fmt: skip
    assert cli(capsys, "bench", "quality", two, two, "--codes", codes, "--seconds", 1).code == 0
    other = cli(capsys, "bench", "quality", two, one, "--song", song)
    assert other.code != 0
    assert "other vocabularies" in other.err
    missing = cli(capsys, "bench", "quality", tmp_path / "no.gguf", two, "--song", song)
    assert missing.code == 3
