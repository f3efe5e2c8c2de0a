"""The demo: held-out world clips through every model and control, measured, on one page."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import resources
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from remind.data.world_clips import HIDING_KINDS, TEST_SEEDS, WorldClip, make_world_clip
from remind.errors import InputError
from remind.evaluation.aggregate import aggregate, compare
from remind.evaluation.calibration import Calibration
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import CONTROLS, run_control
from remind.evaluation.kv_importance import KVImportance
from remind.evaluation.layout_glances import LayoutGlances
from remind.evaluation.report import ReportData, write_report
from remind.evaluation.report_examples import make_example
from remind.evaluation.world_benchmark import CaseScore, is_eligible, motion_of, score_video
from remind.inference.pipeline import SHIPPED, RecoveryTask, RemindPipeline
from remind.inference.samplers import Sampler
from remind.models.codec import LinearCodec
from remind.recipes import recipe
from remind.recipes.validators import make_validator
from remind.training.launch import train
from remind.training.machine import git_commit, machine_facts
from remind.training.progress import progress_bar
from remind.training.run_checkpoint import latest
from remind.world import FAMILIES

MODELS = ("remind", "base", "matched", "remind_anchor_knocked_out")
SHOWN = ("remind", "base", "freeze")
Videos = dict[str, np.ndarray]


@dataclass(frozen=True)
class DemoClip:
    """A test clip by what makes it again: worker processes get this, not tensors."""

    seed: int
    family: str
    kind: str
    hw: tuple[int, int]

    def render(self) -> WorldClip:
        return make_world_clip(self.seed, hw=self.hw, family=self.family, kind=self.kind)  # type: ignore[arg-type]


def choose_clips(num_clips: int, hw: tuple[int, int]) -> list[DemoClip]:
    """Test clips, walking through families and interruptions in turn; nothing is picked by its result."""
    families = sorted(FAMILIES)
    return [
        DemoClip(TEST_SEEDS.start + i, families[i % len(families)],
                 HIDING_KINDS[(i + i // len(families)) % len(HIDING_KINDS)], hw)
        for i in range(num_clips)
    ]


def run_demo(out: Path, *, from_scratch: bool, num_clips: int, seed: int, console: Console | None = None) -> None:
    """Generate, measure and write `out/report.html` and `out/summary.json`.

    Raises:
        InputError: too few clips, or a folder that cannot be written.
    """
    console = console or Console(stderr=True)
    if num_clips < 2:
        raise InputError("the demo needs clips to compare", got=num_clips, expected="2 or more")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".write-test").touch()
        (out / ".write-test").unlink()
    except OSError as error:
        raise InputError("the output folder cannot be written", got=f"{out}: {error.strerror}",
                         fix="choose a folder that you can write to") from None
    started = time.perf_counter()
    names: dict[str, str | Path] = dict(zip(("remind", "base", "matched"), SHIPPED, strict=True))
    if from_scratch:
        names["remind"] = out / "nano"
        train(recipe("nano"), out / "nano", resume=latest(out / "nano") is not None, console=console,
              validator_factory=make_validator)
    pipelines = {name: RemindPipeline.from_pretrained(where) for name, where in names.items()}
    hw = pipelines["remind"].hw

    clips = choose_clips(num_clips, hw)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        with progress_bar("rendering test clips", console, total=num_clips) as (bar, task):
            cases = []
            for clip in clips:
                cases.append(clip.render())
                bar.advance(task)
        videos, image_videos, importance = generate_all(pipelines, cases, seed, console)
        scores: list[dict[str, CaseScore]] = []
        image_scores: list[dict[str, CaseScore]] = []
        with progress_bar("measuring", console, total=num_clips) as (bar, task):
            per_clip = [{name: frames[i] for name, frames in videos.items()} for i in range(num_clips)]
            per_image = [{name: frames[i] for name, frames in image_videos.items()} for i in range(num_clips)]
            for found, found_image in pool.map(score_clip, clips, per_clip, per_image):
                scores.append(found)
                image_scores.append(found_image)
                bar.advance(task)

    by_model = {name: [found[name] for found in scores] for name in (*MODELS, *CONTROLS)}
    with progress_bar("writing the report", console, total=None):
        data = ReportData(
            world={name: aggregate(found) for name, found in by_model.items()},
            machine=machine_facts(),
            commit=git_commit(),
            run={
                "command": "remind " + " ".join(sys.argv[1:]),
                "clips": num_clips,
                "frame size": f"{hw[0]}x{hw[1]} px, 81 frames at 16 fps",
                "seed of the noise": seed,
                "seconds until here": round(time.perf_counter() - started),
                **{f"checkpoint {name}": describe(pipeline) for name, pipeline in pipelines.items()},
            },
            examples=[show(cases[i], {n: per_clip[i][n] for n in MODELS if n in per_clip[i]}, scores[i])
                      for i in choose_examples(cases, scores)],
            kv_importance=importance,
            comparisons={f"remind - {other}": compare(by_model["remind"], by_model[other])
                         for other in ("matched", "base", "remind_anchor_knocked_out", "middle")},
            world_i2v={name: aggregate([found[name] for found in image_scores]) for name in image_scores[0]},
            extra={"cases": {name: [score.to_json() for score in found] for name, found in by_model.items()}},
        )
        write_report(out / "report.html", data)
    headline = data.world["remind"]["state_progress"]
    console.print(f"state progress of remind: mean {headline['mean']:.2f}, median {headline['median']:.2f} "
                  f"over {headline['n']} clips; {time.perf_counter() - started:.0f} s in all")
    print(out / "report.html")


def describe(pipeline: RemindPipeline) -> str:
    """One line on where a checkpoint comes from."""
    c = pipeline.config
    return (f"{c.get('command', 'unknown command')}, {c.get('steps_done')} steps, "
            f"{c.get('train_seconds', 0) / 60:.0f} min of steps, commit {c.get('commit')}, seed {c.get('seed')}")


def generate_all(
    pipelines: dict[str, RemindPipeline], cases: Sequence[WorldClip], seed: int, console: Console
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]], dict[str, KVImportance]]:
    """V2V of every model, I2V of the two that know interruptions, and what the models looked at."""
    tasks = [RecoveryTask(case.degraded, case.schedule, seed * 1_000_003 + i) for i, case in enumerate(cases)]
    sampler = Sampler()
    glances = {name: LayoutGlances([case.graph for case in cases]) for name in ("remind", "base")}
    videos: dict[str, list[np.ndarray]] = {}
    image_videos: dict[str, list[np.ndarray]] = {}
    with progress_bar("generating", console, total=(len(MODELS) + 2) * len(cases)) as (bar, task):
        for name in MODELS:
            pipeline = pipelines["remind" if name == "remind_anchor_knocked_out" else name]
            frames = pipeline.recover(
                tasks, sampler=sampler,
                knock_out_anchors="rebuild" if name == "remind_anchor_knocked_out" else None,
                glance=glances.get(name),
                progress=lambda done: bar.advance(task, done),
            )
            videos[name] = [f.numpy() for f in frames]
        for name in ("remind", "matched"):
            frames = pipelines[name].image_to_video(tasks, sampler=sampler,
                                                    progress=lambda done: bar.advance(task, done))
            image_videos[name] = [f.numpy() for f in frames]
    return videos, image_videos, {name: seen.result() for name, seen in glances.items()}


@cache
def _worker_tools() -> tuple[Calibration, LinearCodec]:
    torch.set_num_threads(1)
    folder = Path(str(resources.files("remind") / "assets"))
    return Calibration.load(folder / "calibration-32.json"), LinearCodec.load()


def score_clip(
    clip: DemoClip, videos: Videos, image_videos: Videos
) -> tuple[dict[str, CaseScore], dict[str, CaseScore]]:
    """Score all videos of one clip, controls included; runs in a worker process."""
    calibration, codec = _worker_tools()
    case = clip.render()
    meter = CaseMeter(case)

    def round_trip(rgb: torch.Tensor) -> torch.Tensor:
        return codec.decode(codec.encode(rgb[None]))[0]

    found = {name: score_video(case, torch.from_numpy(rgb), meter, calibration) for name, rgb in videos.items()}
    for control in CONTROLS:
        found[control] = score_video(case, run_control(control, meter, round_trip=round_trip), meter, calibration)
    images = {name: score_video(case, torch.from_numpy(rgb), meter, calibration, generated_from=1)
              for name, rgb in image_videos.items()}
    return found, images


def choose_examples(cases: Sequence[WorldClip], scores: Sequence[dict[str, CaseScore]], count: int = 8) -> list[int]:
    """Clips to show: one per interruption and per rank of ReMind's progress (best, middle, worst), honestly."""
    chosen: list[int] = []
    for kind in HIDING_KINDS:
        ranked = sorted(
            (i for i, case in enumerate(cases) if case.recipe.kind == kind and motion_of(case) == "ramp"
             and is_eligible(case) and scores[i]["remind"].progress is not None),
            key=lambda i: abs(1 - (scores[i]["remind"].progress or 0.0)),
        )
        if ranked:
            chosen += [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    return list(dict.fromkeys(chosen))[:count]


def show(case: WorldClip, videos: Videos, scores: dict[str, CaseScore]) -> Any:
    """One example of the report."""
    meter = CaseMeter(case)
    frames = {name: torch.from_numpy(videos[name]) for name in SHOWN if name in videos}
    codec = LinearCodec.load()
    frames["freeze"] = run_control("freeze", meter, round_trip=lambda x: codec.decode(codec.encode(x[None]))[0])
    return make_example(meter, frames, {name: scores[name] for name in frames})
