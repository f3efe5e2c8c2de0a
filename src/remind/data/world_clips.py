"""Interrupted clips of the embedded world: a scene, an interruption, and both versions of the video.

World clips are never stored: a seed is enough to render them again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from remind.clip import Clip
from remind.data.interrupt import InterruptionRecipe, apply_interruption, sample_recipe
from remind.frame_graph import FrameGraph, InterruptionKind, Schedule
from remind.world import Scene, interrupt_camera_loop, sample_scene

TRAIN_SEEDS = range(0, 1_000_000_000)
VALIDATION_SEEDS = range(1_000_000_000, 2_000_000_000)
TEST_SEEDS = range(2_000_000_000, 3_000_000_000)
"""Disjoint by construction: training, choosing and reporting never share a scene."""

HIDING_KINDS: tuple[InterruptionKind, ...] = ("light_toggle", "occluder", "camera_loop")


@dataclass(frozen=True)
class WorldClip:
    """One scene with one interruption.

    Args:
        scene: knows the true state of every frame.
        recipe: which interruption, when and how.
        clean: the undegraded clip under the scene's own cameras.
        degraded: what a viewer saw; under `camera_loop` it has cameras of its own.
    """

    scene: Scene
    recipe: InterruptionRecipe
    clean: Clip
    degraded: Clip

    @property
    def schedule(self) -> Schedule:
        return self.recipe.schedule(len(self.clean))

    @property
    def graph(self) -> FrameGraph:
        return FrameGraph(self.schedule)


def make_world_clip(
    seed: int,
    *,
    hw: tuple[int, int],
    num_frames: int = 81,
    family: str | None = None,
    kind: InterruptionKind | None = None,
    kinds: tuple[InterruptionKind, ...] = HIDING_KINDS,
) -> WorldClip:
    """Render the clip of a seed.

    Args:
        seed: from one of the three seed ranges.
        hw: height and width, px.
        family: scene family; None = chosen by the seed.
        kind: interruption; None = chosen by the seed among `kinds`.
    """
    rng = np.random.default_rng([seed, 0x1A7E])
    scene = sample_scene(seed, family=family, num_frames=num_frames, hw=hw)
    chosen: InterruptionKind = kinds[int(rng.integers(len(kinds)))]
    recipe = sample_recipe(kind or chosen, num_frames, rng)
    clean = scene.clip()
    if recipe.kind == "camera_loop":
        degraded = scene.clip(cameras=interrupt_camera_loop(scene, recipe.interruption))
    else:
        degraded = apply_interruption(clean, recipe)
    return WorldClip(scene, recipe, clean, degraded)
