"""Clutter adds things that stand still, the same for the same seed, and true depth with them."""

from __future__ import annotations

import pytest
import torch

from remind.errors import InputError
from remind.world import sample_scene
from remind.world.clutter import add_clutter


def test_clutter_stands_still_and_the_actor_does_not() -> None:
    scene = sample_scene(4, family="clock", num_frames=9, hw=(48, 64))
    full = add_clutter(scene)
    clip, plain = full.clip(samples=1), scene.clip(samples=1)
    assert torch.equal(full.states, scene.states)
    changed = (clip.rgb != plain.rgb).any(-1)
    assert changed.float().mean() > 0.1
    moves = (clip.rgb[1:] != clip.rgb[:-1]).any(-1).any(0)
    assert 0 < moves.float().mean() < 0.3
    assert clip.depth is not None
    assert plain.depth is not None
    assert (clip.depth <= plain.depth + 1e-4).all()  # nothing was taken away


def test_the_same_seed_gives_the_same_clutter() -> None:
    scenes = [sample_scene(seed, family="clock", num_frames=2, hw=(48, 64)) for seed in (4, 4, 5)]
    a, b, c = (add_clutter(scene).render_rgb(samples=1) for scene in scenes)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(add_clutter(scenes[0], count=0).render_rgb(samples=1), scenes[0].render_rgb(samples=1))


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(InputError, match="negative"):
        add_clutter(sample_scene(4, num_frames=2, hw=(48, 64)), count=-1)
