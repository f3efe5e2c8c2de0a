"""Stages of the embedded world with enough corners to follow, seen by any cameras: pictures with known geometry.

The world's own rooms are smooth, so that a coarse codec can hold them; nothing in them can be followed to a pixel.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.clip import Cameras
from remind.geometry import intrinsics_from_fov
from remind.world import renderer
from remind.world.renderer import Primitive, Room, Texture
from remind.world.stage import ball, box, drum

HW = (240, 416)
FOV_DEG = 55.0


def render_stage(c2w: Float[Tensor, "t 4 4"], *, seed: int = 0) -> tuple[UInt8[Tensor, "t h w 3"], Cameras]:
    """A checked room with seven solids, and the true cameras."""
    rng = np.random.default_rng(seed)
    cameras = Cameras(c2w, intrinsics_from_fov(FOV_DEG, HW, len(c2w)), HW, torch.ones(len(c2w), dtype=torch.bool))
    eye = torch.eye(4, dtype=torch.float64)
    eye[:3, 3] = torch.tensor([0.0, -1.2, -3.3])
    room = _room(rng)
    return renderer.render_rgb(room, _solids(rng), [], cameras, stage_from_reference=eye, samples=1), cameras


def _room(rng: np.random.Generator) -> Room:
    def face(x: int, y: int) -> Texture:
        angle, waves = rng.uniform(0.3, 1.2), np.zeros((2, 4))
        waves[0, [x, y, 3]] = 7 * np.cos(angle), 7 * np.sin(angle), rng.random()
        waves[1, [x, y, 3]] = -9 * np.sin(angle + 0.3), 9 * np.cos(angle + 0.3), rng.random()
        dark, light = rng.uniform(0, 0.5, (1, 3)), rng.uniform(0.5, 1, (1, 3))
        first, second = (tuple(float(x) for x in wave) for wave in waves)
        return Texture(torch.tensor(dark).float(), torch.tensor(light).float(), (first, second))  # type: ignore[arg-type]

    faces = tuple(face(x, y) for x, y in [(1, 2), (1, 2), (0, 2), (0, 2), (0, 1), (0, 1)])
    return Room((0.0, -1.8, -2.0), (3.8, 1.8, 3.8), faces)


def _solids(rng: np.random.Generator) -> list[Primitive]:
    solids = []
    for make in (box, ball, drum, box, ball, drum, box):
        dark, light, half = rng.random(3), rng.random(3), rng.uniform(0.2, 0.5)
        waves = tuple((*rng.uniform(-2, 2, 3).tolist(), rng.random()) for _ in range(2))
        at = (rng.uniform(-1.6, 1.6), rng.uniform(0.3, 1.6), rng.uniform(-1.2, 1.2))
        solids.append(make(at, (half, half, half), tuple(dark.tolist()), accent=tuple(light.tolist()), waves=waves))
    return solids
