"""Two ranks of one thread that share the tokens of a teacher-forced pass, against one process of one thread.

    python benchmarks/sequence_parallel.py --out benchmarks/results/sequence_parallel.json

Forward and backward of [history of 6 chunks | 7 targets], without an optimiser. Processes start afresh for every round
and the two set-ups run in turns. Memory is that of a rank: `live` what operators made and somebody still held, as a
GPU's allocator would count it, gradients included; `resident` the peak of the process. The *communication share* is
what the same exchanges take by themselves, both ways and with their copies, of a rank's step.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import tyro

from remind.models import CausalVideoDiT, DiTConfig
from remind.models.attention import ChunkMask
from remind.models.memory import LiveBytes
from remind.models.sequence_parallel import SequenceParallel, band, heads_for_tokens, tokens_for_heads
from remind.training.allocator import keep_freed_memory
from remind.training.launch import git_commit, machine_facts

CONFIG = DiTConfig(dim=384, ffn_dim=1536, num_heads=6, num_layers=4, freq_dim=256, text_dim=64, text_len=24,
                   camera_mode="full", camera_hidden=64)  # fmt: skip
CHUNKS, GRID = 7, (10, 10)
ENTRIES = 2 * CHUNKS - 1


def teacher_forced() -> dict[str, Any]:
    t = 3 * ENTRIES
    cameras = torch.zeros(1, t, 14)
    cameras[..., [0, 4, 8]] = 1
    cameras[..., 9:12] = torch.randn(1, t, 3)
    history = [tuple(range(k + 1)) for k in range(CHUNKS - 1)]
    targets = [(*range(k), CHUNKS - 1 + k) for k in range(CHUNKS)]
    return {
        "latents": torch.randn(1, t, 16, 2 * GRID[0], 2 * GRID[1]), "sigmas": torch.rand(1, t), "cameras": cameras,
        "positions": torch.arange(t).float()[None], "text": torch.randn(1, CONFIG.text_len, CONFIG.text_dim),
        "attention": ChunkMask((*history, *targets)),
    }  # fmt: skip


def peak_resident_mib() -> float:
    """Of this process so far; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmHWM")), float("nan"))


def seconds_of(run: Any, repeats: int) -> float:
    """Median, after one that does not count."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def exchange_seconds(sharing: SequenceParallel, repeats: int) -> float:
    """All exchanges of a step by themselves, forward and backward."""
    own = GRID[0] * GRID[1] // sharing.size
    parts = [torch.randn(1, 3 * ENTRIES, own, CONFIG.num_heads, CONFIG.head_dim, requires_grad=True) for _ in range(3)]

    def run() -> None:
        for _ in range(CONFIG.num_layers):
            q, k, v = tokens_for_heads(sharing, *parts)
            y = heads_for_tokens(sharing, q.detach().requires_grad_())
            y.backward(y.detach())
            torch.autograd.grad((q, k, v), parts, (q.detach(), k.detach(), v.detach()))

    return seconds_of(run, repeats)


def rank_main(rank: int, world_size: int, folder: str, recompute: bool, repeats: int) -> None:
    """One process of a round; writes what it measured."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    model, x = CausalVideoDiT(CONFIG), teacher_forced()
    model.checkpoint_blocks = recompute
    found: dict[str, float] = {}
    try:
        if world_size > 1:
            dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size,
                                    timeout=timedelta(minutes=10))  # fmt: skip
            model.sequence_parallel = SequenceParallel(dist.group.WORLD)
        x["latents"] = band(x["latents"], model.sequence_parallel)

        def step() -> None:
            model.zero_grad()
            model(**x).square().mean().backward()

        found["seconds"] = seconds_of(step, repeats)
        found["resident_mib"] = peak_resident_mib()
        model.zero_grad()
        with LiveBytes() as live:
            step()
        found["live_mib"] = round(live.peak / 2**20, 1)
        if model.sequence_parallel is not None:
            found["exchange_seconds"] = exchange_seconds(model.sequence_parallel, repeats)
        Path(folder, f"{rank}.json").write_text(json.dumps(found))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def measure(world_size: int, recompute: bool, repeats: int) -> dict[str, float]:
    """The slowest and largest of the ranks."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(rank_main, (world_size, folder, recompute, repeats), nprocs=world_size)
        ranks = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(world_size)]
    return {name: max(rank[name] for rank in ranks) for name in ranks[0]}


def main(out: Path | None = None, rounds: int = 3, repeats: int = 3) -> None:
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "machine": machine_facts(), "commit": git_commit(), "threads_per_process": 1,
        "shape": {"model": CONFIG.to_json(), "entries": ENTRIES, "tokens": ENTRIES * 3 * GRID[0] * GRID[1],
                  "rounds": rounds, "repeats": repeats},
    }  # fmt: skip
    for recompute in (False, True):
        one, two = [], []
        for _ in range(rounds):
            one.append(measure(1, recompute, repeats))
            two.append(measure(2, recompute, repeats))
        alone, shared = ({name: statistics.median(found[name] for found in each) for name in each[0]}
                         for each in (one, two))  # fmt: skip
        result["recomputed" if recompute else "plain"] = {
            "one_process": alone, "two_ranks": shared,
            "speedup": round(alone["seconds"] / shared["seconds"], 3),
            "live_memory_share": round(shared["live_mib"] / alone["live_mib"], 3),
            "communication_share": round(shared["exchange_seconds"] / shared["seconds"], 4),
        }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
