"""What a pass holds at once is what was said before it ran."""

from __future__ import annotations

import pytest
import torch

from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import StreamingKVCache
from remind.models.memory import LiveBytes, chunk_pass_nbytes


def test_live_bytes_count_what_is_held_and_no_views() -> None:
    given = torch.zeros(1000)
    with LiveBytes() as live:
        view = given[:500].reshape(5, 100)
        assert live.now == 0
        made = view + 1
        assert live.now == live.peak == 500 * 4
        other = made * 2
        del made
        assert live.now == 500 * 4
        assert live.peak == 1000 * 4
    assert other.shape == (5, 100)


@pytest.mark.parametrize("mode", ["none", "full"])
@torch.no_grad()
def test_a_pass_over_a_chunk_holds_what_was_predicted(mode: str) -> None:
    config = DiTConfig(dim=96, ffn_dim=560, num_heads=3, num_layers=1, freq_dim=16, text_dim=64, text_len=32,
                       camera_mode=mode, camera_hidden=8)  # fmt: skip
    model, grid = CausalVideoDiT(config).eval(), (24, 20)
    cache = StreamingKVCache(config, batch=1, num_slots=1, grid_hw=grid)
    cache.open(0, 0, "clean")
    cameras = torch.zeros(1, 3, 14)
    cameras[..., [0, 4, 8]] = 1
    inputs = (torch.randn(1, 3, 16, 48, 40), torch.ones(1, 3), torch.arange(3.0)[None], torch.randn(1, 32, 64), cameras)
    with LiveBytes() as live:
        model(*inputs, cache=cache)
    assert live.peak == pytest.approx(chunk_pass_nbytes(config, batch=1, grid_hw=grid), rel=0.1)
