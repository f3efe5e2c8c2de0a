"""The objective of a global batch: masked flow matching plus a weighted temporal-delta loss.

Source: ReMind Eqs. 4-6, Appendix B. The loss of a step is one number of the whole global batch,

    L = sum of flow errors / supervised frames + lambda * sum of delta errors / supervised pairs,

with counts and lambda over all clips of the step. They depend on data and plans alone, so they are known before any
forward pass: `LossStatistics` of all micro-batches and ranks are added up, `weigh` makes `LossWeights` of the sum, and
each micro-batch contributes its `loss_share`. The shares add up to L, and their gradients to L's, however the batch is
split into micro-batches, ranks, or equal bands of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from remind.errors import InputError
from remind.flow import velocity_target
from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.training.regimes import REGIMES

ROLES: tuple[Role, ...] = get_args(Role)
SIGMA_BUCKETS = 5
GATE_SHARE = 0.15
"""Share of the steps before the delta loss counts where no number of steps is given: our choice for small runs."""

LossVariant = Literal["flow_only", "dynamic", "dynamic_adaptive"]


@dataclass(frozen=True)
class LossOptions:
    """Which loss: the two rows of ReMind Table 4, and one between them.

    Args:
        variant: `flow_only`, Eq. 4; `dynamic_adaptive`, Eq. 5 added at the weight of Eq. 6; `dynamic`, Eq. 5 added at
            the constant weight alpha (our choice, to tell the loss from its weight).
        alpha: weight of the delta loss, at most.
        gamma: how fast the weight falls with the variance of change. Presumes latents of unit variance per channel.
        gate_steps: steps before the delta loss counts (2,000 in the paper); None = 15 % of the run.

    Raises:
        InputError: a weight that is negative or not finite, or a negative number of steps.
    """

    variant: LossVariant = "dynamic_adaptive"
    alpha: float = 0.2
    gamma: float = 5.0
    gate_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "gamma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"the delta loss's {name} must be a number that is not negative", got=value)
        if self.gate_steps is not None and self.gate_steps < 0:
            raise InputError("the delta loss cannot begin before the run", got=f"gate_steps {self.gate_steps}",
                             expected="0 or more, or None for 15 % of the steps")


def gate(options: LossOptions, step: int, steps: int) -> bool:
    """Whether the delta loss counts in a step. Source: ReMind Appendix B.

    Args:
        step: steps done before it, 0 .. steps - 1.
        steps: of the whole run.
    """
    start = GATE_SHARE * steps if options.gate_steps is None else options.gate_steps
    return options.variant != "flow_only" and step >= start


def flow_errors(
    velocity: Float[Tensor, "b t c h w"], target: Float[Tensor, "b t c h w"]
) -> Float[Tensor, "b t"]:
    """Mean squared velocity error of every latent frame. Source: ReMind Eq. 4."""
    return (velocity - target).square().mean((2, 3, 4))


def delta_errors(
    velocity: Float[Tensor, "b t c h w"], target: Float[Tensor, "b t c h w"], sigmas: Float[Tensor, "b t"]
) -> Float[Tensor, "b k i"]:
    """Mean squared error of the change between neighbouring latent frames i - 1, i of every chunk k.

    Source: ReMind Eq. 5. x0_hat - x0 = -sigma (u_hat - u), so the error of the change is sigma_i e_i - sigma_{i-1}
    e_{i-1} with e = u_hat - u; also where noise levels differ inside a chunk. A frame that is given clean has sigma 0
    and no error. This form never subtracts latents that nearly cancel.
    """
    weighted = sigmas[..., None, None, None] * (velocity - target)
    return _chunk_delta(weighted).square().mean((3, 4, 5))


def supervised_pairs(supervised: Bool[Tensor, "b t"]) -> Bool[Tensor, "b k i"]:
    """Which pairs of neighbours count: those whose later frame is supervised (our choice)."""
    return supervised.unflatten(1, (-1, LATENTS_PER_CHUNK))[:, :, 1:]


def adaptive_weight(variance: float, *, alpha: float = 0.2, gamma: float = 5.0) -> float:
    """lambda = alpha exp(-gamma sigma_batch), sigma_batch = Var(delta x0). Source: ReMind Eq. 6."""
    return alpha * math.exp(-gamma * variance)


@dataclass(frozen=True)
class LossStatistics:
    """What the weights of the losses depend on, as sums: statistics of parts are added up, also over ranks.

    Args:
        values: number of supervised frames and of supervised pairs; number, sum and sum of squares of the elements of
            delta x0 over the supervised pairs.
    """

    values: Float64[Tensor, "5"]

    @staticmethod
    def of(x0: Float[Tensor, "b t c h w"], supervised: Bool[Tensor, "b t"]) -> LossStatistics:
        """Statistics of a micro-batch, or of a band of it; on its device, save that MPS has no float64."""
        if x0.device.type == "mps":
            x0, supervised = x0.cpu(), supervised.cpu()
        pairs = supervised_pairs(supervised).double()
        delta = _chunk_delta(x0.double())
        elements = delta.shape[3:].numel()
        return LossStatistics(torch.stack((
            supervised.sum().double(), pairs.sum(), pairs.sum() * elements,
            (delta.sum((3, 4, 5)) * pairs).sum(), (delta.square().sum((3, 4, 5)) * pairs).sum(),
        )))  # fmt: skip

    def __add__(self, other: LossStatistics) -> LossStatistics:
        return LossStatistics(self.values + other.values)

    @property
    def variance(self) -> float:
        """Var(delta x0) over all space and time of the supervised pairs; 0 if there are none. Source: ReMind Eq. 6."""
        _, _, number, total, squares = self.values.tolist()
        return max(0.0, squares / number - (total / number) ** 2) if number else 0.0


@dataclass(frozen=True)
class LossWeights:
    """What every micro-batch of a step divides and weighs its sums by; equal on all ranks.

    Args:
        frames, pairs: supervised ones of the global batch, at least 1.
        delta_weight: of the delta loss; 0 = it does not count.
    """

    frames: float
    pairs: float
    delta_weight: float


def weigh(statistics: LossStatistics, options: LossOptions, *, delta_on: bool) -> LossWeights:
    """Weights of a step, from the statistics of its whole global batch.

    Args:
        delta_on: what `gate` says of the step.
    """
    frames, pairs, *_ = statistics.values.tolist()
    weight = 0.0
    if delta_on and options.variant == "dynamic":
        weight = options.alpha
    elif delta_on and options.variant == "dynamic_adaptive":
        weight = adaptive_weight(statistics.variance, alpha=options.alpha, gamma=options.gamma)
    return LossWeights(max(frames, 1.0), max(pairs, 1.0), weight)


@dataclass(frozen=True)
class LossRecord:
    """Sums and counts of unweighted errors, in all and by regime, noise level and role; records of parts are added up.

    Args:
        table: a row per name of `names`: sum and count, over supervised latent frames, for `delta` over pairs.
    """

    table: Float64[Tensor, "names 2"]

    names: ClassVar[tuple[str, ...]] = (
        "flow", "delta", *(f"flow/regime/{name}" for name in REGIMES),
        *(f"flow/sigma/{i / SIGMA_BUCKETS:.1f}-{(i + 1) / SIGMA_BUCKETS:.1f}" for i in range(SIGMA_BUCKETS)),
        *(f"flow/role/{name}" for name in ROLES),
    )  # fmt: skip

    def __add__(self, other: LossRecord) -> LossRecord:
        return LossRecord(self.table + other.table)

    def scalars(self) -> dict[str, float]:
        """Means by name, without those of which nothing was seen."""
        rows = zip(self.names, self.table.tolist(), strict=True)
        return {name: total / count for name, (total, count) in rows if count}


_ROW: Mapping[str, int] = {name: row for row, name in enumerate(LossRecord.names)}
_SIGMA_ROW = _ROW["flow/sigma/0.0-0.2"]
_ROLE_ROW = _ROW[f"flow/role/{ROLES[0]}"]


def loss_share(
    velocity: Float[Tensor, "b t c h w"],
    *,
    x0: Float[Tensor, "b t c h w"],
    noise: Float[Tensor, "b t c h w"],
    sigmas: Float[Tensor, "b t"],
    supervised: Bool[Tensor, "b t"],
    roles: Int[Tensor, "b t"],
    regime: str,
    weights: LossWeights,
) -> tuple[Float[Tensor, ""], LossRecord]:
    """What one micro-batch contributes to the loss of its global batch, and the record of its errors.

    Args:
        velocity: what the model says, in float32.
        sigmas: noise level per latent frame, 0..1.
        roles: of each latent frame's chunk, as its place in `ROLES`.
        regime: of all its clips.
        weights: of the step.

    Raises:
        InputError: a regime that is not in `REGIMES`.
    """
    if regime not in REGIMES:
        raise InputError("the record of losses has no such regime", got=regime, expected=list(REGIMES))
    target = velocity_target(x0, noise)
    pairs = supervised_pairs(supervised)
    flow = flow_errors(velocity, target) * supervised
    delta = delta_errors(velocity, target, sigmas) * pairs
    share = flow.sum() / weights.frames
    if weights.delta_weight:
        share = share + weights.delta_weight * delta.sum() / weights.pairs
    return share, _record(flow.detach(), delta.detach(), supervised, pairs, sigmas, roles, regime)


def _record(
    flow: Float[Tensor, "b t"],
    delta: Float[Tensor, "b k i"],
    supervised: Bool[Tensor, "b t"],
    pairs: Bool[Tensor, "b k i"],
    sigmas: Float[Tensor, "b t"],
    roles: Int[Tensor, "b t"],
    regime: str,
) -> LossRecord:
    """All rows by one product: a frame belongs to four rows, the delta row is filled apart. Errors of what is not
    supervised are 0 already."""
    bucket = (sigmas * SIGMA_BUCKETS).long().clamp(0, SIGMA_BUCKETS - 1)
    rows = torch.arange(len(_ROW), device=flow.device)
    member = (rows == _SIGMA_ROW + bucket[..., None]) | (rows == _ROLE_ROW + roles[..., None])
    member |= (rows == _ROW["flow"]) | (rows == _ROW[f"flow/regime/{regime}"])
    values = torch.stack((flow, supervised.to(flow.dtype)), -1)
    where = flow.device if flow.device.type != "mps" else torch.device("cpu")  # MPS has no float64
    table = member.flatten(0, 1).to(where, torch.float64).T @ values.flatten(0, 1).to(where, torch.float64)
    table[_ROW["delta"]] = torch.stack((delta.sum(), pairs.sum().to(delta.dtype))).to(where, torch.float64)
    return LossRecord(table)


def _chunk_delta(x: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b k i c h w"]:
    return x.unflatten(1, (-1, LATENTS_PER_CHUNK)).diff(dim=2)
