"""The order of training data has no hidden state: not in the mixture, not in ranks, not in loader processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from remind.data.mixture import Mixture, WeightSchedule
from remind.errors import InputError

from ..make_memory import random_bank


def names(mixture: Mixture, indices: range) -> list[tuple[int, int]]:
    """(bank, sample) at each index, told apart by content."""
    known = {bank.tensors["clean"][i].sum().item(): (b, i) for b, bank in enumerate(mixture.banks)
             for i in range(len(bank))}  # fmt: skip
    return [known[mixture[i].clean.sum().item()] for i in indices]


def test_a_sample_is_a_pure_function_of_seed_and_index() -> None:
    banks = [random_bank(5, seed=0), random_bank(3, seed=1)]
    forward = names(Mixture(banks, [1.0, 2.0], seed=4), range(30))
    fresh = Mixture(banks, [1.0, 2.0], seed=4)
    backward = [names(fresh, range(i, i + 1))[0] for i in reversed(range(30))]
    assert forward == backward[::-1]
    assert forward != names(Mixture(banks, [1.0, 2.0], seed=5), range(30))


def test_one_bank_is_covered_in_each_pass_and_every_pass_is_shuffled_anew() -> None:
    mixture = Mixture([random_bank(7)], [1.0], seed=0)
    passes = [names(mixture, range(7 * p, 7 * p + 7)) for p in range(4)]
    assert all(sorted(order) == [(0, i) for i in range(7)] for order in passes)
    assert len({tuple(order) for order in passes}) > 1


def test_weights_are_respected_and_no_sample_of_any_bank_is_forgotten() -> None:
    mixture = Mixture([random_bank(3, seed=0), random_bank(2, seed=1)], [1.0, 3.0], seed=2)
    drawn = Counter(names(mixture, range(240)))
    assert sum(n for (bank, _), n in drawn.items() if bank == 1) / 240 == pytest.approx(0.75, abs=0.07)
    assert len(drawn) == 5
    for (bank, _), count in drawn.items():
        assert count / 240 == pytest.approx([0.25 / 3, 0.75 / 2][bank], abs=0.07)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_that_make_no_mixture_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="positive weight"):
        Mixture([random_bank(2), random_bank(2)], weights, seed=0)


def test_the_draws_are_those_that_the_shipped_results_were_trained_with() -> None:
    """An independent statement of the rule; another one would silently give other experiments."""
    sizes, weights, seed = [5, 3], [1.0, 2.0], 4
    mixture = Mixture([random_bank(n, seed=i) for i, n in enumerate(sizes)], weights, seed)
    for index in (0, 1, 2, 7, 29, 10_000):
        share = np.random.default_rng([seed, 1, index]).random()
        bank = 0 if share < 1 / 3 else 1
        order = np.random.default_rng([seed, 2, bank, index // sizes[bank]]).permutation(sizes[bank])
        assert mixture.locate(index) == (bank, order[index % sizes[bank]])
    assert [mixture.locate(i) for i in range(6)] == DRAWS


DRAWS = [(1, 0), (0, 0), (1, 1), (1, 0), (1, 2), (1, 1)]


def test_an_empty_dataset_and_a_negative_index_are_refused() -> None:
    with pytest.raises(InputError, match="empty dataset"):
        Mixture([random_bank(2), []], [1.0, 1.0], seed=0)
    with pytest.raises(IndexError):
        Mixture([random_bank(2)], [1.0], seed=0)[-1]


# --- schedules of weights --------------------------------------------------------------------------------------------


def test_weights_move_from_one_dataset_to_the_other() -> None:
    schedule = WeightSchedule(((100, (1.0, 0.0)), (300, (0.0, 3.0))))
    assert schedule.at(0) == schedule.at(100) == (1.0, 0.0)
    assert schedule.at(200) == pytest.approx((0.5, 1.5))
    assert schedule.at(10**9) == (0.0, 3.0)
    mixture = Mixture([random_bank(4, seed=0), random_bank(6, seed=1)], schedule, seed=0)
    drawn = [mixture.locate(i)[0] for i in range(400)]
    assert set(drawn[:100]) == {0}
    assert set(drawn[300:]) == {1}
    assert sum(drawn[190:210]) / 20 == pytest.approx(0.75, abs=0.25)


def test_a_schedule_that_stands_still_draws_as_its_weights_do() -> None:
    banks = [random_bank(4, seed=0), random_bank(6, seed=1)]
    still = Mixture(banks, WeightSchedule(((0, (1.0, 2.0)), (50, (1.0, 2.0)))), seed=3)
    plain = Mixture(banks, [1.0, 2.0], seed=3)
    assert [still.locate(i) for i in range(100)] == [plain.locate(i) for i in range(100)]


@pytest.mark.parametrize(
    "knots",
    [
        (),
        ((5, (1.0,)), (5, (1.0,))),
        ((-1, (1.0,)),),
        ((0, (1.0,)), (5, (1.0, 2.0))),
        ((0, (0.0, 0.0)),),
        ((0, (1.0, float("nan"))),),
        ((0, (1.0, -1.0)),),
    ],
)
def test_schedules_that_cannot_be_are_refused(knots: tuple[tuple[int, tuple[float, ...]], ...]) -> None:
    with pytest.raises(InputError):
        WeightSchedule(knots)


def test_a_schedule_must_fit_the_datasets() -> None:
    with pytest.raises(InputError, match="needs a weight"):
        Mixture([random_bank(2)], WeightSchedule(((0, (1.0, 1.0)),)), seed=0)
