"""Cameras over time, as they come from outside: poses at times of their own, sparser or denser than the frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from remind.clip import Cameras
from remind.errors import CameraError
from remind.geometry import PoseReading, cover_intrinsics, rescale_intrinsics, to_opencv_c2w

MAX_POSES = 100_000
MAX_SIDE_PX = 16_384
# Poses are written with six digits or as float32; what is farther from a rotation was scaled or sheared.
ROTATION_TOLERANCE = 1e-3
# Times are microseconds or better in every format that we know.
_SAME_TIME_S = 1e-6


@dataclass(frozen=True)
class CameraTrack:
    """Known poses of one camera. OpenCV axes, camera-to-world, any origin, any unit of length.

    Args:
        c2w: camera-to-world transforms, float64.
        intrinsics_px: fx, fy, cx, cy in pixels of `hw`, float64; a pixel's centre is at +0.5.
        hw: the height and width that `intrinsics_px` belongs to.
        times_s: of each pose on the video's clock, strictly increasing, float64.
        ignored_distortion: the largest shift by lens distortion that these cameras leave out, as a share of the width.

    Raises:
        CameraError: not rigid, not finite, not in order, a focal length that is not positive; it names the row.
    """

    c2w: Float[Tensor, "n 4 4"]
    intrinsics_px: Float[Tensor, "n 4"]
    hw: tuple[int, int]
    times_s: Float[Tensor, " n"]
    ignored_distortion: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= len(self) <= MAX_POSES:
            raise CameraError("a track of this length cannot be used", got=f"{len(self)} poses",
                              expected=f"1..{MAX_POSES}")  # fmt: skip
        if not all(1 <= side <= MAX_SIDE_PX for side in self.hw):
            raise CameraError("cameras for pictures of an impossible size", got=self.hw, expected=f"1..{MAX_SIDE_PX}")
        if {self.c2w.dtype, self.intrinsics_px.dtype, self.times_s.dtype} != {torch.float64}:
            raise CameraError("poses, intrinsics and times of a track are float64", got=self.c2w.dtype)
        if not len(self.c2w) == len(self.intrinsics_px) == len(self.times_s):
            raise CameraError("poses, intrinsics and times differ in length",
                              got=(len(self.c2w), len(self.intrinsics_px), len(self.times_s)))  # fmt: skip
        check_poses(self.c2w)
        _check_intrinsics(self.intrinsics_px)
        _check_times(self.times_s)

    def __len__(self) -> int:
        return self.c2w.shape[0]

    def at(self, times_s: Float[Tensor, " t"], *, max_gap_s: float) -> Cameras:
        """Cameras at other times: rotations by SLERP, the rest linear; not anchored.

        Our choice: a straight line between poses is right for poses every few frames, and a wrong pose is worse than
        none, so what lies outside of the track or in a wide gap is marked unknown.

        Args:
            times_s: on the same clock, any order, finite.
            max_gap_s: the widest distance of two poses to interpolate over, >= 0.

        Returns:
            One camera per time; `valid` is False before the first and after the last pose and within wider gaps.

        Raises:
            CameraError: times that are not finite, or a gap that is not a number >= 0.
        """
        if not torch.isfinite(times_s).all() or not max_gap_s >= 0:
            raise CameraError("cameras are asked for at no possible time", got=f"a gap of {max_gap_s} s",
                              expected="finite times, a gap >= 0")  # fmt: skip
        times, known = times_s.double().contiguous(), self.times_s
        inside = times.clamp(known[0], known[-1])
        c2w, intrinsics = interpolate_poses(self.c2w, known, inside), _linear(inside, known, self.intrinsics_px)
        return Cameras(c2w, intrinsics, self.hw, self._known_at(times, max_gap_s))

    def read_as(self, reading: PoseReading) -> CameraTrack:
        """The same numbers read in another convention: what was taken for OpenCV c2w is really `reading`."""
        return replace(self, c2w=to_opencv_c2w(self.c2w, reading))

    def resized(self, hw: tuple[int, int]) -> CameraTrack:
        """For pictures that were scaled to `hw`."""
        intrinsics = rescale_intrinsics(self.intrinsics_px, from_hw=self.hw, to_hw=hw)
        return replace(self, intrinsics_px=intrinsics, hw=hw)

    def covering(self, hw: tuple[int, int]) -> CameraTrack:
        """For pictures that were scaled to cover `hw` and cropped to it, as `data.video_io` does."""
        intrinsics = cover_intrinsics(self.intrinsics_px, from_hw=self.hw, to_hw=hw)
        return replace(self, intrinsics_px=intrinsics, hw=hw)

    def _known_at(self, times: Float[Tensor, " t"], max_gap_s: float) -> Bool[Tensor, " t"]:
        known = self.times_s
        after = torch.searchsorted(known, times).clamp(max=len(self) - 1)
        before = (after - 1).clamp(min=0)
        hit = ((times - known[before]).abs() <= _SAME_TIME_S) | ((times - known[after]).abs() <= _SAME_TIME_S)
        between = (known[0] <= times) & (times <= known[-1])
        return hit | (between & (known[after] - known[before] <= max_gap_s + _SAME_TIME_S))


def interpolate_poses(
    c2w: Float[Tensor, "n 4 4"], known: Float[Tensor, " n"], times: Float[Tensor, " t"]
) -> Float[Tensor, "t 4 4"]:
    """Poses between poses: rotations by SLERP, positions linear.

    Args:
        known: of each pose, strictly increasing, float64.
        times: in [known[0], known[-1]].
    """
    rotations = Rotation.from_matrix(c2w[:, :3, :3].numpy())
    out = torch.eye(4, dtype=torch.float64).repeat(len(times), 1, 1)
    turned = rotations if len(c2w) == 1 else Slerp(known.numpy(), rotations)(times.numpy())
    out[:, :3, :3] = torch.from_numpy(turned.as_matrix())
    out[:, :3, 3] = _linear(times, known, c2w[:, :3, 3])
    return out


def _linear(
    times: Float[Tensor, " t"], known: Float[Tensor, " n"], values: Float[Tensor, "n c"]
) -> Float[Tensor, "t c"]:
    columns = [np.interp(times.numpy(), known.numpy(), column.numpy()) for column in values.unbind(-1)]
    return torch.from_numpy(np.stack(columns, -1))


def _first(bad: Bool[Tensor, " n"]) -> int | None:
    rows = bad.nonzero()
    return int(rows[0]) if len(rows) else None


def check_poses(c2w: Float[Tensor, "n 4 4"]) -> None:
    """Refuse what is not a rigid motion, in either direction; before an inversion hides or spreads the fault.

    Raises:
        CameraError: it names the row.
    """
    row = _first(~torch.isfinite(c2w).flatten(1).all(1))
    if row is not None:
        raise CameraError(f"pose {row} holds NaN or infinity", fix="leave out the poses that are not known")
    row = _first((c2w[:, 3] != torch.tensor([0.0, 0.0, 0.0, 1.0])).any(1))
    if row is not None:
        raise CameraError(f"pose {row} is not a rigid motion", got=f"last row {c2w[row, 3].tolist()}",
                          expected="0 0 0 1", fix="check whether the matrices are transposed")  # fmt: skip
    rotation = c2w[:, :3, :3]
    error = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2))
    determinant = torch.linalg.det(rotation)
    row = _first(~(error <= ROTATION_TOLERANCE) | ~(determinant > 0))
    if row is not None:
        raise CameraError(
            f"pose {row} is not a rotation and a translation",
            got=f"|R R^T - I| = {error[row].item():.2g}, det R = {determinant[row].item():.3g}",
            expected="R orthonormal, det +1",
            fix="check the axes and the scale of the poses",
        )


def _check_intrinsics(intrinsics_px: Float[Tensor, "n 4"]) -> None:
    row = _first(~torch.isfinite(intrinsics_px).all(1) | ~(intrinsics_px[:, :2] > 0).all(1))
    if row is not None:
        raise CameraError(f"intrinsics {row} cannot be", got=f"fx, fy, cx, cy = {intrinsics_px[row].tolist()}",
                          expected="finite, focal lengths > 0, in pixels")  # fmt: skip


def _check_times(times_s: Float[Tensor, " n"]) -> None:
    row = _first(~torch.isfinite(times_s))
    if row is not None:
        raise CameraError(f"pose {row} is not at a finite time", got=times_s[row].item())
    row = _first(times_s.diff() <= 0)
    if row is not None:
        raise CameraError(f"pose {row + 1} is not later than the one before",
                          got=f"{times_s[row + 1].item()} s after {times_s[row].item()} s",
                          expected="increasing times")  # fmt: skip
