"""Camera loops leave, stay away and come back bit for bit."""

from __future__ import annotations

import pytest
import torch

from remind.errors import InputError
from remind.frame_graph import Interruption
from remind.geometry import check_rotations
from remind.world import FAMILIES, HELD_OUT_FAMILIES, StateMeter, interrupt_camera_loop, sample_scene

LOOP = Interruption("camera_loop", start=24, hidden_start=32, hidden_stop=52, stop=60)


@pytest.mark.parametrize("family", [*FAMILIES, *HELD_OUT_FAMILIES])
def test_the_object_is_hidden_exactly_when_promised(family: str) -> None:
    scene = sample_scene(21, family=family, hw=(32, 32))
    cameras = interrupt_camera_loop(scene, LOOP)
    clean = torch.tensor([t < LOOP.start or t >= LOOP.stop for t in range(81)])
    assert torch.equal(cameras.c2w[clean], scene.cameras.c2w[clean])
    check_rotations(cameras.c2w)
    hidden = torch.arange(LOOP.hidden_start, LOOP.hidden_stop)
    assert not scene.object_visible(scene.states[hidden], cameras[hidden]).any()
    looped, straight = scene.render_rgb(None, cameras), scene.render_rgb()
    assert torch.equal(looped[clean], straight[clean])
    assert not torch.equal(looped[LOOP.start], straight[LOOP.start])


def test_the_camera_turns_smoothly() -> None:
    scene = sample_scene(2, family="walker")
    yaw = torch.atan2(*interrupt_camera_loop(scene, LOOP).c2w[:, (0, 2), 2].unbind(-1)).rad2deg()
    assert yaw.diff().abs().max() < abs(scene.lookaway_yaw_deg) / 4


def test_the_meter_says_not_observable() -> None:
    scene = sample_scene(2, family="filling", hw=(32, 32))
    some = torch.tensor([0, 23, 32, 40, 51, 60, 80])
    cameras = interrupt_camera_loop(scene, LOOP)[some]
    reading = StateMeter(scene, cameras, grid=17).measure(scene.render_rgb(scene.states[some], cameras))
    assert reading.observable.tolist() == [True, True, False, False, False, True, True]


def test_only_camera_loops_within_the_clip() -> None:
    scene = sample_scene(2, num_frames=33)
    with pytest.raises(InputError, match="only a camera loop"):
        interrupt_camera_loop(scene, Interruption("occluder", 9, 12, 15, 18))
    with pytest.raises(InputError, match="ends after the clip"):
        interrupt_camera_loop(scene, LOOP)
