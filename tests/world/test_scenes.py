"""What every family of scenes promises: seeds, ranges, captions, and that the object can be seen and lost."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import pytest
import torch

from remind.errors import InputError
from remind.world import FAMILIES, HELD_OUT_FAMILIES, Scene, sample_scene
from remind.world.renderer import ACTOR_INSTANCE
from remind.world.scenes import turn

GROUPS = {"translational", "monotonic_state", "deformation", "lighting_weather", "interaction", "periodic", "discrete"}
EVERY_FAMILY = pytest.mark.parametrize("family", [*FAMILIES, *HELD_OUT_FAMILIES])
SMALL = (32, 32)


def _digest(scene: Scene) -> str:
    h = hashlib.sha256(scene.caption.encode() + scene.states.numpy().tobytes())
    h.update(scene.render_rgb()[::20].numpy().tobytes())
    return h.hexdigest()


def _eventful(family: str, seed: int = 0) -> Scene:
    """A scene in which something happens (a discrete one may stay shut)."""
    scenes = (sample_scene(s, family=family, hw=SMALL) for s in range(seed, seed + 100))
    return next(s for s in scenes if not s.discrete or s.trigger_frame is not None)


def test_all_groups_of_table_7_are_there() -> None:
    assert {f.group for f in FAMILIES.values()} == GROUPS
    assert len(FAMILIES) >= 12
    assert all(f.periodic == (f.group == "periodic") and f.discrete == (f.group == "discrete")
               for f in FAMILIES.values())


def test_a_seed_is_the_same_scene_in_another_process() -> None:
    here = [_digest(sample_scene(s, hw=SMALL)) for s in (1, 2, 3)]
    program = ("from tests.world.test_scenes import _digest, sample_scene, SMALL\n"
               "print(*[_digest(sample_scene(s, hw=SMALL)) for s in (1, 2, 3)])")
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert there.stdout.split() == here


def test_sampling_leaves_global_generators_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sample_scene(5).render_rgb(samples=1)
    assert torch.equal(before, torch.get_rng_state())


@EVERY_FAMILY
def test_seeds_differ(family: str) -> None:
    scenes = [sample_scene(s, family=family, hw=SMALL) for s in range(5)]
    assert len({s.render_rgb(s.states[:1], s.cameras[:1]).numpy().tobytes() for s in scenes}) == 5
    assert len({s.caption for s in scenes}) >= 2


@EVERY_FAMILY
def test_size_and_length_do_not_change_the_scene(family: str) -> None:
    small, large = sample_scene(4, family=family, hw=SMALL), sample_scene(4, family=family, hw=(48, 64), num_frames=321)
    assert small.actor == large.actor
    assert small.caption == large.caption
    assert small.lookaway_yaw_deg == pytest.approx(large.lookaway_yaw_deg, abs=10)
    if not small.periodic:
        assert small.states[-1] == pytest.approx(large.states[-1].item())


@EVERY_FAMILY
@pytest.mark.parametrize("num_frames", [81, 321])
def test_states_change_at_a_constant_rate_and_never_saturate(family: str, num_frames: int) -> None:
    for seed in range(8):
        scene = sample_scene(seed, family=family, num_frames=num_frames, hw=SMALL)
        s, steps = scene.states, scene.states.double().diff()
        assert s.dtype == torch.float32
        assert s.min() >= 0
        if scene.discrete:
            assert s.max() <= 1
            if scene.trigger_frame is None:
                assert (s == 0).all()
            else:
                assert (s[: scene.trigger_frame] == 0).all()
                assert s[scene.trigger_frame] > 0
                assert s[-1] == 1
            continue
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=2e-6, rtol=0)
        if scene.periodic:
            assert 12 <= 1 / steps.abs().mean() <= 60
        else:
            assert s.min() > 0.02
            assert s.max() < 0.98
            assert 0.45 <= abs(s[-1] - s[0]) <= 0.85


@EVERY_FAMILY
def test_captions_say_what_and_how_but_not_how_far(family: str) -> None:
    for seed in range(10):
        caption = sample_scene(seed, family=family, hw=SMALL).caption
        assert 7 <= len(caption.split()) <= 16, caption
        assert caption == caption.lower()
        assert not re.search(r"[\d%{}]", caption), caption
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption), caption


@EVERY_FAMILY
def test_a_picture_depends_on_the_state_and_the_object_is_in_view(family: str) -> None:
    scene = _eventful(family)
    probes = scene.probe_states(6)
    rendering = scene.render(probes, scene.cameras[:1][torch.zeros(6, dtype=torch.long)])
    assert ((rendering.instances == ACTOR_INSTANCE).flatten(1).any(1)).all()
    pictures = rendering.rgb.float() / 255
    for i in range(6):
        for j in range(i):
            assert (pictures[i] - pictures[j]).norm() > 0.5, (i, j)
    assert scene.object_visible().all()


@EVERY_FAMILY
def test_looking_away_hides_the_whole_path_but_not_the_room(family: str) -> None:
    for seed in (0, 1):
        scene = sample_scene(seed, family=family, hw=SMALL)
        assert 30 <= abs(scene.lookaway_yaw_deg) < 120
        frames = torch.tensor([0, 40, 80])
        away = turn(scene.cameras[frames], torch.full((3,), scene.lookaway_yaw_deg))
        for state in (0.0, 0.3, 0.6, 1.0):
            rendering = scene.render(torch.full((3,), state), away)
            assert (rendering.instances != ACTOR_INSTANCE).all()
        assert not scene.object_visible(scene.states[frames], away).any()
        assert rendering.rgb.float().std() > 2, "an empty picture would be a light toggle"


def test_a_scene_becomes_a_clip() -> None:
    scene = sample_scene(3, hw=(24, 32), num_frames=9)
    clip = scene.clip()
    assert clip.rgb.shape == (9, 24, 32, 3)
    assert clip.depth is not None
    assert clip.depth.min() > 0
    assert clip.caption == scene.caption
    assert torch.equal(scene.cameras.c2w[0], torch.eye(4, dtype=torch.float64))


def test_triggers_happen_in_some_clips_and_not_in_others() -> None:
    triggers = [sample_scene(s, family="door").trigger_frame for s in range(40)]
    happened = [t for t in triggers if t is not None]
    assert 20 <= len(happened) <= 38
    assert set(happened) <= set(range(8, 19))


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"seed": -1}, "negative"), ({"seed": 0, "family": "volcano"}, "unknown scene family"),
    ({"seed": 0, "num_frames": 1}, "time to change")])
def test_bad_requests(kwargs: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_scene(**kwargs)


def test_states_need_cameras() -> None:
    with pytest.raises(InputError, match="differ in length"):
        sample_scene(0).render(torch.zeros(3))
