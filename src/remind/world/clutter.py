"""A scene with clutter: things on shelves behind and beside the stage, enough texture to match features on.

Our choice: the plain rooms are smooth, so that a coarse codec can hold them; feature matching finds 10 to 150 points
in them, and some hundreds here.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from remind.errors import InputError
from remind.world.renderer import Primitive
from remind.world.scenes import Scene
from remind.world.stage import Actor, Colour, box, swing


@dataclass(frozen=True)
class _Cluttered:
    """An actor among things that never move."""

    actor: Actor
    things: tuple[Primitive, ...]

    def fixed(self) -> list[Primitive]:
        return [*self.actor.fixed(), *self.things]

    def moving(self, s: Float[Tensor, " t"]) -> list[Primitive]:
        return self.actor.moving(s)

    def captions(self, rising: bool) -> tuple[str, ...]:
        return self.actor.captions(rising)


def add_clutter(scene: Scene, *, count: int = 60) -> Scene:
    """The same scene with `count` two-coloured boxes at the back of its room, drawn from its seed.

    Raises:
        InputError: a negative count.
    """
    if count < 0:
        raise InputError("a scene cannot hold a negative number of things", got=count, expected=">= 0")
    rng = np.random.default_rng([scene.seed, 3])
    return replace(scene, actor=_Cluttered(scene.actor, tuple(_thing(rng) for _ in range(count))))


def _thing(rng: np.random.Generator) -> Primitive:
    half = (float(rng.uniform(0.08, 0.26)), float(rng.uniform(0.08, 0.26)), float(rng.uniform(0.08, 0.26)))
    stands = bool(rng.random() < 0.3)
    height = half[1] if stands else float(rng.uniform(0.3, 3.2))
    at = (float(rng.uniform(-3.4, 3.4)), height, float(rng.uniform(0.7, 1.5)))
    first, second = (float(v) for v in rng.uniform(-1, 1, 2))
    waves = ((float(rng.uniform(0.6, 1.5)), first, 0.0, float(rng.random())),
             (second, float(rng.uniform(0.6, 1.5)), 0.0, float(rng.random())))
    return box(at, half, _colour(rng), accent=_colour(rng), waves=waves, turned=swing(float(rng.uniform(0, 3))))


def _colour(rng: np.random.Generator) -> Colour:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.95))
