"""The same model in other dtypes, compiled, recomputing, from the meta device, under guidance and other prompts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from remind.errors import InputError
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import StreamingKVCache

from .conftest import make_inputs


def frames(k: int) -> slice:
    return slice(3 * k, 3 * k + 3)


def error(a: Tensor, b: Tensor) -> float:
    """RMS difference as a share of the spread."""
    return float((a.float() - b.float()).square().mean().sqrt() / b.float().std())


# --- prompts and guidance ------------------------------------------------------------------------------------------


@torch.no_grad()
def test_an_encoded_prompt_is_the_prompt_bitwise(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = make_inputs(config)
    for text in (x["text"], x["text"][:, 0]):
        context = model.encode_prompt(text)
        assert torch.equal(model(**{**x, "text": context}), model(**{**x, "text": text}))
    assert context.nbytes == 2 * config.num_layers * 2 * config.text_len * config.dim * 4


@torch.no_grad()
def test_guidance_with_two_caches_and_a_prompt_switch_equals_two_full_passes(
    model: CausalVideoDiT, config: DiTConfig
) -> None:
    """Chunks 0-1 under one prompt, 2-3 under another; the unconditional branch remembers its own past."""
    x, scale = make_inputs(config), 3.0
    first, second = model.encode_prompt(x["text"][:, 0]), model.encode_prompt(x["text"][:, 1])
    nothing = model.encode_prompt(torch.zeros_like(x["text"][:, 0]))
    caches = [StreamingKVCache(config, batch=2, num_slots=4, grid_hw=(2, 3)) for _ in range(2)]
    guided = []
    for k in range(4):
        f = frames(k)
        branches = []
        for cache, context in zip(caches, (first if k < 2 else second, nothing), strict=True):
            cache.open(k, int(x["positions"][0, 3 * k]), "clean")
            branches.append(model(x["latents"][:, f], x["sigmas"][:, f], x["positions"][:, f], context,
                                  x["cameras"][:, f], cache=cache))  # fmt: skip
            cache.close()
        guided.append(branches[1] + scale * (branches[0] - branches[1]))
    switched = model(**{**x, "text": x["text"][:, [0, 0, 1, 1]]})
    without = model(**{**x, "text": torch.zeros_like(x["text"])})
    assert (torch.cat(guided, 1) - (without + scale * (switched - without))).abs().max() < 2e-5
    assert error(without, switched) > 1e-3


@torch.no_grad()
def test_a_prompt_of_another_model_is_refused(model: CausalVideoDiT, config: DiTConfig) -> None:
    other = CausalVideoDiT(replace(config, num_layers=2)).eval()
    x = make_inputs(config)
    with pytest.raises(InputError, match="another model"):
        model(**{**x, "text": other.encode_prompt(x["text"])})


@torch.no_grad()
def test_a_cache_of_another_model_or_size_is_refused(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = {n: v[:, 0] if n == "text" else v[:, :3] for n, v in make_inputs(config).items()}
    for cache in (
        StreamingKVCache(replace(config, ffn_dim=64), batch=2, num_slots=2, grid_hw=(2, 3)),
        StreamingKVCache(config, batch=1, num_slots=2, grid_hw=(2, 3)),
        StreamingKVCache(config, batch=2, num_slots=2, grid_hw=(3, 2)),
    ):
        cache.open(0, 0, "clean")
        with pytest.raises(InputError, match="cache belongs to another"):
            model(**x, cache=cache)


@torch.no_grad()
def test_cameras_that_are_not_finite_are_refused_unless_they_are_not_used(
    model: CausalVideoDiT, config: DiTConfig
) -> None:
    x = make_inputs(config)
    x["cameras"][0, 4, 12] = float("-inf")  # the logarithm of a missing focal length
    with pytest.raises(InputError, match="finite"):
        model(**x)
    valid = torch.ones_like(x["sigmas"], dtype=torch.bool)
    valid[0, 4] = False
    assert model(**x, camera_valid=valid).isfinite().all()


# --- dtypes --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_autocast_keeps_its_islands_in_float32(model: CausalVideoDiT, config: DiTConfig) -> None:
    x, stream, times = make_inputs(config), [], []
    hooks = [block.register_forward_hook(lambda _m, _i, out: stream.append(out.dtype)) for block in model.blocks]
    hooks.append(model.time_projection.register_forward_hook(lambda _m, _i, out: times.append(out)))
    reference = model(**x)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(**x)
    for hook in hooks:
        hook.remove()
    assert set(stream) == {torch.float32}
    assert torch.equal(times[0], times[1])  # noise levels never lose a bit
    assert 1e-4 < error(half, reference) < 0.05


@torch.no_grad()
def test_weights_in_bfloat16_run_the_stream_in_bfloat16(model: CausalVideoDiT, config: DiTConfig) -> None:
    """The mode for Self-Forcing's checkpoints; neighbouring timesteps stay apart, which bf16 timesteps do not."""
    x, stream, sinusoids = make_inputs(config), [], []
    reference = model(**x)
    half = CausalVideoDiT(config).eval()
    half.load_state_dict(model.state_dict())
    half.to(torch.bfloat16)
    for block in half.blocks:
        block.register_forward_hook(lambda _m, _i, out: stream.append(out.dtype))
    half.time_embedding.register_forward_hook(lambda _m, args, _o: sinusoids.append(args[0]))
    out = half(**x)
    assert set(stream) == {torch.bfloat16}
    assert error(out, reference) < 0.1
    half(**{**x, "sigmas": torch.full_like(x["sigmas"], 0.9993)})
    half(**{**x, "sigmas": torch.full_like(x["sigmas"], 0.9997)})  # 999.3 and 999.7: both 1000 in bf16
    assert not torch.equal(sinusoids[1], sinusoids[2])


@torch.no_grad()
def test_a_bfloat16_rollout_is_its_own_full_pass(model: CausalVideoDiT, config: DiTConfig) -> None:
    model.to(torch.bfloat16)
    x = make_inputs(config)
    full = model(**x)
    cache = StreamingKVCache(config, batch=2, num_slots=4, grid_hw=(2, 3), dtype=torch.bfloat16)
    for k in range(4):
        f = frames(k)
        cache.open(k, int(x["positions"][0, 3 * k]), "clean")
        chunk = model(x["latents"][:, f], x["sigmas"][:, f], x["positions"][:, f], x["text"][:, k],
                      x["cameras"][:, f], cache=cache)  # fmt: skip
        cache.close()
        assert error(chunk, full[:, f]) < 0.03


# --- memory and compilation ----------------------------------------------------------------------------------------


def gradients(model: CausalVideoDiT, x: dict, **kwargs: object) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    out = model(**x, **kwargs)
    out.square().mean().backward()
    return out.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_recomputing_blocks_changes_no_gradient(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = make_inputs(config)
    out, plain = gradients(model, x)
    calls: list[int] = []
    model.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model.checkpoint_blocks = True
    again, recomputed = gradients(model, x)
    assert len(calls) == 2  # once forward, once again on the way back
    assert torch.equal(out, again)
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "kernel"), [("none", "prefix"), ("full", "prefix"), ("full", "dense"), ("dual", "dense"), ("full", "flex")]
)
def test_compiled_blocks_have_no_graph_break_and_the_same_results(mode: str, kernel: str) -> None:
    """`aot_eager` traces forward and backward and needs no C++ compiler."""
    script = Path(__file__).parent / "compile_blocks.py"
    done = subprocess.run([sys.executable, script, mode, kernel], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "same"


@torch.no_grad()
def test_a_model_of_the_meta_device_takes_weights_without_a_copy(model: CausalVideoDiT, config: DiTConfig) -> None:
    empty = CausalVideoDiT.empty(config)
    assert all(p.is_meta for p in empty.parameters())
    empty.load_state_dict(model.state_dict(), assign=True)
    assert not any(t.is_meta for t in (*empty.parameters(), *empty.buffers()))
    assert empty.patch_embedding.weight.data_ptr() == model.patch_embedding.weight.data_ptr()
    x = make_inputs(config)
    assert torch.equal(empty.eval()(**x), model(**x))
