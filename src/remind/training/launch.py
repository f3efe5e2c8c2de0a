"""From a config to a finished run folder: banks, trainer, progress, records."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from remind import __version__
from remind.data.clip_store import ClipStore
from remind.data.dataset import Mixture
from remind.errors import InputError
from remind.models.codec import LinearCodec
from remind.training.config import TrainConfig
from remind.training.data_source import open_data
from remind.training.trainer import Trainer, plans_of_step


def machine_facts() -> dict[str, object]:
    """What a run was made on: processor, cores, python, torch."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines()
                 if line.startswith("model name")]
        processor = names[0] if names else processor
    return {"processor": processor, "threads": torch.get_num_threads(), "system": platform.system(),
            "python": platform.python_version(), "torch": torch.__version__, "remind": __version__}


def git_commit() -> str:
    """Commit of the checkout that this package runs from, "+dirty" if it was changed, or the version."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True,
                              timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return f"version {__version__}"


def make_mixture(config: TrainConfig, store: Path | None, *, workers: int, console: Console) -> Mixture:
    """The world bank, and the clips of a store beside it."""
    return open_data(replace(config, data=store), console, workers=workers).mixture


class progress_bar:
    """`with progress_bar(text, console) as (bar, task)`: a bar with count, speed and ETA."""

    def __init__(self, text: str, console: Console, total: int | None = None):
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console,
        )
        self.text, self.total = text, total

    def __enter__(self) -> tuple[Progress, Any]:
        self.bar.start()
        return self.bar, self.bar.add_task(self.text, total=self.total, note="")

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def prepare_folder(out: Path, *, resume: bool) -> None:
    """Make the run folder.

    Raises:
        InputError: it cannot be written, it holds a run and `resume` was not asked for, or the other way round.
    """
    if resume and not (out / "state.pt").exists():
        raise InputError("there is nothing to resume", got=out, expected="state.pt in it", fix="leave out --resume")
    if (out / "state.pt").exists() and not resume:
        raise InputError("the run folder already holds a run", got=out, fix="add --resume, or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError("the run folder cannot be written", got=f"{out}: {error.strerror}",
                         fix="choose a folder that you can write to") from None


def licences_of(store: Path) -> str:
    """The terms of a store's clips with their numbers, as a checkpoint carries them on."""
    counts = Counter(ClipStore.open(store).index["licence"].to_pylist())
    named = ", ".join(f"{licence or 'unknown'} ({count})" for licence, count in counts.most_common(8))
    return f" and on clips under: {named}" + (", and more" if len(counts) > 8 else "")


def train(
    config: TrainConfig,
    out: Path,
    *,
    store: Path | None = None,
    resume: bool = False,
    workers: int = 2,
    console: Console | None = None,
) -> None:
    """Run a recipe to its end; `out` gets model.safetensors, config.json, metrics.jsonl and state.pt.

    Raises:
        RemindError: a folder, store or run that does not fit, or a loss that is not finite.
    """
    console = console or Console(stderr=True)
    if not 0 < config.world_share < 1 and store is not None:
        raise InputError("the share of world clips must leave room for the store", got=config.world_share,
                         expected="between 0 and 1")
    prepare_folder(out, resume=resume)
    mixture = make_mixture(config, store, workers=workers, console=console)
    trainer = Trainer(config, mixture, out, {
        "codec": LinearCodec.load().digest,
        "command": "remind " + " ".join(sys.argv[1:]),
        "commit": git_commit(),
        "seed": config.seed,
        "data": {"world_clips": config.bank_size, "store": None if store is None else str(store)},
        "machine": machine_facts(),
        "licence": "Apache-2.0; trained on the embedded world" + ("" if store is None else licences_of(store)),
    })
    if resume:
        trainer.resume()
        console.print(f"resumed at step {trainer.step}")
    elif (out / "metrics.jsonl").exists():
        (out / "metrics.jsonl").unlink()
    parameters = sum(p.numel() for p in trainer.model.parameters())
    console.print(f"{config.recipe} ({config.arm}): {parameters:,} parameters, {config.steps} steps of "
                  f"{config.batch_size} clips of {config.hw[0]}x{config.hw[1]} px")
    with progress_bar("training", console, total=config.steps) as (bar, task):

        def report(step: int, record: dict[str, Any]) -> None:
            bar.update(task, completed=step,
                       note=f"loss {record['loss']:.3f}  {step / max(record['seconds'], 1e-9):.2f} steps/s")
            if not console.is_terminal and step % 50 == 0:
                console.print(json.dumps({k: record[k] for k in ("step", "regime", "flow", "seconds")}))

        trainer.run(report)
    console.print(f"wrote {out}/model.safetensors after {trainer.seconds / 60:.1f} minutes of steps")


def show_plans(config: TrainConfig, console: Console, *, num_steps: int = 12) -> None:
    """Print one plan of each regime that the first steps draw."""
    mixture = make_mixture(replace(config, bank_size=max(config.batch_size, 8)), None, workers=1, console=console)
    seen: set[str] = set()
    for step in range(num_steps * 4):
        samples, plans = plans_of_step(config, mixture, step)
        if plans[0].regime not in seen:
            seen.add(plans[0].regime)
            console.print(f"step {step}, first clip of the batch, graph {samples[0].graph.draw()} "
                          "(A anchor, x degraded, R recovery)", markup=False)
            console.print(plans[0].draw(), markup=False)
