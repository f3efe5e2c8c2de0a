"""Weights for other programs: a diffusers transformer folder, or one safetensors file under Wan's own names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from remind.errors import CheckpointError
from remind.models.checkpoint_config import DIFFUSERS_CLASS
from remind.models.checkpoint_names import to_diffusers
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.pm_rope import CameraPhase
from remind.whole_file import whole_file

_DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"


def export_diffusers(model: CausalVideoDiT, folder: str | Path) -> None:
    """Write what `diffusers.WanTransformer3DModel.from_pretrained(folder)` reads; each file is whole or not there.

    diffusers' model attends in both directions and takes one noise level: it computes what `model` computes with
    `attention="bidirectional"` and one sigma. `text_len` and `max_trained_distance` have no place there.

    Raises:
        CheckpointError: cameras that do something, a rotary setting other than Wan's, or other weights in the folder.
    """
    folder = Path(folder)
    state = _wan_state(model)
    others = sorted(file.name for pattern in ("*.safetensors", "*.index.json", "*.bin") for file in folder.glob(pattern)
                    if file.name != _DIFFUSERS_FILE)
    if others:  # a loader might pick those
        raise CheckpointError("the folder holds other weights", got=f"{folder}: {others}", fix="name an empty folder")
    renamed = {theirs: tensor for name, tensor in state.items() if (theirs := to_diffusers(name)) is not None}
    assert len(renamed) == len(state)
    with whole_file(folder / _DIFFUSERS_FILE) as file:
        save_file(renamed, str(file), {"format": "pt"})
    with whole_file(folder / "config.json") as file:
        file.write_text(json.dumps(_diffusers_config(model.config), indent=2, sort_keys=True) + "\n")


def export_wan(model: CausalVideoDiT, file: str | Path) -> None:
    """Write one safetensors file under Wan's own names, with a config of Wan's kind in its metadata (`wan_config`).

    The config is in the file because shapes do not tell the number of heads; `max_trained_distance` has no place in it.

    Raises:
        CheckpointError: cameras that do something, or a rotary setting other than Wan's.
    """
    state = _wan_state(model)
    with whole_file(Path(file)) as partial:
        save_file(state, str(partial), {"format": "pt", "wan_config": json.dumps(_wan_config(model.config))})


def _wan_state(model: CausalVideoDiT) -> dict[str, Tensor]:
    """The trunk's weights, if that is all there is to the model."""
    config = model.config
    if (config.rope_theta, config.rope_grid_scale) != (10_000.0, 1.0):
        raise CheckpointError("neither Wan nor diffusers can be told of other rotary phases", got=
                              f"rope_theta {config.rope_theta}, rope_grid_scale {config.rope_grid_scale}",
                              expected="10000 and 1", fix="keep it as a ReMind checkpoint: save_checkpoint")
    cameras = {name for name, _ in model.named_parameters() if ".camera_" in name}
    silent = {name for name, value in model.named_parameters() if name in cameras and not value.any()}
    for module_name, module in model.named_modules():
        if isinstance(module, CameraPhase) and not any(value.any() for value in module.mlp[-1].parameters()):
            silent |= {f"{module_name}.{name}" for name, _ in module.named_parameters()}  # behind a zero last layer
    if cameras - silent:
        raise CheckpointError("camera parameters have no place in this format, and these are not zero",
                              got=sorted(cameras - silent),
                              fix="keep it as a ReMind checkpoint (save_checkpoint), or train with camera_mode='none'")
    return {name: value.detach().contiguous() for name, value in model.state_dict().items() if name not in cameras}


def _diffusers_config(config: DiTConfig) -> dict[str, Any]:
    return {
        "_class_name": DIFFUSERS_CLASS,
        "patch_size": [1, *config.patch_hw],
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.head_dim,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "text_dim": config.text_dim,
        "freq_dim": config.freq_dim,
        "ffn_dim": config.ffn_dim,
        "num_layers": config.num_layers,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": config.eps,
        "image_dim": None,
        "added_kv_proj_dim": None,
        "rope_max_seq_len": 1024,
        "pos_embed_seq_len": None,
    }


def _wan_config(config: DiTConfig) -> dict[str, Any]:
    return {
        "model_type": "t2v",
        "patch_size": [1, *config.patch_hw],
        "text_len": config.text_len,
        "in_dim": config.in_channels,
        "dim": config.dim,
        "ffn_dim": config.ffn_dim,
        "freq_dim": config.freq_dim,
        "text_dim": config.text_dim,
        "out_dim": config.out_channels,
        "num_heads": config.num_heads,
        "num_layers": config.num_layers,
        "window_size": [-1, -1],
        "qk_norm": True,
        "cross_attn_norm": True,
        "eps": config.eps,
    }
