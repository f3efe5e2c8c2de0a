"""From a config to a finished run folder, alone or under torchrun.

    RUN/run.json  sessions.jsonl                what decides the run; what every session took
    RUN/metrics.jsonl  tensorboard/             one record a step; the same to look at
    RUN/checkpoints/step-00000200/              to go on from
    RUN/model.safetensors  config.json          the averaged weights, for users
    RUN/best/model.safetensors  config.json     those of the best validation
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from remind.data.mixture import Mixture
from remind.errors import InputError, RemindError
from remind.frame_graph import Schedule
from remind.models.checkpoint import save_checkpoint
from remind.prompt_schedule import chunk_prompts
from remind.sequence_plan import SequencePlan
from remind.training import run_checkpoint
from remind.training.batches import plans_of_step
from remind.training.config import TrainConfig
from remind.training.data_source import open_data
from remind.training.distributed import Ranks, is_collective_failure, rank_lost, started_ranks
from remind.training.machine import git_commit, machine_facts
from remind.training.metrics_file import MetricsFile
from remind.training.placed_model import initial_weights
from remind.training.progress import progress_bar
from remind.training.run_record import SessionLog, device_name, write_record
from remind.training.stop_signal import outcome, watched_signals
from remind.training.tracking import Tracker, make_tracker
from remind.training.trainer import Trainer
from remind.training.validation import LossValidator
from remind.validation import Validator

SMALL = 200_000_000
"""Parameters of models whose averaged weights are written at every checkpoint; those of larger ones at the end."""
LINE_EVERY = 50
ValidatorFactory = Callable[[TrainConfig, Mixture | None], Validator | None]
"""Makes what `config.validation` asks for, of the config and the held-out clips; None if it asks for nothing."""


def train(
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    validator_factory: ValidatorFactory | None = None,
) -> None:
    """Run a config to its end, or until a signal asks to stop; every process of a run calls this.

    SIGTERM, SIGINT and SIGUSR1 end the run after the current step with a checkpoint: with exit code 143, 130 and 0.

    Args:
        out: run folder.
        resume: go on from its last checkpoint.
        console: where rank 0 says how it goes; standard error if None. The other ranks say nothing.
        validator_factory: makes what looks at the averaged weights every `config.validation.every` steps.

    Raises:
        RemindError: on rank 0, whichever rank had it; the others leave with exit code 2.
    """
    rank = int(os.environ.get("RANK", "0"))
    try:
        with started_ranks(config.execution) as ranks:
            shown = (console or Console(stderr=True)) if ranks.first else Console(quiet=True)
            stopped_by = _Session(config, out, ranks, shown, validator_factory).run(resume=resume)
    except Exception as error:
        lost = is_collective_failure(error)  # whichever collective met it: of weights, of gradients, of a checkpoint
        if rank != 0 and (lost or isinstance(error, RemindError)):
            raise SystemExit(2) from None
        if lost:
            raise rank_lost(error) from None
        raise
    ending = outcome(stopped_by) if stopped_by else None
    if ending is not None:
        raise ending


class _Session:
    """One session of a run on one rank: from its folder as it is to its folder with more steps done."""

    def __init__(self, config: TrainConfig, out: Path, ranks: Ranks, console: Console,
                 validator_factory: ValidatorFactory | None):  # fmt: skip
        self.config, self.out, self.ranks, self.console = config, out, ranks, console
        self.validator_factory = validator_factory
        self.tracker: Tracker | None = None
        self.log: SessionLog | None = None
        self.saved_at = -1
        self.started = time.perf_counter()

    def run(self, *, resume: bool) -> int:
        """Train; gives the number of the signal that ended it early, or 0."""
        ranks, config, out = self.ranks, self.config, self.out
        folder = ranks.together(lambda: prepare_folder(out, resume=resume, writes=ranks.first))
        if config.init_from is not None:  # what is wrong with it shows before anything is rendered
            ranks.together(lambda: initial_weights(config))
        self.source = ranks.together(lambda: open_data(config, self.console, workers=config.execution.workers,
                                                       first=ranks.first))  # fmt: skip
        self.validator = ranks.together(self._make_validator)
        self.trainer = Trainer(config, self.source.mixture, ranks, data=self.source.facts["sha256"])
        if folder is not None:
            for difference in self.trainer.resume(folder):
                self.console.print(f"resumed with {difference}: losses agree to rounding, not bit for bit")
            self.console.print(f"resumed at step {self.trainer.step}")
        self.saved_at = self.trainer.step if folder is not None else -1
        metrics: MetricsFile | None = None
        if ranks.first:
            metrics = MetricsFile(out / "metrics.jsonl", self.trainer.step)
            facts = write_record(out, config, command=["remind", *sys.argv[1:]], data=self.source.facts,
                                 world_size=ranks.world_size, resumed=folder is not None)  # fmt: skip
            self.log = SessionLog(
                out, facts, step=self.trainer.step, tokens=self.trainer.tokens, device=device_name(ranks.device),
                devices=ranks.world_size, seconds_before=time.perf_counter() - self.started,
            )  # fmt: skip
            self.tracker = make_tracker(out, config.execution.trackers, step=self.trainer.step)
        try:
            stopped_by = self._loop(metrics)
            if self.log is not None:
                why = signal.Signals(stopped_by).name if stopped_by else "done"
                self.log.end(self.trainer.step, self.trainer.tokens, why)
            return stopped_by
        finally:
            for opened in (metrics, self.tracker):
                if opened is not None:
                    opened.close()

    def _loop(self, metrics: MetricsFile | None) -> int:
        config, trainer = self.config, self.trainer
        parameters = sum(p.numel() for p in trainer.model.parameters())
        self.console.print(
            f"{config.recipe} ({config.arm}): {parameters:,} parameters, {config.steps} steps of {config.batch_size} "
            f"clips of {config.hw[0]}x{config.hw[1]} px on {self.ranks.world_size} x {self.ranks.device.type}"
        )
        first_step, started = trainer.step, time.perf_counter()
        with watched_signals() as asked, progress_bar("training", self.console, config.steps, done=first_step) as (
            bar, task,
        ):  # fmt: skip
            for record in trainer.steps(lambda: asked.number or 0):
                last = trainer.step == config.steps or trainer.stop_asked != 0
                best = self._validate(record) if self._due(config.validation.every, last=False) else False
                if metrics is not None and self.log is not None:
                    metrics.write(record)
                    self.log.step(trainer.step, trainer.tokens)
                self._track(record)
                if best or self._due(config.execution.checkpoint_every, last=last):
                    self._save(parameters, best=best)
                rate = (trainer.step - first_step) / (time.perf_counter() - started)
                bar.update(task, completed=trainer.step, note=f"loss {record['loss']:.3f}  {rate:.2f} steps/s")
                if not self.console.is_terminal and (trainer.step % LINE_EVERY == 0 or last):
                    left = timedelta(seconds=round((config.steps - trainer.step) / rate))
                    self.console.print(f"step {trainer.step} of {config.steps}: loss {record['loss']:.4f}, "
                                       f"{record['regime']}, {rate:.2f} steps/s, {left} left")  # fmt: skip
        if trainer.step < config.steps:
            name = signal.Signals(trainer.stop_asked).name
            self.console.print(f"stopped at step {trainer.step} by {name}; --resume goes on from there")
            return trainer.stop_asked
        self._write_weights(self.out)
        self.console.print(f"wrote {self.out}/model.safetensors after {trainer.seconds / 60:.1f} minutes of steps")
        return 0

    def _due(self, every: int, *, last: bool) -> bool:
        return last or (every > 0 and self.trainer.step % every == 0)

    def _track(self, record: dict[str, Any]) -> None:
        if self.tracker is not None:
            numbers = {k: float(v) for k, v in record.items() if k != "step" and isinstance(v, int | float)}
            self.tracker.scalars(self.trainer.step, numbers)

    def _validate(self, record: dict[str, Any]) -> bool:
        """Look at the averaged weights on rank 0; adds to the record. Returns whether they are the best so far.

        A loss is measured in the precision of training. A rollout is not: its cache is of the type of the weights.
        """
        by_loss = self.config.validation.by == "loss"
        precision = torch.autocast(self.ranks.device.type, torch.bfloat16,
                                   enabled=by_loss and self.config.precision == "bf16")  # fmt: skip
        with self.trainer.averaged_model(sharded=by_loss) as model, precision:

            def look() -> float:
                if model is None or self.validator is None:
                    return 0.0
                found = self.validator(model)
                record.update({f"validation/{name}": value for name, value in found.scalars.items()})
                record["validation/score"] = found.score
                if self.tracker is not None:
                    for name, rgb in found.pictures.items():
                        self.tracker.picture(self.trainer.step, f"validation/{name}", rgb)
                return found.score

            score = self.ranks.agree(look)[0]
        before = self.ranks.agree(lambda: run_checkpoint.read_best(self.out))[0]
        if before is not None and before[0] < self.trainer.step and score <= before[1]:
            return False
        if self.ranks.first:
            run_checkpoint.write_best(self.out, self.trainer.step, score)
        return True

    def _make_validator(self) -> Validator | None:
        """Rank 0 generates with a model of its own; where forward passes are enough, all ranks share them."""
        config = self.config
        alone = config.validation.by == "world"
        if not config.validation.every or (alone and not self.ranks.first):
            return None
        if self.validator_factory is None:
            raise InputError("validation was asked for, and this caller offers none", got=config.validation,
                             fix="set validation.every to 0, or pass validator_factory")
        validator = self.validator_factory(config, self.source.held_out)
        if isinstance(validator, LossValidator) and self.ranks.mesh is not None:
            validator.group = dist.group.WORLD
        return validator

    def _save(self, parameters: int, *, best: bool) -> None:
        if self.saved_at != self.trainer.step:
            self.trainer.save(self.out)
            self.saved_at = self.trainer.step
            if self.log is not None:
                run_checkpoint.retain(self.out, self.config.execution.keep)
                self.log.saved(self.trainer.step, self.trainer.tokens)
        if best:
            self._write_weights(self.out / "best")
        if parameters <= SMALL and self.trainer.step < self.config.steps:
            self._write_weights(self.out)

    def _write_weights(self, folder: Path) -> None:
        """The averaged weights and all that made them, by rank 0."""
        trainer, config = self.trainer, self.config
        state = trainer.averaged_weights()
        if not self.ranks.first:
            return
        about = {
            "train": run_checkpoint.plain(config), "steps_done": trainer.step,
            "train_seconds": round(trainer.seconds, 1), "codec": self.source.facts["encoders"]["latents"],
            "command": "remind " + " ".join(sys.argv[1:]), "commit": git_commit(), "seed": config.seed,
            "data": self.source.facts, "machine": machine_facts(), "world_size": self.ranks.world_size,
            "licence": self.source.licence,
        }  # fmt: skip
        try:
            save_checkpoint(folder, replace(config.model, max_trained_distance=trainer.max_distance), state, about)
        except Exception as error:  # safetensors has a type of its own for a full disk
            raise InputError("the averaged weights could not be written", got=f"{folder}: {error}",
                             fix="make room on the disk, then --resume: the last checkpoint is good") from None


def prepare_folder(out: Path, *, resume: bool, writes: bool = True) -> Path | None:
    """Make the run folder; gives the checkpoint to go on from, None for a new run.

    Args:
        writes: whether this process makes the folder; the other ranks only look.

    Raises:
        InputError: it cannot be written, it holds a run and `resume` was not asked for, or the other way round.
    """
    found = run_checkpoint.latest(out)
    if resume and found is None:
        raise InputError("there is nothing to resume", got=out, expected=f"{out / run_checkpoint.FOLDER}/step-...",
                         fix="leave out --resume")  # fmt: skip
    if found is not None and not resume:
        raise InputError("the run folder already holds a run", got=out, fix="add --resume, or choose another --out")
    if not writes:
        return found
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".write-test"
        probe.touch()
        probe.unlink()
        if found is None:  # of a run that was killed before its first checkpoint
            (out / "metrics.jsonl").unlink(missing_ok=True)
    except OSError as error:
        raise InputError("the run folder cannot be written", got=f"{out}: {error.strerror}",
                         fix="choose a folder that you can write to") from None
    return found


def show_plans(
    config: TrainConfig, console: Console, *, picture: Path | None = None, num_steps: int = 48
) -> None:
    """Print one plan of each regime that the run draws.

    Args:
        picture: draw them into this file too, .png or .svg.
        num_steps: steps to look at from the first on; where they lack a regime, as many are tried over the whole run,
            since a curriculum may bring it late.

    Raises:
        RemindError: data that cannot be read, or a picture that cannot be written.
    """
    few = replace(config, bank_size=config.bank_size and max(config.batch_size, 8))
    mixture = open_data(few, console, workers=1).mixture
    from remind.training.plan_picture import colored, save_plans  # matplotlib takes a second

    first = range(min(num_steps, config.steps))
    spread = (round(i * (config.steps - 1) / num_steps) for i in range(num_steps + 1))
    shown: dict[str, SequencePlan] = {}
    told: list[tuple[str, ...]] = []
    for step in dict.fromkeys((*first, *spread)):
        if len(shown) == len(config.curriculum.regimes):
            break
        samples, plans = plans_of_step(config, mixture, step)
        for sample, plan in zip(samples, plans, strict=True):
            if plan.regime not in shown:
                schedule = sample.recipe.schedule(sample.num_frames)
                shown[plan.regime] = plan
                told.append(plan.told(chunk_prompts("", Schedule(sample.num_frames)), chunk_prompts("", schedule)))
                console.print(f"step {step}, graph {sample.graph.draw()} (A anchor, x degraded, R recovery)",
                              markup=False)  # fmt: skip
                console.print(colored(plan, told[-1]), soft_wrap=True)
    missing = [regime for regime in config.curriculum.regimes if regime not in shown]
    if missing:
        console.print(f"not drawn in the steps looked at: {', '.join(missing)}")
    if picture is not None:
        save_plans(list(shown.values()), picture, told=told)
        console.print(f"drew {picture}")
