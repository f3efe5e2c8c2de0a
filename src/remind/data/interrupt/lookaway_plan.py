"""How far one can look away within a stored picture, and whether that hides anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from remind.data.interrupt.recipe import View
from remind.data.interrupt.styles import LookawayStyle
from remind.data.interrupt.virtual_camera import OVERLAP_RAYS, corners_px, fits, turned, view_overlap
from remind.errors import InputError
from remind.geometry import intrinsics_from_fov

HIDDEN_OVERLAP = 0.02
"""Our choice: a turned view that shares no more than this with the view at rest hides it. Which part of the
picture holds the event is not known, so the whole view must be left."""

Direction = Literal["left", "right", "up", "down"]


@dataclass(frozen=True)
class LookawayPlan:
    """How far one can look away within a stored picture.

    Args:
        view: the window and where it rests.
        style: the farthest turn that is needed or possible.
        overlap: share of the view at rest that the turned one still shows, 0..1.
        reason: why it does not hide, empty if it does.
    """

    view: View
    style: LookawayStyle
    overlap: float
    reason: str

    @property
    def hides(self) -> bool:
        return not self.reason


def plan_lookaway(
    stored_hw: tuple[int, int],
    view_hw: tuple[int, int],
    direction: Direction,
    *,
    intrinsics_px: Float[Tensor, " 4"] | None = None,
    assumed_fov_deg: float = 60.0,
) -> LookawayPlan:
    """The smallest turn that leaves the view at rest, or the farthest that the stored picture allows.

    The view rests in the middle where the room suffices; else it rests on the other side, so that it may turn twice as
    far. A turn up or down keeps to the middle column and never rests aside.

    Args:
        stored_hw: size of the stored pictures, px.
        view_hw: size of what the model sees, px of the stored picture.
        intrinsics_px: of the stored pictures, or None where they are unknown.
        assumed_fov_deg: horizontal field of view to assume then; the recipe records it.

    Raises:
        InputError: a view that is not smaller than the stored picture.
    """
    if view_hw[0] > stored_hw[0] or view_hw[1] > stored_hw[1] or view_hw == stored_hw:
        raise InputError("a lookaway needs pictures wider than the view", got=f"{stored_hw} for a view of {view_hw}",
                         fix="store the clips wider, or use another interruption")  # fmt: skip
    assumed = None if intrinsics_px is not None else assumed_fov_deg
    if intrinsics_px is None:
        intrinsics_px = intrinsics_from_fov(assumed_fov_deg, stored_hw, 1)[0]
    axis = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "up": (0.0, 1.0), "down": (0.0, -1.0)}[direction]

    def turn(degrees: float) -> tuple[float, float]:
        return axis[0] * degrees, axis[1] * degrees

    def room(sign: float) -> float:
        return _largest(lambda d: fits(intrinsics_px, stored_hw, view_hw, turn(sign * d)))

    def overlap(degrees: float) -> float:
        return view_overlap(intrinsics_px, view_hw, turn(degrees))

    sideways, there = axis[0] != 0, room(1.0)
    farthest = there + (room(-1.0) if sideways else 0.0)
    # Beyond the last ray that is checked there is half a cell, and a pixel that interpolation mixes in on either side.
    side_px, focal_px = (view_hw[1], intrinsics_px[0]) if sideways else (view_hw[0], intrinsics_px[1])
    spare_px = side_px / OVERLAP_RAYS / 2 + 2
    needed = _largest(lambda d: overlap(d) > 0) + math.degrees(math.atan(spare_px / float(focal_px)))
    reached = min(needed, farthest)
    rest = max(0.0, reached - there)  # on the other side of the middle
    reason = ""
    if overlap(reached) > HIDDEN_OVERLAP:
        u, v = corners_px(intrinsics_px, view_hw, turned(*turn(needed / 2 if sideways else needed)))
        size = 2 * (v - intrinsics_px[3]).abs().max(), 2 * (u - intrinsics_px[2]).abs().max()
        reason = (
            f"pictures of {stored_hw[0]}x{stored_hw[1]} px allow a turn of {reached:.1f} degrees {direction}, "
            f"which leaves {overlap(reached):.0%} of the view in sight; hiding it takes {needed:.1f} degrees, "
            f"pictures of {math.ceil(size[0])}x{math.ceil(size[1])} px"
        )
    rest, reached = math.floor(rest * 1000) / 1000, math.floor(reached * 1000) / 1000  # never out of the picture
    view = View(hw=view_hw, rest_deg=-axis[0] * rest or 0.0, assumed_fov_deg=assumed)
    yaw, pitch = turn(reached)
    return LookawayPlan(view, LookawayStyle(turn_deg=(yaw or 0.0, pitch or 0.0)), overlap(reached), reason)


def _largest(holds: Callable[[float], bool]) -> float:
    """The largest angle up to 89 degrees for which something holds that stops holding once, to 1e-4 degrees; 0 if
    none."""
    low, high = 0.0, 89.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
