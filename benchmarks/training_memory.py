"""Peak memory of real training steps against what the dry run said, for several shapes, on one process and on two.

    python benchmarks/training_memory.py --out benchmarks/results/training_memory.json

Every shape runs in a fresh process: `live`, the most bytes that tensors held at once; `resident`, how much more memory
the process had at its fullest than before the trainer was made, with a C library that gives back what is freed; `kept`,
the same with one that keeps it, as training sets it (`training/allocator.py`). The estimate has no slack here.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from remind.data.interrupt import sample_recipe
from remind.data.memory_bank import MemoryBank
from remind.data.mixture import Mixture
from remind.models.memory import LiveBytes
from remind.models.text import WordHashEncoder
from remind.recipes import recipe
from remind.training import trainer as trainer_module
from remind.training.config import TrainConfig
from remind.training.curriculum import Curriculum
from remind.training.distributed import Ranks, started_ranks
from remind.training.estimate import estimate
from remind.training.lora import LoraOptions
from remind.training.machine import git_commit, machine_facts
from remind.training.trainer import Trainer

STEPS = 2  # the first has no optimiser states yet


def shape(*, dim: int = 128, layers: int = 6, px: int = 32, frames: int = 81, batch: int = 6, kernel: str = "prefix",
          regime: str = "all_history", execution: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
    """nano with other numbers and one regime; in all but V2V every step has the largest plan there is."""
    nano = recipe("nano")
    model = replace(nano.model, dim=dim, ffn_dim=4 * dim, num_layers=layers, num_heads=dim // 32)
    return replace(nano, model=model, hw=(px, px), num_frames=frames, batch_size=batch,
                   step=replace(nano.step, kernel=kernel), curriculum=Curriculum({regime: 1.0}),
                   execution=replace(nano.execution, **(execution or {})), **changes)  # fmt: skip


RECOMPUTE = {"recompute": True}
WIDE: dict[str, Any] = {"dim": 256, "layers": 3, "px": 64, "batch": 3, "optimizer": "adamw"}
HEAVY: dict[str, Any] = {"dim": 384, "layers": 4, "batch": 2, "optimizer": "adamw"}  # weights outweigh activations
MUON: dict[str, Any] = {**HEAVY, "optimizer": "muon"}
SHAPES: dict[str, tuple[int, TrainConfig]] = {
    "nano": (1, shape(kernel="dense")),
    "nano, recompute": (1, shape(kernel="dense", execution=RECOMPUTE)),
    "nano, four passes": (1, shape(kernel="dense", layers=3, execution={"micro_batch": 2})),
    "wide": (1, shape(**WIDE)),
    "wide, recompute": (1, shape(**WIDE, execution=RECOMPUTE)),
    "long": (1, shape(frames=153, batch=4, px=48)),
    "heavy, Muon": (1, shape(**MUON)),
    "LoRA": (1, shape(layers=3, batch=4, lora=LoraOptions(rank=8))),
    "bf16": (1, shape(layers=3, batch=4, precision="bf16")),
    "V2V": (1, shape(layers=3, regime="v2v_frontier")),
    "heavy, two ranks": (2, shape(**HEAVY)),
    "heavy, Muon, two ranks": (2, shape(**MUON)),
    "heavy, two replicas": (2, shape(**HEAVY, execution={"replicate": 2})),
    "wide, two share tokens": (2, shape(**WIDE | {"batch": 2}, execution={"sequence_parallel": 2})),
}


def random_mixture(config: TrainConfig) -> Mixture:
    """One batch of clips of the config's shape, of noise, with true recipes."""
    rng, clips, t = np.random.default_rng(0), config.batch_size, config.num_latents
    cameras = torch.zeros(clips, t, 14)
    cameras[..., [0, 4, 8]] = 1
    valid = torch.ones(clips, t, dtype=torch.uint8)
    latents = torch.randn(2, clips, t, 16, *config.latent_hw)
    tensors = {"clean": latents[0], "degraded": latents[1], "clean_cameras": cameras, "degraded_cameras": cameras,
               "clean_valid": valid, "degraded_valid": valid}  # fmt: skip
    recipes = [sample_recipe("light_toggle", config.num_frames, rng) for _ in range(clips)]
    text = WordHashEncoder(config.model.text_dim, config.model.text_len)
    bank = MemoryBank(tensors, recipes, ["a tank fills"] * clips, text, config.num_frames)
    return Mixture([bank], [1.0], config.seed)


def train(config: TrainConfig, ranks: Ranks) -> Trainer:
    trainer = Trainer(config, random_mixture(config), ranks)
    for _ in zip(range(STEPS), trainer.steps(), strict=False):
        pass
    return trainer


def live_bytes(config: TrainConfig, ranks: Ranks) -> int:
    with LiveBytes() as live:
        train(config, ranks)
    return live.peak


def resident_bytes(config: TrainConfig, ranks: Ranks) -> int:
    """Growth of the process; torch's own first allocations are made before, by a tiny run."""
    keep, trainer_module.keep_freed_memory = trainer_module.keep_freed_memory, lambda: False
    train(shape(dim=64, layers=1, px=32, batch=ranks.data_ranks, execution=vars(config.execution)), ranks)
    trainer_module.keep_freed_memory = keep
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    before = _status("VmRSS")
    train(config, ranks)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure_here(names: Sequence[str], how: str) -> None:
    """Measure shapes of one number of ranks in this process, which must be fresh; prints the most of all ranks."""
    if how != "kept":
        trainer_module.keep_freed_memory = lambda: False
    measure = {"live": live_bytes, "resident": resident_bytes, "kept": resident_bytes}[how]
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        world_size, config = SHAPES[name]
        memory = estimate(config, world_size=world_size, device="cpu").memory
        with started_ranks(config.execution) as ranks:
            own = measure(config, ranks)
            most = max(ranks.agree(lambda own=own: own))  # type: ignore[misc]
        found[name] = {"estimate": round(memory.peak), "fullest_at": memory.peak_moment, how: most,
                       f"{how}_over_estimate": round(most / memory.peak, 3)}  # fmt: skip
    if ranks.first:
        print(json.dumps(found))


def measured(name: str, how: str) -> dict[str, Any]:
    """Start a fresh process, or one a rank, and read what it says."""
    world_size, _ = SHAPES[name]
    start = [sys.executable] if world_size == 1 else [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world_size), "--standalone",
    ]  # fmt: skip
    # The size above which the C library takes memory from the kernel, and gives it back, grows by itself otherwise.
    environment = os.environ | ({} if how == "kept" else {"MALLOC_MMAP_THRESHOLD_": "65536"})
    done = subprocess.run([*start, str(Path(__file__)), "--worker", name, "--how", how], env=environment,
                          capture_output=True, text=True, check=False, timeout=600)  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1])[name])


def compare(name: str) -> dict[str, Any]:
    world_size = SHAPES[name][0]
    row: dict[str, Any] = {"ranks": world_size}
    # Sharded weights are freed in place, which counting storages does not see.
    for how in ("live", "resident", "kept") if world_size == 1 else ("resident", "kept"):
        row |= measured(name, how)
    return row


def main(out: Path | None = None, worker: tuple[str, ...] = (), how: str = "live") -> None:
    if worker:
        measure_here(worker, how)
        return
    shapes = {name: compare(name) for name in SHAPES}
    ratios = {how: [row[f"{how}_over_estimate"] for row in shapes.values() if how in row]
              for how in ("live", "resident", "kept")}  # fmt: skip
    result = {
        "machine": machine_facts(), "commit": git_commit(), "shapes": shapes,
        "over_estimate": {how: {"least": min(r), "median": statistics.median(r), "most": max(r)}
                          for how, r in ratios.items()},
    }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
