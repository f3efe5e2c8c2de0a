"""Small real things for the tests of training and inference: a model that is not silent, memory samples, a bank."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from remind.data.dataset import MemoryBank, MemorySample
from remind.data.interrupt import InterruptionRecipe, sample_recipe
from remind.geometry import rotation_yaw
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.text import WordHashEncoder

TINY = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=2, freq_dim=32, text_dim=8, text_len=16,
                 camera_mode="full", camera_hidden=16)


def filled_model(config: DiTConfig = TINY, seed: int = 0) -> CausalVideoDiT:
    """A fresh model whose zero-initialised weights are filled, so that no branch is silent."""
    torch.manual_seed(seed)
    model = CausalVideoDiT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if (parameter == 0).all():
                parameter.normal_(std=0.2)
    return model.eval()


def random_cameras(batch: int, latents: int, generator: torch.Generator) -> Tensor:
    """Pose descriptors of cameras that turn and move."""
    yaw = 60 * torch.rand(batch * latents, generator=generator)
    descriptor = torch.zeros(batch, latents, 14)
    descriptor[..., :9] = rotation_yaw(yaw).float().reshape(batch, latents, 9)
    descriptor[..., 9:12] = torch.randn(batch, latents, 3, generator=generator)
    descriptor[..., 12:] = -0.2
    return descriptor


def random_bank(size: int, *, num_frames: int = 57, hw: tuple[int, int] = (2, 2), seed: int = 0) -> MemoryBank:
    """Samples with true recipes; latents and cameras are noise, different for both versions of a clip."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    latents = 1 + (num_frames - 1) // 4
    kinds = ("light_toggle", "occluder")
    recipes: list[InterruptionRecipe] = [sample_recipe(kinds[i % 2], num_frames, rng) for i in range(size)]
    tensors = {
        "clean": torch.randn(size, latents, 16, *hw, generator=generator),
        "degraded": torch.randn(size, latents, 16, *hw, generator=generator),
        "clean_cameras": random_cameras(size, latents, generator),
        "degraded_cameras": random_cameras(size, latents, generator),
        "clean_valid": torch.ones(size, latents, dtype=torch.uint8),
        "degraded_valid": torch.ones(size, latents, dtype=torch.uint8),
    }
    captions = [f"clip {i} fills slowly" for i in range(size)]
    return MemoryBank(tensors, recipes, captions, WordHashEncoder(TINY.text_dim, TINY.text_len), num_frames)


def samples(size: int, *, num_frames: int = 81, seed: int = 0) -> list[MemorySample]:
    bank = random_bank(size, num_frames=num_frames, seed=seed)
    return [bank[i] for i in range(size)]
