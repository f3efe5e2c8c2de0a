"""`remind eval judge`: a vision-language model rates the videos of several models, blind (Appendix D)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from remind.errors import InputError


def judge(
    videos: tuple[str, ...],
    out: Path,
    judge: str = "",
    judge_model: str = "",
    replay: Path | None = None,
    questions: Literal["appendix_d", "tables"] = "appendix_d",
    clips: int = 200,
    trials: int = 3,
    temperature: float = 0.7,
    seed: int = 42,
    device: str = "auto",
    workers: int = 4,
    retry: bool = False,
) -> None:
    """Let a vision-language model rate recovered videos from 1 to 5 (Appendix D), blind and shuffled.

    Each model's folder holds videos of the same clips under the same names. Clips are drawn at random from those that
    all have; the judge sees pictures alone, models in mixed order. Every reply is kept in OUT/replies and can be
    replayed. Kill it at any time and run it again.

    Args:
        videos: NAME=FOLDER for each model, e.g. full=runs/full/videos base=runs/base/videos.
        out: The folder of this evaluation.
        judge: URL of an OpenAI-compatible server, e.g. http://localhost:8000/v1, or the folder of a Qwen3-VL
            checkpoint. A server's key, if any, is read from REMIND_VLM_API_KEY.
        judge_model: The judge's name on the server.
        replay: Take a judge's replies from this run instead, and ask nobody.
        questions: appendix_d (its four dimensions) or tables (the columns of Tables 3 and 4, asked for by name).
        clips: How many to draw.
        trials: Calls about each video; their ratings are averaged.
        temperature: Of the calls.
        seed: Of the draw, the order and the calls.
        device: Of a judge that runs here: auto, cpu, cuda or mps.
        workers: Videos that are rated at a time.
        retry: Rate again what failed.
    """
    from rich.console import Console

    from remind.eval_commands.printed_tables import print_tables
    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.judge import (
        VERSION,
        common_clips,
        question,
        rate_videos,
        sample_clips,
        shuffled_ids,
        summarise,
    )
    from remind.evaluation.judge_calls import check_judge, open_judge, replayed
    from remind.training.progress import progress_bar
    from remind.vlm import hash_of_prompt

    if bool(judge) == (replay is not None):
        raise InputError("somebody must judge", expected="one of --judge and --replay")
    if clips < 1 or trials < 1:
        raise InputError("too little to judge", got=f"{clips} clips, {trials} trials", expected="1 or more of each")
    if judge:
        check_judge(judge, judge_model)
    again = None if replay is None else replayed(replay)
    folders: dict[str, Path] = {}
    for told in videos:
        name, equals, folder = told.partition("=")
        if not equals or name in folders:
            raise InputError("a model is named once and has a folder", got=told, expected="NAME=FOLDER")
        folders[name] = Path(folder)
    common, lacking = common_clips(folders)
    drawn = sample_clips(common, count=clips, seed=seed)
    identity = {
        "suite": "judge", "version": VERSION, "videos": {name: str(folder) for name, folder in folders.items()},
        "clips": drawn, "questions": [questions, hash_of_prompt(question(questions), None)], "trials": trials,
        "temperature": temperature, "seed": seed, "judge": judge_model or judge or str(replay),
    }  # fmt: skip
    run = EvalRun(out, identity, shuffled_ids(list(folders), drawn, seed=seed))
    asking = again or open_judge(judge, judge_model, out / "replies", device=device)
    console = Console(stderr=True)
    with progress_bar("rated", console, total=len(run.ids), done=len(run.ids) - len(run.todo())) as (bar, task):
        rate_videos(run, folders, asking, questions, num_trials=trials, temperature=temperature, seed=seed,
                    workers=workers, retry=retry, progress=lambda _: bar.advance(task))  # fmt: skip
    summary = summarise(run.records(), questions, lacking=lacking)
    counts = run.finish(summary)["counts"]
    print_tables(summary, console)
    for name, missing in summary["lacking"].items():
        print(f"{name} lacks {len(missing)} clips that others have: {', '.join(missing[:4])}")
    print(f"wrote {out / 'scores.json'}: {counts['scored']} of {counts['examples']} videos rated, "
          f"{len(common)} clips in common, {len(drawn)} drawn {counts['reasons'] or ''}".rstrip())  # fmt: skip
