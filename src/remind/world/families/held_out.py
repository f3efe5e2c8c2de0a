"""Things that no model trains on: the families of the test of generalisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive
from remind.world.stage import PALETTE, Colour, ball, box, drum, pick_colours, shade, standing


@dataclass(frozen=True)
class Lift:
    """The state is how high a cabin has been lifted in its shaft."""

    cabin: str
    frame: Colour

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Lift:
        return cls(pick_colours(rng, wall, 1)[0], tuple(rng.uniform(0.15, 0.35, 3).tolist()))

    def fixed(self) -> list[Primitive]:
        posts = [box((x, 1.2, 0.1), (0.08, 1.2, 0.3), self.frame) for x in (-0.72, 0.72)]
        return [box((0, 0.05, 0), (1.0, 0.05, 0.5), self.frame), *posts]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        height = 0.5 + 1.35 * s
        colour = PALETTE[self.cabin]
        return [box((0, height, 0), (0.62, 0.4, 0.35), colour),
                box((0, height + 0.05, -0.34), (0.34, 0.2, 0.03), (0.9, 0.95, 0.98)),
                box((0, height - 0.33, -0.34), (0.6, 0.06, 0.03), shade(colour, 0.6))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        way = "up" if rising else "down"
        return (f"a {self.cabin} lift goes {way} {{pace}} in its shaft",
                f"{{pace}} moving {way}, a {self.cabin} cabin hangs between two posts",
                f"a {self.cabin} cabin travels {way} {{pace}} between two posts")


@dataclass(frozen=True)
class Hourglass:
    """The state is the share of the sand that has run from the upper box to the lower one."""

    sand: str
    wood: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Hourglass:
        sand = pick_colours(rng, wall, 1, among=("yellow", "orange", "red", "pink", "teal", "blue"))[0]
        return cls(sand, pick_colours(rng, wall, 1, among=("brown", "black", "purple", "white"))[0])

    def fixed(self) -> list[Primitive]:
        wood, glass = PALETTE[self.wood], (0.86, 0.9, 0.9)
        plates = [box((0, height, 0), (0.85, 0.06, 0.4), wood) for height in (0.06, 1.2, 2.34)]
        return [*plates, box((0, 1.2, 0.36), (0.75, 1.1, 0.03), glass)]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        colour = PALETTE[self.sand]
        upper, upper_half = standing(1.26, 1.28 + 0.9 * (1 - s))
        lower, lower_half = standing(0.12, 0.14 + 0.9 * s)
        return [box((0, upper, 0), (0.7, upper_half, 0.3), colour),
                box((0, lower, 0), (0.7, lower_half, 0.3), shade(colour, 0.9))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        return (f"{self.sand} sand runs {{pace}} from the upper box into the lower one",
                f"a sand glass with {self.sand} sand runs out {{pace}}",
                f"{{pace}} the {self.sand} sand trickles down and piles up below")


@dataclass(frozen=True)
class Telescope:
    """The state is how far a mast with a ball on its tip has been pulled out."""

    mast: str
    tip: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Telescope:
        return cls(*pick_colours(rng, wall, 2))

    def fixed(self) -> list[Primitive]:
        return [box((0, 0.12, 0), (0.75, 0.12, 0.5), (0.3, 0.3, 0.34))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        colour, top = PALETTE[self.mast], 0.7 + 1.4 * s
        parts = []
        for share, width, factor in ((1 / 3, 0.34, 0.7), (2 / 3, 0.24, 0.85), (1.0, 0.15, 1.0)):
            centre, half = standing(0.24, 0.24 + (top - 0.24) * share)
            parts.append(drum((0, centre, 0), (width, half, width), shade(colour, factor)))
        return [*parts, ball((0, top + 0.2, 0), (0.3, 0.3, 0.3), PALETTE[self.tip])]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"a {self.mast} mast is pulled out {{pace}}, getting longer",
                    f"{{pace}} extending {self.mast} telescope mast with a {self.tip} ball on top",
                    f"a {self.tip} ball rises {{pace}} on a {self.mast} mast")
        return (f"a {self.mast} mast is pushed together {{pace}}, getting shorter",
                f"{{pace}} retracting {self.mast} telescope mast with a {self.tip} ball on top",
                f"a {self.tip} ball sinks {{pace}} on a {self.mast} mast")
