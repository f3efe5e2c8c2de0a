"""How well a video's measured cameras follow those that were asked for, as WRBench and MemoBench count it.

Source: WRBench's requested-camera precision (D1-CamPrec) and MemoBench's camera controllability, from their toolkits;
tests hold the first to what the toolkit itself says. Both align the measured path on its first frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from remind.camera_io.files import read_npy
from remind.camera_io.track import check_poses
from remind.errors import CameraError, InputError
from remind.geometry import PoseReading, invert_rigid, to_opencv_c2w

Motion = Literal["yaw", "pan", "static"]

ROTATION_SCALE_DEG, TRANSLATION_SCALE = 45.0, 1.0
WEAK_YAW_DEG, WEAK_PAN = 2.0, 1e-4
STATIC_DEG, STATIC_SHIFT = 2.0, 0.05
"""WRBench's published settings, in its eval README."""
LEAST_TURN_DEG = 10.0  # MemoBench divides by no less
_BOTTOM_ROW = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class CameraMatch:
    """A measured path against the one that was asked for.

    Args:
        precision: WRBench's D1-CamPrec, 0..1; None where no kind of motion was named.
        why: why the precision is 0, one of few kinds; empty if it is not.
        turn_error_deg: mean angle between asked and measured rotation, over frames.
        turn_error_p90_deg: its 90th percentile.
        shift_error: distance of the paths after the best scale, as a share of the asked path's spread.
        yaw_peak_deg, asked_yaw_peak_deg: largest turn to a side, positive to the right.
        coverage: MemoBench's camera controllability, 0..1.
    """

    precision: float | None
    why: str
    turn_error_deg: float
    turn_error_p90_deg: float
    shift_error: float
    yaw_peak_deg: float
    asked_yaw_peak_deg: float
    coverage: float


def match_cameras(
    asked: Float[Tensor, "t 4 4"], measured: Float[Tensor, "t 4 4"], *, motion: Motion | None = None
) -> CameraMatch:
    """Compare two paths, OpenCV camera-to-world, a pose a frame.

    Args:
        motion: what was asked for; a turn or shift the wrong way, or none, has precision 0, and a static camera is
            right or wrong.

    Raises:
        CameraError: paths of different length, or without a frame.
    """
    if len(asked) != len(measured) or not len(asked):
        raise CameraError("the paths differ in length", got=f"{len(measured)} measured poses",
                          expected=f"{len(asked)}, at least 1")  # fmt: skip
    asked = asked.double()
    measured = asked[:1] @ invert_rigid(measured[:1].double()) @ measured.double()
    errors = _angles_deg(asked[:, :3, :3].transpose(1, 2) @ measured[:, :3, :3])
    shift = _shift_error(asked, measured)
    precision: float | None = None
    why = ""
    yaws = [_peak(_yaw_deg(path)) for path in (asked, measured)]
    if motion is not None:
        why = _failure(motion, asked, measured, yaws)
        right = 1.0 if motion == "static" else math.exp(-(float(errors.mean()) / ROTATION_SCALE_DEG
                                                          + shift / TRANSLATION_SCALE))  # fmt: skip
        precision = 0.0 if why else right
    turned = float(_angles_deg((asked[0, :3, :3].T @ asked[-1, :3, :3])[None])[0])
    rms = float(errors.square().mean().sqrt())
    return CameraMatch(precision, why, float(errors.mean()), float(torch.quantile(errors, 0.9)), shift, yaws[1],
                       yaws[0], max(0.0, 1 - rms / max(turned, LEAST_TURN_DEG)))  # fmt: skip


def _failure(motion: Motion, asked: Tensor, measured: Tensor, yaws: list[float]) -> str:
    if motion == "static":
        turn = float(_angles_deg(measured[0, :3, :3].T @ measured[:, :3, :3]).max())
        far = float((measured[:, :3, 3] - measured[0, :3, 3]).norm(dim=-1).max())
        return "" if turn <= STATIC_DEG and far <= STATIC_SHIFT else "moves"
    if motion == "yaw":
        peaks, weak, words = yaws, WEAK_YAW_DEG, "does not turn"
    else:
        peaks = [_peak(path[:, 0, 3] - path[0, 0, 3]) for path in (asked, measured)]
        weak, words = WEAK_PAN, "does not shift"
    if min(map(abs, peaks)) <= weak:
        return words
    return "" if (peaks[0] > 0) == (peaks[1] > 0) else "wrong way"


def _angles_deg(rotation: Float[Tensor, "t 3 3"]) -> Float[Tensor, " t"]:
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))


def _yaw_deg(c2w: Float[Tensor, "t 4 4"]) -> Float[Tensor, " t"]:
    turned = c2w[0, :3, :3].T @ c2w[:, :3, :3]
    return torch.rad2deg(torch.atan2(turned[:, 0, 2], turned[:, 0, 0]))


def _peak(values: Float[Tensor, " t"]) -> float:
    return float(values[values.abs().argmax()])


def _shift_error(asked: Float[Tensor, "t 4 4"], measured: Float[Tensor, "t 4 4"]) -> float:
    """Source: WRBench. Of a path that does not move it is 0 whatever was measured, but for the smallest of shifts."""
    path, other = (c2w[:, :3, 3] - c2w[0, :3, 3] for c2w in (asked, measured))
    if float(other.square().sum()) > 1e-12:
        other = other * max(float((path * other).sum() / other.square().sum()), 0.0)
    spread, apart = (v.square().sum(-1).mean().sqrt() for v in (path, path - other))
    return float(apart / (spread + 1e-8))


def read_poses(path: Path, reading: PoseReading = "c2w") -> Float[Tensor, "t 4 4"]:
    """Measured poses, `[t, 4, 4]` or `[t, 3, 4]` in a .npy file.

    Raises:
        CameraError: no such file, damaged, or no rigid motions.
    """
    matrices = read_npy(path, expected="[t, 4, 4] or [t, 3, 4], t >= 1",
                        fits=lambda shape: len(shape) == 3 and shape[0] >= 1 and shape[1:] in ((4, 4), (3, 4))).double()
    if matrices.shape[1] == 3:
        matrices = torch.cat([matrices, _BOTTOM_ROW.expand(len(matrices), 1, 4)], 1)
    c2w = to_opencv_c2w(matrices, reading)
    try:
        check_poses(c2w)
    except CameraError as error:
        raise CameraError(f"{path.name}: {error.what}", got=error.got, expected=error.expected) from None
    return c2w


def find_poses(folder: Path, example: str) -> Path | None:
    """The poses of a video in a folder of them: `EXAMPLE.npy`, or WRBench's cache `pose/EXAMPLE/poses.npy`.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError("no such folder of poses", got=folder)
    return next((p for p in (folder / f"{example}.npy", folder / example / "poses.npy",
                             folder / "pose" / example / "poses.npy") if p.is_file()), None)  # fmt: skip
