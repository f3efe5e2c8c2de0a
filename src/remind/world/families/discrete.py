"""Things that open once a lamp turns green; the state is how far, and its rest is 0 or 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive
from remind.world.stage import PALETTE, Colour, ball, box, drum, lamp_colour, pick_colours, pitch, roll, shade, swing


def _lamp(s: Float[Tensor, " t"], x: float, height: float, z: float) -> Primitive:
    return ball((x, height, z), (0.24, 0.24, 0.2), lamp_colour(s), glow=0.8)


@dataclass(frozen=True)
class Door:
    """A door swings open towards the viewer, to the side of its hinge."""

    leaf: str
    light: Colour
    side: int

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Door:
        among = ("red", "green", "blue", "purple", "brown", "teal", "black", "orange")
        return cls(pick_colours(rng, wall, 1, among=among)[0], (1.0, 0.95, 0.70), int(rng.choice([-1, 1])))

    def fixed(self) -> list[Primitive]:
        frame = (0.72, 0.66, 0.58)
        return [box((0, 1.02, 0.35), (0.82, 1.02, 0.03), self.light, glow=0.8),
                *(box((x, 1.05, 0.3), (0.1, 1.05, 0.12), frame) for x in (-0.92, 0.92)),
                box((0, 2.14, 0.3), (1.02, 0.1, 0.12), frame),
                box((0, 2.48, 0.3), (0.34, 0.28, 0.06), (0.1, 0.1, 0.12))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        angle, leaf = 1.75 * s, PALETTE[self.leaf]
        x = -0.82 + 0.82 * torch.cos(angle)
        z = 0.2 - 0.82 * torch.sin(angle)
        leafs = box((self.side * x, 1.02, z), (0.82, 1.0, 0.04), leaf, accent=shade(leaf, 0.7),
                    waves=((0.5, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0)), turned=swing(-self.side * angle))
        return [leafs, _lamp(s, 0.0, 2.48, 0.22)]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"the lamp turns green and the closed {self.leaf} door swings open {{pace}}",
                    f"a red lamp turns green, then the {self.leaf} door opens {{pace}}",
                    f"a shut {self.leaf} door opens {{pace}} after its lamp turns green")
        return (f"the lamp stays red above a closed {self.leaf} door",
                f"a {self.leaf} door waits, its lamp staying red and unchanged")


@dataclass(frozen=True)
class Barrier:
    """The arm of a level crossing rises."""

    arm: str
    side: int

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Barrier:
        return cls(pick_colours(rng, wall, 1, among=("red", "blue", "black", "orange", "purple"))[0],
                   int(rng.choice([-1, 1])))

    def fixed(self) -> list[Primitive]:
        return [box((-1.15 * self.side, 0.45, 0.1), (0.26, 0.45, 0.26), (0.34, 0.34, 0.38)),
                box((0, 0.03, 0.4), (2.0, 0.03, 0.9), (0.28, 0.28, 0.29)),
                box((1.25 * self.side, 1.0, 0.5), (0.06, 1.0, 0.06), (0.3, 0.3, 0.3)),
                box((1.25 * self.side, 2.05, 0.5), (0.36, 0.34, 0.06), (0.1, 0.1, 0.12))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        angle = -1.35 * s * self.side
        reach = 1.05 * self.side
        x = -1.15 * self.side + reach * torch.cos(angle)
        height = 0.72 - reach * torch.sin(angle)
        return [box((x, height, -0.2), (1.12, 0.17, 0.06), PALETTE[self.arm], accent=(0.97, 0.97, 0.95),
                    waves=((1.0, 0.0, 0.0, 0.0),), turned=roll(angle)),
                _lamp(s, 1.25 * self.side, 2.05, 0.4)]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"the lamp turns green and the {self.arm} and white barrier rises {{pace}}",
                    f"a red lamp turns green, then the {self.arm} barrier arm lifts {{pace}}",
                    f"a lowered {self.arm} barrier goes up {{pace}} after its lamp turns green")
        return (f"the lamp stays red beside a lowered {self.arm} and white barrier",
                f"a {self.arm} barrier waits, its lamp staying red and unchanged")


@dataclass(frozen=True)
class Chest:
    """A chest whose lid opens and shows what is inside."""

    chest: str
    treasure: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Chest:
        among = ("red", "green", "blue", "purple", "brown", "teal", "black")
        return cls(pick_colours(rng, wall, 1, among=among)[0], "yellow")

    def fixed(self) -> list[Primitive]:
        colour = shade(PALETTE[self.chest], 0.8)
        return [box((0, 0.45, 0), (1.1, 0.45, 0.6), colour),
                box((0, 0.9, 0), (0.98, 0.03, 0.5), PALETTE[self.treasure], glow=0.6),
                box((0, 0.5, -0.61), (0.16, 0.16, 0.02), (0.85, 0.72, 0.3)),
                box((1.35, 0.9, 0.5), (0.05, 0.9, 0.05), (0.3, 0.3, 0.3)),
                drum((1.35, 0.06, 0.5), (0.25, 0.06, 0.25), (0.3, 0.3, 0.3))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        angle, colour = 1.85 * s, PALETTE[self.chest]
        deep, thick = 0.62, 0.16
        back = torch.cos(angle) * deep - torch.sin(angle) * thick
        up = torch.sin(angle) * deep + torch.cos(angle) * thick
        lid = box((0, 0.93 + up, 0.6 - back), (1.16, thick, deep), colour, accent=shade(colour, 0.65),
                  waves=((0.75, 0.0, 0.0, 0.0),), turned=pitch(-angle))
        return [lid, _lamp(s, 1.35, 2.0, 0.5)]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"the lamp turns green and the lid of a {self.chest} chest opens {{pace}}",
                    f"a red lamp turns green, then a {self.chest} chest opens its lid {{pace}}",
                    f"a shut {self.chest} chest opens {{pace}} after its lamp turns green")
        return (f"the lamp stays red beside a closed {self.chest} chest",
                f"a {self.chest} chest waits, its lamp staying red and unchanged")
