"""Curricula: shares over progress, the named mixes, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.errors import InputError
from remind.training.curriculum import BALANCED, CURRICULA, I2V_ALIGNED, V2V_HEAVY, Curriculum
from remind.training.regimes import REGIMES

# beartype checks a random item of each container, also while hypothesis draws; no example depends on which.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module")

weights = st.dictionaries(st.sampled_from(list(REGIMES)), st.floats(0.01, 100), min_size=1)
curricula = st.dictionaries(st.integers(0, 20), weights, min_size=1, max_size=4).map(
    lambda knots: Curriculum(knots=[(at / 20, knots[at]) for at in sorted(knots)])
)


def shares_of(curriculum: Curriculum, progress: float, draws: int = 5000) -> dict[str, float]:
    picks = [curriculum.pick(np.random.default_rng([0, 3, step, 0]), progress) for step in range(draws)]
    return {name: picks.count(name) / draws for name in REGIMES}


@pytest.mark.parametrize("name", CURRICULA)
def test_a_named_mix_is_drawn_by_its_weights_and_twice_the_same(name: str) -> None:
    curriculum = CURRICULA[name]
    wanted, found = curriculum.weights_at(0.5), shares_of(curriculum, 0.5)
    for regime, share in wanted.items():
        bound = 4 * math.sqrt(share * (1 - share) / 5000)  # four standard deviations
        assert abs(found[regime] - share) <= bound
    assert found == shares_of(curriculum, 0.5)


def test_the_production_mixes_lean_the_way_the_paper_says() -> None:
    """Appendix G.1: V2V-heavy by frontier and reference-cache reads, I2V-aligned by seeding and node drop."""
    v2v, i2v = V2V_HEAVY.weights_at(0), I2V_ALIGNED.weights_at(0)
    assert v2v["v2v_frontier"] >= 0.5
    assert v2v["v2v_frontier"] + v2v["reference_cache"] > 0.6
    assert i2v["v2v_frontier"] == 0
    assert i2v["all_history"] + i2v["noisy_memory"] + i2v["node_drop"] > 0.9  # the regimes with a clean first frame
    assert i2v["node_drop"] > 3 * v2v["node_drop"]
    assert set(BALANCED.regimes) == set(V2V_HEAVY.regimes) == set(REGIMES)
    assert "v2v_frontier" not in I2V_ALIGNED.regimes


def test_shares_are_linear_between_knots_and_constant_outside() -> None:
    curriculum = Curriculum(knots=((0.2, {"all_history": 5.0}), (0.6, {"all_history": 1.0, "node_drop": 3.0})))
    for progress, share in ((0, 0), (0.2, 0), (0.3, 0.1875), (0.4, 0.375), (0.6, 0.75), (1.0, 0.75)):
        assert curriculum.weights_at(progress)["node_drop"] == pytest.approx(share)
    assert curriculum.regimes == ("all_history", "node_drop")
    assert shares_of(curriculum, 0.4)["node_drop"] == pytest.approx(0.375, abs=0.03)
    assert shares_of(curriculum, 0.1, 300)["node_drop"] == 0


@given(curriculum=curricula, progress=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=100)
def test_shares_add_up_to_1_and_only_what_has_weight_is_drawn(
    curriculum: Curriculum, progress: float, seed: int
) -> None:
    shares = curriculum.weights_at(progress)
    assert list(shares) == list(REGIMES)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share >= 0 for share in shares.values())
    picked = curriculum.pick(np.random.default_rng(seed), progress)
    assert shares[picked] > 0
    assert picked in curriculum.regimes


@given(curriculum=curricula)
@settings(deadline=None, max_examples=50)
def test_plain_values_there_and_back(curriculum: Curriculum) -> None:
    assert Curriculum.from_json(json.loads(json.dumps(curriculum.to_json()))) == curriculum


def test_scale_and_order_of_weights_do_not_matter() -> None:
    one = Curriculum((("node_drop", 1.0), ("all_history", 3.0)))
    other = Curriculum.constant({"all_history": 30, "node_drop": 10})
    picks = [[c.pick(np.random.default_rng(seed)) for seed in range(100)] for c in (one, other)]
    assert picks[0] == picks[1]
    assert Curriculum.from_json({"all_history": 3.0, "node_drop": 1.0}) == one


def test_a_pick_takes_one_number_whatever_the_mixture() -> None:
    """So that what is drawn after it does not depend on the curriculum."""
    after = set()
    for curriculum in (*CURRICULA.values(), Curriculum.constant({"node_drop": 1.0})):
        rng = np.random.default_rng(0)
        curriculum.pick(rng, 0.3)
        after.add(rng.random())
    assert len(after) == 1


BAD: dict[str, dict[str, Any]] = {
    "exist": {"weights": {"nonsense": 1.0}},
    "no weight": {"weights": {"all_history": 0.0}},
    "no weight at all": {"weights": {}},
    "not negative": {"weights": {"all_history": -1.0, "node_drop": 2.0}},
    "numbers": {"weights": {"all_history": math.nan}},
    "twice": {"weights": (("all_history", 1.0), ("all_history", 2.0))},
    "either one mixture": {},
    "both": {"weights": {"all_history": 1.0}, "knots": ((0.0, {"all_history": 1.0}),)},
    "ordered": {"knots": ()},
    "ascending": {"knots": ((0.5, {"all_history": 1.0}), (0.5, {"node_drop": 1.0}))},
    "within 0": {"knots": ((0.5, {"all_history": 1.0}), (1.5, {"node_drop": 1.0}))},
}


@pytest.mark.parametrize("says", BAD)
def test_what_is_no_curriculum_is_refused(says: str) -> None:
    with pytest.raises(InputError, match=says):
        Curriculum(**BAD[says])


@pytest.mark.parametrize(
    "value", [5, None, "abc", [[0.0]], [["a", {"all_history": 1}]], [[0, {"all_history": "much"}]]]
)
def test_plain_values_that_are_no_curriculum_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="not a curriculum"):
        Curriculum.from_json(value)
