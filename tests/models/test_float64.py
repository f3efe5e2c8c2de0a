"""A device without float64 is never asked for it. No Apple device is at hand: fake tensors on "meta" stand in."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from remind.models import float64
from remind.models.config import CameraMode, DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import KeyForm, StreamingKVCache

DEVICE = "meta"


class NoFloat64(TorchDispatchMode):
    """Fails where an operator leaves a tensor on the device in a type that MPS does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device.type == DEVICE:
                self.seen += 1
                if leaf.dtype in (torch.float64, torch.complex128):
                    raise TypeError(f"{func} makes {leaf.dtype} on the device")
        return out


def two_passes(mode: CameraMode, keys: KeyForm, dtype: torch.dtype) -> int:
    """A chunk is written, another reads it; returns the number of tensors made on the device."""
    config = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=2, freq_dim=32, text_dim=8, text_len=16,
                       camera_mode=mode, camera_hidden=16)  # fmt: skip
    model = CausalVideoDiT.empty(config).eval().requires_grad_(False)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), NoFloat64() as checked:
        on = {"device": DEVICE}
        weights = {name: torch.empty(p.shape, dtype=dtype, **on) for name, p in model.named_parameters()}
        cache = StreamingKVCache(config, batch=1, num_slots=2, grid_hw=(2, 2), keys=keys, dtype=dtype, **on)
        for chunk in range(2):
            cache.open(chunk, 3 * chunk, "clean")
            inputs = (torch.zeros(1, 3, 16, 4, 4, **on), torch.ones(1, 3, **on), torch.zeros(1, 3, **on),
                      torch.zeros(1, 16, 8, **on), torch.zeros(1, 3, 14, **on))  # fmt: skip
            out = torch.func.functional_call(model, weights, inputs, {"cache": cache})
            assert out.device.type == DEVICE
            cache.close()
    return checked.seen


@pytest.mark.parametrize("keys", ["rotated", "raw"])
@pytest.mark.parametrize("mode", ["none", "qk", "vo", "full", "dual"])
def test_a_model_makes_no_float64_on_the_device(
    mode: CameraMode, keys: KeyForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float64, "WITHOUT_FLOAT64", {DEVICE})
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # the stand-in has none to turn off
    assert two_passes(mode, keys, torch.bfloat16 if mode == "full" else torch.float32) > 100


def test_the_check_would_find_it() -> None:
    """Other devices have float64, and phases are computed on them."""
    with pytest.raises(TypeError, match=r"makes torch.float64 on the device"):
        two_passes("none", "rotated", torch.float32)
    assert float64.float64_device(torch.device("mps", 0)).type == "cpu"
