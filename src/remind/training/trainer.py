"""The trainer: a flat loop over steps, the same on one process and on many ranks, resumable bit for bit.

A step: read this rank's clips, plan, assemble; sum the statistics of the whole batch, which weigh the losses; run the
micro-batches forward and backward; sum what they say; then, if all is finite, move weights and their average.

Nothing random is carried from step to step: order, regimes and noise are functions of (seed, step), so a checkpoint is
weights, their average, optimiser state and a few numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from remind.data.loader import StepSampler, rank_indices, read_batches
from remind.data.memory_bank import MemoryBank
from remind.data.memory_sample import MemorySample
from remind.data.mixture import Mixture
from remind.errors import InputError, RemindError
from remind.frame_graph import FrameGraph, Schedule
from remind.models.dit import CausalVideoDiT
from remind.models.sequence_parallel import SequenceParallel, band, band_axis
from remind.training import run_checkpoint
from remind.training.allocator import keep_freed_memory
from remind.training.average import WeightAverage
from remind.training.batches import (
    MicroBatch,
    check_split,
    micro_batches,
    noise_of,
    plan_clip,
    plan_groups,
    schedules_of,
)
from remind.training.config import TrainConfig
from remind.training.distributed import Ranks
from remind.training.lora import base_digest, merge
from remind.training.losses import LossRecord, LossStatistics, LossWeights, gate, loss_share, weigh
from remind.training.optimizers import build_optimizers, set_rates, state_tensors
from remind.training.placed_model import build_model
from remind.training.run_checkpoint import RunState
from remind.training.shards import whole
from remind.training.step import TrainingBatch, assemble, predict


@dataclass(frozen=True)
class Prepared:
    """A micro-batch that is ready to run, on the CPU."""

    micro: MicroBatch
    batch: TrainingBatch
    max_distance: int


@dataclass(frozen=True)
class PassReport:
    """What one rank says of its passes of a step.

    Args:
        record: of the losses, summed.
        losses: share of the loss of each pass.
        passes: which clips each one had.
        tokens: that the model has seen.
        stop: number of a signal that asks to stop, or 0.
    """

    record: Tensor
    losses: list[float]
    passes: list[tuple[range, str]]
    tokens: int
    stop: int


class Trainer:
    """Owns weights, their average and the optimisers, all at step 0 until `resume`.

    Args:
        config: the whole run.
        mixture: what it reads.
        ranks: this process among those of the run.
        data: hash of what the mixture reads, kept in checkpoints.
        skipped: clips that the mixture leaves out, kept in checkpoints.

    Raises:
        RemindError: numbers that do not divide, or weights to start from that do not fit.
    """

    def __init__(self, config: TrainConfig, mixture: Mixture, ranks: Ranks, *, data: str = "",
                 skipped: tuple[str, ...] = ()):  # fmt: skip
        check_split(config, ranks.data_ranks)
        if ranks.device.type == "cpu":
            keep_freed_memory()
        self.config, self.mixture, self.ranks, self.data, self.skipped = config, mixture, ranks, data, skipped
        self.model = ranks.together(lambda: build_model(config, ranks))
        self.sequence: SequenceParallel | None = None
        if ranks.sequence is not None:
            axis = band_axis(config.model, config.latent_hw, ranks.sequence_size)
            self.sequence = self.model.sequence_parallel = SequenceParallel(ranks.sequence, axis)
        frozen = ((n, whole(p.detach())) for n, p in self.model.named_parameters() if not p.requires_grad)
        self.base = "" if config.lora is None else base_digest(frozen)
        self.optimizers = build_optimizers(self.model, config)
        self.average = WeightAverage(self.model, config.ema_decay)
        self.step = 0
        self.max_distance = 0
        self.seconds = 0.0
        self.tokens = 0
        self.stop_asked = 0

    def steps(self, stop: Callable[[], int] = lambda: 0) -> Iterator[dict[str, Any]]:
        """Train step by step to `config.steps`, or until some rank is asked to stop; gives every step's record.

        Args:
            stop: number of a signal that has asked this rank to stop, else 0.

        Raises:
            RemindError: a loss that is not finite, data that cannot be read, a rank that is gone: on all ranks, before
                the step has moved any weight.
        """
        clips = read_batches(self.mixture, self._sampler(), workers=self._workers())
        while self.step < self.config.steps and not self.stop_asked:
            started = time.perf_counter()
            record = self.train_step(lambda: next(clips), stop)
            self.seconds += time.perf_counter() - started
            yield {**record, "seconds": round(self.seconds, 3)}

    def train_step(self, read: Callable[[], list[MemorySample]], stop: Callable[[], int]) -> dict[str, Any]:
        """One optimiser step; returns its record."""
        prepared, weights = self.prepare(read)
        rate = set_rates(self.optimizers, self.config, self.step)
        record, losses = self.run_passes(prepared, weights)
        norm = self._clip_gradients()
        own = PassReport(record.table, losses, [(p.micro.indices, p.batch.regime) for p in prepared],
                         sum(self._tokens(p.batch) for p in prepared), stop())  # fmt: skip
        reports = self.ranks.agree(lambda: own)
        self._check_finite(reports, norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.step)
        self.tokens += sum(report.tokens for report in reports)
        self.stop_asked = max(report.stop for report in reports)
        table = LossRecord(torch.stack([report.record for report in reports]).sum(0))
        regimes = dict.fromkeys(regime for report in reports for _, regime in report.passes)
        return {"step": self.step, "regime": "+".join(regimes), "loss": math.fsum(x for r in reports for x in r.losses),
                "lr": rate, "grad_norm": norm, "delta_weight": weights.delta_weight, **table.scalars()}  # fmt: skip

    def prepare(self, read: Callable[[], list[MemorySample]]) -> tuple[list[Prepared], LossWeights]:
        """This rank's micro-batches of the step, and what weighs the losses of all of them."""
        config, ranks = self.config, self.ranks
        samples: list[MemorySample] = []
        prepared: list[Prepared] = []

        def read_share() -> list[Schedule]:
            samples.extend(read())
            return schedules_of(samples)

        def assemble_share() -> Tensor:
            groups = plan_groups(config, self.step, graphs)
            total = torch.zeros(())
            for micro in micro_batches(config, self.step, rank=ranks.data_rank, ranks=ranks.data_ranks):
                plans = [plan_clip(config, index, graphs[index - start], groups[micro.group])
                         for index in micro.indices]  # fmt: skip
                clips = [samples[index - first] for index in micro.indices]
                batch = assemble(clips, plans, [noise_of(config, index) for index in micro.indices], config.step)
                batch = replace(batch, x0=band(batch.x0, self.sequence), noise=band(batch.noise, self.sequence))
                prepared.append(Prepared(micro, batch, max(plan.largest_distance for plan in plans)))
                values = LossStatistics.of(batch.x0, batch.supervised).values
                if not values.isfinite().all():  # it would spoil the weights of all other clips, and hide among them
                    raise self._not_finite("latents of the data are not finite", [(micro.indices, batch.regime)])
                total = total + values
            return total

        start = self.step * config.batch_size
        first = rank_indices(self.step, ranks.data_rank, ranks.data_ranks, config.batch_size).start
        answers = ranks.agree(read_share)[:: ranks.sequence_size]
        graphs = [FrameGraph(schedule) for share in answers for schedule in share]
        statistics = LossStatistics(torch.stack(ranks.agree(assemble_share)).sum(0))
        weights = weigh(statistics, config.loss, delta_on=gate(config.loss, self.step, config.steps))
        self.max_distance = max(self.max_distance, *(p.max_distance for p in prepared))
        return prepared, weights

    def run_passes(self, prepared: list[Prepared], weights: LossWeights) -> tuple[LossRecord, list[float]]:
        """Forward and backward over the micro-batches; gradients add up to those of the whole batch's loss."""
        device = self.ranks.device
        record: LossRecord | None = None
        losses: list[Tensor] = []
        for item in prepared:
            batch = item.batch.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                velocity = predict(self.model, batch)
            share, own = loss_share(
                velocity.float(), x0=batch.x0, noise=batch.noise, sigmas=batch.sigmas, supervised=batch.supervised,
                roles=batch.roles, regime=batch.regime, weights=weights,
            )  # fmt: skip
            # FSDP averages gradients over all ranks; they belong added up.
            (share * self.ranks.world_size).backward()
            losses.append(share.detach())
            record = own if record is None else record + own
        assert record is not None
        return LossRecord(record.table.cpu()), torch.stack(losses).tolist()

    def _clip_gradients(self) -> float:
        trained = list(self.average.weights.values())
        norm = torch.nn.utils.clip_grad_norm_(trained, self.config.grad_clip)
        return float(whole(norm))

    def _check_finite(self, reports: list[PassReport], norm: float) -> None:
        """Raises RemindError with the clips of passes whose loss is not finite; with all if only the norm is not."""
        bad = [clips for report in reports for clips, loss in zip(report.passes, report.losses, strict=True)
               if not math.isfinite(loss)]  # fmt: skip
        if not bad and math.isfinite(norm):
            return
        what = "the loss is not finite" if bad else f"the gradient norm is {norm}"
        named = bad or [clips for report in reports for clips in report.passes]
        raise self._not_finite(what, named)

    def _not_finite(self, what: str, passes: list[tuple[range, str]]) -> RemindError:
        clips = "; ".join(f"{regime}: {', '.join(self.name_of(i) for i in indices)}"
                          for indices, regime in dict.fromkeys(passes))  # fmt: skip
        return RemindError(what, got=f"step {self.step + 1}, {clips}", expected="numbers to learn from",
                           fix="look at those clips, or lower the learning rate; --resume starts from the last "
                               "checkpoint")  # fmt: skip

    def name_of(self, index: int) -> str:
        """A clip of the mixture, as a user would know it."""
        which, item = self.mixture.locate(index)
        bank = self.mixture.banks[which]
        clip_id = getattr(bank, "clip_id", None)
        return f"{index} (clip {clip_id(item)})" if clip_id is not None else f"{index} (item {item} of bank {which})"

    def _sampler(self) -> StepSampler:
        return StepSampler(self.config.batch_size, self.config.steps, first_step=self.step, rank=self.ranks.data_rank,
                           world_size=self.ranks.data_ranks)  # fmt: skip

    def _workers(self) -> int:
        """Processes that read ahead; what lies in memory needs none."""
        in_memory = all(isinstance(bank, MemoryBank) for bank in self.mixture.banks)
        return 0 if in_memory else self.config.execution.workers

    def _tokens(self, batch: TrainingBatch) -> int:
        rows, columns = self.config.model.patch_hw
        b, t, _, h, w = batch.x0.shape
        return b * t * (h // rows) * (w // columns)

    @contextmanager
    def averaged_model(self, *, sharded: bool) -> Iterator[CausalVideoDiT | None]:
        """The model with the averaged weights, to look at; all ranks call this.

        Args:
            sharded: every rank gets its own, sharded one: forward passes only, all ranks equally many. Otherwise rank 0
                gets a whole one that computes alone, and the others None.
        """
        if self.ranks.mesh is None or sharded:
            self.model.sequence_parallel = None
            try:
                with self.average.in_model():
                    yield self.model
                    for module in self.model.modules():
                        if isinstance(module, FSDPModule):  # else the root would train on these weights
                            module.reshard()
            finally:
                self.model.sequence_parallel = self.sequence
            return
        state = self.averaged_weights()
        if not self.ranks.first:
            yield None
            return
        model = CausalVideoDiT.empty(self.config.model)
        model.load_state_dict(state, assign=True)
        yield model.to(self.ranks.device).requires_grad_(False)

    @torch.no_grad()
    def averaged_weights(self) -> dict[str, Tensor]:
        """Whole averaged weights under plain names, adapters merged, on the CPU of rank 0; all ranks call this."""
        state: dict[str, Tensor] = {}
        for name, parameter in self.model.named_parameters():
            tensor = whole(self.average.tensors.get(name, parameter.detach()))
            if self.ranks.first:
                state[name] = tensor.cpu()
        return merge(state, 1.0 if self.config.lora is None else self.config.lora.scale)

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint keeps of this rank's, in place; frozen weights are where they came from."""
        return {
            **{f"model.{name}": weight.detach() for name, weight in self.average.weights.items()},
            **{f"average.{name}": tensor for name, tensor in self.average.tensors.items()},
            **{f"optimizer.{name}": t for name, t in state_tensors(self.model, self.optimizers).items()},
        }

    def save(self, out: Path) -> Path:
        """Write the checkpoint of this step; all ranks call this.

        Raises:
            CheckpointError: it cannot be written; earlier ones stay as they were.
        """
        state = RunState(
            self.step, self.step * self.config.batch_size, self.max_distance, self.seconds, self.tokens,
            torch.get_num_threads(), self.ranks.world_size, run_checkpoint.decisive(self.config), self.data,
            self.skipped, self.base,
        )  # fmt: skip
        return run_checkpoint.save(out, self.tensors(), state, self.ranks)

    def resume(self, folder: Path) -> list[str]:
        """Go on from a checkpoint; all ranks call this. Returns what may make sums round otherwise than before.

        Raises:
            CheckpointError: a damaged checkpoint.
            InputError: one of another run.
        """
        state = self.ranks.together(lambda: run_checkpoint.read_state(folder))
        mine = run_checkpoint.decisive(self.config)
        other = sorted(key for key in mine.keys() | state.config.keys() if mine.get(key) != state.config.get(key))
        if other:
            raise InputError("the run folder holds another run", got=f"other values of {other}",
                             fix="use its own options, or another --out")
        if state.data != self.data:
            raise InputError("the data are no longer those that the run began with", got=self.data[:12],
                             expected=state.data[:12], fix="use the same store and latents, or another --out")
        if state.base != self.base:
            raise InputError("the adapters were trained on another base", got=f"{self.config.init_from}, changed",
                             expected=state.base[:12], fix="put the checkpoint that the run began with back")
        run_checkpoint.load(folder, self.tensors(), self.ranks)
        self.step, self.max_distance = state.step, state.max_distance
        self.seconds, self.tokens = state.seconds, state.tokens
        differs = []
        if torch.get_num_threads() != state.threads:
            differs.append(f"{torch.get_num_threads()} threads instead of {state.threads}")
        if self.ranks.world_size != state.world_size:
            differs.append(f"{self.ranks.world_size} ranks instead of {state.world_size}")
        return differs
