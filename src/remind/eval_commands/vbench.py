"""`remind eval vbench`: VBench I2V, from the official task list to its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from remind.errors import InputError


def vbench(
    tasks: Path,
    out: Path,
    checkpoint: str = "",
    base: Path | None = None,
    images: Path | None = None,
    videos: Path | None = None,
    results: Path | None = None,
    vbench_root: Path | None = None,
    vbench_python: str = "",
    vbench_device: str = "cuda",
    ratio: str = "",
    name: str = "",
    limit: int | None = None,
    seed: int = 42,
    device: str = "auto",
) -> None:
    """Score a model on VBench I2V (Table 1): official dimensions, normalisation and weights, and the paper's groups.

    Give a checkpoint and the folder of pictures, a folder of videos named PROMPT-0.mp4 to PROMPT-4.mp4, or a folder of
    results that VBench wrote. Videos are measured by the official package where it is installed (or named by
    --vbench-root); where it is not, they are only made, and its results are read later with --results. Kill it at any
    time and run it again.

    Args:
        tasks: The official list, vbench2_i2v_full_info.json.
        out: The folder of this evaluation.
        checkpoint: A shipped checkpoint (nano), a run folder, or weights of the Wan family.
        base: A local Wan pipeline, where the checkpoint needs its VAE and text encoder.
        images: Folder of one crop of the official pictures, with --checkpoint.
        videos: Measure these instead.
        results: Aggregate these instead: a result file, or a folder of *_eval_results.json.
        vbench_root: A checkout of VBench with its pictures.
        vbench_python: Interpreter of VBench's environment.
        vbench_device: Where VBench computes.
        ratio: Crop that the videos are compared with: 1-1, 8-5, 7-4 or 16-9; the nearest to their shape if not said.
        name: Of the model, in tables.
        limit: Only so many prompts, for a try.
        seed: Of the videos; sample i of a prompt has SEED + i.
        device: auto, cpu, cuda or mps.
    """
    from rich.console import Console

    from remind.eval_commands.generation import make_videos, maker_of
    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.found_videos import sha256_of
    from remind.evaluation.vbench_package import find_package
    from remind.evaluation.vbench_results import read_results
    from remind.evaluation.vbench_scores import VERSION
    from remind.evaluation.vbench_tasks import RATIOS, read_prompts, request_of, videos_of

    if [bool(checkpoint), videos is not None, results is not None].count(True) != 1:
        raise InputError("one thing is scored at a time", expected="one of --checkpoint, --videos and --results")
    if limit is not None and limit < 1:
        raise InputError("too few prompts", got=f"--limit {limit}", expected="1 or more")
    if checkpoint and images is None:
        raise InputError("a model needs the first frames", fix="give the folder of one crop as --images")
    if ratio and ratio not in RATIOS:
        raise InputError("no such crop", got=ratio, expected=", ".join(RATIOS))
    console = Console(stderr=True)
    expected = videos_of(read_prompts(tasks)[:limit])
    identity: dict[str, Any] = {"suite": "vbench", "version": VERSION, "test_set": sha256_of(tasks),
                                "videos_expected": len(expected), "checkpoint": checkpoint or None,
                                "videos": None if videos is None else str(videos), "ratio": ratio or None}  # fmt: skip
    package = None if results is not None else find_package(vbench_python, vbench_root, device=vbench_device)
    maker = maker_of(checkpoint, out / "videos", base=base, device=device) if checkpoint else None
    identity |= {"made_by": maker.context(), "seed": seed} if maker is not None else {}
    found = None if results is None else read_results(results)
    identity |= {"results": None if found is None else found.sha256}
    run = EvalRun(out, identity, [video.id for video in expected])
    shown = name or checkpoint or str((videos or results or out).name)
    folder, problems = videos, dict[str, str]()
    if maker is not None and images is not None:
        made = make_videos(maker, out, [request_of(video, images, seed=seed) for video in expected], console)
        folder, problems = made.folder, dict(made.problems)
    if found is None and folder is not None:
        there = _found(expected, folder)
        if package is None:
            print(f"{there} of {len(expected)} videos are in {folder}. The vbench package is not installed here: "
                  "measure them with it, then give its results as --results, with another --out")  # fmt: skip
            return
        failed = _measured(package, tasks, expected, folder, out / "vbench_results", ratio, console)
        _finish(run, shown, expected, read_results(out / "vbench_results"), folder, problems, failed, console)
    elif found is not None:
        _finish(run, shown, expected, found, None, {}, {}, console)


def _found(expected: Any, folder: Path) -> int:
    """How many of the expected videos are there; the others are named."""
    from remind.evaluation.found_videos import find_videos

    found = find_videos(folder, {video.id: video.file for video in expected})
    for example, meant in list(found.missing.items())[:8]:
        print(f"missing: {example}{f', perhaps {meant}' if meant else ''}")
    if len(found.missing) > 8:
        print(f"and {len(found.missing) - 8} more are missing")
    if found.extra:
        print(f"{len(found.extra)} files are not expected, e.g. {found.extra[0]}")
    return len(found.paths)


def _measured(package: Any, tasks: Path, expected: Any, folder: Path, out: Path, ratio: str,
              console: Any) -> dict[str, str]:  # fmt: skip
    from remind.data.video_io import probe
    from remind.evaluation.vbench_package import measure
    from remind.evaluation.vbench_tasks import DIMENSIONS, ratio_of
    from remind.training.progress import progress_bar

    first = next(folder / video.file for video in expected if (folder / video.file).is_file())
    asked = [name for name in DIMENSIONS if any(name in video.asked.dimensions for video in expected)]
    with progress_bar("dimensions", console, total=len(asked)) as (bar, task):
        return measure(package, asked, tasks, folder, out, ratio or ratio_of(probe(first).hw),
                       progress=lambda _: bar.advance(task))  # fmt: skip


def _finish(run: Any, name: str, expected: Any, results: Any, folder: Path | None, problems: dict[str, str],
            failed: dict[str, str], console: Any) -> None:  # fmt: skip
    from remind.eval_commands.printed_tables import print_tables
    from remind.evaluation.vbench_scores import summarise, write_records

    extra = write_records(run, expected, results, folder=folder, problems=problems)
    summary = summarise(name, run.records(), expected, results, extra=extra, failed=failed)
    whole = run.finish(summary)
    print_tables(summary, console)
    for dimension, why in failed.items():
        print(f"{dimension} could not be measured: {why}")
    counts = whole["counts"]
    print(f"wrote {run.folder / 'scores.json'}: {counts['scored']} of {counts['examples']} videos have scores; "
          f"not measured: {', '.join(summary['not_measured']) or 'nothing'}")  # fmt: skip
