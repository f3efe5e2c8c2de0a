"""Small rollouts for the tests: conditions of any number of chunks, and an engine at tiny size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from remind.frame_graph import Role
from remind.inference.past import ChunkConditions
from remind.inference.rollout import Rollout
from remind.inference.samplers import Sampler
from remind.models.dit import CausalVideoDiT

from ..make_memory import TINY, random_cameras

HW = (2, 2)
FAST = Sampler(steps=2, shift=2.0)
ROLES: tuple[Role, ...] = ("clean", "anchor", "degraded", "recovery")


def ask(chunk: int, *, batch: int = 2, guided: bool = False, role: Role | None = None) -> ChunkConditions:
    """Conditions that are a function of the chunk alone."""
    generator = torch.Generator().manual_seed(100 + chunk)
    text, negative = torch.randn(2, batch, 6, TINY.text_dim, generator=generator)
    return ChunkConditions(
        text,
        negative if guided else None,
        random_cameras(batch, 3, generator),
        torch.rand(batch, 3, generator=generator) > 0.2,
        role or ROLES[chunk % 4],
    )


def clean_latents(chunks: int, *, batch: int = 2, seed: int = 4) -> Tensor:
    return torch.randn(batch, 3 * chunks, 16, *HW, generator=torch.Generator().manual_seed(seed))


def engine(model: CausalVideoDiT, **changes: Any) -> Rollout:
    batch = len(changes.get("seeds", (1, 2)))
    options = {"batch": batch, "latent_hw": HW, "seeds": (1, 2), "sampler": FAST, **changes}
    return Rollout(model, **options)


def run(rollout: Rollout, chunks: int) -> Tensor:
    """The next chunks, each as `ask` has it."""
    guided = rollout.guidance != 1
    made = [rollout.generate(ask(rollout.num_chunks, batch=rollout.batch, guided=guided)) for _ in range(chunks)]
    return torch.cat(made, 1)
