"""The model against the machine and against diffusers, in one run: rollout, training step, camera modes, a Wan block.

    python benchmarks/model.py --out benchmarks/results/model.json

Every figure is a median over repeats; competitors run alternately, so that a noisy minute hits both. Needs the `wan`
extra.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from nano import gemm_gflops

from remind.models import CausalVideoDiT, DiTConfig
from remind.models.attention import ChunkMask
from remind.models.checkpoint_names import to_diffusers
from remind.models.flop_count import count_flops
from remind.models.kv_cache import StreamingKVCache
from remind.models.memory import LiveBytes, chunk_pass_nbytes
from remind.training.allocator import keep_freed_memory
from remind.training.launch import git_commit, machine_facts

Timed = Callable[[], object]
MIDDLE = DiTConfig(dim=384, ffn_dim=1536, num_heads=6, num_layers=8, freq_dim=256, text_dim=64, text_len=24,
                   camera_hidden=64)  # fmt: skip
GRID = (10, 10)  # 100 tokens per latent frame


def alternately(runs: dict[str, Timed], repeats: int) -> dict[str, float]:
    """Median seconds of each, run in turns after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def trained(config: DiTConfig) -> CausalVideoDiT:
    torch.manual_seed(0)
    model = CausalVideoDiT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if (parameter == 0).all():
                parameter.normal_(std=0.02)
    return model


def inputs(config: DiTConfig, chunks: int, batch: int = 1) -> dict[str, torch.Tensor]:
    t = 3 * chunks
    cameras = torch.zeros(batch, t, 14)
    cameras[..., [0, 4, 8]] = 1
    cameras[..., 9:12] = torch.randn(batch, t, 3)
    return {
        "latents": torch.randn(batch, t, 16, 2 * GRID[0], 2 * GRID[1]), "sigmas": torch.full((batch, t), 0.5),
        "positions": torch.arange(t).float().expand(batch, -1), "cameras": cameras,
        "text": torch.randn(batch, config.text_len, config.text_dim),
    }  # fmt: skip


@torch.no_grad()
def rollout_cached(model: CausalVideoDiT, x: dict[str, torch.Tensor], chunks: int, steps: int, joint: bool) -> None:
    """As `inference.rollout` runs it: `joint`, a finished chunk is written by the next one's first pass."""
    cache = StreamingKVCache(model.config, batch=1, num_slots=chunks, grid_hw=GRID)
    context = model.encode_prompt(x["text"])

    def run(first: int, last: int) -> None:
        f = slice(3 * first, 3 * last + 3)
        model(x["latents"][:, f], x["sigmas"][:, f], x["positions"][:, f], context, x["cameras"][:, f], cache=cache)

    for k in range(chunks):
        cache.open(k, 3 * k, "clean")
        for step in range(steps):
            run(k - (cache.num_open - 1), k)
            if step == 0 and cache.num_open == 2:
                cache.close()
        if not joint and k + 1 < chunks:  # nobody reads the last chunk
            run(k, k)
            cache.close()


@torch.no_grad()
def rollout_recomputed(run: Callable[[int], object], chunks: int, steps: int) -> None:
    """Every pass over the whole past; no writing pass is needed, so one pass a chunk less."""
    for k in range(chunks):
        for _ in range(steps):
            run(3 * (k + 1))


def skyreels(model: CausalVideoDiT) -> torch.nn.Module:
    from diffusers import SkyReelsV2Transformer3DModel

    c = model.config
    other = SkyReelsV2Transformer3DModel(
        num_attention_heads=c.num_heads, attention_head_dim=c.head_dim, in_channels=16, out_channels=16,
        text_dim=c.text_dim, freq_dim=c.freq_dim, ffn_dim=c.ffn_dim, num_layers=c.num_layers, num_frame_per_block=3,
    ).eval()  # fmt: skip
    other.load_state_dict({to_diffusers(n): p for n, p in model.state_dict().items()})
    return other


def measure_rollout(chunks: int, steps: int, repeats: int) -> dict[str, Any]:
    model = trained(MIDDLE)
    other, x = skyreels(model), inputs(MIDDLE, chunks)

    def ours(t: int) -> object:
        return model(x["latents"][:, :t], x["sigmas"][:, :t], x["positions"][:, :t], x["text"])

    def theirs(t: int) -> object:
        return other(x["latents"][:, :t].transpose(1, 2), 1000 * x["sigmas"][:, :t], x["text"],
                     enable_diffusion_forcing=True, return_dict=False)  # fmt: skip

    runs: dict[str, Timed] = {
        "cached": lambda: rollout_cached(model, x, chunks, steps, joint=True),
        "cached_separate": lambda: rollout_cached(model, x, chunks, steps, joint=False),
        "recomputed": lambda: rollout_recomputed(ours, chunks, steps),
        "diffusers": lambda: rollout_recomputed(theirs, chunks, steps),
        "gemm": lambda: products.append(gemm_gflops(300, MIDDLE.dim, MIDDLE.ffn_dim, 0.5)),
    }
    products: list[float] = []  # in turns with the rest: the machine's rate changes by a quarter within minutes
    seconds = alternately(runs, repeats)
    del seconds["gemm"]
    work, rate = count_flops(runs["cached"]) / 1e9, statistics.median(products[1:])
    peer_work = count_flops(runs["diffusers"]) / 1e9
    return {
        "chunks": chunks, "steps": steps, "seconds": seconds,
        "faster_than_recomputing": seconds["recomputed"] / seconds["cached"],
        "faster_than_diffusers": seconds["diffusers"] / seconds["cached"],
        "gflop": work, "gflops": work / seconds["cached"], "gemm_gflops": rate,
        "share_of_gemm_rate": work / seconds["cached"] / rate,
        "diffusers_gflop": peer_work, "diffusers_share_of_gemm_rate": peer_work / seconds["diffusers"] / rate,
    }  # fmt: skip


def measure_training(chunks: int, repeats: int) -> dict[str, Any]:
    """Forward and backward of the teacher-forced pass [history | targets], prefix against dense."""
    model, x = trained(MIDDLE).train(), inputs(MIDDLE, 2 * chunks - 1)
    history = [tuple(range(k + 1)) for k in range(chunks - 1)]
    visibility = (*history, *((*range(k), chunks - 1 + k) for k in range(chunks)))

    def run(kernel: str) -> None:
        model(**x, attention=ChunkMask(visibility, kernel=kernel)).square().mean().backward()  # type: ignore[arg-type]
        model.zero_grad()

    seconds = alternately({"prefix": lambda: run("prefix"), "dense": lambda: run("dense")}, repeats)
    return {"chunks": chunks, "seconds": seconds, "prefix_faster": seconds["dense"] / seconds["prefix"]}


def measure_cameras(repeats: int) -> dict[str, Any]:
    """One chunk read from a memory of six, and a training step of three chunks, against no cameras."""
    modes = {"none": MIDDLE, **{m: replace(MIDDLE, camera_mode=m) for m in ("qk", "vo", "full", "dual")}}
    models = {name: trained(config) for name, config in modes.items()}
    x = inputs(MIDDLE, 7)
    short = {name: v[:, :9] if name != "text" else v for name, v in x.items()}

    def train(model: CausalVideoDiT) -> None:
        model(**short).square().mean().backward()
        model.zero_grad()

    training = alternately({n: lambda m=m: train(m) for n, m in models.items()}, repeats)  # type: ignore[misc]
    generating: dict[str, Timed] = {}
    for name, model in models.items():
        model.fold_cameras()
        cache = StreamingKVCache(model.config, batch=1, num_slots=7, grid_hw=GRID)

        @torch.no_grad()
        def read(model: CausalVideoDiT = model, cache: StreamingKVCache = cache, k: int = 6) -> None:
            f = slice(3 * k, 3 * k + 3)
            model(x["latents"][:, f], x["sigmas"][:, f], x["positions"][:, f], x["text"], x["cameras"][:, f],
                  cache=cache)  # fmt: skip

        for k in range(7):
            cache.open(k, 3 * k, "clean")
            if k < 6:
                read(k=k)
                cache.close()
        generating[name] = read
    reading = alternately(generating, 4 * repeats)
    return {
        "inference_seconds": reading, "training_seconds": training,
        "inference_over_none": {n: s / reading["none"] for n, s in reading.items()},
        "training_over_none": {n: s / training["none"] for n, s in training.items()},
    }  # fmt: skip


def measure_wan_block(repeats: int) -> dict[str, Any]:
    """One block of the real shape on one chunk at 480x832, against diffusers' block with the same weights."""
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformerBlock

    config = DiTConfig.preset("wan-1.3b", num_layers=1)
    model = trained(config)
    block, grid = model.blocks[0], (30, 52)
    tokens = 3 * grid[0] * grid[1]
    other = WanTransformerBlock(config.dim, config.ffn_dim, config.num_heads, "rms_norm_across_heads", True).eval()
    other.load_state_dict({(to_diffusers(f"blocks.0.{n}") or "").removeprefix("blocks.0."): p
                           for n, p in block.state_dict().items()})  # fmt: skip
    x, text = torch.randn(1, 3, grid[0] * grid[1], config.dim), torch.randn(1, 512, config.dim)
    modulation = torch.randn(1, 3, 6, config.dim)
    from remind.models.pm_rope import position_rotors

    rotors = position_rotors(torch.arange(3.0)[None], grid, config)[:, :, :, None]
    rotary = WanRotaryPosEmbed(config.head_dim, (1, 2, 2), 1024)(torch.empty(1, 16, 3, 60, 104))
    per_token = modulation.repeat_interleave(grid[0] * grid[1], 1)

    @torch.no_grad()
    def ours() -> torch.Tensor:
        return block(x, modulation, rotors, None, text[:, None], (0,), None, None, None)

    @torch.no_grad()
    def theirs() -> torch.Tensor:
        return other(x.flatten(1, 2), text, per_token, rotary)

    difference = float((ours().flatten(1, 2) - theirs()).abs().max())
    seconds = alternately({"ours": ours, "diffusers": theirs}, repeats)
    work, rate = count_flops(ours) / 1e9, gemm_gflops(tokens, config.dim, config.ffn_dim, 3.0)
    latents = torch.randn(1, 3, 16, 60, 104)
    embedded = torch.randn(1, 512, config.text_dim)
    predicted = chunk_pass_nbytes(config, batch=1, grid_hw=grid, dtype=torch.float32)
    with LiveBytes() as live, torch.no_grad():
        cache = StreamingKVCache(config, batch=1, num_slots=2, grid_hw=grid)
        for k in range(2):
            cache.open(k, 3 * k, "clean")
            model(latents, torch.ones(1, 3), torch.arange(3.0)[None] + 3 * k, embedded, cache=cache)
            cache.close()
    return {
        "tokens": tokens, "seconds": seconds, "max_abs_difference": difference,
        "faster_than_diffusers": seconds["diffusers"] / seconds["ours"],
        "gflops": work / seconds["ours"], "gemm_gflops": rate, "share_of_gemm_rate": work / seconds["ours"] / rate,
        "diffusers_share_of_gemm_rate": work / seconds["diffusers"] / rate,
        "peak_bytes": live.peak, "predicted_bytes": predicted + cache.nbytes,
        "peak_over_predicted": live.peak / (predicted + cache.nbytes),
    }  # fmt: skip


def main(out: Path | None = None, repeats: int = 5, chunks: int = 7, steps: int = 4) -> None:
    wan = measure_wan_block(max(2, repeats // 2))  # before the allocator keeps memory, which would hide a peak
    keep_freed_memory()
    result = {
        "machine": machine_facts(), "commit": git_commit(),
        "wan_block": wan,
        "rollout": measure_rollout(chunks, steps, repeats),
        "teacher_forced": measure_training(chunks, max(1, repeats // 2)),
        "cameras": measure_cameras(repeats),
    }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
