"""Do the cameras fit the pictures? Tells w2c from c2w and OpenCV's axes from OpenGL's, and refuses what fits nothing.

Our choice of measure: a point of one frame must appear in another on a *half* line. It starts where the point would
be if it were infinitely far away, which the rotation alone decides, and leads where the translation takes it. How far
matched points lie from their half lines, in pixels, is one number for every motion: for a pure rotation it is the
transfer error of K R K^-1, and unlike the epipolar distance, which a translation shares with its reverse, it knows
front from behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.clip import Cameras
from remind.curation.feature_tracks import PointPair, follow_points, load_cv2
from remind.errors import InputError
from remind.geometry import PoseReading, invert_rigid, to_opencv_c2w

READINGS: tuple[PoseReading, ...] = get_args(PoseReading)
# Pixels below are of pictures whose longer side is at most this.
WORK_SIDE_PX = 640
# Nothing is nearer than the way between the two cameras: else a long enough half line meets anything on its side.
MAX_PARALLAX = 1.0
# True poses leave 0.01..0.4 px in rendered scenes and 0.2..0.5 px in a real clip; a wrong reading of a 4 degree orbit,
# the hardest of the motions tried, leaves 1.0 px, most leave 10 to 100 (tests/curation/test_camera_check.py).
NOISE_PX = 0.5
# What leaves more than this, and than this share of the motion, does not fit. In scenes 416 px wide, rotations that are
# 0.1 degrees off in every frame leave 1 px, 0.3 degrees 3 px. It is no proof of good cameras: of those of other scenes
# 84 in 99 are refused (a pan can pass for a step aside), a focal length off by half only where the camera turns.
FIT_PX, FIT_SHARE = 3.0, 0.2
# Of two readings the one with this many times the residual of the other does not fit.
CLEARLY = 3.0
MIN_MOTION_PX, FAR_SHARE = 3.0, 0.08  # a pair counts from here on; points are followed over this share of the width
MIN_PAIRS, NUM_STARTS = 3, 8

Outcome = Literal["decided", "ambiguous", "contradicted", "undecided"]


@dataclass(frozen=True)
class CameraVerdict:
    """What the pictures say about cameras.

    Args:
        outcome: `decided`: one motion fits; `ambiguous`: several different ones do; `contradicted`: none does;
            `undecided`: the pictures say nothing.
        fits: the readings that explain the pictures, those with OpenCV's axes first; several if they come to the
            same motion (a pan in c2w is the same pan in w2c with OpenGL's axes).
        residual_px: median distance from the half lines for each reading, empty if undecided.
        motion_px: median motion of the points, which is what cameras at rest would leave.
        turn_deg: largest rotation between two frames that were compared.
        num_pairs, num_points: what was compared.
        reason: in words, with the numbers.
    """

    outcome: Outcome
    fits: tuple[PoseReading, ...]
    residual_px: dict[PoseReading, float]
    motion_px: float
    turn_deg: float
    num_pairs: int
    num_points: int
    reason: str

    @property
    def reading(self) -> PoseReading | None:
        """How to read the poses, if that is decided."""
        return self.fits[0] if self.outcome == "decided" else None


def check_cameras(rgb: UInt8[Tensor, "t h w 3"], cameras: Cameras) -> CameraVerdict:
    """Compare cameras, in all four readings of their matrices, with how points move in the pictures.

    Args:
        rgb: frames close enough in time to follow points through them; 20 to 80 are plenty.
        cameras: one per frame and for this size, as they are believed to be; `c2w` among the readings that fit says
            that they are right.

    Raises:
        InputError: frames and cameras that do not belong together, or OpenCV missing.
    """
    if len(rgb) != len(cameras) or tuple(rgb.shape[1:3]) != cameras.hw:
        raise InputError("frames and cameras do not belong together", got=f"{len(rgb)} frames {tuple(rgb.shape[1:3])}",
                         expected=f"{len(cameras)} frames {cameras.hw}")  # fmt: skip
    gray, intrinsics_px = _work_size(rgb, cameras)
    pairs = _pairs(gray, cameras)
    moving = [pair for pair in pairs if pair.motion_px >= MIN_MOTION_PX]
    motion = float(np.median([pair.motion_px for pair in pairs])) if pairs else 0.0
    points = sum(len(pair.first_px) for pair in moving)
    if len(moving) < MIN_PAIRS:
        why = "too little motion" if len(pairs) >= MIN_PAIRS else "too few points that move as one rigid scene"
        return CameraVerdict("undecided", (), {}, motion, 0.0, len(moving), points,
                             f"{why}: {len(moving)} usable pairs of frames, motion {motion:.1f} px")  # fmt: skip
    residual_px = {reading: _residual(moving, cameras.c2w, intrinsics_px, reading) for reading in READINGS}
    motion = float(np.median([pair.motion_px for pair in moving]))
    outcome, fits = _judge(residual_px, motion, moving, cameras.c2w, intrinsics_px)
    numbers = ", ".join(f"{reading} {value:.2f}" for reading, value in residual_px.items())
    reason = f"residuals in px: {numbers}; motion {motion:.1f} px, {len(moving)} pairs, {points} points"
    turn = max(_angle_deg(_motion(cameras.c2w, pair)) for pair in moving)
    return CameraVerdict(outcome, fits, residual_px, motion, turn, len(moving), points, reason)


def half_line_distance(
    first_px: Float[np.ndarray, "n 2"],
    second_px: Float[np.ndarray, "n 2"],
    *,
    first_intrinsics_px: Float[Tensor, "4"],
    second_intrinsics_px: Float[Tensor, "4"],
    second_from_first: Float[Tensor, "4 4"],
) -> Float[np.ndarray, " n"]:
    """How far points seen in the second frame are from where those of the first may be.

    Args:
        first_px: in the first frame, x and y, pixel centres at +0.5.
        second_px: the same points in the second frame.
        second_from_first: from coordinates of the first camera to those of the second, OpenCV axes, any unit.

    Returns:
        Pixels; infinite for points that the rotation takes behind the camera.
    """
    fx, fy, cx, cy = first_intrinsics_px.tolist()
    rays = np.stack([(first_px[:, 0] - cx) / fx, (first_px[:, 1] - cy) / fy, np.ones(len(first_px))], -1)
    far = rays @ second_from_first[:3, :3].numpy().T
    far /= np.linalg.norm(far, axis=-1, keepdims=True)
    towards = second_from_first[:3, 3].numpy()
    towards = towards / max(float(np.linalg.norm(towards)), 1e-12)
    near = far + MAX_PARALLAX * towards
    focal = second_intrinsics_px[:2].numpy()
    with np.errstate(divide="ignore", invalid="ignore"):  # what is behind the camera is sorted out at the end
        start = far[:, :2] / far[:, 2:]
        step = (towards[:2] - start * towards[2]) * focal
        start = start * focal
        longest = np.linalg.norm(near[:, :2] / near[:, 2:] * focal - start, axis=-1)
        step = step / np.maximum(np.linalg.norm(step, axis=-1, keepdims=True), 1e-12)
        offset = second_px - second_intrinsics_px[2:].numpy() - start
        along = np.clip((offset * step).sum(-1), 0, np.where(near[:, 2] > 0, longest, np.inf))
        distance = np.linalg.norm(offset - along[:, None] * step, axis=-1)
    return np.where(far[:, 2] > 1e-6, distance, np.inf)


def _work_size(
    rgb: UInt8[Tensor, "t h w 3"], cameras: Cameras
) -> tuple[UInt8[np.ndarray, "t y x"], Float[Tensor, "t 4"]]:
    cv2, (height, width) = load_cv2(), cameras.hw
    scale = min(1.0, WORK_SIDE_PX / max(height, width))
    hw = max(1, round(height * scale)), max(1, round(width * scale))
    gray = [cv2.cvtColor(frame.numpy(), cv2.COLOR_RGB2GRAY) for frame in rgb]
    if hw != cameras.hw:
        gray = [cv2.resize(frame, hw[::-1], interpolation=cv2.INTER_AREA) for frame in gray]
    ratio = torch.tensor([hw[1] / width, hw[0] / height] * 2, dtype=torch.float64)
    return np.stack(gray), cameras.intrinsics_px * ratio


def _pairs(gray: UInt8[np.ndarray, "t h w"], cameras: Cameras) -> list[PointPair]:
    """Pairs of frames as far apart as points can be followed, from starts spread over the clip."""
    far_px = FAR_SHARE * gray.shape[2]
    starts = sorted({round(start) for start in np.linspace(0, max(len(gray) - 2, 0), NUM_STARTS)})
    pairs = [follow_points(gray, start, far_px=far_px) for start in starts]
    return [pair for pair in pairs if pair and cameras.valid[pair.first] and cameras.valid[pair.second]]


def _motion(c2w: Float[Tensor, "t 4 4"], pair: PointPair) -> Float[Tensor, "4 4"]:
    return invert_rigid(c2w[pair.second]) @ c2w[pair.first]


def _residual(
    pairs: Sequence[PointPair],
    poses: Float[Tensor, "t 4 4"],
    intrinsics_px: Float[Tensor, "t 4"],
    reading: PoseReading,
    *,
    without_translation: bool = False,
) -> float:
    """Median over pairs of the median over points."""
    c2w = to_opencv_c2w(poses, reading)
    medians = []
    for pair in pairs:
        motion = _motion(c2w, pair)
        if without_translation:
            motion[:3, 3] = 0
        distance = half_line_distance(
            pair.first_px,
            pair.second_px,
            first_intrinsics_px=intrinsics_px[pair.first],
            second_intrinsics_px=intrinsics_px[pair.second],
            second_from_first=motion,
        )
        medians.append(float(np.median(distance)))
    return float(np.median(medians))


def _judge(
    residual_px: dict[PoseReading, float],
    motion_px: float,
    pairs: Sequence[PointPair],
    poses: Float[Tensor, "t 4 4"],
    intrinsics_px: Float[Tensor, "t 4"],
) -> tuple[Outcome, tuple[PoseReading, ...]]:
    best = min(residual_px.values())
    if not best <= max(FIT_PX, FIT_SHARE * motion_px):
        return "contradicted", ()
    fits = tuple(reading for reading in READINGS if residual_px[reading] <= max(CLEARLY * best, NOISE_PX))
    turns_only = all(
        _residual(pairs, poses, intrinsics_px, reading, without_translation=True) <= max(CLEARLY * best, NOISE_PX)
        for reading in fits
    )
    same = all(_same_motion(pairs, poses, fits[0], other, turns_only=turns_only) for other in fits[1:])
    return ("decided" if same else "ambiguous"), fits


def _same_motion(
    pairs: Sequence[PointPair],
    poses: Float[Tensor, "t 4 4"],
    one: PoseReading,
    other: PoseReading,
    *,
    turns_only: bool,
) -> bool:
    """Whether two readings differ by less than a tenth of the motion; `turns_only`: no parallax is seen."""
    first, second = to_opencv_c2w(poses, one), to_opencv_c2w(poses, other)
    motions = [(_motion(first, pair), _motion(second, pair)) for pair in pairs]
    turn = max(_angle_deg(a) for a, _ in motions)
    shift = max(float(a[:3, 3].norm()) for a, _ in motions)
    turns_agree = all(_angle_deg(invert_rigid(a) @ b) <= 0.1 * turn + 0.05 for a, b in motions)
    shifts_agree = turns_only or all(float((a - b)[:3, 3].norm()) <= 0.1 * shift + 1e-9 for a, b in motions)
    return turns_agree and shifts_agree


def _angle_deg(motion: Float[Tensor, "4 4"]) -> float:
    skew = motion[:3, :3] - motion[:3, :3].T
    sine = math.hypot(float(skew[2, 1]), float(skew[0, 2]), float(skew[1, 0])) / 2
    return math.degrees(math.atan2(sine, (float(torch.trace(motion[:3, :3])) - 1) / 2))
