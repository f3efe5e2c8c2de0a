"""The order of training data: what is read at a global index is a pure function of (seed, index).

The state of the sampler is therefore one integer, the next global index; it does not depend on how many ranks or
loader processes share the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from remind.data.memory_sample import MemorySample, Samples
from remind.errors import InputError


@dataclass(frozen=True)
class WeightSchedule:
    """Weights that change with the global index: linear between knots, constant outside of them.

    Source: our choice: a curriculum needs no more, and it stays a pure function of the index.

    Args:
        knots: (global index, one weight per dataset), indices rising; weights >= 0, not all of them 0.

    Raises:
        InputError: knots out of order, of different lengths, or with weights that cannot be.
    """

    knots: tuple[tuple[int, tuple[float, ...]], ...]

    def __post_init__(self) -> None:
        indices = [index for index, _ in self.knots]
        lengths = {len(weights) for _, weights in self.knots}
        good = bool(indices) and indices[0] >= 0 and all(a < b for a, b in pairwise(indices))
        if not good or len(lengths) != 1:
            raise InputError("the knots of a weight schedule do not fit", got=self.knots,
                             expected="rising indices from 0 on, with equally many weights each")  # fmt: skip
        for _, weights in self.knots:
            if not all(0 <= w < np.inf for w in weights) or not sum(weights) > 0:
                raise InputError("weights must be 0 or more, and one of them more", got=weights)

    @property
    def num_datasets(self) -> int:
        return len(self.knots[0][1])

    def at(self, index: int) -> tuple[float, ...]:
        """The weights at a global index."""
        indices = [knot for knot, _ in self.knots]
        columns = zip(*(weights for _, weights in self.knots), strict=True)
        return tuple(float(np.interp(index, indices, column)) for column in columns)


class Mixture:
    """Weighted mixing of datasets; the sample at a global index is a pure function of (seed, index).

    Each dataset is walked in a fresh random order per pass, so that with one dataset no sample repeats before all
    have been seen.

    Args:
        banks: what is mixed; must not change their length.
        weights: one per dataset, all > 0, or a schedule of them.
        seed: of the draws, >= 0.

    Raises:
        InputError: no or empty datasets, or weights that do not fit them.
    """

    def __init__(self, banks: Sequence[Samples], weights: Sequence[float] | WeightSchedule, seed: int):
        if isinstance(weights, WeightSchedule):
            if weights.num_datasets != len(banks):
                raise InputError("each bank needs a weight", got=weights.num_datasets, expected=len(banks))
        elif len(banks) != len(weights) or not all(0 < w < np.inf for w in weights) or not weights:
            raise InputError("each bank needs a positive weight", got=list(weights))
        if not all(len(bank) for bank in banks):
            raise InputError("a mixture cannot draw from an empty dataset", got=[len(bank) for bank in banks])
        self.banks, self.weights, self.seed = banks, weights, seed
        # The last order of each bank, since neighbours share it; never part of what a sample is.
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def locate(self, index: int) -> tuple[int, int]:
        """(dataset, item in it) at a global index, without reading anything.

        Raises:
            IndexError: a negative index.
        """
        if index < 0:
            raise IndexError(index)
        which = self._draw(index) if len(self.banks) > 1 else 0
        size = len(self.banks[which])
        epoch, place = divmod(index, size)
        return which, int(self._order(which, epoch, size)[place])

    def _draw(self, index: int) -> int:
        weights = self.weights.at(index) if isinstance(self.weights, WeightSchedule) else self.weights
        shares = np.cumsum(weights) / np.sum(weights)
        drawn = int(np.searchsorted(shares, np.random.default_rng([self.seed, 1, index]).random(), side="right"))
        return min(drawn, len(self.banks) - 1)  # the shares may end a rounding error below 1

    def __getitem__(self, index: int) -> MemorySample:
        which, item = self.locate(index)
        return self.banks[which][item]

    def _order(self, which: int, epoch: int, size: int) -> np.ndarray:
        if self._orders.get(which, (-1,))[0] != epoch:
            order = np.random.default_rng([self.seed, 2, which, epoch]).permutation(size)
            self._orders[which] = (epoch, order)
        return self._orders[which][1]
