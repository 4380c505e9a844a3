"""Eight songs in one batch of llama.cpp, with float32 weights and caches: each equals itself alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fakes import MemoryJournal
from yuegguf_convert.lm import convert_lm

from nano import tokenizer, untrained
from nano.lm_weights import write_llama
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.vocab import Stage1Vocab, stage1_vocab
from yuegguf.request.sampling import Sampling
from yuegguf.stages import stage1
from yuegguf.stages.batching import StepBatch
from yuegguf.stages.prompt import Prompt
from yuegguf.stages.stage1_task import CandidateTask, Stage1Task

N_CTX = 512


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage 1 of random float32 weights."""
    folder = tmp_path_factory.mktemp("f32")
    pieces = tokenizer.TEXT_PIECES + len(tokenizer.appended_pieces())
    write_llama(folder, untrained.spec(pieces, 16384), untrained.STAGE1_SEED, tokenizer.build_tokenizer())
    return convert_lm(folder, folder / "stage1.gguf", out_type="F32")


def song(number: int, vocab: Stage1Vocab) -> Stage1Task:
    """One of eight songs with prompts, lengths and guidance of their own."""
    header = [int(i) for i in range(300 + 7 * number, 340 + 9 * number)]
    prompt = Prompt(header, [[20 + number, vocab.soa, vocab.xcodec]] * 2, [30, 31])
    guidance = (1.5, 1.0, 1.2, 1.8)[number % 4]
    sampling = Sampling(min_new_tokens=4, guidance_first=guidance, guidance_rest=guidance)
    return Stage1Task(prompt, [6 + 2 * number, 20 - 2 * number], sampling, seed=number, n_ctx=N_CTX)


def alone(path: Path, number: int) -> list[list[int]]:
    with closing(LlamaEngine(path, EngineOptions(N_CTX, 2, threads=1, kv_type="f32"))) as engine:
        vocab = stage1_vocab(engine.pieces)
        codes = stage1.generate_codes(song(number, vocab), engine, vocab, MemoryJournal())
    return [each.tolist() for each in codes]


def together(path: Path, numbers: Sequence[int]) -> dict[int, list[list[int]]]:
    """Songs of which one joins every fifth step, in a context that grows for them."""
    with closing(LlamaEngine(path, EngineOptions(64, 1, threads=1, kv_type="f32"))) as engine:
        vocab = stage1_vocab(engine.pieces)
        batch: StepBatch[list[stage1.SectionCodes]] = StepBatch(engine)
        results: dict[int, object] = {}
        for number in numbers:
            task = CandidateTask(replace(song(number, vocab), speculative=False), MemoryJournal())
            batch.join(number, task.n_seqs, partial(stage1.candidate_steps, task, vocab))
            for _ in range(5):
                results |= batch.step()
        results |= batch.run()
        assert engine.n_rows > 8
    return {number: [codes.tolist() for codes in results[number]] for number in numbers}  # type: ignore[attr-defined]


def test_eight_songs_together_equal_each_alone(model: Path) -> None:
    found = together(model, range(8))
    assert found == {number: alone(model, number) for number in range(8)}
