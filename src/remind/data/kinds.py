"""Every kind of interruption in one table: where it acts, whether it hides, and whether training may see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from remind.frame_graph import InterruptionKind

Layer = Literal["view", "front", "light", "shutter"]
Split = Literal["train", "held_out"]

LAYERS: tuple[Layer, ...] = ("view", "front", "light", "shutter")
"""From the scene to the sensor, the order in which effects on one frame are applied: the camera looks, things stand
in front of it, light falls on those too, the shutter closes over all."""


@dataclass(frozen=True)
class KindInfo:
    """What holds for every interruption of a kind.

    Args:
        family: which of the four families of ReMind F.2 it belongs to.
        layer: where it acts; of each layer an event has one style at most.
        hides: whether it can take the state wholly out of sight; a zoom cannot.
        ramp_frames: fewest and most frames from the first change to the full effect. Lights may go out at once; what
            travels takes time.
        held_out: True = for tests of generalisation only, never drawn for training.
    """

    family: InterruptionKind
    layer: Layer
    hides: bool
    ramp_frames: tuple[int, int]
    held_out: bool = False

    @property
    def split(self) -> Split:
        return "held_out" if self.held_out else "train"


KINDS: dict[InterruptionKind, KindInfo] = {
    "light_toggle": KindInfo("light_toggle", "light", True, (0, 6)),
    "occluder": KindInfo("occluder", "front", True, (2, 6)),
    "camera_loop": KindInfo("camera_loop", "view", True, (2, 6)),
    "zoom": KindInfo("zoom", "view", False, (10, 24)),
    "lookaway": KindInfo("camera_loop", "view", True, (4, 8)),
    # Our choice: each held-out kind shares a family with a trained one and looks and moves unlike it.
    "cardboard": KindInfo("occluder", "front", True, (2, 6), held_out=True),
    "curtain": KindInfo("occluder", "front", True, (4, 8), held_out=True),
    "flicker": KindInfo("light_toggle", "light", True, (4, 8), held_out=True),
    "blink": KindInfo("occluder", "shutter", True, (2, 6), held_out=True),
}


def kinds_of(split: Split) -> tuple[InterruptionKind, ...]:
    """The kinds of a split; the two splits share none."""
    return tuple(kind for kind, info in KINDS.items() if info.split == split)
