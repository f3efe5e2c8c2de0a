"""A vision-language model rates recovered videos on a scale of 1 to 5, blind and shuffled, three times each.

Source: ReMind Appendix D: four dimensions, 200 clips at seed 42, three calls at temperature 0.7, 95 % bootstrap
intervals over clips. The words of the questions are our own. `tables` asks for the columns of Tables 3 and 4 instead,
which Appendix D does not define: see docs/decisions.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from remind.errors import InputError
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.found_videos import VideoProblem, read_video, sha256_of
from remind.evaluation.judge_calls import FAILED, Answer, Judge, Question, at_once, blind_mp4, needs_judging, trials
from remind.evaluation.score_cells import Cell, count_cell, mean_cell, most_frequent, row, table
from remind.evaluation.statistics import paired_difference

VERSION = "judge-1"
NUM_CLIPS = 200
SEED = 42
NUM_TRIALS = 3
TEMPERATURE = 0.7
BETWEEN = "="
"""Between variant and clip in the id of an example."""
Questions = Literal["appendix_d", "tables"]
_MAPPING = (" Tables 3 and 4 have other names for two of these: we read their Post-Degradation Coherence as Overall "
            "Quality and their Degradation Visible as Artifact Suppression (docs/decisions.md).")  # fmt: skip


@dataclass(frozen=True)
class Dimension:
    """One rating.

    Args:
        key: in the reply.
        column: in tables.
        asks: in words.
    """

    key: str
    column: str
    asks: str


_CONSISTENCY = Dimension("temporal_consistency", "Temporal Consistency",
                         "things go on moving as their motion before would have it, without a jump")  # fmt: skip
_PRESERVATION = Dimension("content_preservation", "Content Preservation",
                          "everything is still what it was: the same objects, shapes and surfaces")  # fmt: skip
DIMENSIONS: dict[Questions, tuple[Dimension, ...]] = {
    "appendix_d": (
        Dimension("overall_quality", "Overall Quality", "what is seen after the return is realistic and fits together"),
        _CONSISTENCY, _PRESERVATION,
        Dimension("artifact_suppression", "Artifact Suppression",
                  "nothing flickers or warps, and nothing is left of what was in the way"),
    ),
    "tables": (
        Dimension("degradation_visible", "Degradation Visible",
                  "the view is really lost in between, plainly and completely: dark, covered, or turned away"),
        Dimension("post_degradation_coherence", "Post-Degradation Coherence",
                  "the scene after the return is the scene of before, continued"),
        _CONSISTENCY, _PRESERVATION,
    ),
}  # fmt: skip


def question(questions: Questions) -> str:
    """What is asked about every video."""
    asked = "\n".join(f"{d.key}: {d.asks}" for d in DIMENSIONS[questions])
    keys = ", ".join(f'"{d.key}": 1 to 5' for d in DIMENSIONS[questions])
    return ("You review generated videos. In this one the view of a scene is lost for a while, because it gets dark, "
            "something is in the way, or the camera looks elsewhere. Look at objects and surroundings in the first "
            "frames, then closely at the frames after the view has returned. How far is each of these true, from 1 "
            f"(not at all) to 5 (completely)?\n{asked}\nAnswer with JSON alone, whole numbers: {{{keys}}}")  # fmt: skip


def reply_schema(questions: Questions) -> dict[str, Any]:
    """The JSON schema of a reply."""
    keys = [dimension.key for dimension in DIMENSIONS[questions]]
    rating = {"type": "integer", "minimum": 1, "maximum": 5}
    return {"type": "object", "properties": dict.fromkeys(keys, rating), "required": keys,
            "additionalProperties": False}  # fmt: skip


def read_ratings(answer: Answer, questions: Questions) -> dict[str, int] | None:
    """All ratings of a reply; None if one is missing or is no whole number from 1 to 5."""
    said = answer.parsed or {}
    found = {dimension.key: said.get(dimension.key) for dimension in DIMENSIONS[questions]}
    rated = {key: value for key, value in found.items()
             if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5}  # fmt: skip
    return rated if len(rated) == len(found) else None


def common_clips(folders: Mapping[str, Path]) -> tuple[list[str], dict[str, list[str]]]:
    """Clips that every variant has a video of, and for each variant those that another one has and it lacks.

    Raises:
        InputError: no such folder, a variant's name that cannot be part of an id, or no common clip.
    """
    for name, folder in folders.items():
        if not name or BETWEEN in name or not name.replace("-", "").replace("_", "").isalnum():
            raise InputError("no name of a variant", got=repr(name), expected="letters, digits, - and _")
        if not folder.is_dir():
            raise InputError("no such folder of videos", got=f"{name}: {folder}")
    there = {name: {path.stem for path in folder.glob("*.mp4")} for name, folder in folders.items()}
    common = sorted(set.intersection(*there.values())) if there else []
    if not common:
        raise InputError("the variants have no clip in common", got={name: len(clips) for name, clips in there.items()},
                         expected="mp4 files of the same names in each folder")  # fmt: skip
    every = set.union(*there.values())
    return common, {name: sorted(every - clips) for name, clips in there.items()}


def sample_clips(clips: Sequence[str], *, count: int = NUM_CLIPS, seed: int = SEED) -> list[str]:
    """`count` of them at random, all if there are fewer; a function of names, count and seed."""
    ordered = sorted(clips)
    return sorted(random.Random(seed).sample(ordered, min(count, len(ordered))))


def shuffled_ids(variants: Sequence[str], clips: Sequence[str], *, seed: int = SEED) -> list[str]:
    """Ids of all videos, VARIANT=CLIP, in the order in which they are judged: variants and clips mixed."""
    ids = [f"{variant}{BETWEEN}{clip}" for variant in sorted(variants) for clip in sorted(clips)]
    random.Random(seed).shuffle(ids)
    return ids


def rate_videos(
    run: EvalRun, folders: Mapping[str, Path], judge: Judge, questions: Questions, *, num_trials: int = NUM_TRIALS,
    temperature: float = TEMPERATURE, seed: int = SEED, workers: int = 1, retry: bool = False,
    progress: Callable[[str], None] | None = None,
) -> None:  # fmt: skip
    """Rate what is not rated yet, in the order of the run's ids, and write a record each.

    Args:
        run: with ids of `shuffled_ids`.
        folders: of each variant.
        num_trials: calls about each video.
        temperature: of the calls, > 0.
        seed: of the calls.
        workers: videos that are rated at a time.
        retry: rate again what failed, whole or in part.
        progress: called with each id that is done.

    Raises:
        VLMError: nobody answers at all.
    """
    there = run.records()
    files = {name: folders[name.split(BETWEEN, 1)[0]] / f"{name.split(BETWEEN, 1)[1]}.mp4" for name in run.ids}
    todo = [name for name in run.ids if needs_judging(there.get(name), files[name], retry=retry)]

    def one(name: str) -> None:
        variant, clip = name.split(BETWEEN, 1)
        run.write(_rated(name, variant, clip, files[name], judge, questions, num_trials, temperature, seed))
        if progress is not None:
            progress(name)

    at_once(one, todo, workers)


def _rated(
    name: str, variant: str, clip: str, video: Path, judge: Judge, questions: Questions, num_trials: int,
    temperature: float, seed: int,
) -> Record:  # fmt: skip
    about: dict[str, Any] = {"variant": variant, "clip": clip, "video": str(video), "judge": judge.model}
    try:
        about["frames"] = len(read_video(video))
        shown = blind_mp4(video)
    except VideoProblem as problem:
        return Record(name, "failed", {}, about | {"why": str(problem)}, problem.kind)
    digest = sha256_of(video)
    prompt, schema = question(questions), reply_schema(questions)
    answers = [judge.ask(Question(prompt, (digest,), shown, schema=schema, sampling=sampling))
               for sampling in trials([digest], num_trials, temperature, seed)]  # fmt: skip
    ratings = [read_ratings(answer, questions) for answer in answers]
    kept = [rating for rating in ratings if rating is not None]
    failures = [answer.failure or "unreadable" for answer, rating in zip(answers, ratings, strict=True)
                if rating is None]  # fmt: skip
    about |= {"sha256": digest, "replies": [answer.key for answer in answers], "ratings": ratings,
              "failures": failures}  # fmt: skip
    calls = {"calls": num_trials, FAILED: len(failures)}
    if not kept:
        return Record(name, "failed", calls, about, f"judge: {most_frequent(failures)}")
    means = {d.key: sum(rating[d.key] for rating in kept) / len(kept) for d in DIMENSIONS[questions]}
    return Record(name, "scored", means | calls, about)


def summarise(
    records: Mapping[str, Record], questions: Questions, *, lacking: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Means over clips by variant, with intervals, and paired differences to the first variant.

    Args:
        lacking: clips that a variant has no video of.
    """
    by: dict[str, dict[str, Record]] = {}
    for record in sorted(records.values(), key=lambda record: record.id):
        variant, clip = record.id.split(BETWEEN, 1)
        by.setdefault(variant, {})[clip] = record
    variants = sorted(by)
    rows = [row(variant, _means(by[variant].values(), questions)) for variant in variants]
    compared = [row(f"{variant} - {variants[0]}", _differences(by[variant], by[variants[0]], questions))
                for variant in variants[1:]]  # fmt: skip
    note = ("Scale of 1 to 5. Each clip's rating is the mean of its calls that could be read; intervals are 95 %, "
            "bootstrap over clips. Judge failures are calls that could not be read.")  # fmt: skip
    note += _MAPPING if questions == "appendix_d" else ""
    tables = [table("Ratings by a vision-language model", rows, note)]
    if compared:
        tables.append(table("Paired differences", compared, "On the clips that both have a rating of."))
    return {"tables": tables, "lacking": {name: list(clips) for name, clips in (lacking or {}).items() if clips},
            "failed": {record.id: record.reason for record in records.values() if record.status == "failed"}}


def _means(records: Any, questions: Questions) -> dict[str, Cell]:
    every = list(records)
    scored = [record for record in every if record.status == "scored"]
    cells = {d.column: mean_cell(record.scores.get(d.key) for record in scored) for d in DIMENSIONS[questions]}
    cells["Judge failures"] = count_cell(sum(int(r.scores.get(FAILED) or 0) for r in every),
                                         sum(int(r.scores.get("calls") or 0) for r in every))  # fmt: skip
    cells["Missing clips"] = count_cell(len(every) - len(scored), len(every))
    return cells


def _differences(
    these: Mapping[str, Record], those: Mapping[str, Record], questions: Questions
) -> dict[str, Cell]:
    clips = sorted(set(these) & set(those))
    cells = {}
    for d in DIMENSIONS[questions]:
        first, second = ([records[clip].scores.get(d.key) for clip in clips] for records in (these, those))
        found = paired_difference(first, second)
        cells[d.column] = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
    return cells
