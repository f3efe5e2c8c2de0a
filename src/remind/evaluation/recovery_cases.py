"""Cases of the recovery suite: clips of any store, interrupted in one of four ways, each with its known truth.

Source: ReMind F.2 for the four interruptions. A case is a function of the store, the kind and the seed alone, so every
model and every folder of videos is measured on the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from remind.clip import Clip
from remind.data.clip_store import ClipStore
from remind.data.interrupt import InterruptionRecipe, RecipeDistribution, Window, apply_interruption, sample_composition
from remind.data.memory_clip import MemoryClip
from remind.errors import RemindError
from remind.frame_graph import FrameGraph, InterruptionKind, Schedule, frames_of_chunk
from remind.geometry import rescale_intrinsics

RecoveryKind = Literal["light", "occluder", "lookaway", "zoom"]
RECOVERY_KINDS: tuple[RecoveryKind, ...] = get_args(RecoveryKind)
_KINDS: dict[RecoveryKind, InterruptionKind] = {
    "light": "light_toggle", "occluder": "occluder", "lookaway": "lookaway", "zoom": "zoom",
}  # fmt: skip
HIDDEN_FRAMES_OF_81 = (16, 32)  # our choice: one to two seconds
NO_ROOM = "stored no wider than what is seen: no room to look away"


class NoCase(Exception):
    """A clip that cannot be interrupted in this way; the message is what is counted."""


@dataclass(frozen=True)
class RecoveryCase:
    """One clip under one interruption.

    Args:
        name: of the example.
        kind: of the interruption.
        degraded: what is seen, and what should be seen: frames after the interruption are clean, and the truth.
        recipe: how it was interrupted.
        seed: of a model's noise.
    """

    name: str
    kind: RecoveryKind
    degraded: Clip
    recipe: InterruptionRecipe
    seed: int

    @property
    def schedule(self) -> Schedule:
        return self.recipe.schedule(len(self.degraded))

    @property
    def first_generated(self) -> int:
        """First frame that is made where a video is continued."""
        frontier = FrameGraph(self.schedule).frontier
        assert frontier is not None
        return frames_of_chunk(frontier).start

    @property
    def phases(self) -> dict[str, range]:
        """Frames of the clip by phase: before the interruption, during, and after it."""
        start, stop = self.schedule.interruptions[0].start, self.schedule.interruptions[-1].stop
        return {"before": range(start), "during": range(start, stop), "after": range(stop, len(self.degraded))}


@dataclass(frozen=True)
class CaseSpec:
    """A case before its pictures are read.

    Args:
        name: of the example.
        number: of the clip in the store.
        kind: of the interruption.
    """

    name: str
    number: int
    kind: RecoveryKind


def case_specs(store: ClipStore, kinds: Sequence[RecoveryKind], limit: int | None) -> tuple[CaseSpec, ...]:
    """One case a clip and kind, clip by clip.

    Args:
        limit: the first so many clips; None = all.
    """
    ids = store.clip_ids[:limit]
    return tuple(CaseSpec(f"{name}.{kind}", number, kind) for number, name in enumerate(ids) for kind in kinds)


def hash_of_cases(store: ClipStore, specs: Sequence[CaseSpec], seed: int) -> str:
    """Of all that decides the cases: the clips' bytes, the kinds, and the seed of the interruptions."""
    digest = hashlib.sha256()
    for spec in specs:
        digest.update(f"{store.sha256(spec.number)} {spec.kind} {seed}\n".encode())
    return digest.hexdigest()


def seen_hw(store: ClipStore, number: int) -> tuple[int, int]:
    """Size of what a model is to see of a clip: that of its view where it is stored wider; errors as `ClipStore`."""
    view = store.recipe(number).view
    row = store.row(number)
    return (row["height"], row["width"]) if view is None else view.hw


def make_case(store: ClipStore, spec: CaseSpec, seed: int) -> RecoveryCase:
    """Read a clip and interrupt it.

    A clip whose own camera looks away and back is taken as it is under `lookaway`; another one is looked at through
    a window that turns, which takes a clip that is stored wider than what is seen.

    Raises:
        NoCase: a damaged clip, or one that cannot be interrupted in this way.
    """
    try:
        clip = store.read(spec.number, depth=False)
    except RemindError as error:
        raise NoCase("damaged clip") from error
    own = _own_loop(clip) if spec.kind == "lookaway" else None
    rng = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(spec.name.encode()).digest()[:8])])
    recipe = own if own is not None else _drawn(clip, spec.kind, rng)
    try:
        degraded = apply_interruption(replace(clip.clean, depth=None), recipe)
        FrameGraph(recipe.schedule(len(degraded)))
    except RemindError as error:
        raise NoCase(error.what) from error
    return RecoveryCase(spec.name, spec.kind, degraded, recipe, int(rng.integers(2**31)))


def _own_loop(clip: MemoryClip) -> InterruptionRecipe | None:
    """The clip's own recipe if all it has is one loop of its own camera."""
    styles = [style.kind for event in clip.recipe.events for style in event.styles]
    return clip.recipe if styles == ["given"] else None


def _drawn(clip: MemoryClip, kind: RecoveryKind, rng: np.random.Generator) -> InterruptionRecipe:
    stored, frames = clip.clean.hw, len(clip.clean)
    seen = stored if clip.recipe.view is None else clip.recipe.view.hw
    if kind == "lookaway" and seen == stored:
        raise NoCase(NO_ROOM)
    cameras = clip.clean.cameras
    known = None if cameras is None or not bool(cameras.valid.any()) else cameras
    window = Window(stored_hw=stored, view_hw=seen, intrinsics_px=None if known is None else _intrinsics(clip))
    scale = (frames - 1) / 80
    hidden = max(1, round(HIDDEN_FRAMES_OF_81[0] * scale)), max(1, round(HIDDEN_FRAMES_OF_81[1] * scale))
    wanted = RecipeDistribution(((_KINDS[kind], 1.0),), several_share=0.0, together_share=0.0,
                                hidden_frames=hidden)  # fmt: skip
    try:
        return sample_composition(frames, rng, wanted, window=window)
    except RemindError as error:
        raise NoCase(error.what) from error


def _intrinsics(clip: MemoryClip) -> tuple[float, float, float, float]:
    cameras = clip.clean.cameras
    assert cameras is not None
    pixels = rescale_intrinsics(cameras.intrinsics_px.double(), from_hw=cameras.hw, to_hw=clip.clean.hw)
    fx, fy, cx, cy = pixels[int(cameras.valid.nonzero()[0, 0])].tolist()
    return fx, fy, cx, cy
