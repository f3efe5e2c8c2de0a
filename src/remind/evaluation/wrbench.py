"""WRBench: does a world keep its state while the camera looks away? Videos under its cameras, and tables of its scores.

Source: WRBench, Current World Models Lack a Persistent State Core (arXiv 2606.20545). Tasks are in `wrbench_tasks`, the
files that its toolkit scores in `wrbench_files`, the toolkit's results in `wrbench_results`. What needs none of its
heavy scorers is measured here, under names of its own: turns by pixels in place of VGGT's poses, and how alike a view
is when the camera has come back to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from remind.errors import RemindError
from remind.evaluation.camera_match import find_poses, match_cameras, read_poses
from remind.evaluation.eval_run import Record
from remind.evaluation.found_videos import VideoProblem, read_video, sha256_of
from remind.evaluation.perceptual import VERSION as PERCEPTUAL_VERSION
from remind.evaluation.same_views import same_views, view_scores
from remind.evaluation.score_cells import Cell, mean_cell, row, share_cell, table
from remind.evaluation.turn_by_pixels import MIN_MATCH, turn_by_pixels
from remind.evaluation.turn_by_pixels import VERSION as TURN_VERSION
from remind.evaluation.wrbench_files import target_c2w, write_turns
from remind.evaluation.wrbench_results import COLUMNS, CONTRACT, WRResults
from remind.evaluation.wrbench_tasks import FOV_DEG, NUM_FRAMES, WRTask, hash_of_tasks
from remind.geometry import yaw_trajectory

VERSION = "wrbench-1"
NO_FRAME = "its first frame is missing"
NO_VIDEO = "missing"
NOT_IN_RESULTS = "not in the results"
UNKNOWN_TURN = "turn cannot be read off the pixels"
_OWN = {"turn_precision": "CamPrec by pixels", "turn_error_deg": "turn error (deg)", "turn_peak_deg": "peak turn (deg)",
        "return_psnr_db": "view come back, PSNR (dB)", "return_ssim": "view come back, SSIM"}  # fmt: skip
_POSES = {"pose_precision": "CamPrec", "pose_turn_error_deg": "turn error (deg)",
          "pose_shift_error": "shift error"}  # fmt: skip


def identity_of(tasks: Sequence[WRTask], about: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers.

    Args:
        about: the model, or the videos, poses and results that are read.
    """
    return {"suite": "wrbench", "version": VERSION, "test_set": hash_of_tasks(tasks), "tasks": len(tasks),
            "contract": CONTRACT, "metrics": [TURN_VERSION, PERCEPTUAL_VERSION], **about}  # fmt: skip


def record_of(
    task: WRTask, video: Path | None, *, why: str = "", meant: str = "", poses: Path | None = None,
    results: WRResults | None = None, turns: Path | None = None,
) -> Record:  # fmt: skip
    """All that is known of a task's video.

    Args:
        video: its file; None where there is none.
        why: there is none, one of few kinds.
        meant: a file that may have been meant.
        poses: folder of measured poses.
        results: of the toolkit.
        turns: folder to keep turns by pixels in.
    """
    about: dict[str, Any] = {
        "prompt": task.variant.ti2v_prompt, "camera": task.camera.script, "camera_type": task.camera.preset,
        "tier": task.variant.reasoning_tier, "event_delta": task.variant.event_delta, "oov_gap": task.variant.oov_gap,
        "scene": task.variant.family_id,
    }  # fmt: skip
    found = {} if results is None else dict(results.scores.get(task.id, {}))
    if results is not None:
        about["no_score"] = dict(results.why.get(task.id, {}))
    if video is None:
        if found:
            return Record(task.id, "scored", found, about)
        reason = NOT_IN_RESULTS if results is not None and not why else why or NO_VIDEO
        return Record(task.id, "failed", {}, about | ({"perhaps": meant} if meant else {}), reason)
    try:
        rgb = read_video(video, num_frames=NUM_FRAMES)
        about |= {"video": {"path": str(video.resolve()), "sha256": sha256_of(video)}, "video_ok": True,
                  "hw": list(rgb.shape[1:3])}  # fmt: skip
    except VideoProblem as problem:
        return Record(task.id, "failed", {}, about | {"video": {"path": str(video)}, "why": str(problem)}, problem.kind)
    manifest = video.with_name(f"{video.name}.json")
    about["manifest"] = str(manifest) if manifest.is_file() else None
    scores: dict[str, Any] = {**_own_scores(task, rgb, about, turns)}
    if poses is not None:
        scores |= _pose_scores(task, poses, about)
    return Record(task.id, "scored", scores | found, about)


def _own_scores(
    task: WRTask, rgb: UInt8[Tensor, "t h w 3"], about: dict[str, Any], keep: Path | None
) -> dict[str, Any]:
    asked = target_c2w(task)
    scores: dict[str, Any] = {**view_scores(rgb, same_views(asked)), "turn_precision": None, "turn_error_deg": None,
                              "turn_peak_deg": None}  # fmt: skip
    if task.camera.motion == "pan":
        return scores  # a shift looks like a turn
    turn = turn_by_pixels(rgb, fov_deg=FOV_DEG)
    about["turn_matched"] = round(float(turn.matched.min()), 4)
    if float(turn.matched.min()) < MIN_MATCH:
        about["turn"] = UNKNOWN_TURN
        return scores
    if keep is not None:
        write_turns(keep, task, turn.yaw_deg)
    match = match_cameras(asked, yaw_trajectory(turn.yaw_deg), motion=task.camera.motion)
    about["turn"] = match.why or "as asked"
    return scores | {"turn_precision": match.precision, "turn_error_deg": match.turn_error_deg,
                     "turn_peak_deg": match.yaw_peak_deg}  # fmt: skip


def _pose_scores(task: WRTask, folder: Path, about: dict[str, Any]) -> dict[str, float | None]:
    nothing: dict[str, float | None] = dict.fromkeys(_POSES)
    path = find_poses(folder, task.id)
    if path is None:
        about["poses"] = "missing"
        return nothing
    try:
        match = match_cameras(target_c2w(task), read_poses(path), motion=task.camera.motion)
    except RemindError as error:
        about["poses"] = f"unusable: {error}"
        return nothing
    about["poses"] = {"path": str(path), "sha256": sha256_of(path), "found": match.why or "as asked"}
    return {"pose_precision": match.precision, "pose_turn_error_deg": match.turn_error_deg,
            "pose_shift_error": match.shift_error}  # fmt: skip


def summarise(
    name: str, records: Mapping[str, Record], *, results: WRResults | None, poses: bool, extra: Sequence[str] = ()
) -> dict[str, Any]:
    """The tables.

    Args:
        name: of the model.
        results: of the toolkit, if they were read.
        poses: whether measured poses were read.
        extra: videos or results that no task expects.
    """
    scored = [record for record in records.values() if record.status == "scored"]
    groups = {name: scored}
    for key, words in (("camera_type", "camera"), ("tier", "tier"), ("event_delta", "event")):
        for value in dict.fromkeys(record.about[key] for record in scored):
            groups[f"{words} {value}"] = [record for record in scored if record.about[key] == value]
    tables = []
    if results is not None:
        tables.append(table("WRBench, by its own toolkit", [row(label, _official(group)) for label, group in
                                                            groups.items()], _official_note(scored)))  # fmt: skip
    if poses:
        tables.append(table("WRBench cameras, of measured poses", [row(label, _means(group, _POSES)) for label, group in
                                                                   groups.items()], _POSES_NOTE))  # fmt: skip
    if any(record.about.get("video_ok") for record in scored):
        tables.append(table("WRBench, measured on the pixels here", [row(label, _means(group, _OWN)) for label, group in
                                                                     groups.items()], _OWN_NOTE))  # fmt: skip
    return {
        "tables": tables,
        "missing": {record.id: record.reason for record in records.values() if record.status == "failed"},
        "extra_videos": list(extra),
        "unreadable_turns": [record.id for record in scored if record.about.get("turn") == UNKNOWN_TURN],
        "poses_without_score": {record.id: record.about["poses"] for record in scored
                                if isinstance(record.about.get("poses"), str)},
        "results": None if results is None else {
            "files": dict(results.files), "model": results.model,
            "without_score": {dimension: _reasons(scored, dimension) for dimension in COLUMNS
                              if dimension != "reobserved"},
            "not_there": [record.id for record in scored if "reobserved" not in record.scores
                          and not any(dimension in record.scores for dimension in COLUMNS)],
        },
    }  # fmt: skip


_POSES_NOTE = ("Requested-camera precision by WRBench's formula and settings, of poses that were given as --poses; "
               "shift error after the best scale, as a share of the asked path's spread.")  # fmt: skip
_OWN_NOTE = ("Not WRBench's scores. CamPrec by pixels: its formula, of turns to the side that were read off the pixels "
             f"for a lens of {FOV_DEG:g} degrees; of turning and resting cameras alone, and left out where the pixels "
             "do not tell. View come back: frames of the way back against those of the way out with the same camera; a "
             "world that goes on is not the same, and a copy scores well.")  # fmt: skip


def _official(group: Sequence[Record]) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for dimension, column in COLUMNS.items():
        values = [record.scores.get(dimension) for record in group]
        cells[column] = share_cell(values) if dimension == "reobserved" else mean_cell(values)
    return cells


def _official_note(scored: Sequence[Record]) -> str:
    unnamed = sum(record.about["oov_gap"] == "none" for record in scored)
    masked = (f" {unnamed} videos are of variants whose words name no camera: the toolkit masks D5 and D6 of them all."
              if unnamed else "")  # fmt: skip
    return ("Means over videos as the toolkit takes them, 0..1; n leaves out what it has no score for. D5 and D6 count "
            "only where its re-observation gate says that what had left the view came back; `came back` is that share."
            + masked)  # fmt: skip


def _means(group: Sequence[Record], columns: Mapping[str, str]) -> dict[str, Cell]:
    return {column: mean_cell([record.scores.get(key) for record in group]) for key, column in columns.items()}


def _reasons(scored: Sequence[Record], dimension: str) -> dict[str, int]:
    told = [record.about.get("no_score", {}).get(dimension) for record in scored]
    return {reason: told.count(reason) for reason in dict.fromkeys(told) if reason is not None}

