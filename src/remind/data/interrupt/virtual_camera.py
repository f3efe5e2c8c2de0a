"""A camera that turns on the spot within a wider picture: its intrinsics, its rotation, and what it still sees.

It has the stored picture's focal lengths and its principal point in its own middle. OpenCV axes throughout.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from remind.geometry import rotation_yaw

OVERLAP_RAYS = 64
"""Rays along each side of a view by which overlaps are counted."""


def turned(yaw_deg: float, pitch_deg: float) -> Float[Tensor, "3 3"]:
    """Camera-to-world rotation of a camera that looks to its right by the yaw, then up by the pitch."""
    a = math.radians(pitch_deg)
    up = torch.tensor([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]], dtype=torch.float64)
    return rotation_yaw(torch.tensor([yaw_deg], dtype=torch.float64))[0] @ up


def inner(stored_px: Float[Tensor, " 4"], hw: tuple[int, int]) -> Float[Tensor, " 4"]:
    """Intrinsics of the view: the stored focal lengths, the principal point in the middle."""
    return torch.stack([stored_px[0], stored_px[1], torch.tensor(hw[1] / 2).double(), torch.tensor(hw[0] / 2).double()])


def matrix(intrinsics_px: Float[Tensor, " 4"]) -> Float[Tensor, "3 3"]:
    """The intrinsics as the matrix K."""
    fx, fy, cx, cy = intrinsics_px.tolist()
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def rays(intrinsics_px: Float[Tensor, " 4"], y: Tensor, x: Tensor) -> Float[Tensor, "h w 3"]:
    """Directions through pixels, with z = 1."""
    fx, fy, cx, cy = intrinsics_px
    directions = torch.ones(len(y), len(x), 3, dtype=torch.float64)
    directions[..., 0], directions[..., 1] = ((x - cx) / fx)[None, :], ((y - cy) / fy)[:, None]
    return directions


def corners_px(
    intrinsics_px: Float[Tensor, " 4"], hw: tuple[int, int], rotation: Float[Tensor, "3 3"], *, margin: float = 0.0
) -> tuple[Float[Tensor, "2 2"], Float[Tensor, "2 2"]]:
    """Where the corners of a turned view, or points `margin` px inside of them, lie in the stored picture; infinitely
    far away from 90 degrees on."""
    y, x = (torch.tensor([margin, side - margin], dtype=torch.float64) for side in hw)
    seen = rays(inner(intrinsics_px, hw), y, x) @ rotation.T
    ahead = seen[..., 2] > 0
    u = (seen[..., 0] / seen[..., 2] * intrinsics_px[0] + intrinsics_px[2]).where(ahead, torch.inf)
    v = (seen[..., 1] / seen[..., 2] * intrinsics_px[1] + intrinsics_px[3]).where(ahead, torch.inf)
    return u, v


def fits(
    intrinsics_px: Float[Tensor, " 4"], stored_hw: tuple[int, int], hw: tuple[int, int], turn_deg: tuple[float, float]
) -> bool:
    """Whether a turned view lies within the stored picture."""
    u, v = corners_px(intrinsics_px, hw, turned(*turn_deg))
    return bool(((u >= 0) & (u <= stored_hw[1]) & (v >= 0) & (v <= stored_hw[0])).all())


def view_overlap(stored_px: Float[Tensor, " 4"], hw: tuple[int, int], turn_deg: tuple[float, float]) -> float:
    """Share of the view at rest that is still in sight after a turn, by a grid of rays.

    Args:
        stored_px: intrinsics of the stored pictures; the view shares their focal lengths.
        hw: size of the view, px.
        turn_deg: to the right and up, degrees.
    """
    height, width = hw
    inner_px = inner(stored_px, hw)
    steps = (torch.arange(OVERLAP_RAYS, dtype=torch.float64) + 0.5) / OVERLAP_RAYS
    y, x = steps * height, steps * width
    seen = rays(inner_px, y, x) @ turned(*turn_deg)  # the same directions, seen from the turned camera
    u = seen[..., 0] / seen[..., 2] * inner_px[0] + inner_px[2]
    v = seen[..., 1] / seen[..., 2] * inner_px[1] + inner_px[3]
    inside = (seen[..., 2] > 0) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    return float(inside.double().mean())
