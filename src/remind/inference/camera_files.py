"""Camera paths as they are given: poses of a declared convention, one a frame, with a lens where the file has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.camera_io import (
    is_transforms_json,
    load_cameras_npz,
    read_matrix_npy,
    read_pose_json,
    read_realestate10k,
    read_transforms_json,
)
from remind.camera_io.track import MAX_POSES, MAX_SIDE_PX, check_poses
from remind.clip import Cameras
from remind.errors import CameraError
from remind.geometry import PoseReading, intrinsics_from_fov, to_opencv_c2w

SUFFIXES = (".json", ".npy", ".npz", ".txt")
MAX_GAP_S = 1.0  # our choice, as in curation: a pose at least every second is interpolated
_WIDTH_PX = 1920  # a size to hold shares of the width; any would do
_BOTTOM_ROW = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class GivenPath:
    """Poses, one a frame. OpenCV camera-to-world, any origin.

    Args:
        c2w: float64; the identity where a pose is unknown.
        valid: which are known.
        intrinsics_px: in pixels of `hw`, or None where nothing is said.
        hw: what they belong to.
    """

    c2w: Float[Tensor, "t 4 4"]
    valid: Bool[Tensor, " t"]
    intrinsics_px: Float[Tensor, "t 4"] | None = None
    hw: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.c2w)


def is_file(spec: str) -> bool:
    """Whether a text names a file of cameras; words for a path never end so."""
    return spec.strip().lower().endswith(SUFFIXES)


def path_from_file(path: Path, *, convention: PoseReading | None, fps: int | float) -> GivenPath:
    """Read cameras by the suffix of their file.

    - `.npz`: our `cameras.npz`.
    - `.npy`: matrices, OpenCV c2w unless `convention` says otherwise.
    - `.json`: nerfstudio's `transforms.json`, or poses with their convention (`camera_io.pose_json`).
    - `.txt`: RealEstate10K, whose poses have times; its pictures are taken to have square pixels.

    Args:
        convention: None = what the format says.
        fps: of the video that is made; poses with times are read at its frames, the others are one a frame.

    Raises:
        CameraError: no such file, of another kind, damaged, of another convention, or no poses.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        _only("c2w", convention, path)
        return _given(load_cameras_npz(path))
    if suffix == ".npy":
        unused = torch.ones(1, 4, dtype=torch.float64)
        track = read_matrix_npy(path, unused, hw=(1, 1), fps=fps, stride=1, reading=convention or "c2w")
        return GivenPath(track.c2w, torch.ones(len(track), dtype=torch.bool))
    if suffix == ".txt":
        _only("w2c", convention, path)
        return _realestate10k(path, fps)
    if suffix == ".json":
        if is_transforms_json(path):
            _only("c2w_opengl", convention, path)
            track = read_transforms_json(path, fps=fps)
            return GivenPath(track.c2w, torch.ones(len(track), dtype=torch.bool), track.intrinsics_px, track.hw)
        poses = read_pose_json(path, convention=convention)
        n, hw = len(poses.c2w), poses.hw or (_WIDTH_PX, _WIDTH_PX)
        lens = None if poses.intrinsics_px is None else poses.intrinsics_px.expand(n, 4)
        if poses.fov_deg is not None:
            lens = intrinsics_from_fov(poses.fov_deg, hw, n)
        return GivenPath(poses.c2w, torch.ones(n, dtype=torch.bool), lens, None if lens is None else hw)
    raise CameraError("no such kind of camera file", got=path.name, expected=", ".join(SUFFIXES))


def path_from_array(array: Tensor | np.ndarray, convention: PoseReading | None) -> GivenPath:
    """Matrices `[t 4 4]` or `[t 3 4]`, one a frame, of a declared convention; a row with NaN is an unknown pose.

    Raises:
        CameraError: another shape or kind, no convention, or a matrix that is no pose.
    """
    if convention is None:
        raise CameraError("an array of poses does not say what it means", got=list(array.shape),
                          expected="c2w, w2c, c2w_opengl or w2c_opengl", fix='say it: convention="c2w"')  # fmt: skip
    is_real = array.dtype.is_floating_point if isinstance(array, Tensor) else array.dtype.kind in "fiu"
    shape = tuple(array.shape)
    if not is_real or len(shape) != 3 or shape[1:] not in {(4, 4), (3, 4)} or not 1 <= shape[0] <= MAX_POSES:
        raise CameraError("not poses", got=f"{array.dtype}{list(shape)}", expected="numbers [t 4 4] or [t 3 4]")
    poses = torch.as_tensor(array).detach().cpu().double()
    if shape[1] == 3:
        poses = torch.cat([poses, _BOTTOM_ROW.expand(shape[0], 1, 4)], 1)
    valid = torch.isfinite(poses).flatten(1).all(1)
    if not valid.any():
        raise CameraError("no pose is valid", got=f"{shape[0]} rows with NaN or infinity")
    eye = torch.eye(4, dtype=torch.float64)
    poses = torch.where(valid[:, None, None], poses, eye)
    check_poses(poses)
    return GivenPath(torch.where(valid[:, None, None], to_opencv_c2w(poses, convention), eye), valid)


def path_from_cameras(cameras: Cameras) -> GivenPath:
    """Cameras as another part of the library has them."""
    if not cameras.valid.any():
        raise CameraError("no pose is valid", got=f"{len(cameras)} frames")
    check_poses(cameras.c2w[cameras.valid].double())
    return _given(cameras)


def _given(cameras: Cameras) -> GivenPath:
    eye = torch.eye(4, dtype=torch.float64)
    c2w = torch.where(cameras.valid[:, None, None], cameras.c2w.double(), eye)
    return GivenPath(c2w, cameras.valid, cameras.intrinsics_px.double(), cameras.hw)


def _realestate10k(path: Path, fps: int | float) -> GivenPath:
    track = read_realestate10k(path, hw=(1, 1))
    fx, fy = track.intrinsics_px[0, :2].tolist()
    height = round(_WIDTH_PX * fx / fy)  # square pixels: fx = fy in pixels
    track = track.resized((min(max(1, height), MAX_SIDE_PX), _WIDTH_PX))
    count = int((track.times_s[-1] - track.times_s[0]) * fps + 1e-6) + 1
    if count > MAX_POSES:
        raise CameraError(f"{path.name}: poses over a time too long for a path", got=f"{count} frames",
                          expected=f"at most {MAX_POSES}")  # fmt: skip
    times = track.times_s[0] + torch.arange(count, dtype=torch.float64) / fps
    return _given(track.at(times, max_gap_s=MAX_GAP_S))


def _only(own: PoseReading, convention: PoseReading | None, path: Path) -> None:
    if convention is not None and convention != own:
        raise CameraError(f"{path.name}: this format has a convention of its own", got=convention, expected=own)


