"""Intervals: against scipy itself, against theory, and at the edges where resampling has no answer."""

import numpy as np
import pytest
from scipy import stats

from remind.errors import InputError
from remind.evaluation.statistics import bootstrap, paired_difference


@pytest.mark.parametrize(("statistic", "function"), [("mean", np.mean), ("median", np.median)])
@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_same_as_scipy(statistic, function, method):
    values = np.random.default_rng(1).normal(0.7, 0.3, 40)
    expected = stats.bootstrap(
        (values,), function, n_resamples=2000, method=method, rng=np.random.default_rng(0)
    )
    found = bootstrap(values, statistic, method=method)
    assert found.value == pytest.approx(function(values))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval))
    assert found.n == 40


def test_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        found = bootstrap(rng.normal(0.0, 1.0, 50))
        inside += found.low <= 0 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_edges_are_said_not_hidden():
    empty, one, constant = bootstrap([]), bootstrap([0.5]), bootstrap([0.5] * 9)
    assert (empty.value, empty.low, empty.n) == (None, None, 0)
    assert (one.value, one.low, one.n) == (0.5, None, 1)
    assert (constant.value, constant.low, constant.high) == (0.5, 0.5, 0.5)
    with pytest.raises(InputError, match="not finite"):
        bootstrap([0.1, float("nan")])


def test_twenty_of_twenty_is_no_certainty():
    found = bootstrap([True] * 20, "share")
    assert found.value == 1.0
    assert found.high == pytest.approx(1.0)
    assert 0.8 < found.low < 0.9
    with pytest.raises(InputError, match="yes or no"):
        bootstrap([0.5, 1.0], "share")


def test_pairing_removes_what_clips_have_in_common():
    rng = np.random.default_rng(3)
    difficulty = rng.normal(0, 1, 60)
    better = list(difficulty + 0.2 + rng.normal(0, 0.05, 60))
    paired = paired_difference(better, list(difficulty))
    assert paired.low > 0
    assert bootstrap(better).low < bootstrap(difficulty).high  # separate intervals overlap
    assert paired_difference([1.0, None, 2.0], [0.5, 1.0, None]).n == 1
    assert paired_difference([None], [1.0]).value is None
