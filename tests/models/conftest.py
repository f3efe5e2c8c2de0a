"""A small real model with camera weights that do something, and inputs to match."""

import pytest
import torch

from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT


@pytest.fixture
def config() -> DiTConfig:
    return DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=3, freq_dim=32, text_dim=20, text_len=7,
                     camera_mode="full", camera_hidden=16)


@pytest.fixture
def model(config: DiTConfig) -> CausalVideoDiT:
    return trained(config)


def trained(config: DiTConfig) -> CausalVideoDiT:
    """Every zero-initialised weight is filled: a parity test must not pass because a branch is silent."""
    torch.manual_seed(0)
    model = CausalVideoDiT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if (parameter == 0).all():
                parameter.normal_(std=0.2)
    return model.eval()


def make_inputs(config: DiTConfig, *, batch: int = 2, chunks: int = 4, hw: tuple[int, int] = (4, 6)) -> dict:
    """Latents, noise levels, gapped positions, one text per chunk and moving cameras."""
    from remind.geometry import rotation_yaw

    t = 3 * chunks
    generator = torch.Generator().manual_seed(1)
    cameras = torch.zeros(batch, t, 14)
    cameras[..., :9] = rotation_yaw(torch.linspace(0, 120, t)).flatten(1).float()
    cameras[..., 9:12] = torch.randn(batch, t, 3, generator=generator)
    cameras[..., 12:] = -0.3
    positions = torch.arange(t).float() + 6 * (torch.arange(t) >= 3)
    return {
        "latents": torch.randn(batch, t, 16, *hw, generator=generator),
        "sigmas": torch.rand(batch, chunks, generator=generator).repeat_interleave(3, 1),
        "positions": positions.expand(batch, -1).contiguous(),
        "text": torch.randn(batch, chunks, config.text_len, config.text_dim, generator=generator),
        "cameras": cameras,
    }
