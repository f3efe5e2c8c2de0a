"""What a pass looked at in memory, and how it becomes one number per remembered chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from remind.models.kv_cache import CacheEntry


@dataclass(frozen=True)
class Glance:
    """What a pass over one chunk looked at, for measuring KV importance.

    Args:
        chunk: the chunk being generated.
        step: denoising step, 0-based.
        lse: per layer, log-sum-exp of every query against every cache entry.
        entries: cache entries in the order of the last axis.
    """

    chunk: int
    step: int
    lse: list[Float[Tensor, "b n l j"]]
    entries: tuple[CacheEntry, ...]

    def attention_mass(self) -> dict[int, float]:
        """Share of the chunk's attention that falls on each entry, by chunk; the shares sum to one.

        Source: mass_j = exp(LSE_j - logsumexp LSE), exact; our choice: the mean over queries, heads, layers and
        samples, since all of them share one choice of what to keep.
        """
        mass = torch.stack([layer.float().softmax(-1).flatten(0, 2).mean(0) for layer in self.lse]).mean(0)
        return {entry.chunk: share for entry, share in zip(self.entries, mass.tolist(), strict=True)}
