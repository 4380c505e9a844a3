"""The sampler against transformers' own processors, and its laws."""

from __future__ import annotations

import numpy as np
import pytest

from yuegguf.errors import RequestError
from yuegguf.request.sampling import Sampling
from yuegguf.stages.sampler import (
    END,
    choice_logits,
    filtered_choices,
    guided_scores,
    log_normaliser,
    penalise,
    probabilities,
    sample_choice,
    uniform,
)

EOA, CODEBOOK0, VOCAB = 3, 10, 1100


def rows(seed: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (count, VOCAB)).astype(np.float32)


@pytest.mark.slow
def test_guidance_penalty_and_warpers_equal_transformers() -> None:
    torch = pytest.importorskip("torch")
    from transformers import LogitsProcessorList
    from transformers.generation import logits_process as hf

    options = Sampling(temperature=0.8)
    for seed in range(20):
        cond, uncond = rows(seed)
        seen_ids = np.random.default_rng(seed).choice(1024, 60, replace=False)
        context = torch.tensor([[EOA, *(CODEBOOK0 + seen_ids)]])
        lc, lu = torch.log_softmax(torch.tensor(np.stack([cond, uncond])), dim=-1)
        scores = (1.5 * (lc - lu) + lu)[None]
        blocked = torch.ones(VOCAB, dtype=bool)
        blocked[EOA] = False
        blocked[CODEBOOK0 : CODEBOOK0 + 1024] = False
        scores = hf.RepetitionPenaltyLogitsProcessor(1.1)(context, scores)
        scores[:, blocked] = -torch.inf
        warpers = LogitsProcessorList(
            [hf.TemperatureLogitsWarper(0.8), hf.TopKLogitsWarper(50), hf.TopPLogitsWarper(0.93)]
        )
        expected = warpers(context, scores)[0].numpy()

        seen = np.zeros(1025, bool)
        seen[END] = True
        seen[1 + seen_ids] = True
        ours = penalise(guided_scores(cond, uncond, 1.5, EOA, CODEBOOK0), seen, 1.1)
        kept, values = filtered_choices(ours, options)
        ids = [EOA if choice == END else CODEBOOK0 + choice - 1 for choice in kept]
        assert ids == np.flatnonzero(np.isfinite(expected)).tolist()
        np.testing.assert_allclose(values, expected[ids], atol=2e-5)


def test_log_normaliser_is_log_sum_exp() -> None:
    row = rows(5)[0]
    assert log_normaliser(row) == pytest.approx(float(np.log(np.exp(row.astype(np.float64)).sum())), abs=1e-6)
    assert log_normaliser(np.full(8, 1e4, np.float32)) == pytest.approx(1e4 + np.log(8), abs=1e-3)


def test_guidance_of_one_row_with_itself_is_its_log_softmax() -> None:
    row = rows(1)[0]
    expected = choice_logits(row, EOA, CODEBOOK0) - log_normaliser(row)
    np.testing.assert_allclose(guided_scores(row, row, 1.7, EOA, CODEBOOK0), expected, atol=1e-12)


def test_penalty_multiplies_negative_and_divides_positive_scores_once() -> None:
    scores = np.array([-2.0, 2.0, -2.0, 2.0])
    seen = np.array([True, True, False, False])
    np.testing.assert_allclose(penalise(scores, seen, 1.1), [-2.2, 2 / 1.1, -2.0, 2.0])


def test_ties_with_the_kth_best_are_kept_and_the_best_always_survives() -> None:
    scores = np.array([1.0, 2.0, 2.0, 2.0, 0.0])
    assert filtered_choices(scores, Sampling(top_k=2, top_p=1.0))[0].tolist() == [1, 2, 3]
    assert filtered_choices(scores, Sampling(top_k=0, top_p=0.0))[0].tolist() == [1]


def test_top_p_keeps_the_choice_that_crosses_it() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    assert filtered_choices(scores, Sampling(top_k=0, top_p=0.6))[0].tolist() == [0, 1]
    assert filtered_choices(scores, Sampling(top_k=0, top_p=0.96))[0].tolist() == [0, 1, 2, 3]


def test_draws_follow_the_probabilities() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.2]))
    options = Sampling(top_k=0, top_p=1.0)
    draws = [sample_choice(scores, options, uniform(7, 0, 0, i)) for i in range(20_000)]
    np.testing.assert_allclose(np.bincount(draws) / 20_000, [0.5, 0.3, 0.2], atol=0.01)


def test_inverse_cdf_edges() -> None:
    scores = np.log(np.array([0.25, 0.5, 0.25]))
    options = Sampling(top_k=0, top_p=1.0)
    assert [sample_choice(scores, options, u) for u in (0.0, 0.2499, 0.2501, 0.7499, 0.7501, 1 - 2**-53)] == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]


def test_temperature_zero_takes_the_first_of_the_best() -> None:
    assert sample_choice(np.array([0.0, 5.0, 5.0]), Sampling(temperature=0), 0.99) == 1


def plainly(scores: np.ndarray, options: Sampling, random: float) -> int:
    """A sample by the formulas alone, in the order in which transformers executes them."""
    values = scores / options.temperature
    lowest = np.sort(values)[-options.top_k] if 0 < options.top_k < len(values) else -np.inf
    choices = np.flatnonzero((values >= lowest) & (values > -np.inf))
    ranked = sorted(choices, key=lambda choice: (values[choice], -choice))
    total = np.cumsum(probabilities(values[choices])[np.searchsorted(choices, ranked)])
    kept = sorted([*np.array(ranked)[:-1][total[:-1] > 1.0 - options.top_p], ranked[-1]])
    line = np.cumsum(probabilities(values[kept]))
    return int(kept[min(np.searchsorted(line, random * line[-1], side="right"), len(kept) - 1)])


@pytest.mark.parametrize(
    "options",
    [
        Sampling(),
        Sampling(temperature=0.7, top_k=0),
        Sampling(top_p=1.0),
        Sampling(temperature=1.3, top_k=3, top_p=0.5),
        Sampling(top_k=1),
    ],
)
def test_the_quick_sample_is_the_plain_one_to_the_bit(options: Sampling) -> None:
    """Ties and masked choices among the scores; random numbers on the very steps of the distribution."""
    for seed in range(30):
        chance = np.random.default_rng(seed)
        scores = np.round(chance.normal(0, 3, 1025), seed % 3 + 1)
        scores[chance.random(1025) < 0.3] = -np.inf
        weights = probabilities(filtered_choices(scores, options)[1])
        for random in (0.0, *np.cumsum(weights)[:5], *chance.random(5), 1 - 2**-53):
            assert sample_choice(scores, options, float(random)) == plainly(scores, options, float(random))


def test_a_masked_choice_is_never_drawn() -> None:
    scores = np.full(1025, -np.inf)
    scores[100:103] = 0.0
    drawn = {sample_choice(scores, Sampling(), uniform(1, 0, 0, i)) for i in range(200)}
    assert drawn == {100, 101, 102}


def test_uniform_depends_on_each_argument_and_on_nothing_else() -> None:
    base = uniform(1, 2, 3, 4)
    assert base == uniform(1, 2, 3, 4)
    assert (
        len({base, uniform(2, 2, 3, 4), uniform(1, 3, 3, 4), uniform(1, 2, 4, 4), uniform(1, 2, 3, 5)}) == 5
    )
    values = [uniform(9, 0, 0, i) for i in range(2000)]
    assert 0 <= min(values) < 0.01
    assert 0.99 < max(values) < 1


def test_uniform_is_pinned() -> None:
    """The numbers that seeds mean; a change would give every seed another song."""
    assert [uniform(42, 0, s, p) for s, p in ((0, 0), (0, 1), (1, 0))] == PINNED


def test_probabilities_sum_to_one() -> None:
    assert probabilities(np.array([1000.0, 999.0, -np.inf])).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    "bad", [{"top_p": 1.2}, {"top_k": -1}, {"temperature": -1}, {"repetition_penalty": 0}]
)
def test_values_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(RequestError):
        Sampling(**bad)


PINNED = [0.8201981478608876, 0.36812845090913937, 0.20650309990981752]
