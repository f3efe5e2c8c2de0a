"""Nano's training step against the GEMM rate of the same run, and a generated chunk with cache against without.

    python benchmarks/nano.py --out benchmarks/results/nano.json
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
import tyro

from remind.data.dataset import MemoryBank, Mixture, WorldBankSpec
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.inference.rollout import Conditions, rollout
from remind.inference.samplers import Sampler
from remind.models.codec import LinearCodec
from remind.models.dit import CausalVideoDiT
from remind.models.flop_count import count_flops
from remind.models.text import WordHashEncoder
from remind.recipes import recipe
from remind.training.distributed import Ranks
from remind.training.machine import git_commit, machine_facts
from remind.training.trainer import Trainer


def gemm_gflops(m: int, k: int, n: int, seconds: float = 1.0) -> float:
    """Rate of torch.matmul at a shape of the model, GFLOP/s."""
    a, b = torch.randn(m, k), torch.randn(k, n)
    for _ in range(5):
        a @ b
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        a @ b
        done += 1
    return 2 * m * k * n * done / (time.perf_counter() - start) / 1e9


def step_gflop(trainer: Trainer, step: int) -> float:
    """GFLOP of a step's forward and backward passes."""
    size = trainer.config.batch_size
    trainer.step = step
    prepared, weights = trainer.prepare(lambda: [trainer.mixture[step * size + i] for i in range(size)])
    work = 1e-9 * count_flops(lambda: trainer.run_passes(prepared, weights))
    trainer.model.zero_grad()
    return work


@torch.no_grad()
def recomputed(model: CausalVideoDiT, prefix: torch.Tensor, conditions: Conditions, sampler: Sampler) -> float:
    """Seconds of the same rollout when every pass runs over the whole prefix again."""
    b, _, c, h, w = prefix.shape
    num = conditions.text.shape[1]
    latents = prefix
    start = time.perf_counter()
    for k in range(prefix.shape[1] // LATENTS_PER_CHUNK, num):
        x = torch.randn(b, LATENTS_PER_CHUNK, c, h, w)
        for _ in range(sampler.steps):
            whole = torch.cat([latents, x], 1)
            t = whole.shape[1]
            model(whole, torch.full((b, t), 0.5), torch.arange(t).float().expand(b, -1), conditions.text[:, : k + 1],
                  None if conditions.cameras is None else conditions.cameras[:, :t])
        latents = torch.cat([latents, x], 1)
    return time.perf_counter() - start


def main(out: Path | None = None, steps: int = 12, clips: int = 64) -> None:
    torch.manual_seed(0)
    config = recipe("nano")
    codec, encoder = LinearCodec.load(), WordHashEncoder(config.model.text_dim, config.model.text_len)
    bank = MemoryBank.world(WorldBankSpec(clips, config.hw), codec, encoder)
    mixture = Mixture([bank], [1.0], 0)
    trainer = Trainer(config, mixture, Ranks(torch.device("cpu")))
    model = trainer.model

    elapsed = []
    going = trainer.steps()
    for _ in range(steps + 3):
        start = time.perf_counter()
        next(going)
        elapsed.append(time.perf_counter() - start)
    seconds = sum(elapsed[3:])
    tokens = trainer.tokens // (steps + 3)
    work = sum(step_gflop(trainer, step) for step in range(3, steps + 3))
    rate = gemm_gflops(tokens, config.model.dim, config.model.ffn_dim)

    b, t = 8, config.num_latents
    conditions = Conditions(torch.randn(b, 7, 24, 64), torch.zeros(b, t, 14) + torch.eye(3).flatten().new_tensor(
        [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]), None, ("clean",) * 7, tuple(range(b)))
    prefix = torch.randn(b, 12, 16, 4, 4)
    model.eval()
    sampler = Sampler()
    rollout(model, prefix, conditions, sampler=sampler)
    start = time.perf_counter()
    rollout(model, prefix, conditions, sampler=sampler)
    cached = time.perf_counter() - start
    again = recomputed(model, prefix, conditions, sampler)
    result = {
        "machine": machine_facts(), "commit": git_commit(),
        "training": {"steps_per_s": round(steps / seconds, 3), "batch_size": config.batch_size,
                     "gflop_per_step": round(work / steps, 1),
                     "gflops": round(work / seconds, 1), "gemm_gflops": round(rate, 1),
                     "share_of_gemm_rate": round(work / seconds / rate, 3)},
        "generation": {"batch": b, "steps_per_chunk": sampler.steps, "cached_s_per_chunk": round(cached / 3, 4),
                       "recomputed_s_per_chunk": round(again / 3, 4), "speedup": round(again / cached, 2)},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
