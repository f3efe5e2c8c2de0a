"""A byte budget as a number of remembered chunks."""

from __future__ import annotations

import torch

from remind.errors import InputError
from remind.models.config import DiTConfig
from remind.models.kv_cache import Storage, StreamingKVCache

FEWEST_SLOTS = 2  # the chunk that is being made and one anchor


def slots_within(
    budget_bytes: int,
    config: DiTConfig,
    *,
    batch: int,
    branches: int,
    grid_hw: tuple[int, int],
    storage: Storage = "float",
    dtype: torch.dtype = torch.float32,
) -> int:
    """Chunks whose keys and values fit a budget, the one that is being made included.

    Args:
        budget_bytes: for the caches of all branches together; activations, prompts and kept latents are not counted.
        batch: sequences in parallel.
        branches: caches, 2 with classifier-free guidance.

    Raises:
        InputError: not even one chunk and an anchor fit.
    """
    one = branches * StreamingKVCache.predict_nbytes(
        config, batch=batch, num_slots=1, grid_hw=grid_hw, storage=storage, dtype=dtype
    )
    slots = budget_bytes // one
    if slots < FEWEST_SLOTS:
        raise InputError(
            "the memory budget is too small for one chunk and an anchor", got=f"{budget_bytes} bytes",
            expected=f"at least {FEWEST_SLOTS * one} bytes: {FEWEST_SLOTS} chunks of {one} bytes"
                     + (f", {branches} branches together" if branches > 1 else ""),
            fix="raise the budget, store the cache as int8, or generate fewer samples at once",
        )
    return slots
