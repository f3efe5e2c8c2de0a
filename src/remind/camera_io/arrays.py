"""Cameras in NumPy's files: our own `cameras.npz`, matrices and quaternions in `.npy`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from remind.camera_io.files import check_rate, naming, read_bytes, read_npy, read_npz, write_whole
from remind.camera_io.track import CameraTrack, check_poses
from remind.clip import Cameras
from remind.errors import CameraError
from remind.geometry import PoseReading, rescale_intrinsics, to_opencv_c2w

# No lens has a focal length of 20 widths, and none of 20 pixels: what lies on the other side is in the other unit.
_BETWEEN_SHARES_AND_PIXELS = 20.0
_BOTTOM_ROW = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)


def load_cameras_npz(source: Path | bytes) -> Cameras:
    """Our own format (docs/data_format.md), a row a frame, as it was written; rows without a valid pose hold the
    identity.

    Raises:
        CameraError: no such file, damaged, no valid pose, cameras that `CameraTrack` refuses.
    """
    name, data = ("cameras.npz", source) if isinstance(source, bytes) else (source.name, read_bytes(source))
    members = {
        "c2w": ((np.float64,), (-1, 4, 4)),
        "intrinsics_px": ((np.float32, np.float64), (-1, 4)),
        "hw": ((np.int64,), (2,)),
        "pose_valid": ((np.bool_,), (-1,)),
    }
    arrays, rows = read_npz(name, data, members)
    valid = torch.from_numpy(arrays["pose_valid"])
    with naming(name):
        if not valid.any():
            raise CameraError("no pose is valid", got=f"{rows} rows")
        c2w, intrinsics = torch.from_numpy(arrays["c2w"]), torch.from_numpy(arrays["intrinsics_px"]).double()
        height, width = (int(side) for side in arrays["hw"])
        frames = torch.arange(rows, dtype=torch.float64)
        CameraTrack(c2w[valid], intrinsics[valid], (height, width), frames[valid])  # refuses what cannot be
        c2w[~valid] = torch.eye(4, dtype=torch.float64)
        intrinsics[~valid] = intrinsics[valid][0]
        return Cameras(c2w, intrinsics, (height, width), valid)


def read_cameras_npz(source: Path | bytes, *, fps: int | float) -> CameraTrack:
    """What `load_cameras_npz` reads, as a track; rows whose pose is not valid are left out of it."""
    cameras = load_cameras_npz(source)
    with naming("cameras.npz" if isinstance(source, bytes) else source.name):
        check_rate(fps)
    times = torch.arange(len(cameras), dtype=torch.float64) / fps
    valid = cameras.valid
    return CameraTrack(cameras.c2w[valid], cameras.intrinsics_px[valid], cameras.hw, times[valid])


def write_cameras_npz(path: Path, cameras: Cameras, *, exact: bool = False) -> None:
    """As the clip store holds them.

    Args:
        exact: keep the last bits of intrinsics, in float64: what is generated under them again must be the same.

    Raises:
        CameraError: a place that cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        c2w=cameras.c2w.double().numpy(),
        intrinsics_px=(cameras.intrinsics_px.double() if exact else cameras.intrinsics_px.float()).numpy(),
        hw=np.array(cameras.hw, dtype=np.int64),
        pose_valid=cameras.valid.numpy(),
    )
    write_whole(path, buffer.getvalue())


def read_matrix_npy(
    path: Path,
    intrinsics_px: Float[Tensor, "m 4"],
    *,
    hw: tuple[int, int],
    fps: int | float,
    stride: int,
    reading: PoseReading,
) -> CameraTrack:
    """Matrices `[n 4 4]` or `[n 3 4]`, e.g. WRBench's `.target_c2w.npy`.

    Args:
        intrinsics_px: one row for all poses or one for each, see `read_intrinsics_npy`.
        hw: the size that they belong to.
        fps: of the video, > 0.
        stride: a pose for every `stride`-th frame, >= 1.
        reading: the convention of the matrices; the file does not say.

    Raises:
        CameraError: no such file, another shape, cameras that `CameraTrack` refuses.
    """
    matrices = read_npy(path, expected="[n 4 4] or [n 3 4]", fits=lambda s: s[1:] in {(4, 4), (3, 4)})
    if matrices.shape[1] == 3:
        matrices = torch.cat([matrices, _BOTTOM_ROW.expand(len(matrices), 1, 4)], 1)
    return _strided(path, matrices, intrinsics_px, hw, fps, stride, reading)


def read_quaternion_npy(
    path: Path,
    intrinsics_px: Float[Tensor, "m 4"],
    *,
    hw: tuple[int, int],
    fps: int | float,
    stride: int,
    reading: PoseReading,
) -> CameraTrack:
    """Rows `tx ty tz qx qy qz qw`, e.g. SpatialVID's `poses.npy`; arguments and errors as `read_matrix_npy`.

    Users of such files disagree about their direction; `curation.camera_check` measures it.
    """
    rows = read_npy(path, expected="[n 7]", fits=lambda s: s[1:] == (7,))
    length = rows[:, 3:].norm(dim=-1)
    bad = ((length - 1).abs() <= 1e-2).logical_not().nonzero()
    if len(bad):
        raise CameraError(f"{path.name}: row {int(bad[0])} holds no unit quaternion",
                          got=f"length {length[bad[0]].item():.3g}")  # fmt: skip
    poses = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    poses[:, :3, :3] = torch.from_numpy(Rotation.from_quat(rows[:, 3:].numpy()).as_matrix())
    poses[:, :3, 3] = rows[:, :3]
    return _strided(path, poses, intrinsics_px, hw, fps, stride, reading)


def read_intrinsics_npy(path: Path, *, hw: tuple[int, int], normalised: bool) -> Float[Tensor, "m 4"]:
    """Rows `fx fy cx cy` or 3x3 matrices, as pixels of `hw`.

    Args:
        normalised: the file holds shares of width and height (as SpatialVID's does), not pixels of `hw`.

    Raises:
        CameraError: no such file, another shape, numbers that contradict `normalised`.
    """
    raw = read_npy(path, expected="[n 4] or [n 3 3]", fits=lambda s: s[1:] in {(4,), (3, 3)})
    rows = raw[:, [0, 1, 0, 1], [0, 1, 2, 2]] if raw.ndim == 3 else raw
    if ((rows[:, :2] > _BETWEEN_SHARES_AND_PIXELS) == normalised).any():
        raise CameraError(f"{path.name}: intrinsics in another unit", got=f"fx, fy = {rows[0, :2].tolist()}",
                          expected="shares of the size" if normalised else "pixels")  # fmt: skip
    return rescale_intrinsics(rows, from_hw=(1, 1), to_hw=hw) if normalised else rows


def _strided(
    path: Path,
    poses: Float[Tensor, "n 4 4"],
    intrinsics_px: Float[Tensor, "m 4"],
    hw: tuple[int, int],
    fps: int | float,
    stride: int,
    reading: PoseReading,
) -> CameraTrack:
    with naming(path.name):
        check_rate(fps)
        if stride < 1:
            raise CameraError("no such stride of poses", got=stride, expected="1 or more")
        if len(intrinsics_px) not in (1, len(poses)):
            raise CameraError("poses and intrinsics differ in length", got=(len(poses), len(intrinsics_px)))
        check_poses(poses)
        times = torch.arange(len(poses), dtype=torch.float64) * stride / fps
        intrinsics = intrinsics_px.expand(len(poses), 4).contiguous()
        return CameraTrack(to_opencv_c2w(poses, reading), intrinsics, hw, times)
