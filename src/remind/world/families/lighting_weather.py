"""Light and weather: a patch of sun, the evening sky and snow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive
from remind.world.stage import PALETTE, Colour, ball, box, pick_colours, roll, shade, standing


def _ramp(s: Float[Tensor, " t"], first: Colour, second: Colour) -> Float[Tensor, "t 3"]:
    a, b = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    return (a + (b - a) * s.double()[:, None]).float()


@dataclass(frozen=True)
class SunPatch:
    """The state is how far the light of a window has wandered over a panelled wall."""

    panel: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> SunPatch:
        return cls(pick_colours(rng, wall, 1, among=("blue", "purple", "brown", "teal", "green", "black"))[0])

    def fixed(self) -> list[Primitive]:
        colour = shade(PALETTE[self.panel], 0.8)
        return [box((0, 1.25, 0.4), (1.75, 1.2, 0.04), colour, accent=shade(colour, 0.75),
                    waves=((0.6, 0.0, 0.0, 0.0),))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        x, height = -0.98 + 1.96 * s, 1.62 - 0.6 * s
        sun = 0.45 * torch.tensor(PALETTE[self.panel]) + 0.55 * torch.tensor((1.0, 0.95, 0.62))
        panes = []
        for i in (-1, 1):
            for j in (-1, 1):
                panes.append(box((x + 0.30 * i + 0.10 * j, height + 0.33 * j, 0.345), (0.26, 0.29, 0.008), sun,
                                 turned=roll(0.12), glow=1.0))
        return panes

    def captions(self, rising: bool) -> tuple[str, ...]:
        way = "to the right" if rising else "to the left"
        return (f"a patch of sunlight moves {{pace}} {way} across a {self.panel} wall",
                f"sunlight from a window wanders {{pace}} {way} over {self.panel} panels",
                f"a bright window reflection slides {{pace}} {way} on a {self.panel} wall")


@dataclass(frozen=True)
class Sunset:
    """The state is how far the sun has set behind a hill outside a large window."""

    frame: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Sunset:
        return cls(pick_colours(rng, wall, 1, among=("white", "brown", "black", "red", "green"))[0])

    def fixed(self) -> list[Primitive]:
        colour = PALETTE[self.frame]
        frame = [box((x, 1.25, 0.2), (0.09, 1.25, 0.08), colour) for x in (-1.56, 1.56)]
        frame += [box((0, h, 0.2), (1.64, 0.09, 0.08), colour) for h in (0.09, 2.42)]
        return [*frame, box((0, 0.36, 0.24), (1.5, 0.22, 0.02), (0.16, 0.30, 0.16))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        sky = box((0, 1.25, 0.42), (1.52, 1.2, 0.02), _ramp(s, (0.45, 0.72, 0.98), (0.16, 0.10, 0.28)), glow=1.0)
        sun = ball((-0.55 + 0.9 * s, 1.98 - 1.75 * s, 0.36), (0.36, 0.36, 0.02),
                   _ramp(s, (1.0, 0.97, 0.70), (1.0, 0.38, 0.10)), glow=1.0)
        hill = ball((0.5, 0.30, 0.32), (1.0, 0.36, 0.01), _ramp(s, (0.25, 0.50, 0.25), (0.06, 0.10, 0.10)), glow=1.0)
        return [sky, sun, hill]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"the sun sets {{pace}} behind a hill in a {self.frame} window",
                    f"sunset seen through a {self.frame} window, the sky darkening {{pace}}",
                    f"through a {self.frame} window the blue sky darkens {{pace}} as the sun sinks")
        return (f"the sun rises {{pace}} over a hill in a {self.frame} window",
                f"sunrise seen through a {self.frame} window, the sky brightening {{pace}}",
                f"through a {self.frame} window the dark sky brightens {{pace}} as the sun climbs")


@dataclass(frozen=True)
class Snow:
    """The state is how deep snow lies in front of a hut."""

    hut: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Snow:
        return cls(pick_colours(rng, wall, 1, among=("red", "brown", "green", "blue", "purple", "black"))[0])

    def fixed(self) -> list[Primitive]:
        colour = PALETTE[self.hut]
        roof = box((0, 1.72, 0.25), (0.90, 0.90, 0.5), (0.20, 0.17, 0.18), turned=roll(0.7853981633974483))
        return [box((0, 0.85, 0.2), (1.12, 0.85, 0.5), colour), roof,
                box((0, 0.55, -0.31), (0.24, 0.55, 0.02), shade(colour, 0.4)),
                box((-0.66, 1.02, -0.31), (0.22, 0.22, 0.02), (0.98, 0.90, 0.45))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        centre, half = standing(0.0, 0.06 + 1.5 * s)
        white = (0.97, 0.98, 1.0)
        return [box((0, centre, -0.2), (1.7, half, 0.55), white, accent=(0.80, 0.86, 0.95),
                    waves=((0.4, 0.0, 0.0, 0.1),), glow=0.5)]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"snow piles up {{pace}} in front of a {self.hut} hut, getting deeper",
                    f"the snow around a {self.hut} hut rises {{pace}}",
                    f"a {self.hut} hut is snowed in {{pace}} as the white snow deepens")
        return (f"snow melts away {{pace}} in front of a {self.hut} hut",
                f"the snow around a {self.hut} hut sinks {{pace}}",
                f"a {self.hut} hut is uncovered {{pace}} as the white snow melts")
