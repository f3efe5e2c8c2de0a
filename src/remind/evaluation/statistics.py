"""How sure a number is: bootstrap intervals over clips, and differences of two models on the same clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from remind.errors import InputError

Statistic = Literal["mean", "median", "share"]
Method = Literal["percentile", "BCa"]

NUM_RESAMPLES = 2000  # our choice: the ends of a 95 % interval move by less than its own tenth
_FUNCTIONS: dict[Statistic, Callable[..., np.ndarray | np.float64]] = {
    "mean": np.mean,
    "median": np.median,
    "share": np.mean,
}


@dataclass(frozen=True)
class Estimate:
    """A statistic of n clips with its interval; what cannot be known is None, never NaN.

    Args:
        value: the statistic; None if n = 0.
        low: lower end; None if n < 2.
        high: upper end; None if n < 2.
        n: clips it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def bootstrap(
    values: Sequence[float] | Sequence[bool] | Float[np.ndarray, " n"],
    statistic: Statistic = "mean",
    *,
    level: float = 0.95,
    method: Method = "percentile",
    seed: int = 0,
) -> Estimate:
    """The statistic of some clips' values, with a bootstrap interval over clips.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, Ch. 13 (percentile) and 14 (BCa), as scipy
    has them. Our choices: one clip has no interval; equal values have an interval of no width, but for a
    share, where 20 of 20 is no certainty and Wilson's score interval stands in.

    Args:
        values: one finite number a clip; for a share 0/1 or bool.
        statistic: what is estimated.
        level: coverage, in (0, 1).
        method: percentile, or BCa where bias and skew should be corrected.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        InputError: a value that is not finite, or a share of something other than 0 and 1.
    """
    data = np.asarray(values, dtype=np.float64)
    if not np.isfinite(data).all():
        raise InputError(
            "a statistic needs finite values",
            got=f"{(~np.isfinite(data)).sum()} of {len(data)} not finite",
            expected="missing clips left out and counted apart",
        )
    if statistic == "share" and not np.isin(data, (0, 1)).all():
        raise InputError(
            "a share needs yes or no for each clip", got=sorted(set(data.tolist()))[:4], expected="0 or 1"
        )
    if len(data) == 0:
        return Estimate(None, None, None, 0)
    function = _FUNCTIONS[statistic]
    value = float(function(data))
    if len(data) == 1:
        return Estimate(value, None, None, 1)
    if statistic == "share" and value in (0, 1):
        return Estimate(value, *_wilson(value, len(data), level), len(data))
    if np.ptp(data) == 0:
        return Estimate(value, value, value, len(data))
    low, high = _interval((data,), function, level, method, seed, paired=False)
    return Estimate(value, low, high, len(data))


def paired_difference(
    first: Sequence[float | None],
    second: Sequence[float | None],
    statistic: Statistic = "mean",
    *,
    level: float = 0.95,
    method: Method = "percentile",
    seed: int = 0,
) -> Estimate:
    """statistic(first) - statistic(second) on the same clips, resampling clips so that both move together.

    Args:
        first: one value a clip, None where the clip has none.
        second: the same clips in the same order.
        statistic, level, method, seed: as in `bootstrap`. Pairs with a None are left out; n counts the rest.

    Raises:
        InputError: two lists of different length.
    """
    if len(first) != len(second):
        raise InputError(
            "paired values must come from the same clips",
            got=(len(first), len(second)),
            expected="two lists of equal length",
        )
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        return Estimate(None, None, None, 0)
    a, b = (np.asarray(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(
            "a statistic needs finite values", got="NaN or infinity", expected="None where there is none"
        )
    function = _FUNCTIONS[statistic]

    def difference(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray | np.float64:
        return function(x, axis=axis) - function(y, axis=axis)

    value = float(difference(a, b))
    if len(pairs) == 1:
        return Estimate(value, None, None, 1)
    if np.ptp(a - b) == 0:
        return Estimate(value, value, value, len(pairs))
    low, high = _interval((a, b), difference, level, method, seed, paired=True)
    return Estimate(value, low, high, len(pairs))


def paired_p_value(first: Sequence[float | None], second: Sequence[float | None], *, seed: int = 0) -> float | None:
    """Two-sided p of a permutation test that two models are alike on the same clips; None of fewer than two pairs.

    Source: Fisher's sign-flip test, as scipy has it: were the two alike, each clip's difference could as well have the
    other sign. All signs are tried where there are few clips, else 9,999 draws.

    Args:
        first, second: one value a clip, None where the clip has none; such pairs are left out.
        seed: of the draws.

    Raises:
        InputError: two lists of different length.
    """
    if len(first) != len(second):
        raise InputError("paired values must come from the same clips", got=(len(first), len(second)))
    pairs = zip(first, second, strict=True)
    differences = np.array([a - b for a, b in pairs if a is not None and b is not None], dtype=np.float64)
    if len(differences) < 2:
        return None
    if not differences.any():
        return 1.0
    found = stats.permutation_test((differences,), np.mean, permutation_type="samples", vectorized=True,
                                   rng=np.random.default_rng(seed))  # fmt: skip
    return float(found.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for how many there are (Holm 1979); None stays None and is not counted."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        corrected[i] = least
    return corrected


def _interval(
    data: tuple[np.ndarray, ...],
    function: Callable[..., np.ndarray | np.float64],
    level: float,
    method: Method,
    seed: int,
    *,
    paired: bool,
) -> tuple[float, float]:
    def run(chosen: Method) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            found = stats.bootstrap(
                data,
                function,
                paired=paired,
                vectorized=True,
                confidence_level=level,
                n_resamples=NUM_RESAMPLES,
                method=chosen,
                rng=np.random.default_rng(seed),
            )
        return float(found.confidence_interval.low), float(found.confidence_interval.high)

    low, high = run(method)
    if not (math.isfinite(low) and math.isfinite(high)):  # BCa: all jackknife values equal
        low, high = run("percentile")
    return low, high


def wilson(count: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927).

    Args:
        count: that are yes, 0..n.
        n: asked, >= 1.
        level: coverage, in (0, 1).
    """
    interval = stats.binomtest(count, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    return wilson(round(share * n), n, level)
