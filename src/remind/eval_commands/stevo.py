"""`remind eval stevo`: STEVO-Bench, from official task folders to Table 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from remind.errors import InputError


def stevo(
    tasks: Path,
    out: Path,
    checkpoint: str = "",
    base: Path | None = None,
    videos: Path | None = None,
    reports: Path | None = None,
    protocol: Literal["text", "camera"] = "text",
    judge: str = "",
    judge_model: str = "",
    replay: Path | None = None,
    wording: Path | None = None,
    report_judge: str = "",
    name: str = "",
    limit: int | None = None,
    seed: int = 42,
    device: str = "auto",
    workers: int = 4,
    retry: bool = False,
) -> None:
    """Score a model on STEVO-Bench (Table 2): its videos are made or found, a judge votes, the votes are counted.

    Give a checkpoint, a folder of videos named by task, or a folder of official reports. Without a judge the videos
    are made and written in the official layout (OUT/outputs), for the official evaluation; judge them later with
    --videos OUT/videos and another --out. Every reply of a judge is kept in OUT/replies and can be replayed. Kill it
    at any time and run it again.

    Args:
        tasks: Folder of official tasks, ID/ID.yaml with ID_init_frame.png beside it.
        out: The folder of this evaluation.
        checkpoint: A shipped checkpoint (nano), a run folder, or weights of the Wan family.
        base: A local Wan pipeline, where the checkpoint needs its VAE and text encoder.
        videos: Score these instead: ID.mp4 each, of any length.
        reports: Import these official reports instead: a folder with per_task in it. No judge is asked.
        protocol: text (words ask for the distractor) or camera (the camera turns away; pose strings of 173 frames are
            rescaled to 81, with the same peak angle).
        judge: URL of an OpenAI-compatible server, e.g. http://localhost:8000/v1, or the folder of a Qwen3-VL
            checkpoint. A server's key, if any, is read from REMIND_VLM_API_KEY.
        judge_model: The judge's name on the server.
        replay: Take a judge's replies from this run instead, and ask nobody.
        wording: A checkout of STEVO-Bench, to ask in its words instead of ours.
        report_judge: Whose reports to import, where there are several judges': e.g. gemini__gemini-3-1-pro-preview.
        name: Of the model, in tables.
        limit: Only so many tasks, for a try.
        seed: Of the videos.
        device: auto, cpu, cuda or mps.
        workers: Videos that are judged at a time.
        retry: Judge again what failed.
    """
    from rich.console import Console

    from remind.eval_commands.generation import maker_of
    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.judge_calls import check_judge, open_judge, replayed
    from remind.evaluation.stevo import identity_of
    from remind.evaluation.stevo_questions import official_wording, our_wording
    from remind.evaluation.stevo_reports import reports_sha256
    from remind.evaluation.stevo_tasks import cases_of, read_tasks

    if [bool(checkpoint), videos is not None, reports is not None].count(True) != 1:
        raise InputError("one thing is scored at a time", expected="one of --checkpoint, --videos and --reports")
    if [bool(judge), replay is not None, reports is not None].count(True) > 1:
        raise InputError("one judge is enough", expected="one of --judge and --replay; reports bring their own")
    if videos is not None and not judge and replay is None:
        raise InputError("nobody judges the videos", fix="add --judge URL, or --replay RUN")
    if limit is not None and limit < 1:
        raise InputError("too few tasks", got=f"--limit {limit}", expected="1 or more")
    if judge:
        check_judge(judge, judge_model)
    again = None if replay is None else replayed(replay)
    cases = cases_of(read_tasks(tasks), protocol)[:limit]
    console = Console(stderr=True)
    asked = None if reports is not None or not (judge or replay) else (
        our_wording() if wording is None else official_wording(wording))  # fmt: skip
    maker = maker_of(checkpoint, out / "videos", base=base, device=device) if checkpoint else None
    identity: dict[str, Any] = identity_of(cases, asked, judge_model or judge or (str(replay) if replay else None))
    identity |= {"checkpoint": checkpoint or None, "videos": None if videos is None else str(videos),
                 "reports": None if reports is None else reports_sha256(reports)}  # fmt: skip
    identity |= {"made_by": maker.context(), "seed": seed} if maker is not None else {}
    run = EvalRun(out, identity, [case.id for case in cases])
    shown = name or checkpoint or str((videos or reports or out).name)
    if reports is not None:
        from remind.evaluation.stevo_reports import import_reports

        _finish(run, shown, import_reports(run, cases, reports, judge=report_judge), console)
        return
    problems = _generated(run, cases, maker, seed, console) if maker is not None else {}
    if asked is None:
        return
    asking = again or open_judge(judge, judge_model, out / "replies", device=device)
    extra = _judged(run, cases, videos or out / "videos", asking, asked, problems, 81 if checkpoint else None, workers,
                    retry, console)  # fmt: skip
    _finish(run, shown, extra, console)


def _generated(run: Any, cases: Any, maker: Any, seed: int, console: Any) -> dict[str, str]:
    """The videos in OUT/videos and in the official layout; why some could not be made."""
    from remind.eval_commands.generation import make_videos
    from remind.evaluation.stevo_tasks import request_of, write_outputs

    requests, problems = [], dict[str, str]()
    for case in cases:
        try:
            requests.append(request_of(case, seed=seed))
        except InputError as error:
            problems[case.id] = str(error)
    made = make_videos(maker, run.folder, requests, console)
    problems |= made.problems
    there = {case.id: run.video(case.id) for case in cases if run.video(case.id).is_file() and case.id not in problems}
    place = write_outputs(run.folder / "outputs", there, cases[0].protocol)
    print(f"wrote {len(there)} of {len(cases)} videos to {place}, in the official layout")
    return problems


def _judged(run: Any, cases: Any, videos: Path, judge: Any, wording: Any, problems: dict[str, str],
            num_frames: int | None, workers: int, retry: bool, console: Any) -> tuple[str, ...]:  # fmt: skip
    from remind.evaluation.stevo import judge_videos
    from remind.training.progress import progress_bar

    total = len(cases)
    with progress_bar("judged", console, total=total, done=total - len(run.todo())) as (bar, task):
        return judge_videos(run, cases, videos, judge, wording, problems=problems, num_frames=num_frames,
                            workers=workers, retry=retry, progress=lambda _: bar.advance(task))  # fmt: skip


def _finish(run: Any, name: str, extra: tuple[str, ...], console: Any) -> None:
    from remind.eval_commands.printed_tables import print_tables
    from remind.evaluation.stevo_reports import write_reports
    from remind.evaluation.stevo_table import summarise

    records = run.records()
    summary = summarise(name, records, extra=extra)
    whole = run.finish(summary)
    write_reports(run.folder / "official_reports", records)
    print_tables(summary, console, first=1)
    missing = list(summary["missing"])
    if missing:
        more = " ..." if len(missing) > 8 else ""
        print(f"{len(missing)} of {len(records)} tasks are missing: {', '.join(missing[:8])}{more} "
              f"{whole['counts']['reasons']}")  # fmt: skip
    if extra:
        print(f"{len(extra)} files belong to no task: {', '.join(extra[:4])}")
    judged = summary["judge"]
    print(f"wrote {run.folder / 'scores.json'}: {whole['counts']['scored']} tasks scored, {judged['failed_votes']} of "
          f"{judged['asked_votes']} votes failed")  # fmt: skip
