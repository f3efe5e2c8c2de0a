"""The curriculum: weights of the regimes as a function of how far a run is.

Source: ReMind Sec. 3.4 (a mixture of regimes), Appendix G.1 (two production mixes). That the weights may move with the
step, piecewise linearly between knots, is our choice: the paper gives no schedule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from remind.errors import InputError
from remind.training.regimes import REGIMES, RegimeName

Weights = Mapping[str, int | float] | Iterable[tuple[str, int | float]]
"""Weights by the name of a regime; names are checked when a curriculum is made."""
Knot = tuple[float, tuple[tuple[RegimeName, float], ...]]


@dataclass(frozen=True, init=False)
class Curriculum:
    """A weighted mixture of regimes that may change as training goes on; which regime a group of clips gets is a
    function of (seed, step, group) alone.

    Args:
        weights: the same mixture all along: regimes with weights >= 0, in any scale.
        knots: or mixtures at values of progress (steps done / steps, 0..1), ascending. Shares are linear between
            neighbours and constant outside.

    Raises:
        InputError: both or neither, an unknown regime, a weight that is negative or not finite, a mixture of zero
            weight, knots out of order or outside 0..1.
    """

    knots: tuple[Knot, ...]

    def __init__(self, weights: Weights | None = None, *, knots: Iterable[tuple[int | float, Weights]] | None = None):
        if (weights is None) == (knots is None):
            raise InputError("a curriculum is either one mixture or several with their progress",
                             got="both" if knots is not None else "neither",
                             expected="weights, or knots=((0.0, {...}), (0.4, {...}))")
        given = [(0.0, weights)] if weights is not None else list(knots or ())
        placed = tuple((float(at), _mixture(mixture)) for at, mixture in given)
        places = [at for at, _ in placed]
        if not places or not all(0 <= at <= 1 for at in places) or places != sorted(set(places)):
            raise InputError("the knots of a curriculum must be ordered", got=places,
                             expected="at least one value of progress, ascending within 0..1")
        object.__setattr__(self, "knots", placed)

    @staticmethod
    def constant(weights: Weights) -> Curriculum:
        """The same mixture from the first step to the last."""
        return Curriculum(weights)

    @property
    def regimes(self) -> tuple[RegimeName, ...]:
        """Regimes that are ever drawn, in the order of `REGIMES`."""
        drawn = {name for _, mixture in self.knots for name, weight in mixture if weight > 0}
        return tuple(name for name in REGIMES if name in drawn)

    def weights_at(self, progress: int | float) -> dict[RegimeName, float]:
        """Share of every regime of `REGIMES`; they add up to 1.

        Args:
            progress: steps done / steps, 0..1.
        """
        places = [at for at, _ in self.knots]
        mixtures = [dict(mixture) for _, mixture in self.knots]
        shares = {
            name: float(np.interp(progress, places, [m.get(name, 0.0) / sum(m.values()) for m in mixtures]))
            for name in REGIMES
        }
        whole = sum(shares.values())
        return {name: share / whole for name, share in shares.items()}

    def pick(self, rng: np.random.Generator, progress: int | float = 0.0) -> RegimeName:
        """One regime, by its share at that progress. Takes one number from `rng`."""
        shares = self.weights_at(progress)
        return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]

    def to_json(self) -> list[list[Any]]:
        """Plain values: a list of [progress, {regime: weight}]."""
        return [[at, dict(mixture)] for at, mixture in self.knots]

    @staticmethod
    def from_json(value: object) -> Curriculum:
        """What `to_json` wrote, or a mapping of weights.

        Raises:
            InputError: something else, or what no curriculum can be.
        """
        try:
            if isinstance(value, Mapping):
                return Curriculum(cast(Weights, value))
            return Curriculum(knots=[(at, mixture) for at, mixture in cast(Iterable[Any], value)])
        except (TypeError, ValueError):
            raise InputError("not a curriculum", got=value, expected="[[progress, {regime: weight}], ...]") from None


def _mixture(weights: Weights) -> tuple[tuple[RegimeName, float], ...]:
    pairs = tuple((name, float(weight)) for name, weight in
                  (weights.items() if isinstance(weights, Mapping) else weights))  # fmt: skip
    names = [name for name, _ in pairs]
    unknown = [name for name in names if name not in REGIMES]
    if unknown:
        raise InputError("a curriculum names regimes that do not exist", got=unknown, expected=list(REGIMES))
    if len(set(names)) < len(names):
        raise InputError("a curriculum names a regime twice", got=names)
    if not all(math.isfinite(weight) and weight >= 0 for _, weight in pairs):
        raise InputError("a curriculum's weights must be numbers that are not negative", got=dict(pairs))
    if not any(weight > 0 for _, weight in pairs):
        raise InputError("a curriculum's mixture has no weight at all", got=dict(pairs),
                         expected="a weight above 0 for some regime")
    found = dict(pairs)
    return tuple((name, found[name]) for name in REGIMES if name in found)


V2V_HEAVY = Curriculum.constant({
    "all_history": 0.15, "noisy_memory": 0.05, "node_drop": 0.1, "v2v_frontier": 0.5, "reference_cache": 0.2,
})  # fmt: skip
"""Recovery after a degraded prefix. Source: ReMind Appendix G.1 names frontier continuation and reference-cache reads;
the exact weights are our choice. Some of the rest keeps image-to-video alive and the memory robust."""

I2V_ALIGNED = Curriculum.constant({
    "all_history": 0.5, "noisy_memory": 0.1, "node_drop": 0.35, "reference_cache": 0.05,
})  # fmt: skip
"""Generation from a first frame. Source: ReMind Appendix G.1 names clean first-frame seeding (all-history, noisy memory
and node drop all have it here) and node drop; the exact weights are our choice. No V2V prefix is ever given."""

BALANCED = Curriculum.constant({
    "all_history": 0.2, "noisy_memory": 0.05, "node_drop": 0.15, "v2v_frontier": 0.5, "reference_cache": 0.1,
})  # fmt: skip
"""One model for both: the mix of the small recipes. Our choice."""

CURRICULA: Mapping[str, Curriculum] = {"v2v_heavy": V2V_HEAVY, "i2v_aligned": I2V_ALIGNED, "balanced": BALANCED}
