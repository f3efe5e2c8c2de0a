"""Interrupted world clips: again from a seed, clean where nothing happens, and with cameras that tell the truth."""

from __future__ import annotations

import itertools

import pytest
import torch

from remind.data.world_clips import HIDING_KINDS, TEST_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS, make_world_clip
from remind.frame_graph import FrameGraph, Schedule
from remind.world import FAMILIES

HW, FRAMES = (16, 16), 57


def test_seeds_for_training_choosing_and_reporting_are_disjoint() -> None:
    ranges = sorted((TRAIN_SEEDS, VALIDATION_SEEDS, TEST_SEEDS), key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(ranges))


def test_a_seed_is_enough() -> None:
    first, second = (make_world_clip(11, hw=HW, num_frames=FRAMES) for _ in range(2))
    assert torch.equal(first.clean.rgb, second.clean.rgb)
    assert torch.equal(first.degraded.rgb, second.degraded.rgb)
    assert first.recipe == second.recipe
    assert first.clean.caption == second.clean.caption
    other = make_world_clip(12, hw=HW, num_frames=FRAMES)
    assert not torch.equal(first.clean.rgb, other.clean.rgb)


@pytest.mark.parametrize("kind", [*HIDING_KINDS, "zoom"])
def test_only_interrupted_frames_differ(kind: str) -> None:
    clip = make_world_clip(5, hw=HW, num_frames=FRAMES, kind=kind)
    assert clip.recipe.kind == kind
    same = (clip.clean.rgb == clip.degraded.rgb).flatten(1).all(1)
    degraded = clip.schedule.degraded_frames()
    assert all(same[f] for f in range(FRAMES) if f not in degraded)
    # at the very edge of a ramp, 8-bit pictures of 16 px may not move yet
    assert sum(not same[f] for f in degraded) >= 0.8 * len(degraded)
    assert clip.graph == FrameGraph(Schedule(FRAMES, (clip.recipe.interruption,)))
    assert "R" in clip.graph.draw()


def test_only_a_camera_loop_and_a_zoom_change_the_cameras() -> None:
    for kind in ("light_toggle", "occluder"):
        clip = make_world_clip(5, hw=HW, num_frames=FRAMES, kind=kind)
        assert torch.equal(clip.clean.cameras.c2w, clip.degraded.cameras.c2w)
        assert torch.equal(clip.clean.cameras.intrinsics_px, clip.degraded.cameras.intrinsics_px)
    loop = make_world_clip(5, hw=HW, num_frames=FRAMES, kind="camera_loop")
    moved = (loop.clean.cameras.c2w != loop.degraded.cameras.c2w).flatten(1).any(1)
    assert set(moved.nonzero().flatten().tolist()) <= loop.schedule.degraded_frames()
    assert loop.schedule.hidden_frames() <= set(moved.nonzero().flatten().tolist())
    zoom = make_world_clip(5, hw=HW, num_frames=FRAMES, kind="zoom")
    wider = zoom.degraded.cameras.intrinsics_px[:, 0] / zoom.clean.cameras.intrinsics_px[:, 0]
    assert wider.max() > 1.2
    assert wider[0] == 1


def test_cameras_start_at_the_origin() -> None:
    clip = make_world_clip(0, hw=HW, num_frames=FRAMES, kind="camera_loop")
    for version in (clip.clean, clip.degraded):
        torch.testing.assert_close(version.cameras.c2w[0], torch.eye(4, dtype=torch.float64))


def test_family_and_kind_can_be_asked_for_and_otherwise_vary() -> None:
    family = sorted(FAMILIES)[0]
    assert make_world_clip(3, hw=HW, num_frames=FRAMES, family=family).scene.family == family
    clips = [make_world_clip(seed, hw=HW, num_frames=FRAMES) for seed in range(7)]
    assert {clip.recipe.kind for clip in clips} == set(HIDING_KINDS)
    assert len({clip.scene.family for clip in clips}) > 3
    only = make_world_clip(3, hw=HW, num_frames=FRAMES, kinds=("zoom",))
    assert only.recipe.kind == "zoom"
