"""Low-rank adapters through `peft`: fine-tuning a large model on one GPU.

Source: Hu et al. 2021 (LoRA). The layers are put into the model itself (`peft.inject_adapter_in_model`), so that it
stays a `CausalVideoDiT` and its weights keep their names: `blocks.0.self_attn.q.weight` becomes
`blocks.0.self_attn.q.base_layer.weight`, with `...q.lora_A.default.weight` and `...q.lora_B.default.weight` beside.
Camera parameters are new to a base model and small in number beside it, so they are trained in full.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from remind.errors import InputError
from remind.models.dit import CausalVideoDiT

_BASE = ".base_layer."
_DOWN, _UP = ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass(frozen=True)
class LoraOptions:
    """Which layers are adapted, and how much.

    Args:
        rank: inner width of an adapter, 1 or more.
        alpha: what an adapter adds is multiplied by alpha / rank.
        targets: ends of the names of linear layers; the default is all of attention and feed-forward, as adapters of
            the Wan family have it.

    Raises:
        InputError: values that cannot be.
    """

    rank: int = 32
    alpha: float = 32.0
    targets: tuple[str, ...] = ("q", "k", "v", "o", "ffn.0", "ffn.2")

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise InputError("an adapter needs a rank and an alpha", got=f"rank {self.rank}, alpha {self.alpha}",
                             expected="rank >= 1 and alpha > 0")
        if not self.targets or not all(self.targets):
            raise InputError("an adapter needs layers to adapt", got=self.targets, expected="names such as q or ffn.0")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def add_lora(model: CausalVideoDiT, options: LoraOptions) -> None:
    """Freeze the base in place; leave adapters, which start without effect, and camera parameters trainable.

    Adapters are drawn from torch's global generator. Call it after the base weights were loaded; it works on the meta
    device too, where a dry run counts parameters.

    Raises:
        InputError: peft is not there, the model has adapters already, or a target that is no linear layer of it.
    """
    if any(_DOWN in name for name, _ in model.named_parameters()):
        raise InputError("the model has adapters already", fix="merge them first: training.lora.merged_state")
    layers = [name for name, module in model.named_modules()
              if isinstance(module, nn.Linear) and "camera" not in name]  # fmt: skip
    unknown = [target for target in options.targets if not _targeted(layers, target)]
    if unknown:
        known = dict.fromkeys(re.sub(r"^blocks\.\d+\.", "", name) for name in layers)
        raise InputError("these layers are not in the model", got=", ".join(unknown), expected=", ".join(known))
    chosen = [name for target in options.targets for name in _targeted(layers, target)]
    peft = _peft()
    settings = peft.LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules=sorted(set(chosen)))
    settings._register_custom_module({nn.Linear: _adapted_linear()})
    peft.inject_adapter_in_model(settings, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("camera" in name or name.endswith((_DOWN, _UP)))


def base_digest(frozen: Iterable[tuple[str, Tensor]]) -> str:
    """What tells one base from another: names, shapes and some values of each of its tensors, hashed.

    Source: our choice: 1,024 evenly spaced values a tensor take no time on the largest base, and no training leaves
    all of them alone. It is no protection against forgery.

    Args:
        frozen: name and whole tensor, in the model's order.
    """
    digest = hashlib.sha256()
    for name, tensor in frozen:
        sample = tensor.detach().flatten()[:: max(1, tensor.numel() // 1024)].float().cpu()
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()


def merged_state(model: CausalVideoDiT) -> dict[str, Tensor]:
    """Weights of the model with its adapters merged, under plain names: what `save_checkpoint` writes for users.

    A model without adapters gives its own weights.
    """
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "lora_A")]
    scales = {float(layer.scaling["default"]) for layer in layers}
    assert len(scales) <= 1, "add_lora gives one scale to all layers"
    return merge(model.state_dict(), next(iter(scales), 1.0))


@torch.no_grad()
def merge(state: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """As `merged_state`, of a state dict, which may have been gathered from many ranks.

    Args:
        scale: `LoraOptions.scale`.
    """
    merged = {name.replace(_BASE, "."): tensor for name, tensor in state.items()
              if not name.endswith((_DOWN, _UP))}  # fmt: skip
    for name, down in state.items():
        if name.endswith(_DOWN):
            layer = name.removesuffix(_DOWN)
            up = state[layer + _UP]
            base = merged[f"{layer}.weight"]
            exact = torch.promote_types(base.dtype, torch.float32)  # a product of bfloat16 would lose the small ones
            merged[f"{layer}.weight"] = (base.to(exact) + scale * (up.to(exact) @ down.to(exact))).to(base.dtype)
    return merged


def _targeted(layers: list[str], target: str) -> list[str]:
    return [name for name in layers if name == target or name.endswith("." + target)]


def _peft() -> Any:
    """peft takes seconds to import (it brings transformers), so that happens when adapters are asked for."""
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise InputError("adapters come with peft, which cannot be imported", got=error,
                         fix="pip install 'remind-video[lora]'") from None


@cache
def _adapted_linear() -> Any:
    """peft's layer whose `weight` is what it really multiplies by.

    Camera residuals read the weight of the projection beside them (`models/pm_rope.py`). peft's own layer shows the
    base's there: the adapters of v and o would be skipped in silence and get no gradient.
    """
    layer = importlib.import_module("peft.tuners.lora.layer").Linear

    class AdaptedLinear(layer):  # type: ignore[misc, valid-type]
        @property
        def weight(self) -> Tensor:
            base = self.get_base_layer().weight
            return base if self.merged or self.disable_adapters else base + self.get_delta_weight("default")

    return AdaptedLinear
