"""Flow statistics against what the embedded world knows, and against cameras that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remind.clip import Cameras
from remind.data.optical_flow import measure_flow
from remind.data.video_io import read_clip
from remind.geometry import intrinsics_from_fov, pan_trajectory, yaw_trajectory
from remind.world import FAMILIES, Scene, sample_scene
from remind.world.clutter import add_clutter
from remind.world.exact_motion import object_flow

HW, FRAMES = (96, 160), 81


def truth(scene: Scene) -> tuple[float, float]:
    """Mean area that moves by itself while anything does, and how long it does."""
    moves = object_flow(scene, 4).norm(dim=-1) > 0.02 * max(HW) / 4  # sides a second, for a quarter of a second
    area = moves.double().mean((1, 2))
    active = area > 0.005
    return float(area[active].mean()) if active.any() else 0.0, float(active.double().mean())


def test_what_moves_and_for_how_long_is_what_the_world_moves() -> None:
    """Durations are right; areas to a factor of two, see experiments/flow_areas."""
    areas, durations = [], []
    for family in sorted(FAMILIES):
        scene = sample_scene(3, family=family, num_frames=FRAMES, hw=HW)
        found, (area, duration) = measure_flow(scene.clip().rgb, 16.0), truth(scene)
        areas.append((found.object_area, area))
        durations.append(abs(found.object_duration - duration))
    found_area, true_area = np.array(areas).T
    assert np.mean(durations) < 0.03
    ratio = found_area[true_area > 0] / true_area[true_area > 0]
    assert 0.75 < np.median(ratio) < 1.33
    assert np.mean(np.abs(np.log2(ratio)) < 1.6) > 0.75
    assert np.abs(found_area - true_area).mean() < 0.11
    assert found_area[true_area == 0].sum() == 0  # a scene at rest has no motion


def still(scene: Scene) -> Scene:
    return replace(scene, states=scene.states[:1].repeat(len(scene.states)))


@pytest.mark.parametrize("turn_deg", [-30.0, 30.0])
def test_a_turning_camera_is_the_cameras_motion_and_nobody_elses(turn_deg: float) -> None:
    scene = add_clutter(still(sample_scene(1, family="clock", num_frames=FRAMES, hw=HW)), count=80)
    yaw = torch.linspace(0, turn_deg, FRAMES, dtype=torch.float64)
    cameras = Cameras(yaw_trajectory(yaw), intrinsics_from_fov(55.0, HW, FRAMES), HW, torch.ones(FRAMES).bool())
    found = measure_flow(scene.render_rgb(cameras=cameras), 16.0)
    # A turn by 30 degrees of a field of 55 moves the middle by half the picture's width in five seconds.
    assert 0.07 < found.camera_motion < 0.16
    assert found.object_area < 0.15
    at_rest = measure_flow(scene.render_rgb(cameras=replace(cameras, c2w=pan_trajectory(FRAMES, yaw_deg=0.0))), 16.0)
    assert at_rest.camera_motion == 0
    assert at_rest.object_area == 0


def test_the_same_window_gives_the_same_numbers() -> None:
    rgb = sample_scene(2, family="walker", num_frames=FRAMES, hw=HW).clip().rgb
    assert measure_flow(rgb, 16.0) == measure_flow(rgb.clone(), 16.0)


def test_real_shots(real_videos: Path) -> None:
    press = measure_flow(read_clip(real_videos / "crush_027.mp4", num_frames=81, fps=16, hw=(240, 416)).rgb, 16.0)
    assert press.camera_motion < 0.01  # a tripod
    assert press.object_duration > 0.9  # slowly from the first frame on: flow in blocks of 16 px saw it after a second
    drone = measure_flow(
        read_clip(real_videos / "spatialvid" / "clip.mp4", num_frames=81, fps=16, hw=(240, 416)).rgb, 16.0
    )
    assert drone.camera_motion > 0.03
