"""The plain trainer: a flat loop on one device, resumable bit for bit.

Nothing random is carried from step to step: order, regime and noise of a step are functions of (seed, step), so
a checkpoint is weights, their average, optimiser state and a number.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from remind.data.dataset import Mixture
from remind.errors import CheckpointError, InputError, RemindError
from remind.models.checkpoint import save_checkpoint
from remind.models.dit import CausalVideoDiT
from remind.sequence_plan import SequencePlan
from remind.training.allocator import keep_freed_memory
from remind.training.config import TrainConfig
from remind.training.optimizers import build_optimizers, set_rates
from remind.training.regimes import REGIMES, draw_batch_choices
from remind.training.step import StepOptions, TrainingBatch, assemble, losses

Report = Callable[[int, dict[str, float]], None]
"""Called after every step with the number of finished steps and the step's record."""


def plans_of_step(
    config: TrainConfig, mixture: Mixture, step: int
) -> tuple[list[Any], list[SequencePlan]]:
    """Samples and plans of a step: a pure function of (config.seed, step)."""
    samples = [mixture[step * config.batch_size + i] for i in range(config.batch_size)]
    graphs = [sample.graph for sample in samples]
    rng = np.random.default_rng([config.seed, 3, step])
    regime = REGIMES[config.curriculum.pick(rng)]
    choices = draw_batch_choices(graphs, rng)
    return samples, [regime(graph, rng, config.regime, choices) for graph in graphs]


def make_batch(config: TrainConfig, mixture: Mixture, step: int) -> tuple[TrainingBatch, list[SequencePlan]]:
    """The tensors of a step."""
    samples, plans = plans_of_step(config, mixture, step)
    seed = int(np.random.default_rng([config.seed, 4, step]).integers(2**62))
    return assemble(samples, plans, torch.Generator().manual_seed(seed), config.step), plans


class Trainer:
    """Owns the weights, their average and the optimiser; `run` takes it from its step to the end.

    Args:
        config: the whole run.
        mixture: what it reads.
        out: run folder; gets model.safetensors, config.json, metrics.jsonl and state.pt.
        about: recorded in the checkpoint beside the training config.
    """

    def __init__(self, config: TrainConfig, mixture: Mixture, out: Path, about: dict[str, Any]):
        keep_freed_memory()
        torch.manual_seed(config.seed)
        self.config, self.mixture, self.out, self.about = config, mixture, out, about
        self.model = CausalVideoDiT(config.model)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizers = build_optimizers(self.model, config)
        self.step = 0
        self.max_distance = 0
        self.seconds = 0.0

    def run(self, report: Report | None = None) -> None:
        """Train to `config.steps`, checkpointing on the way.

        Raises:
            RemindError: a loss that is not finite; the last checkpoint stays as it was.
        """
        with open(self.out / "metrics.jsonl", "a", buffering=1) as metrics:
            while self.step < self.config.steps:
                started = time.perf_counter()
                record = self.train_step()
                self.seconds += time.perf_counter() - started
                record["seconds"] = round(self.seconds, 3)
                metrics.write(json.dumps(record) + "\n")
                if report is not None:
                    report(self.step, record)
                every = self.config.execution.checkpoint_every
                if self.step % every == 0 or self.step == self.config.steps:
                    metrics.flush()
                    self.save()

    def train_step(self) -> dict[str, Any]:
        """One optimiser step; returns its record."""
        config = self.config
        batch, plans = make_batch(config, self.mixture, self.step)
        self.max_distance = max(self.max_distance, max(plan.largest_distance for plan in plans))
        gated = StepOptions(**{**vars(config.step), "use_delta_loss": config.step.use_delta_loss
                               and self.step >= config.delta_gate * config.steps})
        rate = set_rates(self.optimizers, config, self.step)
        total, parts = losses(self.model, batch, gated)
        if not math.isfinite(total.item()):
            first = self.step * config.batch_size
            last = first + config.batch_size - 1
            raise RemindError("the loss is not finite", got=f"{total.item()} at step {self.step}",
                              expected=f"samples {first}..{last} of seed {config.seed} to train",
                              fix="lower --learning-rate, or look at those samples")
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._update_average()
        return {"step": self.step, "regime": plans[0].regime, "loss": total.item(), "lr": rate,
                "grad_norm": float(norm), **{k: float(v) for k, v in parts.items()}}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def save(self) -> None:
        """Write the checkpoint: averaged weights for users, everything else for resuming."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step, "max_distance": self.max_distance, "seconds": self.seconds,
            "config": json.dumps(self.config.to_json(), sort_keys=True), "threads": torch.get_num_threads(),
        }
        temporary = self.out / f".state.{os.getpid()}.partial"
        torch.save(state, temporary)
        temporary.replace(self.out / "state.pt")
        save_checkpoint(
            self.out, replace(self.config.model, max_trained_distance=self.max_distance), self.average.state_dict(),
            {"train": self.config.to_json(), "steps_done": self.step, "train_seconds": round(self.seconds, 1),
             **self.about},
        )

    def resume(self) -> None:
        """Continue from the run folder, bit for bit on the same number of threads.

        Raises:
            CheckpointError: nothing to resume, a damaged file, or a run of another config.
        """
        path = self.out / "state.pt"
        if not path.is_file():
            raise CheckpointError("there is nothing to resume", got=self.out, expected="state.pt in it",
                                  fix="leave out --resume")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises several types for damaged or hostile files
            raise CheckpointError("state.pt is damaged", got=f"{type(error).__name__} in {path}",
                                  fix="start again without --resume") from None
        mine = json.loads(json.dumps(self.config.to_json(), sort_keys=True))
        theirs = json.loads(state["config"])
        differs = [k for k in mine if mine[k] != theirs.get(k)]
        if differs:
            raise InputError("the run folder holds another run", got=f"other values of {differs}",
                             fix="use its own options, or another --out")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.max_distance, self.seconds = state["step"], state["max_distance"], state["seconds"]
        _cut_metrics(self.out / "metrics.jsonl", self.step)


def _cut_metrics(path: Path, step: int) -> None:
    """Drop records after the checkpoint: they belong to steps that are about to be done again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    temporary = path.with_suffix(".partial")
    temporary.write_text("".join(kept))
    temporary.replace(path)
