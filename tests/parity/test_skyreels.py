"""The chunk-causal model with a noise level per frame, against an implementation we did not write.

diffusers' SkyReels-V2 is Wan with block-causal attention and diffusion forcing. It knows no caches; our
cached pass is held against its plain one.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from remind.models import CausalVideoDiT, DiTConfig
from remind.models.checkpoint_names import to_diffusers
from remind.models.kv_cache import StreamingKVCache


def skyreels(config: DiTConfig) -> nn.Module:
    from diffusers import SkyReelsV2Transformer3DModel

    return SkyReelsV2Transformer3DModel(
        patch_size=(1, *config.patch_hw), num_attention_heads=config.num_heads, attention_head_dim=config.head_dim,
        in_channels=config.in_channels, out_channels=config.out_channels, text_dim=config.text_dim,
        freq_dim=config.freq_dim, ffn_dim=config.ffn_dim, num_layers=config.num_layers, cross_attn_norm=True,
        qk_norm="rms_norm_across_heads", eps=config.eps, num_frame_per_block=3,
    ).eval()


@pytest.mark.parametrize(
    ("dim", "heads", "layers", "hw", "chunks"),
    [(128, 1, 2, (6, 10), 3), (96, 4, 3, (2, 14), 2), (64, 2, 2, (10, 6), 5)],
)
@torch.no_grad()
def test_chunk_causal_with_a_noise_level_per_frame(
    dim: int, heads: int, layers: int, hw: tuple[int, int], chunks: int
) -> None:
    torch.manual_seed(0)
    config = DiTConfig(dim=dim, ffn_dim=2 * dim, num_heads=heads, num_layers=layers, freq_dim=32, text_dim=24,
                       text_len=9)  # fmt: skip
    ours, theirs = CausalVideoDiT(config).eval(), skyreels(config)
    for parameter in ours.parameters():
        if (parameter == 0).all():
            parameter.normal_(std=0.1)
    theirs.load_state_dict({to_diffusers(name): tensor for name, tensor in ours.state_dict().items()})

    t = 3 * chunks
    latents, text = torch.randn(2, t, 16, *hw), torch.randn(2, 9, 24)
    sigmas = torch.rand(2, t)
    mine = ours(latents, sigmas, torch.arange(t).float().expand(2, -1), text)
    other = theirs(latents.transpose(1, 2), 1000 * sigmas, text, enable_diffusion_forcing=True, return_dict=False)[0]
    assert (mine - other.transpose(1, 2)).abs().max() < 1e-5
    assert mine.std() > 0.1

    cache = StreamingKVCache(config, batch=2, num_slots=chunks, grid_hw=(hw[0] // 2, hw[1] // 2))
    context = ours.encode_prompt(text)
    for k in range(chunks):
        f = slice(3 * k, 3 * k + 3)
        cache.open(k, 3 * k, "clean")
        positions = torch.arange(3 * k, 3 * k + 3).float().expand(2, -1)
        chunk = ours(latents[:, f], sigmas[:, f], positions, context, cache=cache)
        cache.close()
        assert (chunk - other.transpose(1, 2)[:, f]).abs().max() < 1e-5
