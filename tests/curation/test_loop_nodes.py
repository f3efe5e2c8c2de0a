"""Camera loops are found from poses: loops of all kinds, and the reasons why other paths are none."""

from __future__ import annotations

import math

import pytest
import torch

from remind.clip import Cameras
from remind.curation.loop_nodes import LoopRule, NoLoop, find_camera_loop, pose_distance, view_overlap
from remind.errors import InputError
from remind.frame_graph import Interruption
from remind.geometry import away_and_back, intrinsics_from_fov, rigid, rotation_yaw
from remind.world import interrupt_camera_loop, sample_scene

HW, N, FOV_DEG = (48, 64), 81, 60.0
AWAY = away_and_back(N, start=12, hidden_start=28, hidden_stop=45, stop=60)


def cameras(yaw_deg: torch.Tensor, position: torch.Tensor | None = None) -> Cameras:
    position = torch.zeros(len(yaw_deg), 3) if position is None else position
    valid = torch.ones(len(yaw_deg), dtype=torch.bool)
    return Cameras(rigid(rotation_yaw(yaw_deg), position.double()), intrinsics_from_fov(FOV_DEG, HW, len(yaw_deg)), HW,
                   valid)  # fmt: skip


def loop(found: Interruption | NoLoop) -> Interruption:
    assert isinstance(found, Interruption), found
    return found


def reason(found: Interruption | NoLoop) -> str:
    assert isinstance(found, NoLoop), found
    return found.reason


@pytest.mark.parametrize("side", [1, -1])
def test_a_look_away_and_back(side: int) -> None:
    found = loop(find_camera_loop(cameras(side * 75 * AWAY), scene_depth=1.0))
    assert found.kind == "camera_loop"
    # Near the ends the camera moves less than the threshold of a return, so both are a little inside.
    assert 12 <= found.start <= 15
    assert 57 <= found.stop <= 60
    assert 20 <= found.hidden_start <= 28
    assert 45 <= found.hidden_stop <= 53


def test_the_times_are_those_of_the_world() -> None:
    """The world knows when its object is out of view; the rule, from poses alone, must agree where it says hidden."""
    scene = sample_scene(5, family="clock", hw=HW)
    true = Interruption("camera_loop", 14, 30, 44, 60)
    seen = interrupt_camera_loop(scene, true)
    found = loop(find_camera_loop(seen, scene_depth=3.3))
    assert abs(found.start - true.start) <= 3
    assert abs(found.stop - true.stop) <= 3
    assert found.hidden_start <= true.hidden_start <= true.hidden_stop <= found.hidden_stop


def test_a_walk_away_and_back_without_turning() -> None:
    side = 3.0 * AWAY
    path = cameras(0 * AWAY, torch.stack([side, 0 * side, 0 * side], -1))
    found = loop(find_camera_loop(path, scene_depth=2.0))
    assert found.hidden_start < found.hidden_stop
    # The same path before a mountain far away hides nothing.
    assert "never leaves" in reason(find_camera_loop(path, scene_depth=2000.0))


def test_a_full_turn_comes_back_from_the_other_side() -> None:
    yaw = 360 * (torch.arange(N) - 12).clamp(0, 48) / 48
    found = loop(find_camera_loop(cameras(yaw.double()), scene_depth=1.0))
    assert 13 <= found.start <= 14
    assert 59 <= found.stop <= 60


def test_an_orbit_closes() -> None:
    angle = 2 * math.pi * (torch.arange(N) - 12).clamp(0, 48) / 48
    position = torch.stack([-torch.sin(angle), 0 * angle, 1 - torch.cos(angle)], -1)
    found = loop(find_camera_loop(cameras(torch.rad2deg(angle).double(), position), scene_depth=1.0))
    assert found.start < found.hidden_start < found.hidden_stop <= found.stop


def test_a_pan_that_never_returns() -> None:
    assert "does not come back" in reason(find_camera_loop(cameras(torch.linspace(0, 120, N)), scene_depth=1.0))


def test_a_return_that_misses_is_none() -> None:
    yaw = 80 * AWAY + torch.where(torch.arange(N) >= 40, 8.0, 0.0)
    why = reason(find_camera_loop(cameras(yaw.double()), scene_depth=1.0))
    assert "nearest 0.140" in why  # eight degrees


def test_a_camera_at_rest_and_a_small_sway() -> None:
    assert "never leaves" in reason(find_camera_loop(cameras(torch.zeros(N)), scene_depth=1.0))
    assert "stays in sight" in reason(find_camera_loop(cameras(20 * AWAY), scene_depth=1.0))


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_a_real_estimate_moves_the_times_by_little(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean = loop(find_camera_loop(cameras(75 * AWAY), scene_depth=1.0))
    yaw = 75 * AWAY + 0.3 * torch.randn(N, generator=generator)
    path = cameras(yaw, 0.005 * torch.randn(N, 3, generator=generator))
    noisy = loop(find_camera_loop(path, scene_depth=1.0))
    for name in ("start", "hidden_start", "hidden_stop", "stop"):
        assert abs(getattr(noisy, name) - getattr(clean, name)) <= 3


def test_two_looks_away_take_the_return_that_is_nearest() -> None:
    """The first return misses by two degrees, the second is exact: the recovery node is the second."""
    first = away_and_back(N, start=12, hidden_start=18, hidden_stop=22, stop=28)
    second = away_and_back(N, start=34, hidden_start=42, hidden_stop=52, stop=60)
    drift = torch.where((torch.arange(N) > 20) & (torch.arange(N) < 45), 2.0, 0.0)
    found = loop(find_camera_loop(cameras(70 * first + 70 * second + drift), scene_depth=1.0))
    assert 12 <= found.start <= 15
    assert 57 <= found.stop <= 60
    assert 34 < found.hidden_start < found.hidden_stop < 60  # the longer of the two


def test_a_loop_must_leave_room_for_an_anchor_and_a_recovery() -> None:
    at_once = away_and_back(N, start=1, hidden_start=20, hidden_stop=45, stop=60)
    assert "no clean anchor" in reason(find_camera_loop(cameras(75 * at_once), scene_depth=1.0))
    to_the_end = away_and_back(N, start=12, hidden_start=30, hidden_stop=60, stop=80)
    assert "no recovery chunk" in reason(find_camera_loop(cameras(75 * to_the_end), scene_depth=1.0))


def test_unknown_poses_are_a_reason() -> None:
    path = cameras(75 * AWAY)
    valid = path.valid.clone()
    valid[40] = False
    unknown = Cameras(path.c2w, path.intrinsics_px, path.hw, valid)
    assert "1 of 81 frames have no pose" in reason(find_camera_loop(unknown, scene_depth=1.0))


def test_distance_and_overlap_are_what_they_say() -> None:
    aside = torch.tensor([0.0, 0.0, 0.0, 0.5])
    path = cameras(torch.tensor([0.0, 30.0, -30.0, 0.0]), torch.stack([aside, 0 * aside, 0 * aside], -1))
    angle = math.radians(30)
    expected = torch.tensor([0, angle, angle, 0.25], dtype=torch.float64)
    assert torch.allclose(pose_distance(path.c2w, scene_depth=2.0), expected, atol=1e-9)
    overlap = view_overlap(cameras(torch.tensor([0.0, 30.0, 59.0, 61.0, 180.0])), scene_depth=2.0)
    assert overlap[0] == 1
    assert 0.3 < overlap[1] < 0.55
    assert 0 <= overlap[2] < 0.1
    assert overlap[3] == overlap[4] == 0
    with pytest.raises(InputError, match="depth"):
        pose_distance(path.c2w, scene_depth=0.0)
    with pytest.raises(InputError, match="out of order"):
        LoopRule(leave_distance=0.1, return_distance=0.2)
