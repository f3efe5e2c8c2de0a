"""Things that travel across the view; the state is how far they have come from left to right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive
from remind.world.stage import PALETTE, Colour, ball, box, compose, drum, pick_colours, pitch, roll, shade


def _heading(rising: bool) -> str:
    return "from left to right" if rising else "from right to left"


@dataclass(frozen=True)
class RollingBall:
    """A two-coloured ball rolls along a bench."""

    colour: str
    bench: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> RollingBall:
        ball_colour, bench = pick_colours(rng, wall, 2)
        return cls(ball_colour, bench)

    def fixed(self) -> list[Primitive]:
        return [box((0, 0.22, 0), (1.9, 0.22, 0.5), shade(PALETTE[self.bench], 0.8))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        radius, x = 0.56, -1.2 + 2.4 * s
        patches = ((0.45, 0.0, 0.0, 0.0), (0.0, 0.45, 0.0, 0.0))
        return [ball((x, 0.44 + radius, 0), (radius, radius, radius), PALETTE[self.colour], accent=(0.97, 0.96, 0.9),
                     waves=patches, turned=roll(x / radius))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        way = _heading(rising)
        return (f"a {self.colour} ball rolls {{pace}} {way} along a bench",
                f"{{pace}} rolling {self.colour} ball, moving {way}",
                f"on a {self.bench} bench a {self.colour} ball rolls {{pace}} {way}")


@dataclass(frozen=True)
class Walker:
    """A figure walks; its stride is a function of where it is."""

    shirt: str
    trousers: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Walker:
        return cls(*pick_colours(rng, wall, 2))

    def fixed(self) -> list[Primitive]:
        return [box((0, 0.04, 0), (2.0, 0.04, 0.5), (0.30, 0.28, 0.27))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        x, hip, skin = -1.25 + 2.5 * s, 0.98, (0.86, 0.64, 0.50)
        stride = 0.55 * torch.sin(2 * math.pi * 3 * s)

        def limb(angle: Tensor, top: float, length: float, width: float, z: float, colour: Colour) -> Primitive:
            at = (x - 0.5 * length * torch.sin(angle), top - 0.5 * length * torch.cos(angle), z)
            return box(at, (width, length / 2, width), colour, turned=roll(angle))

        legs = shade(PALETTE[self.trousers], 0.9)
        arm = shade(PALETTE[self.shirt], 0.75)
        return [limb(stride, hip, 0.9, 0.13, 0.1, legs), limb(-stride, hip, 0.9, 0.13, -0.1, shade(legs, 0.8)),
                ball((x, 1.36, 0), (0.30, 0.50, 0.22), PALETTE[self.shirt]),
                limb(-0.9 * stride, 1.70, 0.75, 0.08, -0.27, arm),
                ball((x, 2.04, 0), (0.23, 0.26, 0.23), skin)]

    def captions(self, rising: bool) -> tuple[str, ...]:
        way = _heading(rising)
        return (f"a person in a {self.shirt} shirt walks {{pace}} {way}",
                f"walking {{pace}} {way}, a figure in {self.shirt} crosses the room",
                f"a {self.shirt} figure walks {{pace}} {way} through a room")


@dataclass(frozen=True)
class Train:
    """A toy train drives along a track."""

    engine: str
    cab: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Train:
        return cls(*pick_colours(rng, wall, 2))

    def fixed(self) -> list[Primitive]:
        return [box((0, 0.2, 0), (2.0, 0.2, 0.45), (0.45, 0.36, 0.28))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        x, dark = -1.0 + 2.0 * s, (0.12, 0.12, 0.14)
        turn = compose(roll(x / 0.24), pitch(math.pi / 2))
        wheels = [drum((x + dx, 0.64, -0.36), (0.24, 0.06, 0.24), dark, accent=(0.8, 0.8, 0.8),
                       waves=((0.3, 0.0, 0.0, 0.0), (0.0, 0.0, 0.3, 0.0)), turned=turn) for dx in (-0.45, 0.45)]
        return [box((x - 0.4, 1.22, 0), (0.36, 0.55, 0.34), PALETTE[self.cab]),
                box((x - 0.4, 1.5, -0.02), (0.2, 0.16, 0.34), (0.85, 0.93, 0.97)),
                box((x + 0.3, 0.95, 0), (0.48, 0.3, 0.3), PALETTE[self.engine]),
                drum((x + 0.5, 1.45, 0), (0.14, 0.28, 0.14), dark), *wheels]

    def captions(self, rising: bool) -> tuple[str, ...]:
        way = _heading(rising)
        return (f"a toy train with a {self.engine} engine drives {{pace}} {way}",
                f"a {self.engine} toy train moves {{pace}} {way} along its track",
                f"{{pace}} moving {self.engine} and {self.cab} toy train, {way}")
