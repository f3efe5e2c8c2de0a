"""What every scene is built with: colours, solids in stage coordinates, rooms and the first camera.

Stage coordinates are (x to the right, height above the floor, z away from the camera), in metres of a doll's house;
inside primitives y points down, as OpenCV cameras have it.
"""

from __future__ import annotations

import colorsys
import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive, Room, Shape, Texture, matmul3

Colour = tuple[float, float, float]
Number = int | float | Tensor
Waves = tuple[tuple[float, float, float, float], ...]

PALETTE: dict[str, Colour] = {
    "red": (0.84, 0.15, 0.13), "orange": (0.95, 0.52, 0.10), "yellow": (0.96, 0.85, 0.18),
    "green": (0.15, 0.60, 0.22), "teal": (0.05, 0.55, 0.58), "blue": (0.13, 0.30, 0.80),
    "purple": (0.48, 0.18, 0.68), "pink": (0.95, 0.45, 0.65), "white": (0.95, 0.95, 0.93),
    "black": (0.09, 0.09, 0.11), "brown": (0.42, 0.24, 0.12),
}
LAMP_COLOURS: tuple[Colour, Colour] = ((0.92, 0.08, 0.06), (0.10, 0.92, 0.15))  # waiting, triggered


@runtime_checkable
class Actor(Protocol):
    """What a family puts on the stage: a pure function from the state to solids."""

    def fixed(self) -> list[Primitive]:
        """What never moves."""

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        """What the state moves, one row a frame or one for all."""

    def captions(self, rising: bool) -> tuple[str, ...]:
        """Ways to say it; each has a `{pace}`."""


def shade(colour: Colour, factor: float) -> Colour:
    """A lighter (> 1) or darker (< 1) version of a colour."""
    return tuple(min(1.0, c * factor) for c in colour)  # type: ignore[return-value]


def column(*parts: Number) -> Float[Tensor, "n 3"]:
    """Stack three numbers or per-frame rows into vectors."""
    return torch.stack(torch.broadcast_tensors(*(torch.as_tensor(p, dtype=torch.float64).reshape(-1)
                                                 for p in parts)), -1)


def roll(angle: Number) -> Float[Tensor, "n 3 3"]:
    """Turn clockwise as the viewer sees it, radians."""
    return _rotation(angle, 0, 1)


def pitch(angle: Number) -> Float[Tensor, "n 3 3"]:
    """Turn about the x axis, radians: the top tips towards the viewer."""
    return _rotation(angle, 1, 2)


def swing(angle: Number) -> Float[Tensor, "n 3 3"]:
    """Turn about the vertical, radians: the right side goes away from the viewer."""
    return _rotation(angle, 0, 2)


def _rotation(angle: Number, i: int, j: int) -> Float[Tensor, "n 3 3"]:
    a = torch.as_tensor(angle, dtype=torch.float64).reshape(-1)
    out = torch.eye(3, dtype=torch.float64).repeat(len(a), 1, 1)
    out[:, i, i], out[:, j, j] = torch.cos(a), torch.cos(a)
    out[:, i, j], out[:, j, i] = -torch.sin(a), torch.sin(a)
    return out


def compose(outer: Float[Tensor, "n 3 3"], inner: Float[Tensor, "m 3 3"]) -> Float[Tensor, "k 3 3"]:
    """First turn by `inner`, then by `outer`."""
    return matmul3(outer, inner)


def solid(shape: Shape, at: tuple[Number, Number, Number], half: tuple[Number, Number, Number],
          colour: Colour | Tensor, *, accent: Colour | None = None, waves: Waves = (),
          turned: Float[Tensor, "n 3 3"] | None = None, glow: float = 0.0) -> Primitive:
    """A primitive at (x, height, z) with half extents (x, up, z).

    Args:
        colour: sRGB 0..1, one or [t, 3].
        accent: the other colour of the texture; needs `waves`, turns along the solid's own axes.
        turned: rotation, one or per frame.
    """
    x, height, z = at
    first = torch.as_tensor(colour, dtype=torch.float32).reshape(-1, 3)
    second = first if accent is None else torch.tensor([accent], dtype=torch.float32)
    eye = torch.eye(3, dtype=torch.float64)[None]
    return Primitive(shape, column(x, -torch.as_tensor(height, dtype=torch.float64), z), column(*half),
                     eye if turned is None else turned, Texture(first, second, waves), glow)


def box(at: tuple[Number, Number, Number], half: tuple[Number, Number, Number], colour: Colour | Tensor,
        **kwargs: object) -> Primitive:
    return solid("box", at, half, colour, **kwargs)  # type: ignore[arg-type]


def ball(at: tuple[Number, Number, Number], half: tuple[Number, Number, Number], colour: Colour | Tensor,
         **kwargs: object) -> Primitive:
    return solid("ellipsoid", at, half, colour, **kwargs)  # type: ignore[arg-type]


def drum(at: tuple[Number, Number, Number], half: tuple[Number, Number, Number], colour: Colour | Tensor,
         **kwargs: object) -> Primitive:
    return solid("cylinder", at, half, colour, **kwargs)  # type: ignore[arg-type]


def standing(bottom: Number, top: Number) -> tuple[Number, Number]:
    """Centre height and half height of what reaches from `bottom` to `top`."""
    return (bottom + top) * 0.5, (top - bottom) * 0.5


def lamp_colour(s: Float[Tensor, " t"]) -> Float[Tensor, "t 3"]:
    """Red while nothing has happened, green as soon as the state has left 0: a function of the state alone."""
    waiting, triggered = (torch.tensor(c) for c in LAMP_COLOURS)
    return torch.where((s > 0)[:, None], triggered, waiting)


def pick_colours(rng: np.random.Generator, wall: Colour, count: int, *, among: tuple[str, ...] = tuple(PALETTE),
                 distance: float = 0.55) -> list[str]:
    """Distinct colour names that stand out against the wall, best effort."""
    names = [among[i] for i in rng.permutation(len(among))]
    names.sort(key=lambda n: math.dist(PALETTE[n], wall) < distance)  # stable: far ones first, still shuffled
    return names[:count]


def wall_colour(rng: np.random.Generator) -> Colour:
    """A muted colour, light or dark, so that things in front of it stand out."""
    light = rng.random() < 0.7
    value = rng.uniform(0.62, 0.86) if light else rng.uniform(0.26, 0.38)
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.08, 0.38), value)


def _face(rng: np.random.Generator, colour: Colour, axes: tuple[int, int]) -> Texture:
    """Plain, stripes, checks or a gradient in two near colours, at most about two waves in view."""
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    other = colorsys.hsv_to_rgb((hue + rng.uniform(-0.06, 0.06)) % 1, min(1, saturation * rng.uniform(0.6, 1.6)),
                                min(1.0, value * rng.uniform(0.72, 0.88)))
    kind = rng.choice(["gradient", "stripes", "checks"])
    turns = {"gradient": 0.22, "stripes": rng.uniform(0.9, 1.6), "checks": rng.uniform(0.8, 1.3)}[str(kind)]
    angle = rng.uniform(0, math.pi)
    first, second = [0.0, 0.0, 0.0, rng.random()], [0.0, 0.0, 0.0, rng.random()]
    first[axes[0]], first[axes[1]] = turns * math.cos(angle), turns * math.sin(angle)
    second[axes[0]], second[axes[1]] = -turns * math.sin(angle), turns * math.cos(angle)
    waves = (tuple(first), tuple(second)) if kind == "checks" else (tuple(first),)
    return Texture(torch.tensor([colour]).float(), torch.tensor([other]).float(), waves)  # type: ignore[arg-type]


def sample_room(rng: np.random.Generator, wall: Colour) -> Room:
    """A box of 8 x 3.6 x 8 metres or so whose six faces differ."""
    half = (rng.uniform(3.6, 4.2), rng.uniform(1.7, 1.95), rng.uniform(3.6, 4.1))
    back = rng.uniform(1.5, 2.0)
    hue, saturation, value = colorsys.rgb_to_hsv(*wall)
    near = [colorsys.hsv_to_rgb((hue + rng.uniform(-0.2, 0.2)) % 1, min(1, saturation * rng.uniform(0.7, 1.8)),
                                min(1.0, value * rng.uniform(0.8, 1.1))) for _ in range(3)]
    floor = colorsys.hsv_to_rgb(rng.uniform(0.04, 0.14), rng.uniform(0.15, 0.5), rng.uniform(0.35, 0.7))
    faces = [(near[0], (1, 2)), (near[1], (1, 2)), (shade(wall, 1.15), (0, 2)), (floor, (0, 2)),
             (near[2], (0, 1)), (wall, (0, 1))]
    return Room((0.0, -half[1], back - half[2]), half, tuple(_face(rng, c, axes) for c, axes in faces))


def sample_eye(rng: np.random.Generator) -> Float[Tensor, "4 4"]:
    """Pose of the first camera on the stage: in front of it, looking at its middle, float64."""
    eye = np.array([rng.uniform(-0.4, 0.4), -rng.uniform(1.15, 1.5), -rng.uniform(3.2, 3.45)])
    target = np.array([rng.uniform(-0.08, 0.08), -rng.uniform(0.98, 1.08), 0.0])
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = eye
    return torch.from_numpy(pose)
