"""What the ranks of a test of validation do: apart from the test, so that they start with few imports."""

from __future__ import annotations

import torch
import torch.distributed as dist

from remind.training.regimes import REGIMES
from remind.training.validation import LossValidator

from ..make_memory import filled_model, samples


def validator(count: int = 5, **options: object) -> LossValidator:
    return LossValidator(samples(count, num_frames=57), tuple(REGIMES), **{"sigmas": (0.2, 0.8), **options})  # type: ignore[arg-type]


def one_rank(rank: int, folder: str, count: int) -> None:
    """Validate in a group of two; leaves (scalars, number of forward passes) in the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    passes = 0

    def counted(*_: object) -> None:
        nonlocal passes
        passes += 1

    try:
        model = filled_model()
        model.register_forward_hook(counted)
        found = validator(count, group=dist.group.WORLD, micro_batch=2)(model)
        torch.save((found.scalars, passes), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
