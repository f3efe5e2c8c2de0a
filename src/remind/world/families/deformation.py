"""Things that change their shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive
from remind.world.stage import PALETTE, Colour, ball, box, drum, pick_colours, shade, standing


@dataclass(frozen=True)
class Inflating:
    """The state is how far a balloon is inflated."""

    balloon: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Inflating:
        among = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "teal")
        return cls(pick_colours(rng, wall, 1, among=among)[0])

    def fixed(self) -> list[Primitive]:
        return [drum((0, 0.16, 0), (0.42, 0.16, 0.42), (0.28, 0.28, 0.32)),
                drum((0, 0.40, 0), (0.09, 0.12, 0.09), (0.55, 0.55, 0.58))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        radius, colour = 0.25 + 0.82 * s, PALETTE[self.balloon]
        centre = 0.56 + radius * 1.0
        return [drum((0, 0.54, 0), (0.13, 0.06, 0.13), shade(colour, 0.7)),
                ball((0, centre, 0), (radius, radius, radius), colour),
                ball((-0.42 * radius, centre + 0.42 * radius, -0.62 * radius),
                     (0.22 * radius, 0.26 * radius, 0.22 * radius), shade(colour, 1.5))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"a {self.balloon} balloon inflates {{pace}} on a pump, getting bigger",
                    f"on a pump a {self.balloon} balloon is blown up {{pace}}",
                    f"{{pace}} growing {self.balloon} balloon on a pump")
        return (f"a {self.balloon} balloon deflates {{pace}} on a pump, getting smaller",
                f"on a pump a {self.balloon} balloon loses its air {{pace}}",
                f"{{pace}} shrinking {self.balloon} balloon on a pump")


@dataclass(frozen=True)
class Squashing:
    """The state is how far a press has squashed a foam block, whose volume stays."""

    foam: str
    press: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Squashing:
        return cls(*pick_colours(rng, wall, 2))

    def fixed(self) -> list[Primitive]:
        steel = (0.33, 0.34, 0.38)
        return [box((0, 0.1, 0), (1.6, 0.1, 0.6), steel)]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        top, press = 1.9 - 1.35 * s, PALETTE[self.press]
        centre, half = standing(0.2, top)
        wide = 0.50 * (1.7 / (top - 0.2)) ** 0.65
        foam = PALETTE[self.foam]
        return [box((0, centre, 0), (wide, half, 0.45), foam, accent=shade(foam, 0.6), waves=((0.5, 0.0, 0.0, 0.0),)),
                box((0, top + 0.16, 0), (1.45, 0.16, 0.5), press),
                box((0, top + 1.7, 0), (0.20, 1.4, 0.2), (0.55, 0.55, 0.58))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"a {self.press} press squashes a {self.foam} foam block {{pace}}, flattening it",
                    f"a {self.foam} foam block is pressed flat {{pace}}",
                    f"under a {self.press} press a {self.foam} block gets flatter and wider {{pace}}")
        return (f"a {self.press} press lifts {{pace}} and a {self.foam} foam block springs up",
                f"a squashed {self.foam} foam block gets taller {{pace}}",
                f"under a rising {self.press} press a {self.foam} block stretches up {{pace}}")


@dataclass(frozen=True)
class Curtain:
    """The state is how far a curtain has been drawn over a window; its folds spread as it stretches."""

    cloth: str
    view: Colour

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Curtain:
        among = ("red", "green", "blue", "purple", "brown", "teal", "orange")
        return cls(pick_colours(rng, wall, 1, among=among)[0], (0.80, 0.92, 0.99))

    def fixed(self) -> list[Primitive]:
        pole = (0.35, 0.25, 0.15)
        return [box((0, 1.2, 0.35), (1.5, 1.05, 0.03), (0.93, 0.92, 0.88)),
                box((0, 1.2, 0.33), (1.38, 0.93, 0.03), self.view, accent=(0.62, 0.80, 0.55),
                    waves=((0.0, 0.25, 0.0, 0.0),)),
                box((0, 2.36, 0.12), (1.65, 0.06, 0.06), pole)]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        edge = -1.1 + 2.5 * s
        half = (edge + 1.5) * 0.5
        cloth = PALETTE[self.cloth]
        return [box((edge - half, 1.16, 0.12), (half, 1.18, 0.06), cloth, accent=shade(cloth, 0.62),
                    waves=((0.75, 0.0, 0.0, 0.0),))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        if rising:
            return (f"a {self.cloth} curtain is drawn {{pace}} across a window, closing",
                    f"a {self.cloth} curtain stretches {{pace}} over the window to the right",
                    f"{{pace}} closing {self.cloth} curtain covers a bright window")
        return (f"a {self.cloth} curtain is pulled back {{pace}} from a window, opening",
                f"a {self.cloth} curtain gathers {{pace}} to the left, uncovering the window",
                f"{{pace}} opening {self.cloth} curtain uncovers a bright window")
