"""Things that act on other things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.world.renderer import Primitive
from remind.world.stage import PALETTE, Colour, box, compose, drum, pick_colours, pitch, roll, shade, standing


@dataclass(frozen=True)
class Pushing:
    """The state is how far a ram has moved; from its touch on, the crate moves with it."""

    ram: str
    crate: str
    side: int

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Pushing:
        ram, crate = pick_colours(rng, wall, 2)
        return cls(ram, crate, int(rng.choice([-1, 1])))

    def fixed(self) -> list[Primitive]:
        return [box((0, 0.17, 0), (2.0, 0.17, 0.5), (0.40, 0.38, 0.36))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        face = -1.25 + 1.75 * s
        crate_left = torch.clamp(face, min=-0.65)
        crate, side = PALETTE[self.crate], self.side
        return [box((side * (crate_left + 0.5), 0.84, 0), (0.5, 0.5, 0.42), crate, accent=shade(crate, 0.6),
                    waves=((0.25, 0.25, 0.0, 0.0), (0.25, -0.25, 0.0, 0.0))),
                box((side * (face - 0.15), 0.94, 0), (0.15, 0.6, 0.42), PALETTE[self.ram]),
                box((side * (face - 1.6), 0.9, 0), (1.3, 0.12, 0.12), (0.62, 0.62, 0.66))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        way = "to the right" if self.side > 0 else "to the left"
        return (f"a {self.ram} ram pushes a {self.crate} crate {{pace}} {way}",
                f"a {self.ram} pusher moves {{pace}} {way} and shoves a {self.crate} crate",
                f"a {self.crate} crate is pushed {{pace}} {way} by a {self.ram} ram")


@dataclass(frozen=True)
class Hoisting:
    """The state is how far one crate has sunk and, over a pulley, lifted the other."""

    heavy: str
    light: str
    side: int

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Hoisting:
        heavy, light = pick_colours(rng, wall, 2)
        return cls(heavy, light, int(rng.choice([-1, 1])))

    def fixed(self) -> list[Primitive]:
        return [box((0, 0.06, 0), (1.6, 0.06, 0.5), (0.36, 0.34, 0.33)),
                drum((0, 2.42, 0), (0.62, 0.1, 0.34), (0.55, 0.52, 0.48), turned=pitch(1.5707963)),
                drum((0, 2.42, -0.12), (0.14, 0.02, 0.14), (0.2, 0.2, 0.2), turned=pitch(1.5707963))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        low, high = 0.52 + 1.2 * s, 1.72 - 1.2 * s
        parts = []
        for x, height, name in ((-0.68 * self.side, low, self.light), (0.68 * self.side, high, self.heavy)):
            rope, half = standing(height, 2.42)
            colour = PALETTE[name]
            parts += [box((x * 0.9, rope, 0), (0.045, half, 0.04), (0.25, 0.20, 0.14)),
                      box((x, height, 0), (0.54, 0.40, 0.40), colour, accent=shade(colour, 0.7),
                          waves=((0.4, 0.0, 0.0, 0.0),))]
        return parts

    def captions(self, rising: bool) -> tuple[str, ...]:
        return (f"a {self.heavy} crate sinks {{pace}} and pulls a {self.light} crate up",
                f"over a pulley the {self.light} crate is hoisted {{pace}} by a {self.heavy} one",
                f"a {self.light} crate rises {{pace}} while a {self.heavy} counterweight goes down")


@dataclass(frozen=True)
class Seesaw:
    """The state is how far a ball's weight has tipped a plank: it rolls along it and the plank follows."""

    plank: str
    ball: str

    @classmethod
    def sample(cls, rng: np.random.Generator, wall: Colour) -> Seesaw:
        return cls(*pick_colours(rng, wall, 2))

    def fixed(self) -> list[Primitive]:
        return [box((0, 0.45, 0.1), (0.42, 0.42, 0.3), (0.30, 0.30, 0.34), turned=roll(0.7853981633974483))]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        tilt = (s - 0.5) * 0.9
        along = -1.05 + 2.1 * s
        up = 0.11 + 0.42
        x = along * torch.cos(tilt) + up * torch.sin(tilt)
        height = 1.1 - along * torch.sin(tilt) + up * torch.cos(tilt)
        return [box((0, 1.1, 0), (1.5, 0.11, 0.35), PALETTE[self.plank], turned=roll(tilt)),
                drum((x, height, 0), (0.42, 0.3, 0.42), PALETTE[self.ball], accent=(0.96, 0.95, 0.9),
                     waves=((0.4, 0.0, 0.0, 0.0), (0.0, 0.0, 0.4, 0.0)),
                     turned=compose(roll(along / 0.42 + tilt), pitch(1.5707963)))]

    def captions(self, rising: bool) -> tuple[str, ...]:
        way = "to the right" if rising else "to the left"
        return (f"a {self.ball} roller tips a {self.plank} seesaw {{pace}} {way}",
                f"rolling {{pace}} {way}, a {self.ball} drum tilts the {self.plank} plank",
                f"a {self.plank} seesaw tilts {{pace}} {way} under a rolling {self.ball} drum")
