"""What WRBench's toolkit scores: a manifest of videos, and beside each the cameras that were asked for.

    MODEL/videos/ID.mp4                             the video
    MODEL/videos/ID.mp4.target_c2w.npy              float32 [81, 4, 4], OpenCV camera-to-world
    MODEL/videos/ID.mp4.camera_trajectory.json      the same with intrinsics
    MODEL/videos/ID.mp4.camera.json                 what decides whether its camera can be scored
    MODEL/videos/ID.mp4.model_control_samples.json  how the model was told
    MODEL/manifest.shard00.jsonl                    a line a task, failed ones too; for `wrbench eval d1`
    MODEL/videos.json                               the videos that are there; for `wrbench eval run`

Source: the sidecar contract and the generation script of the toolkit. Paths are absolute, as the toolkit opens them
from anywhere; files are written again on every run, so that a folder that moved is right again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from remind.camera_io import wrbench_c2w
from remind.errors import InputError
from remind.evaluation.eval_run import Record
from remind.evaluation.wrbench_tasks import FOV_DEG, FPS, NUM_FRAMES, PROMPT_PROFILE, WRTask
from remind.geometry import intrinsics_from_fov, yaw_trajectory
from remind.whole_file import whole_file

CONVENTION = "opencv_c2w"
PAYLOAD = "remind_c2w"
_TOLD = "a camera-to-world pose and a lens for every frame"


def target_c2w(task: WRTask) -> Float[Tensor, "t 4 4"]:
    """The poses that were asked for, float64."""
    return wrbench_c2w(task.camera.script, num_frames=NUM_FRAMES)


def sidecar_of(task: WRTask, video: Path, hw: tuple[int, int]) -> dict[str, Any]:
    """`.camera.json`; its fields are the toolkit's.

    Args:
        video: where sidecars stand beside, absolute.
        hw: of the video, px.
    """
    family, profile = task.camera.control
    target, trajectory = (f"{video}.{end}" for end in ("target_c2w.npy", "camera_trajectory.json"))
    return {
        "target_pose_path": target, "trajectory_c2w_path": target, "camera_trajectory_path": trajectory,
        "model_control_samples_path": f"{video}.model_control_samples.json",
        "target_source": "camera_action_script", "target_coordinate_convention": CONVENTION,
        "coordinate_convention": CONVENTION, "target_role": "benchmark_intended_control",
        "target_certification_status": "compiled", "evidence_level": "benchmark_intent",
        "target_certification_basis": f"WRBench's camera grammar, {task.camera.script}: {_TOLD}",
        "adapter_provenance": "deterministic_adapter", "model_payload_type": PAYLOAD, "payload_type": PAYLOAD,
        "control_family": family, "control_direction": task.camera.preset, "control_profile": profile,
        "canonical_profile": "yaw_go_return_60deg" if profile == "canonical_60deg" else profile,
        "source_action": task.camera.preset, "camera_type": task.camera.preset, "camera_script": task.camera.script,
        "yaw_peak_deg": task.camera.peak_deg, "num_frames": NUM_FRAMES, "model_frame_count": NUM_FRAMES,
        "source_frame_count": NUM_FRAMES, "generated_frame_count": NUM_FRAMES, "resampled": False, "fps": float(FPS),
        "image_size": [hw[1], hw[0]], "fov": FOV_DEG, "conversion_mode": PAYLOAD,
        "trajectory_sampling_rule": "one pose a frame of the script; a segment's last frame is where it leads",
    }  # fmt: skip


def write_sidecars(task: WRTask, video: Path, hw: tuple[int, int]) -> None:
    """Write the four files of a video.

    Raises:
        InputError: a place that cannot be written.
    """
    c2w = target_c2w(task)
    array = io.BytesIO()
    np.save(array, c2w.float().numpy())
    focal, _, cx, cy = intrinsics_from_fov(FOV_DEG, hw, 1)[0].tolist()
    lens = [[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]]
    trajectory = {
        "coordinate_convention": CONVENTION, "camera_type": task.camera.preset, "fps": FPS,
        "source": "camera_action_script", "conversion_mode": PAYLOAD, "frame_count": NUM_FRAMES,
        "c2w": c2w.float().tolist(), "intrinsics": [lens] * NUM_FRAMES,
    }  # fmt: skip
    samples = {
        "schema_version": 1, "payload_type": PAYLOAD, "official_camera_entrypoint": "RemindPipeline(cameras=)",
        "model_control_timeline": {"control_sample_kind": "camera_trajectory_c2w", "control_sample_count": NUM_FRAMES,
                                   "target_frame_count": NUM_FRAMES, "source": _TOLD},
        "target_frame_count": NUM_FRAMES, "target_coordinate_convention": CONVENTION,
    }  # fmt: skip
    _write(Path(f"{video}.target_c2w.npy"), array.getvalue())
    for end, value in (("camera_trajectory.json", trajectory), ("camera.json", sidecar_of(task, video, hw)),
                       ("model_control_samples.json", samples)):  # fmt: skip
        _write(Path(f"{video}.{end}"), _json(value))


_FROM_SIDECAR = ("target_pose_path", "trajectory_c2w_path", "camera_trajectory_path", "target_coordinate_convention",
                 "coordinate_convention", "target_certification_status", "target_role", "evidence_level",
                 "control_family", "control_direction", "control_profile", "yaw_peak_deg", "num_frames", "fps",
                 "image_size", "fov", "trajectory_sampling_rule", "adapter_provenance")  # fmt: skip


def manifest_row(task: WRTask, model: str, number: int, record: Record | None, beside: Path) -> dict[str, Any]:
    """A line of the manifest.

    Args:
        number: of the task, from 1.
        record: what came of it; without one, or with one that failed, the row says so and names no video that is there.
        beside: the path that the sidecars stand beside.
    """
    variant, camera = task.variant, task.camera
    video = str(record.about.get("video", {}).get("path", beside)) if record is not None else str(beside)
    ok = record is not None and record.about.get("video_ok", False)
    row = {
        "schema_version": 1, "model": model, "display_name": model, "model_input": "TI2V", "video_id": task.id,
        "variant_id": variant.variant_id, "family_id": variant.family_id, "reasoning_tier": variant.reasoning_tier,
        "event_delta": variant.event_delta, "divergence_id": variant.divergence_id, "oov_gap": variant.oov_gap,
        "camera": camera.label, "camera_type": camera.preset, "camera_preset": camera.preset,
        "stress_axis": camera.stress_axis, "stress_yaw_deg": camera.yaw_deg, "camera_scope_id": task.scope,
        "path": video, "video_path": video, "world_state_prompt": variant.world_state_prompt,
        "expected_state": variant.expected_state, "prompt_profile_id": PROMPT_PROFILE,
        "ti2v_prompt": variant.ti2v_prompt, "prompt": variant.ti2v_prompt, "shard_index": 0, "num_shards": 1,
        "ordinal": number, "payload_type": PAYLOAD, "status": "ok" if ok else "failed",
    }  # fmt: skip
    if not ok or record is None:
        return row | {"error": "not made" if record is None else record.reason}
    sidecar = sidecar_of(task, beside, tuple(record.about["hw"]))
    return row | {"camera_sidecar_path": f"{beside}.camera.json"} | {name: sidecar[name] for name in _FROM_SIDECAR}


def write_manifest(
    folder: Path, model: str, tasks: Iterable[WRTask], records: Mapping[str, Record], beside: Mapping[str, Path]
) -> int:
    """Write both manifests and the sidecars of the videos that are there.

    Args:
        folder: `MODEL` of the layout.
        beside: the path that a task's sidecars stand beside, by id.

    Returns:
        Videos that are there.

    Raises:
        InputError: a place that cannot be written.
    """
    rows = []
    for number, task in enumerate(tasks, 1):
        record = records.get(task.id)
        row = manifest_row(task, model, number, record, beside[task.id])
        if row["status"] == "ok" and record is not None:
            write_sidecars(task, beside[task.id], tuple(record.about["hw"]))
        rows.append(row)
    there = [row for row in rows if row["status"] == "ok"]
    lines = (json.dumps(row, sort_keys=True).encode() + b"\n" for row in rows)
    _write(folder / "manifest.shard00.jsonl", b"".join(lines))
    _write(folder / "videos.json", _json(there))
    return len(there)


def write_turns(folder: Path, task: WRTask, yaw_deg: Float[Tensor, " t"]) -> None:
    """Keep measured turns as poses where WRBench's scorers look for them: `pose/ID/poses.npy`, float64 [t, 4, 4].

    Raises:
        InputError: a place that cannot be written.
    """
    array = io.BytesIO()
    np.save(array, yaw_trajectory(yaw_deg).numpy())
    _write(folder / "pose" / task.id / "poses.npy", array.getvalue())


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _write(path: Path, data: bytes) -> None:
    try:
        with whole_file(path, synced=False) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise InputError("the evaluation cannot be written", got=f"{path}: {error.strerror}",
                         fix="make room, or choose another --out; run it again to go on") from None  # fmt: skip
