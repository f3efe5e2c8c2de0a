"""Measure COLMAP's poses against true ones: on scenes of the embedded world and on a real clip with given poses.

    python experiments/colmap_accuracy/run.py world --out experiments/colmap_accuracy/results/world.json
    python experiments/colmap_accuracy/run.py real --folder DATA/videos/spatialvid --out .../results/real.json
    python experiments/colmap_accuracy/run.py table --results experiments/colmap_accuracy/results
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from scipy.spatial.transform import Rotation

from remind.clip import Cameras
from remind.curation.estimators.colmap import Colmap
from remind.curation.estimators.contract import EstimatorError
from remind.curation.estimators.estimate import trajectory_error
from remind.data.video_io import read_clip
from remind.geometry import anchor, intrinsics_from_fov, invert_rigid, rigid, rotation_yaw
from remind.world import FAMILIES, sample_scene
from remind.world.clutter import add_clutter

Path_ = Literal["orbit", "slide", "forward", "turn"]
HW, FOV_DEG, STAGE_DISTANCE = (240, 416), 55.0, 3.3
CLUTTERED = ("rolling_ball", "walker", "filling", "inflating", "snow", "hoisting", "clock", "door")


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


def measure(rgb: torch.Tensor, true: Cameras, colmap: Colmap) -> dict[str, object]:
    """One clip's errors, or the reason why it has no poses."""
    begin = time.monotonic()
    try:
        found = colmap.estimate(rgb)
    except EstimatorError as error:
        return {"failed": str(error), "seconds": round(time.monotonic() - begin, 2)}
    errors = trajectory_error(found.cameras, true)
    focal = float(found.cameras.intrinsics_px[0, 0] / true.intrinsics_px[0, 0]) * true.hw[1] / found.cameras.hw[1]
    return {"seconds": round(time.monotonic() - begin, 2), "focal_ratio": focal, **asdict(errors), **found.facts}


def world(out: Path, num_frames: int = 41, seed: int = 1, plain: bool = True) -> None:
    """Scenes of the embedded world; the actor moves on while the camera does."""
    cases: list[tuple[str, bool, Path_]] = [(f, True, p) for f in CLUTTERED for p in ("orbit", "slide", "forward")]
    cases += [("clock", True, "turn")]
    cases += [(f, False, "orbit") for f in FAMILIES] if plain else []
    rows = []
    with Colmap() as colmap:
        for family, cluttered, path in cases:
            scene = sample_scene(seed, family=family, num_frames=num_frames, hw=HW)
            cameras = camera_path(path, num_frames)
            rgb = (add_clutter(scene) if cluttered else scene).render_rgb(cameras=cameras)
            row = {"family": family, "clutter": cluttered, "path": path, "frames": num_frames, "seed": seed}
            rows.append({**row, **measure(rgb, cameras, colmap)})
            print(rows[-1], flush=True)
            _save(out, rows)


def real(folder: Path, out: Path, num_frames: int = 81, fps: float = 6.0, hw: tuple[int, int] = (360, 640)) -> None:
    """A clip of SpatialVID: poses for every fifth frame of 30 fps as tx ty tz qx qy qz qw, so sampled at 6 fps.

    The given poses are read both ways; the estimate tells which is meant.
    """
    given, normalised = np.load(folder / "poses.npy")[:num_frames], np.load(folder / "intrinsics.npy")[:num_frames]
    rgb = read_clip(folder / "clip.mp4", num_frames=num_frames, fps=fps, hw=hw).rgb
    rotation = torch.from_numpy(Rotation.from_quat(given[:, 3:]).as_matrix())
    poses = rigid(rotation, torch.from_numpy(given[:, :3]).double())
    scale = torch.tensor([hw[1], hw[0], hw[1], hw[0]], dtype=torch.float64)
    intrinsics = torch.from_numpy(normalised).double() * scale
    rows = []
    with Colmap() as colmap:
        for reading, c2w in (("c2w", poses), ("w2c", invert_rigid(poses))):
            true = Cameras(anchor(c2w), intrinsics, hw, torch.ones(num_frames, dtype=torch.bool))
            row = {"clip": folder.name, "given_read_as": reading, "frames": num_frames, "fps": fps, "hw": hw}
            rows.append({**row, **measure(rgb, true, colmap)})
            print(rows[-1], flush=True)
            _save(out, rows)


def table(results: Path) -> None:
    """The README's table, from the raw JSON."""
    print("| scene | path | poses | ATE / path | rotation mean, max | focal est. / true | features | s |")
    print("|---|---|---|---|---|---|---|---|")
    for file in sorted(results.glob("*.json")):
        for row in json.loads(file.read_text())["rows"]:
            name = row.get("family", f"real, read as {row.get('given_read_as')}")
            name += ", cluttered" if row.get("clutter") else ""
            start = f"| {name} | {row.get('path', 'real')} | "
            if "failed" in row:
                reason = row["failed"].split("; got ", 1)[1].removeprefix("ValueError: ").split(". Fix")[0]
                print(f"{start}none: {reason} | | | | | {row['seconds']} |")
                continue
            print(f"{start}{row['registered']} of {row['frames']} | {row['ate_ratio']:.2%} | "
                  f"{row['rotation_deg']:.2f}°, {row['max_rotation_deg']:.2f}° | {row['focal_ratio']:.3f} | "
                  f"{row['features_per_frame']:.0f} | {row['seconds']} |")  # fmt: skip


def _save(out: Path, rows: list[dict[str, object]]) -> None:
    temporary = out.with_suffix(".part")
    temporary.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    os.replace(temporary, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tyro.extras.subcommand_cli_from_dict({"world": world, "real": real, "table": table})
