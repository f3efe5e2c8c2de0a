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
FRAMES_PER_VIEW = 3
VIEWS_AT_ONCE = 64


def view_overlap(
    a: Cameras, b: Cameras, *, depths: Sequence[float] = DEPTHS, rays_hw: tuple[int, int] = RAYS_HW
) -> float:
    """Share of what b looks at that lies inside the view of a, 0 .. 1. Not symmetric: a wide view covers a narrow one.

    Our choice: an even grid of rays through each frame of b, a point on each at every depth; a point counts if it lies
    in front of, and inside the picture of, any frame of a. Nothing is known of walls: what stands in between hides
    nothing here. Frames without a valid pose see nothing, so without any valid frame the overlap is 0. Of longer views
    three frames are taken, the first, the middle and the last: a chunk's camera does not go far.

    Args:
        a: what has been seen; same origin and unit as b.
        b: what is asked for.
        depths: z-depths in the unit of the translations, > 0. They matter only where the cameras stand apart.
        rays_hw: rays per frame of b, down and across.

    Raises:
        InputError: no depth or one that is not positive, or no ray.
        CameraError: focal lengths that are not positive on a valid frame.
    """
    return view_overlaps([a], b, depths=depths, rays_hw=rays_hw)[0]


def view_overlaps(
    seen: Sequence[Cameras], b: Cameras, *, depths: Sequence[float] = DEPTHS, rays_hw: tuple[int, int] = RAYS_HW
) -> list[float]:
    """`view_overlap` of every one of `seen` with b, in one go: several times faster for a long past."""
    if not depths or not all(depth > 0 for depth in depths):
        raise InputError("depths must be positive", got=tuple(depths), expected=f"e.g. {DEPTHS}")
    if min(rays_hw) < 1:
        raise InputError("each frame needs at least one ray", got=rays_hw, expected=f"e.g. {RAYS_HW}")
    known = [_few_frames(cameras) for cameras in seen]
    points = _points(_few_frames(b), depths, rays_hw)
    shares: list[float] = []
    for start in range(0, len(known), VIEWS_AT_ONCE):
        views = known[start : start + VIEWS_AT_ONCE]
        c2w, in_widths = torch.cat([v.c2w for v in views]), torch.cat([_in_widths(v) for v in views])
        inside = _inside(c2w, in_widths, points)
        for frames in inside.split([len(view) for view in views]):
            shares.append(frames.any(0).double().mean().item() if frames.numel() else 0.0)
    return shares


def _few_frames(cameras: Cameras) -> Cameras:
    """Valid frames, evenly chosen."""
    valid = cameras.valid.nonzero()[:, 0]
    if len(valid) > FRAMES_PER_VIEW:
        valid = valid[torch.linspace(0, len(valid) - 1, FRAMES_PER_VIEW).round().long()]
    return cameras[valid]


def _in_widths(cameras: Cameras) -> Float[Tensor, "t 4"]:
    """fx, cx in picture widths, fy, cy in heights, float64: pictures of any size are then 1 by 1."""
    focal = cameras.intrinsics_px[:, :2]
    if not (focal > 0).all():
        raise CameraError("focal lengths must be positive", got=focal.min().item(), fix="give intrinsics in pixels")
    height, width = cameras.hw
    return cameras.intrinsics_px.double() / torch.tensor([width, height, width, height], dtype=torch.float64)


def _points(cameras: Cameras, depths: Sequence[float], rays_hw: tuple[int, int]) -> Float[Tensor, "p 3"]:
    """World points along the rays of every frame, float64."""
    down, across = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in rays_hw)
    v, u = torch.meshgrid(down, across, indexing="ij")
    fx, fy, cx, cy = (k[:, None, None] for k in _in_widths(cameras).unbind(-1))
    rays = torch.stack(torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy, torch.ones_like(u)), -1)
    local = torch.tensor(depths, dtype=torch.float64)[:, None, None, None] * rays[:, None]  # t, depth, h, w, 3
    c2w = cameras.c2w.double()
    world = torch.einsum("tij,tdhwj->tdhwi", c2w[:, :3, :3], local) + c2w[:, None, None, None, :3, 3]
    return world.reshape(-1, 3)


def _inside(
    c2w: Float[Tensor, "t 4 4"], in_widths: Float[Tensor, "t 4"], points: Float[Tensor, "p 3"]
) -> Bool[Tensor, "t p"]:
    """Which world points lie in the picture of each frame."""
    c2w = c2w.double()
    x, y, z = torch.einsum("tji,tpj->itp", c2w[:, :3, :3], points - c2w[:, None, :3, 3])
    fx, fy, cx, cy = (k[:, None] for k in in_widths.unbind(-1))
    u, v = fx * x / z + cx, fy * y / z + cy
    return (z > 0) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
