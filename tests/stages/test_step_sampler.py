"""The compiled sampler against the one in numpy, which is compared with transformers' processors."""

from __future__ import annotations

import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import MemoryJournal, Stage1Engine
from tasks import TASK, VOCAB

from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.request.sampling import Sampling
from yuegguf.stages import stage1, step_sampler
from yuegguf.stages.sampler import END
from yuegguf.stages.step_sampler import StepOptions, sample_by_numpy, sample_step

IDS = Stage1Vocab(soa=1, eoa=3, xcodec=2, codebook0=10)
NEEDS_COMPILED = pytest.mark.skipif(
    step_sampler.compiled is None, reason="the sampler was not compiled when yuegguf was installed"
)
OPTIONS = (
    Sampling(),
    Sampling(temperature=0.7, top_k=0),
    Sampling(top_p=1.0),
    Sampling(top_p=0.0),
    Sampling(temperature=1.3, top_k=3, top_p=0.5),
    Sampling(top_k=1, repetition_penalty=0.8),
    Sampling(top_k=1025, repetition_penalty=3.0),
    Sampling(temperature=0),
)
BOTH = pytest.mark.parametrize(
    "sample", [pytest.param(sample_step, marks=NEEDS_COMPILED), sample_by_numpy], ids=["compiled", "numpy"]
)


def logits_of(chance: np.random.Generator, rows: int = 2, spread: float = 3.0) -> np.ndarray:
    """Logits whose number is seldom one of whole blocks of lanes."""
    count = int(chance.integers(1034, 1200))
    return chance.normal(0, spread, (rows, count)).astype(np.float32)


def is_buildable() -> bool:
    """Whether this machine has what compiles it."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return shutil.which("cc") is not None and headers.is_file()


@pytest.mark.skipif(not is_buildable(), reason="this machine has no C compiler, or not Python's headers")
def test_an_installation_with_a_compiler_has_the_compiled_sampler() -> None:
    assert step_sampler.compiled is not None


@NEEDS_COMPILED
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("spread", [0.01, 3.0, 40.0])
def test_the_compiled_sampler_takes_the_choice_of_numpys(options: Sampling, spread: float) -> None:
    for seed in range(150):
        chance = np.random.default_rng(seed)
        logits, in_context = logits_of(chance, spread=spread), chance.random(1025) < chance.random()
        place = StepOptions(float(chance.choice([0.5, 1.2, 1.5, 3.0])), float(chance.random()), seed % 2 == 0)
        found = sample_step(logits, in_context, IDS, options, place)
        assert found == sample_by_numpy(logits, in_context, IDS, options, place)


@NEEDS_COMPILED
@pytest.mark.parametrize("options", OPTIONS)
def test_ties_and_the_steps_of_the_distribution_are_taken_alike(options: Sampling) -> None:
    """Without guidance equal logits are equal scores; random numbers at the ends of their range."""
    for seed in range(100):
        chance = np.random.default_rng(seed)
        logits = np.round(logits_of(chance, rows=1), seed % 2)
        in_context = chance.random(1025) < 0.3
        for random in (0.0, *chance.random(5), 1 - 2**-53):
            place = StepOptions(1.0, float(random), seed % 3 == 0)
            found = sample_step(logits, in_context, IDS, options, place)
            assert found == sample_by_numpy(logits, in_context, IDS, options, place)


@BOTH
def test_rows_may_lie_apart_and_logits_may_be_far_from_zero(sample: Any) -> None:
    """A step with a draft has four rows, of which every other one belongs to one code."""
    chance = np.random.default_rng(0)
    logits, in_context = logits_of(chance, rows=4), np.zeros(1025, bool)
    for shift in (0.0, -3e4, 3e4):
        for first in (0, 1):
            rows = (logits + np.float32(shift))[first::2]
            found = sample(rows, in_context, IDS, Sampling(), StepOptions(1.5, 0.25, False))
            assert found == sample(rows.copy(), in_context, IDS, Sampling(), StepOptions(1.5, 0.25, False))
            alone = sample(rows[:1], in_context, IDS, Sampling(), StepOptions(1.0, 0.25, False))
            assert alone == sample(rows, in_context, IDS, Sampling(), StepOptions(1.0, 0.25, False))


@BOTH
def test_the_end_is_taken_only_where_it_may_be(sample: Any) -> None:
    logits = np.zeros((1, 1100), np.float32)
    logits[0, IDS.eoa] = 50
    for options in (Sampling(), Sampling(temperature=0)):
        ends = [
            sample(logits, np.zeros(1025, bool), IDS, options, StepOptions(1.0, 0.5, may))
            for may in (True, False)
        ]
        assert ends[0] == END != ends[1]


@BOTH
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [IDS.eoa, IDS.codebook0, IDS.codebook0 + 1023])
def test_logits_that_are_not_numbers_are_an_error(sample: Any, wrong: float, place: int) -> None:
    for rows in (1, 2):
        logits = logits_of(np.random.default_rng(1), rows=rows)
        logits[-1, place] = wrong
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
            sample(logits, np.zeros(1025, bool), IDS, Sampling(), StepOptions(float(rows), 0.5, True))


@NEEDS_COMPILED
@pytest.mark.parametrize(
    ("logits", "in_context", "vocab", "error"),
    [
        (np.zeros((2, 1100)), np.zeros(1025, bool), IDS, TypeError),
        (np.zeros((1, 1100), np.float32), np.zeros(1025, bool), IDS, TypeError),
        (np.zeros(1100, np.float32), np.zeros(1025, bool), IDS, TypeError),
        (np.zeros((2, 2200), np.float32)[:, ::2], np.zeros(1025, bool), IDS, TypeError),
        (np.zeros((2, 1100), np.float32), np.zeros(1024, bool), IDS, TypeError),
        (np.zeros((2, 1100), np.float32), np.zeros(1025, np.int8), IDS, TypeError),
        (np.zeros((2, 1100), np.float32), np.zeros(2050, bool)[::2], IDS, TypeError),
        (np.zeros((2, 1033), np.float32), np.zeros(1025, bool), IDS, IndexError),
        (np.zeros((2, 1100), np.float32), np.zeros(1025, bool), replace(IDS, eoa=1100), IndexError),
        (np.zeros((2, 1100), np.float32), np.zeros(1025, bool), replace(IDS, codebook0=-1), IndexError),
        (None, np.zeros(1025, bool), IDS, TypeError),
    ],
)
def test_other_arrays_are_refused(logits: Any, in_context: Any, vocab: Stage1Vocab, error: type) -> None:
    with pytest.raises(error):
        sample_step(logits, in_context, vocab, Sampling(), StepOptions(1.5, 0.5, True))


@NEEDS_COMPILED
def test_other_arguments_are_refused() -> None:
    assert step_sampler.compiled is not None
    with pytest.raises(TypeError, match="11 arguments, not 0"):
        step_sampler.compiled()
    with pytest.raises(TypeError):
        step_sampler.compiled(*[None] * 11)


def test_without_the_compiled_sampler_numpy_samples_the_same_song(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [codes.tolist() for codes in stage1.generate_codes(TASK, Stage1Engine(), VOCAB, MemoryJournal())]
    monkeypatch.setattr(step_sampler, "compiled", None)
    again = [codes.tolist() for codes in stage1.generate_codes(TASK, Stage1Engine(), VOCAB, MemoryJournal())]
    assert found == again
