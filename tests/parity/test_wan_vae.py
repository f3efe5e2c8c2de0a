"""WanVAE against diffusers called directly; both run the same weights, so they agree to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from remind.models.vae import WanVAE
from tests.models.make_wan import make_vae, random_latents, random_video


@pytest.fixture(scope="module", params=[{}, {"dim_mult": [1, 1, 1, 1]}, {"base_dim": 4, "num_res_blocks": 2}],
                ids=["default", "flat", "deep"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[WanVAE, Any]:
    """Ours, read from disk, and the library's module that was written there."""
    folder: Path = tmp_path_factory.mktemp("wan") / "vae"
    module = make_vae(folder, **request.param)
    return WanVAE.from_pretrained(folder.parent), module


def per_channel(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers).view(1, 16, 1, 1, 1)


@pytest.mark.parametrize("frames", [1, 5, 21])
def test_encode_is_the_librarys_posterior_mean(pair: tuple[WanVAE, Any], frames: int) -> None:
    vae, module = pair
    rgb = random_video(frames, batch=2)
    with torch.no_grad():
        mode = module.encode(rgb.permute(0, 4, 1, 2, 3) / 127.5 - 1).latent_dist.mode()
    expected = (mode - per_channel(module.config.latents_mean)) / per_channel(module.config.latents_std)
    assert (vae.encode(rgb) - expected.transpose(1, 2)).abs().max() <= 1e-5


@pytest.mark.parametrize("latents", [1, 2, 7])
def test_decode_is_the_librarys_decode(pair: tuple[WanVAE, Any], latents: int) -> None:
    vae, module = pair
    z = random_latents(latents, batch=2)
    mu = z.transpose(1, 2) * per_channel(module.config.latents_std) + per_channel(module.config.latents_mean)
    with torch.no_grad():
        expected = module.decode(mu).sample.permute(0, 2, 3, 4, 1)
    assert (vae.stream().push_unrounded(z) - expected).abs().max() <= 1e-5
    as_bytes = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    assert (vae.decode(z).int() - as_bytes.int()).abs().max() <= 1
    assert (vae.decode(z) == as_bytes).float().mean() > 0.999


def test_tiles_are_the_librarys_tiles(pair: tuple[WanVAE, Any]) -> None:
    vae, module = pair
    tiled = WanVAE(vae.module, tile_px=32)
    rgb = random_video(5, hw=(40, 72))
    module.enable_tiling(32, 32, 24, 24)
    try:
        with torch.no_grad():
            mode = module.encode(rgb.permute(0, 4, 1, 2, 3) / 127.5 - 1).latent_dist.mode()
            expected = module.decode(mode).sample.permute(0, 2, 3, 4, 1)
    finally:
        module.disable_tiling()
    latents = tiled.encode(rgb)
    assert (tiled.denormalise(latents) - mode).abs().max() <= 1e-5
    assert (tiled.decode(latents).float() - (expected + 1) * 127.5).abs().max() <= 0.51


def test_the_librarys_own_calls_do_not_disturb_a_stream(pair: tuple[WanVAE, Any]) -> None:
    vae, _ = pair
    z = random_latents(6)
    stream = vae.stream()
    parts = []
    for part in z.split(2, 1):
        parts.append(stream.push_unrounded(part))
        vae.module.decode(vae.denormalise(z))  # clears the module's own cache
    assert torch.equal(torch.cat(parts, 1), vae.stream().push_unrounded(z))
