"""Against an independent implementation of Wan, diffusers' `WanTransformer3DModel`, with weights going both ways."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from remind.models import CausalVideoDiT, DiTConfig, export_diffusers, load_checkpoint
from remind.models.checkpoint_names import from_diffusers, to_diffusers

# heads, head width, layers, latent height and width, latent frames, patch, input channels. At head width 24 the rotary
# pairs are 4/4/4, at 32 6/5/5, at 40 8/6/6 and at 128 22/21/21 (time, height, width).
CASES = [
    (2, 128, 2, (6, 10), 3, (2, 2), 16),
    (4, 24, 3, (2, 14), 9, (2, 2), 16),
    (3, 32, 2, (10, 6), 6, (2, 2), 36),
    (1, 40, 1, (5, 6), 12, (1, 2), 16),
]


def trunk(case: tuple[Any, ...]) -> CausalVideoDiT:
    """A model with no weight left at zero: parity must not hold because a branch is silent."""
    heads, head_dim, layers, _, _, patch_hw, in_channels = case
    config = DiTConfig(dim=heads * head_dim, ffn_dim=100, num_heads=heads, num_layers=layers, freq_dim=64, text_dim=20,
                       text_len=11, patch_hw=patch_hw, in_channels=in_channels, eps=1e-5)
    torch.manual_seed(3)
    model = CausalVideoDiT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model.eval()


@torch.no_grad()
def both(ours: CausalVideoDiT, theirs: Any, case: tuple[Any, ...], sigma: float) -> tuple[Tensor, Tensor]:
    """What the two compute for the same latents, one noise level and one text."""
    hw, t = case[3:5]
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn(2, t, ours.config.in_channels, *hw, generator=generator)
    text = torch.randn(2, 11, 20, generator=generator)
    positions = torch.arange(t).float().expand(2, -1)
    a = ours(latents, torch.full((2, t), sigma), positions, text, attention="bidirectional")
    b = theirs(latents.transpose(1, 2), torch.full((2,), 1000 * sigma), text, return_dict=False)[0]
    return a, b.transpose(1, 2)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_diffusers_reads_our_weights_and_computes_the_same(case: tuple[Any, ...], tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    model = trunk(case)
    export_diffusers(model, tmp_path)
    theirs, info = WanTransformer3DModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    for sigma in (0.0, 0.3, 0.9375, 1.0):
        a, b = both(model, theirs.eval(), case, sigma)
        assert b.std() > 0.1
        assert (a - b).abs().max() <= 1e-5


@pytest.mark.parametrize("case", CASES, ids=str)
def test_we_read_their_weights_and_compute_the_same(case: tuple[Any, ...], tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    heads, head_dim, layers, _, _, patch_hw, in_channels = case
    torch.manual_seed(5)
    theirs = WanTransformer3DModel(
        patch_size=(1, *patch_hw), num_attention_heads=heads, attention_head_dim=head_dim, in_channels=in_channels,
        text_dim=20, freq_dim=64, ffn_dim=52, num_layers=layers,
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    theirs.save_pretrained(tmp_path / "transformer", max_shard_size="100KB")
    assert list((tmp_path / "transformer").glob("*.index.json"))

    config, state = load_checkpoint(tmp_path, keep_extra_channels=True)
    assert config == DiTConfig(dim=heads * head_dim, ffn_dim=52, num_heads=heads, num_layers=layers, freq_dim=64,
                               text_dim=20, patch_hw=patch_hw, in_channels=in_channels)
    ours = CausalVideoDiT(config).eval()
    ours.load_state_dict(state)
    a, b = both(ours, theirs, case, 0.625)
    assert b.std() > 0.1
    assert (a - b).abs().max() <= 1e-5


def test_a_round_trip_through_diffusers_is_bitwise(tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    model = trunk(CASES[1])
    export_diffusers(model, tmp_path / "ours")
    WanTransformer3DModel.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    _, state = load_checkpoint(tmp_path / "theirs")
    own = model.state_dict()
    assert set(state) == set(own)
    assert all(torch.equal(state[name], own[name]) for name in own)


def test_every_name_of_diffusers_has_one_of_ours_and_back_at_full_size() -> None:
    from diffusers import WanTransformer3DModel

    config = DiTConfig.preset("wan-1.3b")
    with torch.device("meta"):
        theirs = {k: tuple(v.shape) for k, v in WanTransformer3DModel(
            num_attention_heads=12, ffn_dim=8960, num_layers=30).state_dict().items()}
        ours = {k: tuple(v.shape) for k, v in CausalVideoDiT(config).state_dict().items()}
    assert len(ours) == 825
    assert {from_diffusers(name): shape for name, shape in theirs.items()} == ours
    assert {to_diffusers(name): shape for name, shape in ours.items()} == theirs


def test_our_config_names_every_argument_of_their_class(tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    export_diffusers(trunk(CASES[0]), tmp_path)
    written = {name for name in json.loads((tmp_path / "config.json").read_text()) if not name.startswith("_")}
    assert written == set(WanTransformer3DModel.load_config(tmp_path)) - {"_class_name"}
    theirs = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(tmp_path)).config
    assert {name for name in theirs if not name.startswith("_")} == written


def test_neither_side_pulls_torchvision() -> None:
    code = ("import sys; from remind.models import CausalVideoDiT, load_checkpoint; "
            "assert 'diffusers' not in sys.modules; from diffusers import WanTransformer3DModel; "
            "assert 'torchvision' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
