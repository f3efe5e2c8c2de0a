"""The objective over a global batch: masked flow matching plus an adaptively weighted temporal-delta loss.

Source: ReMind Eqs. 4-6, Appendix B. Plain functions; sums and counts are kept apart so that a caller can reduce
them over a global batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from remind.flow import add_noise, clean_estimate, velocity_target
from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.training.regimes import REGIMES

ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class LossOptions:
    variant: Literal["flow_only", "dynamic", "dynamic_adaptive"] = "dynamic_adaptive"
    alpha: float = 0.2
    gamma: float = 5.0
    gate_steps: int | None = None


def gate(options: LossOptions, step: int, steps: int) -> bool:
    start = round(0.15 * steps) if options.gate_steps is None else options.gate_steps
    return options.variant != "flow_only" and step >= start


@dataclass(frozen=True)
class LossStatistics:
    """frames, pairs, and number, sum, sum of squares of delta x0."""

    values: Float[Tensor, "5"]

    @staticmethod
    def of(x0: Float[Tensor, "b t c h w"], supervised: Bool[Tensor, "b t"]) -> LossStatistics:
        pairs = supervised.unflatten(1, (-1, LATENTS_PER_CHUNK))[:, :, 1:]
        delta = _chunk_delta(x0)[pairs].double()
        return LossStatistics(torch.stack([supervised.sum().double(), pairs.sum().double(),
                                           torch.tensor(float(delta.numel()), dtype=torch.float64), delta.sum(),
                                           delta.square().sum()]))

    def __add__(self, other: LossStatistics) -> LossStatistics:
        return LossStatistics(self.values + other.values)


@dataclass(frozen=True)
class LossWeights:
    frames: float
    pairs: float
    delta_weight: float


def weigh(statistics: LossStatistics, options: LossOptions, *, delta_on: bool) -> LossWeights:
    frames, pairs, number, total, squares = statistics.values.tolist()
    number = max(number, 1.0)
    variance = squares / number - (total / number) ** 2
    weight = options.alpha
    if options.variant == "dynamic_adaptive":
        weight *= float(torch.exp(torch.tensor(-options.gamma * variance, dtype=torch.float64)))
    return LossWeights(max(frames, 1.0), max(pairs, 1.0), weight if delta_on else 0.0)


SIGMA_BUCKETS = 5


@dataclass(frozen=True)
class LossRecord:
    table: Float[Tensor, "n 2"]

    names = ("flow", "delta", *(f"flow/regime/{name}" for name in REGIMES),
             *(f"flow/sigma/{i / 5:.1f}-{(i + 1) / 5:.1f}" for i in range(SIGMA_BUCKETS)),
             *(f"flow/role/{name}" for name in ROLES))

    def __add__(self, other: LossRecord) -> LossRecord:
        return LossRecord(self.table + other.table)

    def scalars(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in zip(self.names, self.table.tolist(), strict=True)
                if count}


def loss_share(
    velocity: Float[Tensor, "b t c h w"], *, x0: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"],
    sigmas: Float[Tensor, "b t"], supervised: Bool[Tensor, "b t"], roles: Int[Tensor, "b t"], regime: str,
    weights: LossWeights,
) -> tuple[Float[Tensor, ""], LossRecord]:
    error = (velocity - velocity_target(x0, noise)).square().mean((2, 3, 4)) * supervised
    x0_hat = clean_estimate(add_noise(x0, noise, sigmas), velocity, sigmas)
    pairs = supervised.unflatten(1, (-1, LATENTS_PER_CHUNK))[:, :, 1:]
    delta = _chunk_delta(x0_hat - x0).square().mean((3, 4, 5)) * pairs
    flow = error.sum() / weights.frames
    total = flow + weights.delta_weight * delta.sum() / weights.pairs if weights.delta_weight else flow
    with torch.no_grad():
        e, on = error.double(), supervised.double()
        rows = [(e.sum(), on.sum()), (delta.double().sum(), pairs.double().sum())]
        zero = e.new_zeros(())
        rows += [(e.sum(), on.sum()) if name == regime else (zero, zero) for name in REGIMES]
        bucket = (sigmas * SIGMA_BUCKETS).long().clamp(0, SIGMA_BUCKETS - 1)
        rows += [((e * (bucket == i)).sum(), (on * (bucket == i)).sum()) for i in range(SIGMA_BUCKETS)]
        rows += [((e * (roles == i)).sum(), (on * (roles == i)).sum()) for i in range(len(ROLES))]
        table = torch.stack([torch.stack(row) for row in rows])
    return total, LossRecord(table)


def _chunk_delta(x: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b k i c h w"]:
    return x.unflatten(1, (-1, LATENTS_PER_CHUNK)).diff(dim=2)
