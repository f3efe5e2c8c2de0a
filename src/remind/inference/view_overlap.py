"""How much of what one camera looks at another one has seen, from poses alone.

A purely spatial score: it cannot tell a clean view from the same view covered or dark (ReMind Eq. 10), which is why
`memory_policy.Retrieve` asks it last.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.clip import Cameras
from remind.errors import CameraError, InputError

DEPTHS = (1.0, 2.0, 4.0, 8.0)
RAYS_HW = (5, 8)


def view_overlap(
    a: Cameras, b: Cameras, *, depths: Sequence[float] = DEPTHS, rays_hw: tuple[int, int] = RAYS_HW
) -> float:
    """Share of what b looks at that lies inside the view of a, 0 .. 1. Not symmetric: a wide view covers a narrow one.

    Our choice: an even grid of rays through each frame of b, a point on each at every depth; a point counts if it lies
    in front of, and inside the picture of, any frame of a. Nothing is known of walls: what stands in between hides
    nothing here. Frames without a valid pose see nothing, so without any valid frame the overlap is 0.

    Args:
        a: what has been seen; same origin and unit as b.
        b: what is asked for.
        depths: z-depths in the unit of the translations, > 0. They matter only where the cameras stand apart.
        rays_hw: rays per frame of b, down and across.

    Raises:
        InputError: no depth or one that is not positive, or no ray.
        CameraError: focal lengths that are not positive on a valid frame.
    """
    if not depths or not all(depth > 0 for depth in depths):
        raise InputError("depths must be positive", got=tuple(depths), expected=f"e.g. {DEPTHS}")
    if min(rays_hw) < 1:
        raise InputError("each frame needs at least one ray", got=rays_hw, expected=f"e.g. {RAYS_HW}")
    a, b = a[a.valid], b[b.valid]
    for cameras in (a, b):
        if not (cameras.intrinsics_px[:, :2] > 0).all():
            raise CameraError("focal lengths must be positive", got=cameras.intrinsics_px[:, :2].min().item(),
                              fix="give intrinsics in pixels")
    if not len(a) or not len(b):
        return 0.0
    return _sees(a, _points(b, depths, rays_hw)).double().mean().item()


def _points(cameras: Cameras, depths: Sequence[float], rays_hw: tuple[int, int]) -> Float[Tensor, "p 3"]:
    """World points along the rays of every frame, float64."""
    shares = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in rays_hw]
    v, u = torch.meshgrid(shares[0] * cameras.hw[0], shares[1] * cameras.hw[1], indexing="ij")
    fx, fy, cx, cy = (k[:, None, None] for k in cameras.intrinsics_px.double().unbind(-1))
    rays = torch.stack(torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy, torch.ones_like(u)), -1)
    local = torch.tensor(depths, dtype=torch.float64)[:, None, None, None] * rays[:, None]  # t, depth, h, w, 3
    c2w = cameras.c2w.double()
    world = torch.einsum("tij,tdhwj->tdhwi", c2w[:, :3, :3], local) + c2w[:, None, None, None, :3, 3]
    return world.reshape(-1, 3)


def _sees(cameras: Cameras, points: Float[Tensor, "p 3"]) -> Bool[Tensor, " p"]:
    """Which world points lie in the picture of any frame."""
    c2w, (height, width) = cameras.c2w.double(), cameras.hw
    x, y, z = torch.einsum("tji,tpj->itp", c2w[:, :3, :3], points - c2w[:, None, :3, 3])
    fx, fy, cx, cy = (k[:, None] for k in cameras.intrinsics_px.double().unbind(-1))
    u, v = fx * x / z + cx, fy * y / z + cy
    inside = (z > 0) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    return inside.any(0)
