"""What decides the content of a store of camera loops, beside its source clips."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from remind.curation.loop_trajectories import LOOP_KINDS, LoopKind
from remind.errors import InputError


@dataclass(frozen=True)
class LoopOptions:
    """All options of a build of loops.

    Args:
        kinds: of trajectories, taken in turn.
        per_clip: loops of each clip, 1..64.
        seed: of trajectories and renders, >= 0.
        hw: size of the stored clips, each side 16..2048; None = as each source clip.
        scene_depth: how far away the middle of a scene is in the renderer's own unit, > 0. NeoVerse does not say which
            unit its reconstruction has; trajectories that only turn need none.
        assumed_fov_deg: horizontal field of view of clips without cameras, 5..120; None = they are left out.
        prompted: tell the renderer the clip's caption.
        min_first_view_db: a render whose first frame is less like the clip's own, in dB, is dropped: it shows another
            scene.
        check_cameras: hold each render against its trajectory, and drop what contradicts it.
        crf: quality of the stored clips, 0..51.
    """

    kinds: tuple[LoopKind, ...] = ("lookaway", "pan", "loop")
    per_clip: int = 1
    seed: int = 0
    hw: tuple[int, int] | None = None
    scene_depth: float = 1.0
    assumed_fov_deg: float | None = None
    prompted: bool = True
    min_first_view_db: float = 15.0
    check_cameras: bool = True
    crf: int = 18

    def __post_init__(self) -> None:
        if not self.kinds or any(kind not in LOOP_KINDS for kind in self.kinds):
            raise InputError("no such trajectories", got=self.kinds, expected=f"some of {', '.join(LOOP_KINDS)}")
        if not 1 <= self.per_clip <= 64 or self.seed < 0 or not self.scene_depth > 0 or not 0 <= self.crf <= 51:
            raise InputError("options of loops are out of range", got=self,
                             expected="1..64 per clip, a seed >= 0, a depth > 0, crf 0..51")
        if self.hw is not None and not all(16 <= side <= 2048 for side in self.hw):
            raise InputError("clips of this size cannot be built", got=self.hw, expected="16..2048 px a side")
        if self.assumed_fov_deg is not None and not 5 <= self.assumed_fov_deg <= 120:
            raise InputError("no such field of view", got=self.assumed_fov_deg, expected="5..120 degrees")

    def of(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Some fields, as plain JSON values."""
        return {name: value for name, value in self.describe().items() if name in names}

    def describe(self) -> dict[str, Any]:
        """All fields, as plain JSON values."""
        return dict(json.loads(json.dumps({f.name: getattr(self, f.name) for f in fields(self)})))
