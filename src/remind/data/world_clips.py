"""Interrupted clips of the embedded world: a scene, its interruptions, and both versions of the video.

World clips are never stored: a seed is enough to render them again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from remind.clip import Cameras, Clip
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
    """One scene with its interruptions.

    Args:
        scene: knows the true state of every frame.
        recipe: which interruptions, when and how.
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
    recipe: InterruptionRecipe | None = None,
) -> WorldClip:
    """Render the clip of a seed.

    Args:
        seed: from one of the three seed ranges.
        hw: height and width, px.
        family: scene family; None = chosen by the seed.
        kind: interruption; None = chosen by the seed among `kinds`.
        recipe: interruptions to use instead of what the seed would choose.
    """
    rng = np.random.default_rng([seed, 0x1A7E])
    scene = sample_scene(seed, family=family, num_frames=num_frames, hw=hw)
    chosen: InterruptionKind = kinds[int(rng.integers(len(kinds)))]
    recipe = recipe or sample_recipe(kind or chosen, num_frames, rng)
    clean = scene.clip()
    looped = clean if "camera_loop" not in recipe.kinds else scene.clip(cameras=loop_cameras(scene, recipe))
    return WorldClip(scene, recipe, clean, apply_interruption(looped, recipe.without("camera_loop")))


def loop_cameras(scene: Scene, recipe: InterruptionRecipe) -> Cameras:
    """The scene's cameras with all camera loops of a recipe, which are rendered; the rest happens on the frames."""
    c2w = scene.cameras.c2w.clone()
    for event in recipe.events:
        if "camera_loop" in event.kinds:
            times = replace(event.interruption, kind="camera_loop")
            frames = slice(times.start, times.stop)
            c2w[frames] = interrupt_camera_loop(scene, times).c2w[frames]
    return Cameras(c2w, scene.cameras.intrinsics_px, scene.cameras.hw, scene.cameras.valid)
