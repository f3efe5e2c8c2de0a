"""The families of scenes, by the groups of ReMind Table 7; what is in a family is our choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from remind.world.families.deformation import Curtain, Inflating, Squashing
from remind.world.families.discrete import Barrier, Chest, Door
from remind.world.families.held_out import Hourglass, Lift, Telescope
from remind.world.families.interaction import Hoisting, Pushing, Seesaw
from remind.world.families.lighting_weather import Snow, SunPatch, Sunset
from remind.world.families.monotonic_state import BurningDown, Filling, Growing, Melting
from remind.world.families.periodic import Carousel, Clock, Windmill
from remind.world.families.translational import RollingBall, Train, Walker
from remind.world.stage import Actor, Colour

Group = Literal["translational", "monotonic_state", "deformation", "lighting_weather", "interaction", "periodic",
                "discrete"]


@dataclass(frozen=True)
class Family:
    """A kind of scene.

    Args:
        name: as in captions of tables, unique.
        group: tag group of ReMind Table 7.
        sample: draws the actor, given the colour of the wall behind it.
        reversible: the state may also fall.
        periodic: the state is a phase in turns and may exceed 1.
        discrete: the state rests at 0 or 1 and moves only after a trigger.
    """

    name: str
    group: Group
    sample: Callable[[np.random.Generator, Colour], Actor]
    reversible: bool = False
    periodic: bool = False
    discrete: bool = False


FAMILIES: dict[str, Family] = {f.name: f for f in (
    Family("rolling_ball", "translational", RollingBall.sample, reversible=True),
    Family("walker", "translational", Walker.sample, reversible=True),
    Family("train", "translational", Train.sample, reversible=True),
    Family("filling", "monotonic_state", Filling.sample, reversible=True),
    Family("melting", "monotonic_state", Melting.sample),
    Family("burning_down", "monotonic_state", BurningDown.sample),
    Family("growing", "monotonic_state", Growing.sample),
    Family("inflating", "deformation", Inflating.sample, reversible=True),
    Family("squashing", "deformation", Squashing.sample, reversible=True),
    Family("curtain", "deformation", Curtain.sample, reversible=True),
    Family("sun_patch", "lighting_weather", SunPatch.sample, reversible=True),
    Family("sunset", "lighting_weather", Sunset.sample, reversible=True),
    Family("snow", "lighting_weather", Snow.sample, reversible=True),
    Family("pushing", "interaction", Pushing.sample),
    Family("hoisting", "interaction", Hoisting.sample),
    Family("seesaw", "interaction", Seesaw.sample, reversible=True),
    Family("windmill", "periodic", Windmill.sample, reversible=True, periodic=True),
    Family("clock", "periodic", Clock.sample, periodic=True, reversible=True),
    Family("carousel", "periodic", Carousel.sample, reversible=True, periodic=True),
    Family("door", "discrete", Door.sample, discrete=True),
    Family("barrier", "discrete", Barrier.sample, discrete=True),
    Family("chest", "discrete", Chest.sample, discrete=True),
)}

HELD_OUT_FAMILIES: dict[str, Family] = {f.name: f for f in (
    Family("lift", "translational", Lift.sample, reversible=True),
    Family("hourglass", "monotonic_state", Hourglass.sample),
    Family("telescope", "deformation", Telescope.sample, reversible=True),
)}
"""For tests of generalisation alone: no seed draws them, and no training configuration can name them."""
