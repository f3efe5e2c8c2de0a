"""`remind eval wrbench`: videos for WRBench in its own layout, and its scores in our tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from remind.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.wrbench_results import WRResults
    from remind.evaluation.wrbench_tasks import WRTask


def wrbench(
    variants: Path,
    out: Path,
    frames: Path | None = None,
    checkpoint: str = "",
    base: Path | None = None,
    videos: Path | None = None,
    results: Path | None = None,
    poses: Path | None = None,
    cameras: Literal["named", "all"] = "named",
    camera_scope: Path | None = None,
    name: str = "",
    limit: int | None = None,
    seed: int = 42,
    device: str = "auto",
    retry: bool = False,
) -> None:
    """Make the videos of WRBench under its cameras, as its toolkit scores them, and read its scores back.

    Give a checkpoint and the official first frames, a folder of videos named ID.mp4, or the toolkit's results. Videos
    of 81 frames go to OUT/MODEL/videos with the cameras that were asked for beside them; OUT/MODEL/videos.json is what
    `wrbench eval run` takes. Measured here without its scorers: turns by pixels (kept as poses in OUT/poses), and how
    alike a view is when the camera has come back to it. Kill it at any time and run it again.

    Args:
        variants: The official variants.jsonl.
        out: The folder of this evaluation.
        frames: Folder of the official first frames, SCENE.png, with --checkpoint.
        checkpoint: A shipped checkpoint (nano), a run folder, or weights of the Wan family.
        base: A local Wan pipeline, where the checkpoint needs its VAE and text encoder.
        videos: Score these instead: ID.mp4 each, 81 frames.
        results: Read what WRBench's toolkit wrote (its --out-dir); beside --videos, or alone.
        poses: Folder of measured cameras, ID.npy or pose/ID/poses.npy (OpenCV c2w), beside the videos.
        cameras: named (variants whose words name a camera, under it: 300, the only ones that the toolkit scores on what
            comes back) or all (variants without one, under each of five cameras: 500).
        camera_scope: An official camera scope instead, a JSON file.
        name: Of the model, in tables and in the layout.
        limit: Only so many tasks, for a try: the first whose first frame is there.
        seed: Of the videos.
        device: auto, cpu, cuda or mps.
        retry: Try again what failed.
    """
    from rich.console import Console

    from remind.eval_commands.generation import make_videos, maker_of
    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.found_videos import find_videos
    from remind.evaluation.wrbench import NO_FRAME, identity_of
    from remind.evaluation.wrbench_results import read_results
    from remind.evaluation.wrbench_tasks import read_variants, request_of, tasks_of, tasks_of_scope

    _check(checkpoint, frames, videos, results, poses, limit)
    known = read_variants(variants)
    tasks = tasks_of(known, cameras) if camera_scope is None else tasks_of_scope(known, camera_scope)
    tasks = _limited(tasks, frames, limit)
    found = None if results is None else read_results(results, model=name)
    model = _folder_name(name or (found.model if found else "") or Path(checkpoint).name or (videos or out).name)
    maker = maker_of(checkpoint, out / model / "videos", base=base, device=device) if checkpoint else None
    about: dict[str, Any] = {
        "model": model, "checkpoint": checkpoint or None, "videos": None if videos is None else str(videos.resolve()),
        "results": None if found is None else found.sha256, "poses": None if poses is None else str(poses.resolve()),
    }  # fmt: skip
    about |= {"made_by": maker.context(), "seed": seed} if maker is not None else {}
    run = EvalRun(out, identity_of(tasks, about), [task.id for task in tasks])
    console, folder = Console(stderr=True), videos
    why: dict[str, str] = {}
    if maker is not None and frames is not None:
        why = {task.id: NO_FRAME for task in tasks if not task.frame(frames).is_file()}
        requests = [request_of(task, frames, seed=seed) for task in tasks if task.id not in why]
        made = make_videos(maker, out / model, requests, console)
        why |= dict.fromkeys(made.problems, "not generated")
        folder = made.folder
    there, meant, extra = dict[str, Path](), dict[str, str](), list[str]()
    if folder is not None:
        listed = find_videos(folder, {task.id: f"{task.id}.mp4" for task in tasks})
        there, meant, extra = dict(listed.paths), dict(listed.missing), list(listed.extra)
    extra += [] if found is None else [f"results of {video}" for video in sorted(set(found.scores) - set(run.ids))]
    _score(run, tasks, {k: v for k, v in there.items() if k not in why}, why, meant, poses, found, retry, console)
    _finish(run, tasks, model, folder, found, poses, extra, console)


def _check(checkpoint: str, frames: Path | None, videos: Path | None, results: Path | None, poses: Path | None,
           limit: int | None) -> None:  # fmt: skip
    if (checkpoint and videos is not None) or not (checkpoint or videos is not None or results is not None):
        raise InputError("one thing is scored at a time", got="both" if checkpoint else "nothing",
                         expected="--checkpoint with --frames, --videos, or --results")  # fmt: skip
    if checkpoint and results is not None:
        raise InputError("results are of videos that are made already", got="--checkpoint and --results",
                         fix="give --videos OUT/MODEL/videos with --results, and another --out")  # fmt: skip
    if checkpoint and frames is None:
        raise InputError("a model needs the first frames", fix="give their folder as --frames")
    if frames is not None and not frames.is_dir():
        raise InputError("no such folder of first frames", got=frames)
    if poses is not None and not poses.is_dir():
        raise InputError("no such folder of poses", got=poses)
    if limit is not None and limit < 1:
        raise InputError("too few tasks", got=f"--limit {limit}", expected="1 or more")


def _limited(tasks: Sequence[WRTask], frames: Path | None, limit: int | None) -> list[WRTask]:
    if limit is None:
        return list(tasks)
    ready = [task for task in tasks if frames is None or task.frame(frames).is_file()]
    return (ready or list(tasks))[:limit]


def _folder_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"


def _score(run: EvalRun, tasks: Sequence[WRTask], there: Mapping[str, Path], why: Mapping[str, str],
           meant: Mapping[str, str], poses: Path | None, found: WRResults | None, retry: bool,
           console: Console) -> None:  # fmt: skip
    from remind.evaluation.wrbench import record_of
    from remind.training.progress import progress_bar

    todo = set(run.todo(retry_failed=retry))
    with progress_bar("scored", console, total=len(tasks), done=len(tasks) - len(todo)) as (bar, shown):
        for task in tasks:
            if task.id in todo:
                run.write(record_of(task, there.get(task.id), why=why.get(task.id, ""), meant=meant.get(task.id, ""),
                                    poses=poses, results=found, turns=run.folder / "poses"))  # fmt: skip
                bar.advance(shown)


def _finish(run: EvalRun, tasks: Sequence[WRTask], model: str, folder: Path | None, found: WRResults | None,
            poses: Path | None, extra: Sequence[str], console: Console) -> None:  # fmt: skip
    from remind.eval_commands.printed_tables import print_tables
    from remind.evaluation.wrbench import summarise
    from remind.evaluation.wrbench_files import write_manifest

    records = run.records()
    if folder is not None:
        place = (run.folder / model).resolve()
        beside = {task.id: place / "videos" / f"{task.id}.mp4" for task in tasks}
        there = write_manifest(place, model, tasks, records, beside)
        print(f"wrote {place / 'videos.json'}: {there} of {len(tasks)} videos, for `wrbench eval run`")
    summary = summarise(model, records, results=found, poses=poses is not None, extra=extra)
    counts = run.finish(summary)["counts"]
    print_tables(summary, console)
    if extra:
        print(f"{len(extra)} belong to no task: {', '.join(extra[:3])}")
    print(f"wrote {run.folder / 'scores.json'}: {counts['scored']} tasks scored, {counts['failed']} failed "
          f"{counts['reasons'] or ''}".rstrip())  # fmt: skip
