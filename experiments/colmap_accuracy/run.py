"""Measure COLMAP's poses against true ones: on scenes of the embedded world and on a real clip with given poses.

    python experiments/colmap_accuracy/run.py world --out experiments/colmap_accuracy/results/world.json
    python experiments/colmap_accuracy/run.py real --folder DATA/videos/spatialvid --out .../results/real.json
    python experiments/colmap_accuracy/run.py table --results experiments/colmap_accuracy/results
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from scipy.spatial.transform import Rotation

from remind.clip import Cameras
from remind.curation.estimators.colmap import Colmap, Mapper
from remind.curation.estimators.contract import EstimatorError
from remind.curation.estimators.estimate import trajectory_error
from remind.data.video_io import read_clip
from remind.geometry import anchor, intrinsics_from_fov, invert_rigid, rigid, rotation_yaw
from remind.world import FAMILIES, sample_scene
from remind.world.clutter import add_clutter

Path_ = Literal["orbit", "slide", "forward", "turn"]
DEFAULT_MIN_POINTS = 250  # measured without it, so that the table shows what it is for
HW, FOV_DEG, STAGE_DISTANCE = (240, 416), 55.0, 3.3
CLUTTERED = ("rolling_ball", "walker", "filling", "inflating", "clock", "door")


def camera_path(kind: Path_, num_frames: int) -> Cameras:
    """A smooth path before the stage: 40 degrees around it, 1.5 m along it, 1.5 m to it, or 40 degrees in place."""
    u = torch.linspace(0, 1, num_frames, dtype=torch.float64)
    zero, angle = torch.zeros_like(u), torch.deg2rad(40 * u)
    if kind == "orbit":
        position = STAGE_DISTANCE * torch.stack([-torch.sin(angle), zero, 1 - torch.cos(angle)], -1)
        yaw_deg = torch.rad2deg(angle)
    elif kind == "slide":
        position, yaw_deg = torch.stack([1.5 * u, zero, 0.3 * u], -1), -15 * u
    elif kind == "forward":
        position, yaw_deg = torch.stack([0.2 * u, zero, 1.5 * u], -1), zero
    else:
        position, yaw_deg = torch.stack([zero, zero, zero], -1), 40 * u
    valid = torch.ones(num_frames, dtype=torch.bool)
    return Cameras(rigid(rotation_yaw(yaw_deg), position), intrinsics_from_fov(FOV_DEG, HW, num_frames), HW, valid)


def measure(rgb: torch.Tensor, readings: dict[str, Cameras], colmap: Colmap) -> dict[str, dict[str, object]]:
    """One clip's errors against each of several readings of the truth, or the reason why it has no poses."""
    begin = time.monotonic()
    try:
        found = colmap.estimate(rgb)
    except EstimatorError as error:
        failed: dict[str, object] = {"failed": str(error), "seconds": round(time.monotonic() - begin, 2)}
        return dict.fromkeys(readings, failed)
    seconds = round(time.monotonic() - begin, 2)
    return {
        name: {
            "seconds": seconds,
            "focal_ratio": float(found.cameras.intrinsics_px[0, 0] / true.intrinsics_px[0, 0]),
            **asdict(trajectory_error(found.cameras, true)),
            **found.facts,
        }
        for name, true in readings.items()
    }


def world(out: Path, num_frames: int = 41, seed: int = 1, mapper: Mapper = "incremental", plain: bool = True) -> None:
    """Scenes of the embedded world; the actor moves on while the camera does."""
    paths: tuple[Path_, ...] = ("orbit", "slide", "forward")
    cases: list[tuple[str, bool, Path_, bool]] = [(f, True, p, False) for f in CLUTTERED for p in paths]
    cases += [(f, True, "forward", True) for f in CLUTTERED] + [("clock", True, "turn", False)]
    cases += [(f, False, "orbit", False) for f in FAMILIES] if plain else []
    rows = []
    known_px = float(camera_path("turn", 2).intrinsics_px[0, 0])
    with (
        Colmap(mapper=mapper, min_points=0) as free,
        Colmap(focal_px=known_px, mapper=mapper, min_points=0) as fixed,
    ):
        for family, cluttered, path, known in cases:
            scene = sample_scene(seed, family=family, num_frames=num_frames, hw=HW)
            cameras = camera_path(path, num_frames)
            rgb = (add_clutter(scene) if cluttered else scene).render_rgb(cameras=cameras)
            row = {"family": family, "clutter": cluttered, "path": path, "mapper": mapper, "focal_known": known,
                   "frames": num_frames, "seed": seed}  # fmt: skip
            rows.append({**row, **measure(rgb, {"": cameras}, fixed if known else free)[""]})
            print(rows[-1], flush=True)
            _save(out, rows)


def real(folder: Path, out: Path, num_frames: int = 81, fps: float = 6.0, hw: tuple[int, int] = (270, 480)) -> None:
    """A clip of SpatialVID: poses for every fifth frame of 30 fps as tx ty tz qx qy qz qw, so sampled at 6 fps.

    The given poses are read both ways; the estimate tells which is meant.
    """
    given, normalised = np.load(folder / "poses.npy")[:num_frames], np.load(folder / "intrinsics.npy")[:num_frames]
    rgb = read_clip(folder / "clip.mp4", num_frames=num_frames, fps=fps, hw=hw).rgb
    rotation = torch.from_numpy(Rotation.from_quat(given[:, 3:]).as_matrix())
    poses = rigid(rotation, torch.from_numpy(given[:, :3]).double())
    scale = torch.tensor([hw[1], hw[0], hw[1], hw[0]], dtype=torch.float64)
    intrinsics = torch.from_numpy(normalised).double() * scale
    valid = torch.ones(num_frames, dtype=torch.bool)
    readings = {"c2w": Cameras(anchor(poses), intrinsics, hw, valid),
                "w2c": Cameras(anchor(invert_rigid(poses)), intrinsics, hw, valid)}  # fmt: skip
    rows = []
    for known, mapper in ((True, "global"), (True, "incremental"), (False, "global")):
        focal_px = float(intrinsics[0, 0]) if known else None
        with Colmap(focal_px=focal_px, mapper=mapper, min_points=0, timeout_s=1200.0) as colmap:
            for reading, measured in measure(rgb, readings, colmap).items():
                row = {"clip": folder.name, "given_read_as": reading, "focal_known": known, "mapper": mapper,
                       "frames": num_frames, "fps": fps, "hw": hw}  # fmt: skip
                rows.append({**row, **measured})
                print(rows[-1], flush=True)
        _save(out, rows)


def table(results: Path) -> None:
    """The README's table, from the raw JSON."""
    print("| scene | path | poses | ATE / path | rotation mean, max | focal est. / true | features | s |")
    print("|---|---|---|---|---|---|---|---|")
    for file in sorted(results.glob("*.json")):
        for row in json.loads(file.read_text())["rows"]:
            name = row.get("family", f"real, read as {row.get('given_read_as')}, {row['mapper']}")
            name += (", cluttered" if row.get("clutter") else "") + (", focal known" if row["focal_known"] else "")
            start = f"| {name} | {row.get('path', 'real')} | "
            if "failed" in row:
                reason = row["failed"].split("; got ", 1)[1].removeprefix("ValueError: ").split(". Fix")[0]
                reason = re.sub(r", \d+ pairs of pictures matched|no reconstruction: |; expected.*", "", reason)
                print(f"{start}none: {reason} | | | | | {row['seconds']} |")
                continue
            refused = " (refused)" if row["points"] < DEFAULT_MIN_POINTS else ""
            print(f"{start}{row['registered']:.0f} of {row['frames']}, {row['points']:.0f} points{refused} | "
                  f"{row['ate_ratio']:.2%} | "
                  f"{row['rotation_deg']:.2f}°, {row['max_rotation_deg']:.2f}° | {row['focal_ratio']:.3f} | "
                  f"{row['features_per_frame']:.0f} | {row['seconds']} |")  # fmt: skip


def _save(out: Path, rows: list[dict[str, object]]) -> None:
    temporary = out.with_suffix(".part")
    temporary.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    os.replace(temporary, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tyro.extras.subcommand_cli_from_dict({"world": world, "real": real, "table": table})
