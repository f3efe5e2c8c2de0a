"""Every random number of a rollout: a function of (seed, chunk, purpose), never of the order of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Purpose = Literal["context", "fresh"]
# Any two numbers that no chunk has: a seed sequence takes (seed, chunk) and (seed, chunk, 0) for the same.
_WORDS = {"context": 0x636F6E74, "fresh": 0x66726573}


def chunk_noise(seeds: Sequence[int], chunk: int, shape: tuple[int, ...]) -> Float[Tensor, "b t c h w"]:
    """Starting noise of a chunk, per sample a function of (seed, chunk), whatever the batch."""
    return _gaussian([[seed, chunk] for seed in seeds], shape)


def purpose_noise(
    seeds: Sequence[int], chunk: int, purpose: Purpose, shape: tuple[int, ...], *, index: int = 0
) -> Float[Tensor, "b t c h w"]:
    """Noise for another purpose than starting a chunk.

    Args:
        seeds: one per sample, >= 0.
        chunk: id of the chunk; those of references are negative.
        purpose: `context`, on what is written to memory; `fresh`, added between two passes by some samplers.
        index: of the pass, for `fresh`.
    """
    return _gaussian([[seed, chunk % 2**32, _WORDS[purpose], index] for seed in seeds], shape)


def _gaussian(entropy: list[list[int]], shape: tuple[int, ...]) -> Float[Tensor, "b t c h w"]:
    rows = []
    for words in entropy:
        state = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 2)
        rows.append(torch.randn(shape, generator=torch.Generator().manual_seed(state)))
    return torch.stack(rows)
