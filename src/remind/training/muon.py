"""Muon: momentum whose matrices are orthogonalised before they are applied, so that every direction moves equally far.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). Our own rather than
`torch.optim.Muon`, which computes in bfloat16: without hardware for it that is hundreds of times slower than fp32.
Matrices of equal shape are orthogonalised in one batched product. A test holds it against torch's.

Sharded matrices: momentum is kept sharded; what is to be orthogonalised is gathered, one message per shape, and every
rank takes its own rows of the result. All ranks do the same products: our choice, for models small enough for Muon.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from remind.training.shards import local, own_part

# Quintic Newton-Schulz coefficients of the source: steepest at zero; singular values end within about 0.7 .. 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(matrices: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """U V^T of each matrix, nearly: its singular values are pushed towards 1, its singular vectors stay."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-7)  # the spectral norm must not exceed 1
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For hidden matrices alone; embeddings, heads, gains and biases belong to AdamW.

    Args:
        params: matrices.
        lr: length of a step in spectral norm; matrices with more rows than columns move sqrt(rows / columns) as far.
        momentum: of Nesterov's kind, 0..1.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        assert all(p.ndim == 2 for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update to every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for (rows, columns), same in by_shape.items():
                gradients = [local(p.grad) for p in same if p.grad is not None]
                buffers = [local(self.state[p].setdefault("momentum", torch.zeros_like(p))) for p in same]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                ahead = torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"]))
                updates = orthogonalise(_gather(ahead, same[0]))[:, own_part(same[0])[0]].unbind(0)
                weights = [local(p) for p in same]
                if group["weight_decay"]:
                    torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, updates, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def _gather(stacked: Float[Tensor, "n r c"], like: Tensor) -> Float[Tensor, "n rows c"]:
    """All rows of matrices of which this rank has some, as it has of `like`."""
    if not isinstance(like, DTensor):
        return stacked
    places = [Shard(1) if isinstance(place, Shard) else Replicate() for place in like.placements]
    shape = (len(stacked), *like.shape)
    whole = DTensor.from_local(stacked, like.device_mesh, places, shape=torch.Size(shape),
                               stride=(shape[1] * shape[2], shape[2], 1))  # fmt: skip
    return whole.full_tensor()
