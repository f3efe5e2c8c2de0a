"""`remind eval world`: the exact benchmark of hidden state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from remind.errors import InputError


def world(
    out: Path,
    checkpoint: str = "",
    base: Path | None = None,
    control: Literal["freeze", "reset", "copy-anchor", "linear", "middle", "oracle"] | None = None,
    videos: Path | None = None,
    inputs: bool = False,
    mode: Literal["v2v", "i2v"] = "v2v",
    test_set: Literal["world-v1", "world-v1-validation"] = "world-v1",
    memory_noise: float = 0.0,
    knock_out: Literal["rebuild", "direct"] | None = None,
    size: tuple[int, int] = (32, 32),
    limit: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    retry: bool = False,
) -> None:
    """Measure whether what was hidden went on: state progress and four more, exact, on a fixed set of rendered clips.

    Give a checkpoint, a control of known behaviour, or a folder of anyone's videos. Kill it at any time and run it
    again: it goes on where it was. Writes OUT/scores.json, OUT/report.html, and the video and record of every clip.
    Compare runs with `remind eval report`.

    Args:
        out: The folder of this evaluation.
        checkpoint: A shipped checkpoint (nano), a run folder, or weights of the Wan family.
        base: A local Wan pipeline, where the checkpoint needs its VAE and text encoder.
        control: Score a control instead: the truth (oracle), a drawn-on line (linear), a world that stops (freeze),
            jumps back (reset) or is a repeated picture (copy-anchor), or the middle of the range.
        videos: Score these instead: ID.mp4 each, whole, with what was given; 81 frames.
        inputs: Measure nothing: write to OUT what another model needs to take the test (frames, prefixes, prompts,
            cameras).
        mode: v2v gives all before the view returns, i2v the first frame; prompts then ask for the interruption.
        test_set: world-v1 reports; its twin, of other seeds and without what is held out, is for choosing.
        memory_noise: Noise level at which the checkpoint remembers, 0 to 1.
        knock_out: Take away every chunk that shows the state before anything is generated (v2v): rebuild writes memory
            again without them, direct hides them.
        size: Height and width, px, of inputs, controls and the clips behind --videos; a checkpoint has its own.
        limit: Only the first so many clips, for a try.
        seed: Of the noise.
        device: auto, cpu, cuda or mps.
        retry: Try again what failed.
    """
    from rich.console import Console

    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.suite_report import write_suite_report
    from remind.evaluation.world_files import scored_hw
    from remind.evaluation.world_run import identity_of, limits_at, run_maker, run_videos, videos_of
    from remind.evaluation.world_suite import whole_suite
    from remind.evaluation.world_summary import summarise
    from remind.training.machine import git_commit, machine_facts
    from remind.training.progress import progress_bar

    if [bool(checkpoint), control is not None, videos is not None, inputs].count(True) != 1:
        raise InputError("one thing is scored at a time",
                         expected="one of --checkpoint, --control and --videos, or --inputs alone")  # fmt: skip
    if not checkpoint and (memory_noise or knock_out):
        raise InputError("only a checkpoint has a memory", got="--memory-noise or --knock-out without --checkpoint")
    if knock_out and mode == "i2v":
        raise InputError("only what was given can be knocked out", got="--mode i2v with --knock-out")
    if not 0 <= memory_noise < 1:
        raise InputError("noise on memory is a noise level", got=memory_noise, expected="0 <= sigma < 1")
    console = Console(stderr=True)
    suite = whole_suite(test_set).first(limit)
    scored_hw(size)  # refuses what cannot be measured
    suite.check_pixels()
    if inputs:
        _write_inputs(suite, out, size, console)
        return
    found = maker = None
    if videos is not None:  # what is wrong with the folder shows before anything is written
        found, made_by, hw = videos_of(suite, videos), {"videos": videos.resolve().name}, size
    else:
        maker = _maker(checkpoint, base, control, size=size, seed=seed, memory_noise=memory_noise, knock_out=knock_out,
                       device=device)  # fmt: skip
        made_by, hw = maker.identity(), maker.hw
    limits = limits_at(scored_hw(hw))
    run = EvalRun(out, identity_of(suite, mode, hw, made_by, limits=limits), [case.id for case in suite.cases])
    extra = () if found is None else found.extra
    done = 0 if maker is None else len(suite.cases) - len(run.todo(retry_failed=retry))
    with progress_bar("world", console, total=len(suite.cases), done=done) as (bar, task):
        if maker is not None:
            run_maker(run, suite, maker, limits, mode, retry_failed=retry, advance=lambda n: bar.advance(task, n))
        elif found is not None:
            run_videos(run, suite, found, hw, limits, mode, advance=lambda n: bar.advance(task, n))
    whole = run.finish(summarise(run.records(), mode, extra=extra))
    _print_headline(whole["summary"], console)
    write_suite_report([out], out, title=f"{test_set}, {mode.upper()}: {out.resolve().name}",
                       machine={**machine_facts(), "commit": git_commit()})  # fmt: skip
    counts = whole["counts"]
    print(f"{counts['scored']} clips scored, {counts['failed']} failed {counts['reasons'] or ''}".rstrip())
    if extra:
        print(f"{len(extra)} files that no clip expects: {', '.join(extra[:5])}")
    print(out / "scores.json")
    print(out / "report.html")


def _maker(checkpoint: str, base: Path | None, control: str | None, *, size: tuple[int, int], seed: int,
           memory_noise: float, knock_out: Any, device: str) -> Any:  # fmt: skip
    from remind.eval_commands.model_under_test import load_model
    from remind.evaluation.world_files import scored_hw
    from remind.evaluation.world_makers import ControlMaker, ModelMaker

    if control is not None:
        return ControlMaker(control.replace("-", "_"), scored_hw(size))  # type: ignore[arg-type]
    pipe, facts = load_model(checkpoint, base=base, device=device)
    small = min(pipe.hw) <= 64
    return ModelMaker(pipe, facts, seed, memory_noise, knock_out, batch=16 if small else 1)


def _print_headline(summary: Any, console: Any) -> None:
    """The first table turned: a line a measure, which fits a terminal."""
    from remind.eval_commands.printed_tables import print_tables

    first = summary["tables"][0]
    columns = list(first["rows"][0]["cells"])
    turned = [{"name": column, "cells": {line["name"]: line["cells"][column] for line in first["rows"]}}
              for column in columns]  # fmt: skip
    print_tables({"tables": [{**first, "rows": turned}]}, console)


def _write_inputs(suite: Any, out: Path, size: tuple[int, int], console: Any) -> None:
    from remind.evaluation.world_inputs import write_inputs
    from remind.training.progress import progress_bar

    with progress_bar("inputs", console, total=len(suite.cases)) as (bar, task):
        write_inputs(suite, out, size, advance=lambda n: bar.advance(task, n))
    print(f"wrote the inputs of {len(suite.cases)} clips to {out}; see {out / 'README.txt'}")
