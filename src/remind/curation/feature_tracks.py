"""Points followed through frames and kept where one rigid motion explains them: what cameras are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from remind.errors import InputError

# A few hundred corners, some pixels apart, are plenty for a median.
MAX_POINTS, POINT_DISTANCE_PX = 500, 6
MIN_POINTS = 40
# Followed forth and back a point returns within this; blur and slipping along edges show here first.
RETURN_PX = 0.5
# Least eigenvalue of the gradients in the window: below it a "corner" of a smooth wall is noise or an edge.
MIN_EIGENVALUE = 1e-3
# RANSAC's bound for one rigid motion, and the share of points that it must explain for the pair to count.
RIGID_PX, RIGID_SHARE = 1.0, 0.6
_WINDOW_PX, _PYRAMID_LEVELS = 21, 4


@dataclass(frozen=True)
class PointPair:
    """The same points in two frames, pixel centres at +0.5.

    Args:
        first, second: indices of the frames.
        first_px, second_px: where the points are, x and y.
    """

    first: int
    second: int
    first_px: Float[np.ndarray, "n 2"]
    second_px: Float[np.ndarray, "n 2"]

    @property
    def motion_px(self) -> float:
        """Median distance between the two places."""
        return float(np.median(np.linalg.norm(self.second_px - self.first_px, axis=-1)))


def load_cv2() -> Any:
    """OpenCV, when it is needed.

    Raises:
        InputError: it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise InputError("the check of cameras needs OpenCV, which is not installed",
                         fix="pip install 'remind-video[data]'") from None  # fmt: skip
    return cv2


def follow_points(
    gray: UInt8[np.ndarray, "t h w"], start: int, *, far_px: float
) -> PointPair | None:
    """Follow corners of frame `start` until they have moved far; None if too few survive or no rigid motion fits.

    Args:
        far_px: stop once the median motion is this large.
    """
    cv2 = load_cv2()
    corners = cv2.goodFeaturesToTrack(gray[start], MAX_POINTS, 0.005, POINT_DISTANCE_PX)
    if corners is None:
        return None
    origin = corners.reshape(-1, 2)
    here, alive, pair = origin, np.ones(len(origin), dtype=bool), None
    for index in range(start + 1, len(gray)):
        here, kept = _step(cv2, gray[index - 1], gray[index], here)
        alive &= kept
        if alive.sum() < MIN_POINTS:
            break
        pair = PointPair(start, index, origin[alive] + 0.5, here[alive] + 0.5)
        if pair.motion_px >= far_px:
            break
    return None if pair is None else _rigid(cv2, pair)


def _step(
    cv2: Any, before: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"], points: Float[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    how = {"winSize": (_WINDOW_PX, _WINDOW_PX), "maxLevel": _PYRAMID_LEVELS, "minEigThreshold": MIN_EIGENVALUE}
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **how)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **how)
    returned = np.linalg.norm(back - points, axis=-1) < RETURN_PX
    return there, returned & (found.ravel() > 0) & (found_back.ravel() > 0)


def _rigid(cv2: Any, pair: PointPair) -> PointPair | None:
    _, mask = cv2.findFundamentalMat(pair.first_px, pair.second_px, cv2.USAC_MAGSAC, RIGID_PX, 0.999, 2000)
    if mask is None:
        return None
    inlier = mask.ravel() > 0
    if inlier.sum() < MIN_POINTS or inlier.mean() < RIGID_SHARE:
        return None
    return PointPair(pair.first, pair.second, pair.first_px[inlier].astype(float), pair.second_px[inlier].astype(float))
