"""Checkpoints as others save them, made from a small real model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from remind.models.checkpoint_names import to_diffusers
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT

State = dict[str, Tensor]


def random_model(config: DiTConfig, seed: int = 0) -> CausalVideoDiT:
    """No weight stays at zero, so that none can be mistaken for another or for a fresh one."""
    torch.manual_seed(seed)
    model = CausalVideoDiT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def random_state(config: DiTConfig, seed: int = 0) -> State:
    return {name: tensor.detach().clone() for name, tensor in random_model(config, seed).state_dict().items()}


def wan_config(config: DiTConfig) -> dict[str, object]:
    """The `config.json` beside Wan's own weights."""
    return {"_class_name": "WanModel", "_diffusers_version": "0.30.0", "dim": config.dim, "eps": config.eps,
            "ffn_dim": config.ffn_dim, "freq_dim": config.freq_dim, "in_dim": config.in_channels, "model_type": "t2v",
            "num_heads": config.num_heads, "num_layers": config.num_layers, "out_dim": config.out_channels,
            "text_len": config.text_len}


def write_wan(folder: Path, config: DiTConfig, state: State) -> Path:
    folder.mkdir(parents=True)
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(wan_config(config)))
    return folder


def write_shards(folder: Path, state: State, count: int = 3) -> Path:
    """Shards and their index; returns the index."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(state)
    shard_of = {}
    for i in range(count):
        shard = f"weights-{i + 1:05d}-of-{count:05d}.safetensors"
        save_file({name: state[name] for name in names[i::count]}, folder / shard)
        shard_of |= dict.fromkeys(names[i::count], shard)
    index = folder / "weights.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": shard_of}))
    return index


def diffusers_names(state: State) -> State:
    return {str(to_diffusers(name)): tensor for name, tensor in state.items()}


def wrapped(state: State, wrap: Callable[[str], str]) -> State:
    return {wrap(name): tensor for name, tensor in state.items()}


# Names as training leaves them.
WRAPS: dict[str, Callable[[str], str]] = {
    "bare": lambda name: name,
    "model": lambda name: f"model.{name}",
    "fsdp": lambda name: "model._fsdp_wrapped_module." + name.replace("blocks.1.", "blocks.1._fsdp_wrapped_module."),
    "compiled": lambda name: "_orig_mod.model." + name.replace(".ffn.", "._checkpoint_wrapped_module.ffn."),
}
