"""What moves in a window, and how much of that is the camera: dense optical flow on small pictures.

Our choice: DIS flow at 128 px, a camera motion fitted robustly to it, and what the camera does not explain belongs to
objects. Checked against the rendered world, where the truth is known (tests and docs/benchmarks.md).
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
    areas, corners, touched = [], [], np.zeros(luma.shape[1:], bool)
    for before, after in pairwise(luma):
        flow = estimator.calc(before, after, None)
        moving, corner_px = _moving(cv2, before, after, flow, _OBJECT_SPEED * side * pair_s)
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
    cv2: Any, before: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"], flow: Float[np.ndarray, "h w 2"],
    limit_px: float,
) -> tuple[Bool[np.ndarray, "h w"], float]:
    """Pixels that move otherwise than the camera, and how far the camera moves the corners, px.

    Plain surfaces have no flow of their own and take on that of their neighbours. So a pixel must be faster than the
    limit and lie where the camera's motion alone does not explain the brightness.
    """
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    at = np.stack([x, y], -1)
    matrix = _camera_motion(cv2, before, at, flow)
    camera = at @ matrix[:, :2].T + matrix[:, 2] - at
    seen = cv2.remap(after, at + camera, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    unexplained = cv2.absdiff(seen, before) > _UNEXPLAINED
    near = cv2.dilate(unexplained.astype(np.uint8), np.ones((_REACH, _REACH), np.uint8)) > 0
    fast = np.linalg.norm(flow - camera, axis=-1) > limit_px
    corners = np.linalg.norm(camera[[0, 0, -1, -1], [0, -1, 0, -1]], axis=-1).mean()
    return fast & near, float(corners)


def _camera_motion(
    cv2: Any, luma: UInt8[np.ndarray, "h w"], at: Float[np.ndarray, "h w 2"], flow: Float[np.ndarray, "h w 2"]
) -> Float[np.ndarray, "2 3"]:
    """The similarity that most of the textured points follow; none at all where that explains nearly as many.

    A similarity holds for turns, zooms and distant scenes; parallax of near things counts as objects.
    """
    still, (height, width) = np.eye(2, 3, dtype=np.float32), luma.shape
    textured = np.hypot(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)) > _TEXTURE
    textured[_inner(height, _RING), _inner(width, _RING)] = False  # objects are mostly in the middle
    every = max(1, int(textured.sum()) // _MAX_POINTS)
    points = np.ascontiguousarray(at[textured][::every])
    targets = np.ascontiguousarray((at + flow)[textured][::every])
    if len(points) < 8:
        return still
    cv2.setRNGSeed(0)  # RANSAC draws; the same window must give the same numbers
    found, inliers = cv2.estimateAffinePartial2D(points, targets, method=cv2.RANSAC, ransacReprojThreshold=0.7)
    at_rest = (np.linalg.norm(targets - points, axis=-1) < 0.7).sum()
    return still if found is None or at_rest > 0.8 * inliers.sum() else found.astype(np.float32)


def _inner(length: int, ring: float) -> slice:
    return slice(round(ring * length), length - round(ring * length))
