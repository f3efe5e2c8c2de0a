"""Things that turn; the state is a phase in turns, and one look fixes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive
from remind.world.stage import PALETTE, Colour, ball, box, drum, pick_colours, pitch, roll, shade, swing


def _sense(rising: bool) -> str:
    return "clockwise" if rising else "counterclockwise"


@dataclass(frozen=True)
class Windmill:
    """Four sails, one of another colour."""

    sail: str
    marked: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Windmill:
        return cls(*pick_colours(rng, wall, 2))

    def fixed(self) -> list[Primitive]:
        return [box((0, 0.7, 0.45), (0.36, 0.7, 0.25), (0.50, 0.40, 0.32)),
                drum((0, 1.25, 0), (0.12, 0.3, 0.12), (0.2, 0.2, 0.22), turned=pitch(math.pi / 2))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        parts = []
        for quarter in range(4):
            angle = 2 * math.pi * (s + quarter / 4)
            x, height = 0.66 * torch.sin(angle), 1.25 + 0.66 * torch.cos(angle)
            colour = PALETTE[self.marked if quarter == 0 else self.sail]
            parts.append(box((x, height, 0), (0.25, 0.58, 0.04), colour, turned=roll(angle)))
        return parts

    def captions(self, rising: bool) -> tuple[str, ...]:
        return (f"a windmill with one {self.marked} sail turns {{pace}} {_sense(rising)}",
                f"{self.sail} windmill sails rotate {{pace}} {_sense(rising)}, one of them {self.marked}",
                f"a windmill rotates {{pace}} {_sense(rising)}, its {self.marked} sail going round")


@dataclass(frozen=True)
class Clock:
    """A clock with one hand."""

    face: str
    hand: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Clock:
        face = pick_colours(rng, wall, 1, among=("white", "yellow", "black", "blue", "pink"))[0]
        return cls(face, "black" if face in ("yellow", "pink") else "red" if face == "white" else "orange")

    def fixed(self) -> list[Primitive]:
        flat, colour = pitch(math.pi / 2), PALETTE[self.face]
        ticks = []
        for k in range(4):
            angle = k * math.pi / 2
            ticks.append(box((1.0 * math.sin(angle), 1.25 + 1.0 * math.cos(angle), 0.04), (0.07, 0.14, 0.02),
                             (0.4, 0.4, 0.42), turned=roll(angle)))
        return [drum((0, 1.25, 0.16), (1.32, 0.05, 1.32), (0.30, 0.28, 0.30), turned=flat),
                drum((0, 1.25, 0.12), (1.2, 0.05, 1.2), colour, turned=flat), *ticks]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        angle = 2 * math.pi * s
        x, height = 0.46 * torch.sin(angle), 1.25 + 0.46 * torch.cos(angle)
        colour = PALETTE[self.hand]
        return [box((x, height, 0.0), (0.14, 0.58, 0.04), colour, turned=roll(angle)),
                drum((0, 1.25, 0), (0.2, 0.06, 0.2), shade(colour, 0.7), turned=pitch(math.pi / 2))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        return (f"the {self.hand} hand of a {self.face} clock goes round {{pace}} {_sense(rising)}",
                f"a {self.face} clock whose {self.hand} hand turns {{pace}} {_sense(rising)}",
                f"on a {self.face} dial a {self.hand} hand rotates {{pace}} {_sense(rising)}")


@dataclass(frozen=True)
class Carousel:
    """Two riders of different colours go round a pole."""

    first: str
    second: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Carousel:
        return cls(*pick_colours(rng, wall, 2))

    def fixed(self) -> list[Primitive]:
        return [drum((0, 1.25, 0), (0.12, 1.1, 0.12), (0.85, 0.75, 0.35)),
                drum((0, 2.34, 0), (1.35, 0.13, 1.0), (0.75, 0.30, 0.25)),
                drum((0, 0.14, 0), (1.5, 0.14, 1.15), (0.45, 0.42, 0.40))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        parts = []
        for offset, name in ((0.0, self.first), (0.5, self.second)):
            angle = 2 * math.pi * (s + offset)
            x, z = 1.0 * torch.cos(angle), -0.75 * torch.sin(angle)
            heading = swing(angle)
            colour = PALETTE[name]
            parts += [ball((x, 0.95, z), (0.34, 0.36, 0.34), colour),
                      ball((x, 1.48, z), (0.22, 0.24, 0.22), shade(colour, 0.85)),
                      box((x, 0.45, z), (0.1, 0.2, 0.1), (0.2, 0.2, 0.2), turned=heading)]
        return parts

    def captions(self, rising: bool) -> tuple[str, ...]:
        way = "clockwise" if rising else "counterclockwise"
        return (f"a carousel with a {self.first} and a {self.second} rider turns {{pace}} {way}",
                f"{self.first} and {self.second} figures go round a pole {{pace}} {way}",
                f"a merry-go-round spins {{pace}} {way}, one rider {self.first}, one {self.second}")
