"""Things that fill, melt, burn down and grow: one quantity that only goes one way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive
from remind.world.stage import PALETTE, Colour, ball, box, drum, pick_colours, pitch, roll, shade, standing


@dataclass(frozen=True)
class Filling:
    """The state is the level of a liquid in a tank with an open front."""

    liquid: str
    panel: Colour
    frame: Colour

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Filling:
        liquid = pick_colours(rng, wall, 1, among=("blue", "teal", "red", "green", "orange", "purple"))[0]
        panel = (0.93, 0.93, 0.90) if sum(wall) < 1.7 else (0.88, 0.90, 0.86)
        return cls(liquid, panel, tuple(rng.uniform(0.1, 0.3, 3).tolist()))

    def fixed(self) -> list[Primitive]:
        posts = [box((x, 1.13, 0), (0.07, 1.05, 0.5), self.frame) for x in (-1.02, 1.02)]
        return [box((0, 1.13, 0.45), (1.0, 1.03, 0.05), self.panel), *posts,
                box((0, 0.06, 0), (1.09, 0.06, 0.5), self.frame),
                box((0.55, 2.42, 0), (0.30, 0.10, 0.1), (0.5, 0.5, 0.54)),
                box((0.35, 2.30, 0), (0.10, 0.12, 0.1), (0.5, 0.5, 0.54))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        level = 0.22 + 1.8 * s
        centre, half = standing(0.12, level)
        colour = PALETTE[self.liquid]
        return [box((0, centre, -0.03), (0.95, half, 0.44), colour, accent=shade(colour, 1.3),
                    waves=((0.0, 0.25, 0.0, -0.03),))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"a tank fills {{pace}} with {self.liquid} liquid, the level rising",
                    f"{self.liquid} water rises {{pace}} in a glass tank",
                    f"the {self.liquid} liquid level in the tank goes up {{pace}}")
        return (f"a tank of {self.liquid} liquid drains {{pace}}, the level falling",
                f"{self.liquid} water sinks {{pace}} in a glass tank",
                f"the {self.liquid} liquid level in the tank goes down {{pace}}")


@dataclass(frozen=True)
class Melting:
    """The state is the share of an ice block that has melted."""

    ice: Colour
    tray: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Melting:
        pale = (0.80, 0.93, 0.99) if sum(wall) < 1.9 else (0.35, 0.68, 0.93)
        return cls(pale, pick_colours(rng, wall, 1, among=("black", "brown", "purple", "red", "orange"))[0])

    def fixed(self) -> list[Primitive]:
        return [drum((0, 0.12, 0), (1.5, 0.12, 0.85), shade(PALETTE[self.tray], 0.9))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        centre, half = standing(0.24, 2.15 - 1.7 * s)
        wide = 0.98 - 0.45 * s
        puddle = 0.55 + 0.8 * s
        return [box((0, centre, 0), (wide, half, 0.55 - 0.25 * s), self.ice, accent=shade(self.ice, 0.75),
                    waves=((0.12, 0.2, 0.0, 0.1),)),
                drum((0, 0.255, 0), (puddle, 0.012, puddle * 0.55), shade(self.ice, 0.9))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        return ("a block of pale blue ice melts {pace} into a puddle",
                f"ice melting {{pace}} on a {self.tray} tray, the block shrinking",
                f"on a {self.tray} tray the blue ice block shrinks {{pace}} as it melts")


@dataclass(frozen=True)
class BurningDown:
    """The state is the share of a candle that has burnt."""

    wax: str
    holder: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> BurningDown:
        wax, holder = pick_colours(rng, wall, 2, among=("red", "green", "blue", "white", "purple", "pink", "teal"))
        return cls(wax, holder)

    def fixed(self) -> list[Primitive]:
        return [drum((0, 0.10, 0), (1.05, 0.10, 0.9), (0.45, 0.36, 0.16)),
                drum((0, 0.28, 0), (0.62, 0.10, 0.62), (0.62, 0.50, 0.22))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        top = 2.0 - 1.5 * s
        centre, half = standing(0.36, top)
        wax = PALETTE[self.wax]
        return [drum((0, centre, 0), (0.46, half, 0.46), wax, accent=shade(wax, 0.85), waves=((0.3, 0.0, 0.0, 0.2),)),
                drum((0, top + 0.06, 0), (0.04, 0.08, 0.04), (0.1, 0.08, 0.06)),
                ball((0, top + 0.38, 0), (0.20, 0.32, 0.20), (1.0, 0.72, 0.12), glow=1.0),
                ball((0, top + 0.30, -0.14), (0.10, 0.17, 0.10), (1.0, 0.97, 0.75), glow=1.0)]

    def captions(self, rising: bool) -> tuple[str, ...]:
        return (f"a {self.wax} candle burns down {{pace}}, getting shorter",
                f"a thick {self.wax} candle burning down {{pace}} with a bright flame",
                f"the flame sinks {{pace}} as the {self.wax} candle burns down")


@dataclass(frozen=True)
class Growing:
    """The state is how far a flower has grown."""

    flower: str
    pot: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Growing:
        flower, pot = pick_colours(rng, wall, 2, among=("red", "orange", "yellow", "pink", "purple", "white", "blue"))
        return cls(flower, pot)

    def fixed(self) -> list[Primitive]:
        return [drum((0, 0.30, 0), (0.58, 0.30, 0.55), shade(PALETTE[self.pot], 0.85)),
                drum((0, 0.62, 0), (0.66, 0.08, 0.62), PALETTE[self.pot])]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        top, green, leafy = 0.95 + 1.15 * s, (0.16, 0.48, 0.14), (0.22, 0.62, 0.20)
        centre, half = standing(0.66, top)
        leaf = 0.18 + 0.42 * s
        parts = [box((0, centre, 0), (0.085, half, 0.085), green)]
        for side, share, angle in ((-1, 0.35, 0.55), (1, 0.35, -0.55), (-1, 0.7, 0.5), (1, 0.7, -0.5)):
            height = 0.66 + (top - 0.66) * share
            parts.append(ball((side * leaf * 0.95, height + leaf * 0.45, 0), (leaf, 0.30 * leaf, 0.2), leafy,
                              turned=roll(angle)))
        bloom = 0.16 + 0.28 * s
        return [*parts, drum((0, top, -0.05), (bloom, 0.06, bloom), PALETTE[self.flower], turned=pitch(1.45)),
                ball((0, top, -0.12), (0.4 * bloom, 0.4 * bloom, 0.1), (0.95, 0.80, 0.15) if self.flower != "yellow"
                     else (0.45, 0.25, 0.1))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        return (f"a plant with a {self.flower} flower grows {{pace}} in a {self.pot} pot",
                f"a {self.flower} flower grows {{pace}} taller, its leaves spreading",
                f"in a {self.pot} pot a {self.flower} flower rises and blooms {{pace}}")
