"""A run's speed: steps, what plans and data take of them, two ranks against one process, checkpoints, the allocator.

    python benchmarks/training.py --out benchmarks/results/training.json

Every part runs in a process of its own; `--part PART` runs one here and prints what it found.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import torch
import torch.multiprocessing as mp
import tyro
from nano import gemm_gflops, step_gflop

from remind.data.dataset import MemoryBank, Mixture, WorldBankSpec
from remind.models.codec import LinearCodec
from remind.models.text import WordHashEncoder
from remind.recipes import recipe
from remind.training import run_checkpoint, trainer
from remind.training.config import Execution, TrainConfig
from remind.training.distributed import Ranks, started_ranks
from remind.training.machine import git_commit, machine_facts
from remind.training.trainer import Trainer

Part = Literal["nano", "tiny", "nano_plain_allocator", "ranks", "checkpoint_nano", "checkpoint_tiny"]
PARTS: tuple[Part, ...] = ("nano", "tiny", "nano_plain_allocator", "ranks", "checkpoint_nano", "checkpoint_tiny")
WARM_UP = 3


def mixture_of(config: TrainConfig, clips: int) -> Mixture:
    encoder = WordHashEncoder(config.model.text_dim, config.model.text_len)
    bank = MemoryBank.world(WorldBankSpec(clips, config.hw), LinearCodec.load(), encoder, workers=2)
    return Mixture([bank], [1.0], 0)


def started(config: TrainConfig, clips: int, ranks: Ranks | None = None) -> Trainer:
    return Trainer(config, mixture_of(config, clips), ranks or Ranks(torch.device("cpu")))


def seconds_of(run: Trainer, steps: int) -> list[float]:
    """Of each step after some that warm up."""
    going, found = run.steps(), []
    for _ in range(steps + WARM_UP):
        start = time.perf_counter()
        next(going)
        found.append(time.perf_counter() - start)
    return found[WARM_UP:]


def steps_of(name: str, steps: int, clips: int) -> dict[str, Any]:
    """Speed of a recipe's steps, and what reading, plans, assembling and statistics take of them."""
    config = recipe(name)
    run = started(config, clips)
    seconds = sum(seconds_of(run, steps))
    tokens = run.tokens // run.step
    work = sum(step_gflop(run, step) for step in range(WARM_UP, WARM_UP + steps))
    size, prepared = config.batch_size, 0.0
    for step in range(WARM_UP, WARM_UP + steps):
        run.step = step
        start = time.perf_counter()
        run.prepare(lambda first=step * size: [run.mixture[first + i] for i in range(size)])  # type: ignore[misc]
        prepared += time.perf_counter() - start
    rate = gemm_gflops(tokens, config.model.dim, config.model.ffn_dim)
    return {"batch_size": size, "steps_per_s": round(steps / seconds, 3), "gflop_per_step": round(work / steps, 1),
            "gflops": round(work / seconds, 1), "gemm_gflops": round(rate, 1),
            "share_of_gemm_rate": round(work / seconds / rate, 3),
            "plans_and_data_ms_per_step": round(1e3 * prepared / steps, 2),
            "plans_and_data_share": round(prepared / seconds, 4)}  # fmt: skip


def one_rank(rank: int, port: int, out: Path, steps: int, clips: int) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))  # fmt: skip
    torch.set_num_threads(1)
    with started_ranks(Execution(device="cpu")) as ranks:
        seconds = seconds_of(started(recipe("nano"), clips, ranks), steps)
    if rank == 0:
        out.write_text(json.dumps(sum(seconds)))


def two_ranks(steps: int, clips: int) -> dict[str, Any]:
    """nano's batch on two ranks of one thread, against one process of one and of two."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seconds.json"
        mp.spawn(one_rank, (port, out, steps, clips), nprocs=2)
        shared = json.loads(out.read_text())
    found = {"two_ranks_steps_per_s": round(steps / shared, 3)}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        alone = sum(seconds_of(started(recipe("nano"), clips), steps))
        found[f"one_process_{threads}_threads_steps_per_s"] = round(steps / alone, 3)
    return found


def checkpoints(name: str, clips: int) -> dict[str, Any]:
    """Seconds of writing a checkpoint, synced to the disk and hashed, and of going on from it."""
    run = started(recipe(name), clips)
    next(run.steps())
    with tempfile.TemporaryDirectory() as folder:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            path = run.save(Path(folder))
            times.append(time.perf_counter() - start)
        size = sum(file.stat().st_size for file in path.iterdir())
        start = time.perf_counter()
        run.resume(path)
        restored = time.perf_counter() - start
        assert run_checkpoint.latest(Path(folder)) == path
    return {"mb": round(size / 1e6, 1), "save_s": round(min(times), 3), "restore_s": round(restored, 3)}


def run_part(part: Part, steps: int, clips: int) -> dict[str, Any]:
    if part == "ranks":
        return two_ranks(steps, clips)
    if part == "nano_plain_allocator":
        trainer.keep_freed_memory = lambda: False  # glibc as it comes
        return steps_of("nano", steps, clips)
    if part.startswith("checkpoint_"):
        return checkpoints(part.removeprefix("checkpoint_"), clips)
    return steps_of(part, steps, clips)


def main(out: Path | None = None, steps: int = 12, clips: int = 64, part: Part | None = None) -> None:
    if part is not None:
        print(json.dumps(run_part(part, steps, clips)))
        return
    result: dict[str, Any] = {"machine": machine_facts(), "commit": git_commit(), "steps": steps}
    for name in PARTS:
        command = [sys.executable, __file__, "--part", name, "--steps", str(steps), "--clips", str(clips)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, json.dumps(result[name]), file=sys.stderr)
    plain = result["nano_plain_allocator"]["steps_per_s"]
    result["allocator_speedup"] = round(result["nano"]["steps_per_s"] / plain, 2)
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
