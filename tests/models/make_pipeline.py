"""A whole Wan pipeline in the diffusers layout at tiny size: real classes, random weights."""

from __future__ import annotations

import json
from pathlib import Path

from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.export import export_diffusers

from .make_checkpoints import random_model
from .make_wan import TEXT_DIM, make_text_encoder, make_tokenizer, make_vae

WAN = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=2, freq_dim=32, text_dim=TEXT_DIM)


def make_base(folder: Path) -> Path:
    """`vae/`, `text_encoder/` and `tokenizer/`."""
    make_vae(folder / "vae")
    make_text_encoder(folder / "text_encoder")
    make_tokenizer(folder / "tokenizer")
    return folder


def make_pipeline(folder: Path, config: DiTConfig = WAN) -> CausalVideoDiT:
    """The same with `transformer/` and `model_index.json`; returns the transformer."""
    make_base(folder)
    model = random_model(config)
    export_diffusers(model, folder / "transformer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return model
