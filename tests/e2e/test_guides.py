"""The guides' code runs, at tiny size, on the real classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from remind.models import CausalVideoDiT, DiTConfig

from ..models.make_wan import TEXT_DIM, make_text_encoder, make_tokenizer, make_vae

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def test_the_wan_guide_runs_as_it_is_written(tmp_path: Path) -> None:
    pipeline, weights = tmp_path / "pipeline", tmp_path / "model.pt"
    make_vae(pipeline / "vae")
    make_text_encoder(pipeline / "text_encoder")
    make_tokenizer(pipeline / "tokenizer")
    torch.manual_seed(0)
    config = DiTConfig(dim=128, ffn_dim=64, num_heads=1, num_layers=2, freq_dim=16, text_dim=TEXT_DIM)
    torch.save({"generator_ema": {f"model.{k}": v for k, v in CausalVideoDiT(config).state_dict().items()}}, weights)
    (code,) = re.findall(r"```python\n(.*?)```", (GUIDES / "wan_checkpoints.md").read_text(), flags=re.S)
    for big, small in (
        ('"Wan2.1-T2V-1.3B-Diffusers"', repr(str(pipeline))), ('"ar_diffusion.pt"', repr(str(weights))),
        ('"cuda", torch.bfloat16', '"cpu", torch.float32'), ("(60, 104), 7, 50, 5.0", "(4, 6), 3, 2, 5.0"),
    ):  # fmt: skip
        assert code.count(big) == 1, big
        code = code.replace(big, small)
    names: dict[str, Any] = {}
    exec(compile(code, "wan_checkpoints.md", "exec"), names)
    assert names["video"].shape == (1, 33, 32, 48, 3)
    assert names["video"].dtype == torch.uint8
    assert [entry.position for entry in names["memory"].entries] == [0, 3, 6]
