"""Where a camera loop leaves and where it is back, from the poses alone.

Source: ReMind F.2, camera loops: the memory anchor is the initial view, the recovery node is the later frame whose
pose returns nearest to it. How near is measured, when a view counts as left and as hidden: our choice, below.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.clip import Cameras
from remind.curation.estimators.estimate import rotation_angle_deg
from remind.errors import GraphError, InputError
from remind.frame_graph import FrameGraph, Interruption, Schedule
from remind.geometry import invert_rigid

_GRID = 24  # view rays along each axis that overlap is measured with


@dataclass(frozen=True)
class LoopRule:
    """What counts as leaving, as hidden and as being back. Distances as in `pose_distance`.

    Args:
        leave_distance: the camera has left once it is farther than this; 0.1 is six degrees of turning.
        return_distance: and is back if it comes nearer than this again; less than `leave_distance`.
        hidden_overlap: the initial view counts as hidden while less than this share of it can be seen, 0..1.

    Raises:
        InputError: values out of order.
    """

    leave_distance: float = 0.1
    return_distance: float = 0.05
    hidden_overlap: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.return_distance < self.leave_distance and 0 < self.hidden_overlap < 1):
            raise InputError("the thresholds of a camera loop are out of order", got=self,
                             expected="0 < return_distance < leave_distance, 0 < hidden_overlap < 1")  # fmt: skip


@dataclass(frozen=True)
class NoLoop:
    """Why a clip has no camera loop."""

    reason: str


def pose_distance(c2w: Float[Tensor, "t 4 4"], *, scene_depth: float) -> Float[Tensor, " t"]:
    """Distance of every pose from the first: sqrt(angle^2 + (translation / scene depth)^2), angle in radians.

    Our choice: both terms say how far a thing in the middle of the scene moves in the picture, in the same unit, for
    turning by an angle and stepping aside by a share of its distance shift it alike.

    Args:
        c2w: OpenCV camera-to-world.
        scene_depth: how far away the scene is, in the unit of the translations, > 0.
    """
    if not scene_depth > 0:
        raise InputError("the depth of a scene must be positive", got=scene_depth)
    angle = torch.deg2rad(rotation_angle_deg(c2w[:, :3, :3], c2w[:1, :3, :3]))
    return torch.hypot(angle, (c2w[:, :3, 3] - c2w[0, :3, 3]).norm(dim=-1) / scene_depth)


def view_overlap(cameras: Cameras, *, scene_depth: float) -> Float[Tensor, " t"]:
    """Share of the first view that each frame can still see, if everything lies at `scene_depth` before the first.

    Our choice: points on the first frame's plane at that depth, one for each of 24 x 24 rays, projected into the other
    cameras; a point seen from more than 90 degrees aside shows another side of the thing and does not count.
    """
    height, width = cameras.hw
    fx, fy, cx, cy = cameras.intrinsics_px[0].tolist()
    y, x = torch.meshgrid((torch.arange(_GRID) + 0.5) / _GRID * height, (torch.arange(_GRID) + 0.5) / _GRID * width,
                          indexing="ij")  # fmt: skip
    rays = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)], -1).reshape(-1, 3).double()
    world = rays * scene_depth @ cameras.c2w[0, :3, :3].T + cameras.c2w[0, :3, 3]
    w2c = invert_rigid(cameras.c2w)
    local = world @ w2c[:, :3, :3].transpose(1, 2) + w2c[:, None, :3, 3]  # [t, rays, 3]
    z = local[..., 2].clamp_min(1e-9)
    k = cameras.intrinsics_px[:, None]
    u, v = local[..., 0] / z * k[..., 0] + k[..., 2], local[..., 1] / z * k[..., 1] + k[..., 3]
    from_first, from_each = world - cameras.c2w[0, :3, 3], world - cameras.c2w[:, None, :3, 3]
    same_side = (from_first * from_each).sum(-1) > 0
    seen = same_side & (local[..., 2] > 1e-6) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    return seen.double().mean(1)


def find_camera_loop(
    cameras: Cameras, *, scene_depth: float, rule: LoopRule | None = None
) -> Interruption | NoLoop:
    """The camera loop of a clip as an interruption, or the reason why there is none.

    The recovery node is the frame nearest to the initial view of all that come after it was hidden. `stop`, the first
    clean frame, is where the camera came within `return_distance` before that node and stayed; `start` is where it went
    beyond that distance before hiding. Hidden is the longest stretch in between with too little overlap.

    Args:
        cameras: poses of every frame of a clip of 12k - 3 frames; frame 0 is the initial view.
        scene_depth: typical distance of the scene in the unit of the translations, > 0: the median depth of frame 0
            where depth is known. For cameras that only turn, any.
        rule: thresholds; None takes the defaults.

    Returns:
        An interruption from which a frame graph follows: a clean chunk before it and one after it.
    """
    rule = rule or LoopRule()
    if not bool(cameras.valid.all()):
        return NoLoop(f"{int((~cameras.valid).sum())} of {len(cameras)} frames have no pose")
    distance = pose_distance(cameras.c2w, scene_depth=scene_depth)
    if not (distance > rule.leave_distance).any():
        return NoLoop(f"the camera never leaves: farthest {distance.max():.3f}, needs {rule.leave_distance:g}")
    overlap = view_overlap(cameras, scene_depth=scene_depth)
    hidden = (overlap < rule.hidden_overlap) & (distance > rule.leave_distance)
    if not hidden.any():
        return NoLoop(f"the initial view stays in sight: {overlap.min():.0%} of it, hidden is below "
                      f"{rule.hidden_overlap:.0%}")  # fmt: skip
    first_hidden = int(hidden.nonzero()[0])
    recovery = first_hidden + int(distance[first_hidden:].argmin())
    if distance[recovery] > rule.return_distance:
        return NoLoop(f"the camera does not come back: nearest {distance[recovery]:.3f} at frame {recovery}, needs "
                      f"{rule.return_distance:g}")  # fmt: skip
    far = (distance > rule.return_distance).nonzero().flatten()
    near_before = (distance[:first_hidden] <= rule.return_distance).nonzero().flatten()
    start = int(near_before[-1]) + 1  # frame 0 is always near
    stop = int(far[far < recovery][-1]) + 1
    hidden_start, hidden_stop = _longest_run(hidden[:stop])
    interruption = Interruption("camera_loop", start, hidden_start, hidden_stop, stop)
    try:
        FrameGraph(Schedule(len(cameras), (interruption,)))
    except GraphError as error:
        return NoLoop(str(error))
    return interruption


def _longest_run(flags: Bool[Tensor, " t"]) -> tuple[int, int]:
    """Start and stop of the longest run of True; the first of equals."""
    best, run_start = (0, 0), None
    for i, flag in enumerate([*flags.tolist(), False]):
        if flag and run_start is None:
            run_start = i
        elif not flag and run_start is not None:
            if i - run_start > best[1] - best[0]:
                best = (run_start, i)
            run_start = None
    return best
