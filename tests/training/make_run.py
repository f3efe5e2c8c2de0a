"""A run that takes a second: a tiny model on samples of noise with true recipes."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from remind.data.dataset import Mixture
from remind.recipes.arms import arm_settings
from remind.training.config import Execution, TrainConfig
from remind.training.distributed import Ranks
from remind.training.step import StepOptions
from remind.training.trainer import Trainer

from ..make_memory import TINY, random_bank

ALONE = Ranks(torch.device("cpu"))
CONFIG = TrainConfig(
    recipe="by_hand", arm="remind", model=TINY, hw=(16, 16), num_frames=57, steps=6, batch_size=4, warmup_steps=2,
    learning_rate=3e-3, execution=Execution(checkpoint_every=3, trackers=()), step=StepOptions(sigma_shift=2.0),
    bank_size=5, seed=5, **arm_settings("remind"),
)  # fmt: skip


def mixture(config: TrainConfig = CONFIG) -> Mixture:
    return Mixture([random_bank(5)], [1.0], config.seed)


def trainer(config: TrainConfig = CONFIG, ranks: Ranks = ALONE, data: Mixture | None = None) -> Trainer:
    return Trainer(config, data or mixture(config), ranks, data="content")


def take(run: Trainer, steps: int) -> list[dict[str, Any]]:
    """Records of the next steps, without the one value that is no function of the run."""
    found: list[dict[str, Any]] = []
    going: Iterator[dict[str, Any]] = run.steps()
    while len(found) < steps:
        found.append({k: v for k, v in next(going).items() if k != "seconds"})
    return found


def records(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """What of a record may differ in its last digits."""
    return {name: value for name, value in record.items() if not isinstance(value, str)}


@contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond so many bytes: what a full disk does to whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
