"""Running the world benchmark: make or find each video, score what its file shows, write a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from remind.evaluation.calibration import Calibration, calibrate
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.found_videos import FoundVideos, VideoProblem, find_videos, sha256_of
from remind.evaluation.world_files import read_case_video, scored_hw, write_case_video
from remind.evaluation.world_makers import Maker, PreparedCase, through_codec
from remind.evaluation.world_scores import Mode, first_generated, score_case
from remind.evaluation.world_suite import NUM_FRAMES, SuiteCase, WorldSuite, whole_suite
from remind.models.codec import LinearCodec
from remind.prompt_schedule import chunk_prompts

VERSION = "world-scores-1"
"""Of what is measured and how; raised when a score may change."""
NUM_CALIBRATION_CLIPS = 88  # our choice for sizes that nothing is shipped for: four of every family or so


def identity_of(suite: WorldSuite, mode: Mode, hw: tuple[int, int], made_by: Mapping[str, Any], *,
                limits: Calibration) -> dict[str, Any]:  # fmt: skip
    """What decides the numbers of a run.

    Args:
        hw: frame size of generation, px.
        made_by: a maker's identity, or `{"videos": name of the folder}`.
    """
    digest = hashlib.sha256(json.dumps(asdict(limits), sort_keys=True).encode()).hexdigest()
    return {"suite": "world", "version": VERSION, "test_set": {**suite.identity(), "mode": mode}, "hw": list(hw),
            "scored_hw": list(scored_hw(hw)), "limits_sha256": digest, **made_by}  # fmt: skip


def limits_at(hw: tuple[int, int]) -> Calibration:
    """Limits of plausibility at a measured size: those shipped, or measured on clips of the validation twin through the
    embedded codec."""
    path = Path(str(resources.files("remind") / "assets" / f"calibration-{hw[0]}.json"))
    if path.is_file() and (shipped := Calibration.load(path)).hw == hw:
        return shipped
    codec = LinearCodec.load()
    twin = [case for case in whole_suite("world-v1-validation").cases if case.part == "main"]
    return calibrate([case.render(hw) for case in twin[:NUM_CALIBRATION_CLIPS]], lambda rgb: through_codec(codec, rgb))


def run_maker(run: EvalRun, suite: WorldSuite, maker: Maker, limits: Calibration, mode: Mode, *,
              retry_failed: bool = False, advance: Callable[[int], None] = lambda done: None) -> None:  # fmt: skip
    """Make and score what is not there yet.

    Args:
        run: whose ids are those of the test set.
        advance: called with how many were just done.

    Raises:
        RemindError: a maker that cannot work.
    """
    numbers = {case.id: number for number, case in enumerate(suite.cases)}
    todo = run.todo(retry_failed=retry_failed)
    for start in range(0, len(todo), maker.batch):
        names = todo[start : start + maker.batch]
        batch = [PreparedCase(numbers[name], suite.cases[numbers[name]], maker.hw) for name in names]
        for one, rgb in zip(batch, maker.make(batch, mode), strict=True):
            path = run.video(one.case.id)
            write_case_video(path, rgb)
            score_file(run, one, path, limits, mode, maker.about(one.number))
            advance(1)


def videos_of(suite: WorldSuite, folder: Path) -> FoundVideos:
    """The videos of a suite's clips, named ID.mp4.

    Raises:
        InputError: no such folder, or none of the videos in it.
    """
    return find_videos(folder, {case.id: f"{case.id}.mp4" for case in suite.cases})


def run_videos(run: EvalRun, suite: WorldSuite, found: FoundVideos, hw: tuple[int, int], limits: Calibration,
               mode: Mode, *, advance: Callable[[int], None] = lambda done: None) -> None:  # fmt: skip
    """Score found videos, each whole, with what was given. A file that changed is scored again.

    Args:
        found: from `videos_of`.
        hw: frame size that the inputs were made at, px.
    """
    there = run.records()
    for number, case in enumerate(suite.cases):
        path = found.paths.get(case.id)
        if path is None:
            meant = found.missing[case.id]
            about = about_case(case, mode) | ({"meant": meant} if meant else {})
            run.write(Record(case.id, "failed", {}, about, "missing"))
        elif case.id not in there or there[case.id].about.get("video", {}).get("sha256") != sha256_of(path):
            score_file(run, PreparedCase(number, case, hw), path, limits, mode, {})
        advance(1)


def score_file(run: EvalRun, one: PreparedCase, path: Path, limits: Calibration, mode: Mode,
               made: Mapping[str, Any]) -> None:  # fmt: skip
    """Score a file and write its record; a video that cannot be scored is a record with its reason.

    Args:
        made: what decided this video.
    """
    inside = path.is_relative_to(run.folder)
    video = {"path": path.relative_to(run.folder).as_posix() if inside else str(path), "sha256": sha256_of(path)}
    about = about_case(one.case, mode) | {
        "prompts": list(chunk_prompts(one.given.clean.caption, one.given.schedule)),
        "first_generated_frame": first_generated(one.meter, mode), **made, "video": video,
    }  # fmt: skip
    try:
        rgb = read_case_video(path, scored_hw(one.hw), NUM_FRAMES)
    except VideoProblem as problem:
        run.write(Record(one.case.id, "failed", {}, about | {"why": str(problem)}, problem.kind))
        return
    run.write(Record(one.case.id, "scored", score_case(one.meter, rgb, limits, mode), about))


def about_case(case: SuiteCase, mode: Mode) -> dict[str, Any]:
    """What leads back from a score to its clip."""
    event = case.recipe.interruption
    return {"part": case.part, "family": case.family, "kind": case.kind, "gap_frames": case.gap_frames,
            "world_seed": case.seed, "mode": mode, "metric": VERSION,
            "times": [event.start, event.hidden_start, event.hidden_stop, event.stop]}  # fmt: skip
