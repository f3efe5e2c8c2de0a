"""The objective: masked flow matching plus an adaptively weighted temporal-delta loss.

Source: ReMind Eqs. 4-6, Appendix B. Plain functions; sums and counts are kept apart so that a caller can reduce
them over a global batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.frame_graph import LATENTS_PER_CHUNK

ALPHA = 0.2
GAMMA = 5.0


def flow_loss(
    velocity: Float[Tensor, "b t c h w"], target: Float[Tensor, "b t c h w"], supervised: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Mean squared velocity error over supervised latent frames. Source: ReMind Eq. 4."""
    error = (velocity - target).square().mean((2, 3, 4))
    return (error * supervised).sum() / supervised.sum().clamp_min(1)


def delta_loss(
    x0_hat: Float[Tensor, "b t c h w"], x0: Float[Tensor, "b t c h w"], supervised: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Squared error of the change between neighbouring latent frames of a chunk. Source: ReMind Eq. 5.

    A pair counts if its later frame is supervised.
    """
    error = _chunk_delta(x0_hat - x0).square().mean((3, 4, 5))
    pairs = supervised.unflatten(1, (-1, LATENTS_PER_CHUNK))[:, :, 1:]
    return (error * pairs).sum() / pairs.sum().clamp_min(1)


def temporal_variance(x0: Float[Tensor, "b t c h w"], supervised: Bool[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Var(delta x0) over all space and time of the batch's supervised pairs. Source: ReMind Eq. 6."""
    pairs = supervised.unflatten(1, (-1, LATENTS_PER_CHUNK))[:, :, 1:]
    return _chunk_delta(x0)[pairs].var(correction=0)


def adaptive_weight(variance: Float[Tensor, ""], *, alpha: float = ALPHA, gamma: float = GAMMA) -> Float[Tensor, ""]:
    """lambda = alpha exp(-gamma sigma_batch). Source: ReMind Eq. 6."""
    return alpha * torch.exp(-gamma * variance)


def _chunk_delta(x: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b k i c h w"]:
    return x.unflatten(1, (-1, LATENTS_PER_CHUNK)).diff(dim=2)
