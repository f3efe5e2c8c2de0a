"""What moves in a window, and how much of that is the camera: dense optical flow on small pictures.

Our choice: DIS flow at 128 px, a camera motion fitted robustly to it, and what the camera does not explain belongs to
objects. Checked against the rendered world, where the truth is known (experiments/flow_areas): durations are right,
areas to about a factor of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from remind.data.motion import opencv, thumbnails

_SIDE_PX = 128  # longest side that flow is measured on
_MIN_SIDE_PX = 16  # the estimator takes nothing smaller
# Flow is refined down to half of that size: at a quarter, this preset's own, a vector stands for blocks of 16 px, and
# areas come out ragged (experiments/flow_areas).
_FINEST_SCALE = 1
_LAG = 4  # frames between the two pictures of a pair: a quarter of a second at 16 fps, so that slow motion counts
# Flow beyond the camera's, as a share of the picture's longest side a second, above which a pixel belongs to an object:
# under it lies what compression and aperture leave over in still clips.
_OBJECT_SPEED = 0.02
_MIN_AREA = 0.005  # of the picture: a pair with less of it moving shows no motion
_UNEXPLAINED = 5  # levels of luma: above what compression does
_REACH = 5  # px around an unexplained pixel that may belong to the same object
_TEXTURE = 5.0  # Sobel response, levels: a step of about 6, which flow can hold on to
_RING = 0.2  # of height and width: the border that the camera is fitted to
_MAX_POINTS = 1000  # that the camera is fitted to


@dataclass(frozen=True)
class FlowStatistics:
    """Motion of a window; areas are shares of the picture, times shares of the window, 0..1.

    Args:
        object_area: mean area of what moves otherwise than the camera, while it moves.
        object_duration: share of the time in which there is such motion.
        touched_area: area that such motion reaches at any time.
        camera_motion: mean motion of the picture's corners with the camera, in longest sides a second.
    """

    object_area: float
    object_duration: float
    touched_area: float
    camera_motion: float


def measure_flow(rgb: UInt8[Tensor, "t h w 3"], fps: float) -> FlowStatistics:
    """Statistics of a window of more than four frames.

    Raises:
        InputError: OpenCV is not installed.
    """
    cv2 = opencv()
    luma = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in thumbnails(rgb[::_LAG], _SIDE_PX).numpy()])
    if min(luma.shape[1:]) < _MIN_SIDE_PX:
        height, width = (max(_MIN_SIDE_PX, side) for side in luma.shape[1:])
        luma = np.stack([cv2.resize(picture, (width, height)) for picture in luma])
    side, pair_s = max(luma.shape[1:]), _LAG / fps
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    estimator.setFinestScale(_FINEST_SCALE)
    camera = _CameraFit(cv2, luma.shape[1:])
    areas, corners, touched = [], [], np.zeros(luma.shape[1:], bool)
    for before, after in pairwise(luma):
        flow = estimator.calc(before, after, None)
        moving, corner_px = _moving(cv2, camera, before, after, flow, _OBJECT_SPEED * side * pair_s)
        areas.append(float(moving.mean()))
        corners.append(corner_px)
        touched |= moving
    area = np.array(areas)
    active = area > _MIN_AREA
    return FlowStatistics(
        object_area=float(area[active].mean()) if active.any() else 0.0,
        object_duration=float(active.mean()),
        touched_area=float(touched.mean()),
        camera_motion=float(np.mean(corners)) / side / pair_s,
    )


def _moving(
    cv2: Any, camera: _CameraFit, before: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"],
    flow: Float[np.ndarray, "h w 2"], limit_px: float,
) -> tuple[Bool[np.ndarray, "h w"], float]:
    """Pixels that move otherwise than the camera, and how far the camera moves the corners, px.

    Plain surfaces have no flow of their own and take on that of their neighbours. So a pixel must be faster than the
    limit and lie by one whose brightness the camera's motion alone does not explain, and its own flow explains better:
    where a thing is about to go, nothing explains it.
    """
    by_camera = camera.flow(before, flow)
    if by_camera is None:
        seen, corner_px = after, 0.0
        rest_x, rest_y = flow[..., 0], flow[..., 1]
    else:
        x, y = by_camera
        seen = cv2.remap(after, camera.x + x, camera.y + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        corner_px = float(np.hypot(x[::len(x) - 1, ::x.shape[1] - 1], y[::len(y) - 1, ::y.shape[1] - 1]).mean())
        rest_x, rest_y = flow[..., 0] - x, flow[..., 1] - y
    followed = cv2.remap(after, camera.x + flow[..., 0], camera.y + flow[..., 1], cv2.INTER_LINEAR,
                         borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    left_over = cv2.absdiff(seen, before)
    unexplained = (left_over > _UNEXPLAINED) & (cv2.absdiff(followed, before) < left_over)
    near = cv2.dilate(unexplained.view(np.uint8), np.ones((_REACH, _REACH), np.uint8)).view(bool)
    fast = rest_x * rest_x + rest_y * rest_y > limit_px * limit_px
    return fast & near, corner_px


class _CameraFit:
    """The motion of the camera between two pictures of one size.

    A similarity holds for turns, zooms and distant scenes; parallax of near things counts as objects.
    """

    def __init__(self, cv2: Any, hw: tuple[int, int]):
        self._cv2 = cv2
        self.y, self.x = np.mgrid[0 : hw[0], 0 : hw[1]].astype(np.float32)
        self._ring = np.ones(hw, bool)  # objects are mostly in the middle
        self._ring[_inner(hw[0], _RING), _inner(hw[1], _RING)] = False

    def flow(
        self, luma: UInt8[np.ndarray, "h w"], flow: Float[np.ndarray, "h w 2"]
    ) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]] | None:
        """To the right and down, px, as most of the textured points go; None where hardly any of them moves."""
        cv2 = self._cv2
        across, down = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
        textured = np.flatnonzero((across * across + down * down > _TEXTURE * _TEXTURE) & self._ring)
        chosen = textured[:: max(1, len(textured) // _MAX_POINTS)]
        if len(chosen) < 8:
            return None
        points = np.stack([self.x.reshape(-1)[chosen], self.y.reshape(-1)[chosen]], -1)
        moved = flow.reshape(-1, 2)[chosen]
        cv2.setRNGSeed(0)  # RANSAC draws; the same window must give the same numbers
        found, inliers = cv2.estimateAffinePartial2D(points, points + moved, method=cv2.RANSAC,
                                                     ransacReprojThreshold=0.7)  # fmt: skip
        at_rest = int(((moved * moved).sum(-1) < 0.7 * 0.7).sum())
        if found is None or at_rest > 0.8 * inliers.sum():
            return None
        (a, b, right), (c, d, low) = (found - np.eye(2, 3)).astype(np.float32)
        x, y = self.x, self.y
        return a * x + b * y + right, c * x + d * y + low


def _inner(length: int, ring: float) -> slice:
    return slice(round(ring * length), length - round(ring * length))
