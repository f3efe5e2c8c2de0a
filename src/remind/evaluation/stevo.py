"""STEVO-Bench: a judge votes on each video of a task, and the votes become records.

Source: STEVO-Bench (arXiv 2603.13215); ReMind 4.2, Table 2. Tasks and layout are in `stevo_tasks`, questions in
`stevo_questions`, rules in `stevo_votes`, official reports in `stevo_reports`, the table in `stevo_table`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from remind.data.video_io import probe
from remind.errors import InputError, RemindError
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.found_videos import VideoProblem, find_videos, read_video, sha256_of
from remind.evaluation.judge_calls import FAILED, Answer, Judge, Question, at_once, blind_mp4, needs_judging, trials
from remind.evaluation.score_cells import most_frequent
from remind.evaluation.stevo_questions import METRICS, Metric, Wording, contradicts, read_process, read_vote
from remind.evaluation.stevo_tasks import StevoCase, camera_facts, tasks_sha256
from remind.evaluation.stevo_votes import NUM_VOTES, Votes, verdict

VERSION = "stevo-1"
TEMPERATURE = 0.7
"""Of votes, our choice: that of Appendix D. At 0 three votes would be one."""
SEED = 42


def identity_of(cases: Sequence[StevoCase], wording: Wording | None, judge: str | None) -> dict[str, Any]:
    """What decides the numbers, beside the videos."""
    return {"suite": "stevo", "version": VERSION, "protocol": cases[0].protocol, "test_set": tasks_sha256(cases),
            "tasks": len(cases), "judge": judge, "wording": None if wording is None else [wording.name, wording.sha256],
            "votes": NUM_VOTES, "temperature": TEMPERATURE, "judge_seed": SEED}  # fmt: skip


def judge_videos(
    run: EvalRun, cases: Sequence[StevoCase], videos: Path, judge: Judge, wording: Wording, *,
    problems: Mapping[str, str] | None = None, num_frames: int | None = None, workers: int = 1,
    retry: bool = False, progress: Callable[[str], None] | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Judge what is not judged yet, and write a record each.

    Args:
        run: whose ids are those of the cases.
        videos: folder with ID.mp4.
        problems: why a video was not made, by id.
        num_frames: that each video must have; None takes any length.
        workers: videos that are judged at a time.
        retry: judge again what failed, whole or in part; replies that are kept are not asked for again.
        progress: called with each id that is done.

    Returns:
        Names of mp4 files that no task expects.

    Raises:
        InputError: no such folder, or none of the expected videos in it.
        VLMError: nobody answers at all.
    """
    found = find_videos(videos, {case.id: f"{case.id}.mp4" for case in cases})
    there = run.records()
    todo = [case for case in cases if needs_judging(there.get(case.id), videos / f"{case.id}.mp4", retry=retry)]

    def one(case: StevoCase) -> None:
        reason = (problems or {}).get(case.id, "")
        if reason or case.id not in found.paths:
            meant = found.missing.get(case.id, "")
            about = {"expected": f"{case.id}.mp4", "perhaps": meant, "why": reason, **_about(case)}
            run.write(Record(case.id, "failed", {}, about, "not generated" if reason else "missing"))
        else:
            run.write(_judged(case, found.paths[case.id], judge, wording, num_frames))
        if progress is not None:
            progress(case.id)

    at_once(one, todo, workers)
    return found.extra


def _judged(case: StevoCase, video: Path, judge: Judge, wording: Wording, num_frames: int | None) -> Record:
    manifest = video.with_name(f"{video.name}.json")
    about = {"video": str(video), "manifest": str(manifest) if manifest.is_file() else None, **_about(case)}
    try:
        frames = read_video(video, num_frames=num_frames)
        info = probe(video)
        shown, first = blind_mp4(video), _first_frame(case, frames[0].numpy())
    except VideoProblem as problem:
        return Record(case.id, "failed", {}, about | {"why": str(problem)}, problem.kind)
    digest = sha256_of(video)
    about |= {"sha256": digest, "frames": len(frames), "fps": None if info.fps is None else float(info.fps),
              "judge": judge.model, "first_frame": "of the task" if case.task.init_frame else "of the video",
              }  # fmt: skip
    votes, calls = ask_all(case, digest, shown, first, judge, wording)
    failed = [failure for vote in votes.values() for failure in vote.failures]
    scores: dict[str, Any] = {metric: verdict(metric, vote.said) for metric, vote in votes.items()}
    scores |= {"asked_votes": sum(len(vote.said) for vote in votes.values() if vote.asked),
               FAILED: len(failed), "triggered": bool(case.trigger)}  # fmt: skip
    about |= {"votes": {metric: list(vote.said) for metric, vote in votes.items()}, "failures": failed, **calls}
    if all(scores[metric] is None for metric in METRICS if votes[metric].asked):
        return Record(case.id, "failed", {"asked_votes": scores["asked_votes"], FAILED: len(failed)}, about,
                      f"judge: {most_frequent(failed)}")  # fmt: skip
    return Record(case.id, "scored", scores, about)


def ask_all(
    case: StevoCase, digest: str, shown: bytes, first: bytes, judge: Judge, wording: Wording
) -> tuple[dict[Metric, Votes], dict[str, Any]]:
    """All votes about a video, and what leads to their replies.

    Args:
        digest: sha256 of the video's file.
        shown: the mp4 that the judge sees.
        first: its first frame, PNG.
    """
    samples = trials([digest], NUM_VOTES, TEMPERATURE, SEED)
    predicted = judge.ask(Question(wording.predict(case.trigger), (f"first:{case.task.sha256}:{digest}",),
                                   images=(first,), sampling=samples[0]))  # fmt: skip
    process = read_process(predicted)
    votes: dict[Metric, Votes] = {}
    replies: dict[str, list[str]] = {"process": [predicted.key]}
    contradictions = 0
    for metric in METRICS:
        if _given(metric, case):
            votes[metric] = Votes((True,) * NUM_VOTES, asked=False)
            continue
        if metric == "state_progress" and process is None:
            votes[metric] = Votes((None,) * NUM_VOTES, (predicted.failure or "unreadable",) * NUM_VOTES)
            continue
        prompt = wording.of(metric, case, process or "")
        answers = [judge.ask(Question(prompt, (digest,), shown, sampling=sampling)) for sampling in samples]
        said = tuple(read_vote(metric, answer) for answer in answers)
        votes[metric] = Votes(said, tuple(_why(answer) for answer, vote in zip(answers, said, strict=True)
                                          if vote is None))  # fmt: skip
        replies[metric] = [answer.key for answer in answers]
        contradictions += sum(map(contradicts, answers)) if metric == "coherence" else 0
    return votes, {"process": process, "replies": replies, "contradictions": contradictions}


def _given(metric: Metric, case: StevoCase) -> bool:
    """Source: the official rules count what was not asked for as done."""
    return (metric == "action_control" and not case.trigger) or (metric == "observation_control" and not case.hidden_by)


def _why(answer: Answer) -> str:
    return answer.failure or "unreadable"


def _about(case: StevoCase) -> dict[str, Any]:
    facts: dict[str, Any] = {"task": case.task.id, "prompt": case.prompt, "hidden_by": case.hidden_by,
                             "trigger": case.trigger, "level": case.task.level, "category": case.task.category,
                             "distractor": case.distractor, "protocol": case.protocol}  # fmt: skip
    if case.camera:
        try:
            facts |= camera_facts(case.camera)
        except RemindError as error:
            facts |= {"camera": case.camera, "camera_problem": str(error)}
    return facts


def _first_frame(case: StevoCase, frame: Any) -> bytes:
    """PNG of the task's first frame, or of the video's where the task has none."""
    out = io.BytesIO()
    try:
        picture = Image.fromarray(frame) if case.task.init_frame is None else Image.open(case.task.init_frame)
        picture.convert("RGB").save(out, "PNG")
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError("the task's first frame cannot be read", got=f"{case.task.init_frame}: {error}") from None
    return out.getvalue()
