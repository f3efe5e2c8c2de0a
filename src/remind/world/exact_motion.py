"""The exact motion of every pixel of a scene: where what is seen there goes in the picture by itself."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from remind.geometry import invert_rigid
from remind.world.renderer import ACTOR_INSTANCE, Primitive
from remind.world.scenes import Scene

Solid = tuple[str, Tensor, Tensor, Tensor]


def object_flow(scene: Scene, lag: int) -> Float[Tensor, "t h w 2"]:
    """Motion beyond the camera's, right and down, px, from every `lag`-th frame to the next one of them.

    A pixel's point is taken to the moving solid on whose surface it lies and kept there in the solid's own coordinates,
    which turn and stretch with it. Its motion is where it is seen later, less where it would be seen had it stayed; 0
    on what the state does not move.

    Args:
        scene: of any camera.
        lag: frames, >= 1.
    """
    frames = torch.arange(0, len(scene), lag)
    states, cameras = scene.states[frames].double(), scene.cameras[frames]
    rendering = scene.render(states, cameras, samples=1)
    solids = [_spread(solid, len(frames)) for solid in scene.actor.moving(states)]
    t, h, w = rendering.depth.shape
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    stage_from_camera = scene.stage_from_reference @ cameras.c2w
    flow = torch.zeros(t - 1, h, w, 2, dtype=torch.float64)
    for i in range(t - 1):
        mask = rendering.instances[i] == ACTOR_INSTANCE
        if not mask.any() or not solids:
            continue
        fx, fy, cx, cy = cameras.intrinsics_px[i].tolist()
        rays = torch.stack([(x[mask] - cx) / fx, (y[mask] - cy) / fy, torch.ones_like(x[mask])], -1).double()
        points = rays * rendering.depth[i][mask][:, None].double()
        stage = points @ stage_from_camera[i, :3, :3].T + stage_from_camera[i, :3, 3]
        camera, intrinsics = stage_from_camera[i + 1], cameras.intrinsics_px[i + 1]
        flow[i][mask] = _seen(_moved(stage, solids, i), camera, intrinsics) - _seen(stage, camera, intrinsics)
    return flow


def _moved(stage: Float[Tensor, "n 3"], solids: list[Solid], i: int) -> Float[Tensor, "n 3"]:
    """Points of frame i where they are in frame i + 1."""
    nearest, moved = torch.full((len(stage),), torch.inf, dtype=torch.float64), stage.clone()
    for shape, centre, half, rotation in solids:
        local = (stage - centre[i]) @ rotation[i] / half[i]
        off = _off_surface(shape, local) * half[i].mean()
        later = (local * half[i + 1]) @ rotation[i + 1].T + centre[i + 1]
        nearer = off < nearest
        nearest, moved = torch.where(nearer, off, nearest), torch.where(nearer[:, None], later, moved)
    return moved


def _seen(
    stage: Float[Tensor, "n 3"], stage_from_camera: Float[Tensor, "4 4"], intrinsics_px: Float[Tensor, " 4"]
) -> Float[Tensor, "n 2"]:
    camera = invert_rigid(stage_from_camera)
    points = stage @ camera[:3, :3].T + camera[:3, 3]
    return points[:, :2] / points[:, 2:].clamp_min(1e-6) * intrinsics_px[:2] + intrinsics_px[2:]


def _spread(solid: Primitive, n: int) -> Solid:
    def rows(value: Tensor) -> Tensor:
        return value.double().expand(n, *value.shape[1:])

    return solid.shape, rows(solid.centre), rows(solid.half), rows(solid.rotation)


def _off_surface(shape: str, local: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """How far from a unit shape's surface, 0 on it."""
    if shape == "box":
        return (local.abs().amax(-1) - 1).abs()
    if shape == "ellipsoid":
        return (local.norm(dim=-1) - 1).abs()
    return (torch.maximum(local[:, 1].abs(), local[:, [0, 2]].norm(dim=-1)) - 1).abs()
