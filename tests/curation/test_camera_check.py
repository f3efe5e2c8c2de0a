"""Cameras checked against pictures whose true cameras are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from remind.clip import Cameras
from remind.curation.camera_check import READINGS, check_cameras, half_line_distance
from remind.errors import InputError
from remind.geometry import (
    PoseReading,
    anchor,
    dolly_trajectory,
    intrinsics_from_fov,
    invert_rigid,
    orbit_trajectory,
    pan_trajectory,
    rotation_roll,
    to_opencv_c2w,
)
from remind.world import sample_scene
from tests.curation.textured_stage import render_stage

pytest.importorskip("cv2")

FRAMES = 9
PATHS = {
    "pan": pan_trajectory(FRAMES, yaw_deg=14.0),
    "tilt": pan_trajectory(FRAMES, pitch_deg=-8.0),
    "pan and tilt": pan_trajectory(FRAMES, yaw_deg=12.0, pitch_deg=-5.0),
    "forward": dolly_trajectory(FRAMES, forward=0.8),
    "sideways": dolly_trajectory(FRAMES, right=0.4),
    "orbit of 4 degrees": orbit_trajectory(FRAMES, angle_deg=4.0, distance=3.3),
    "walk": dolly_trajectory(FRAMES, right=0.3, forward=0.3) @ pan_trajectory(FRAMES, yaw_deg=-8.0, pitch_deg=-3.0),
}
# Turning and moving along single axes looks the same in two readings: they come to the same motion.
OF_ONE_AXIS = ("pan", "tilt", "forward", "sideways")


@cache
def stage(name: str) -> tuple[Tensor, Cameras]:
    return render_stage(PATHS[name])


def written_as(reading: PoseReading, cameras: Cameras) -> Cameras:
    """The true cameras, as a file of that convention would hold them."""
    poses = cameras.c2w.clone()
    if reading.endswith("opengl"):
        poses[:, :3, 1:3] *= -1
    return replace(cameras, c2w=invert_rigid(poses) if reading.startswith("w2c") else poses)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("path", PATHS)
def test_true_poses_are_recognised_in_whatever_convention_they_are_written(path: str, reading: PoseReading) -> None:
    rgb, cameras = stage(path)
    verdict = check_cameras(rgb, written_as(reading, cameras))
    assert verdict.outcome == "decided", verdict
    assert reading in verdict.fits, verdict
    assert path in OF_ONE_AXIS or verdict.fits == (reading,)
    for fit in verdict.fits:
        motion = anchor(to_opencv_c2w(written_as(reading, cameras).c2w, fit))
        torch.testing.assert_close(motion, cameras.c2w, atol=1e-9, rtol=0)
    wrong = [value for name, value in verdict.residual_px.items() if name not in verdict.fits]
    assert verdict.residual_px[reading] < 0.5 < 0.9 < min(wrong)


def test_the_verdict_leads_back_to_the_true_cameras() -> None:
    rgb, cameras = stage("walk")
    verdict = check_cameras(rgb, written_as("w2c_opengl", cameras))
    assert verdict.reading == "w2c_opengl"
    assert verdict.turn_deg == pytest.approx(8.5, abs=1.5)
    assert verdict.num_pairs >= 3
    assert verdict.motion_px > 5


def test_half_lines_know_front_from_behind_where_epipolar_lines_do_not() -> None:
    lens = intrinsics_from_fov(60.0, (48, 64), 1)[0]
    here = np.array([[40.0, 20.0], [10.0, 30.0]])
    there = here - [3.0, 0.0]  # things move left: the camera went right
    right = invert_rigid(dolly_trajectory(2, right=1.0))[1]

    def distance(motion: Tensor) -> np.ndarray:
        return half_line_distance(here, there, first_intrinsics_px=lens, second_intrinsics_px=lens,
                                  second_from_first=motion)  # fmt: skip

    assert distance(right) == pytest.approx([0, 0], abs=1e-9)
    assert distance(invert_rigid(right)) == pytest.approx([3, 3])
    assert distance(torch.eye(4, dtype=torch.float64)) == pytest.approx([3, 3])
    assert np.isinf(distance(pan_trajectory(2, yaw_deg=180.0)[1])).all()


def test_cameras_of_another_scene_and_a_wrong_lens_are_contradicted() -> None:
    rgb, cameras = stage("walk")
    other = replace(cameras, c2w=stage("forward")[1].c2w @ pan_trajectory(FRAMES, pitch_deg=20.0))
    assert check_cameras(rgb, other).outcome == "contradicted"
    rgb, cameras = stage("pan and tilt")
    lens = cameras.intrinsics_px * torch.tensor([2.0, 2.0, 1.0, 1.0])
    verdict = check_cameras(rgb, replace(cameras, intrinsics_px=lens))
    assert verdict.outcome == "contradicted"
    assert verdict.fits == ()


def test_poses_of_ordinary_accuracy_still_fit() -> None:
    rgb, cameras = stage("walk")
    generator = torch.Generator().manual_seed(0)
    shaken = cameras.c2w.clone()
    shaken[:, :3, 3] += 0.005 * torch.randn(FRAMES, 3, generator=generator, dtype=torch.float64)
    shaken[:, :3, :3] @= rotation_roll(0.2 * torch.randn(FRAMES, generator=generator, dtype=torch.float64))
    verdict = check_cameras(rgb, replace(cameras, c2w=shaken))
    assert verdict.reading == "c2w", verdict


def test_a_camera_at_rest_and_smooth_walls_decide_nothing() -> None:
    rgb, cameras = stage("walk")
    resting = check_cameras(rgb[:1].repeat(FRAMES, 1, 1, 1), cameras)
    assert (resting.outcome, resting.fits) == ("undecided", ())
    assert "too little motion" in resting.reason
    smooth = check_cameras(torch.full_like(rgb, 127), cameras)
    assert smooth.outcome == "undecided"
    assert "too few points" in smooth.reason


def test_the_plain_world_is_never_contradicted() -> None:
    scene = sample_scene(0, family="windmill", num_frames=FRAMES, hw=(240, 416))
    cameras = replace(scene.cameras, c2w=PATHS["walk"])
    assert check_cameras(scene.render_rgb(None, cameras, samples=1), cameras).outcome in ("undecided", "decided")


def test_unknown_poses_are_not_compared() -> None:
    rgb, cameras = stage("walk")
    nowhere = replace(cameras, valid=torch.zeros(FRAMES, dtype=torch.bool))
    assert check_cameras(rgb, nowhere).num_pairs == 0


def test_large_pictures_are_compared_at_a_working_size() -> None:
    rgb, cameras = stage("walk")
    large = rgb.repeat_interleave(2, 1).repeat_interleave(2, 2)
    hw = (large.shape[1], large.shape[2])
    verdict = check_cameras(large, replace(cameras, hw=hw, intrinsics_px=cameras.intrinsics_px * 2))
    assert verdict.reading == "c2w", verdict


def test_frames_and_cameras_must_belong_together() -> None:
    rgb, cameras = stage("walk")
    with pytest.raises(InputError, match="belong together"):
        check_cameras(rgb[:-1], cameras)
    with pytest.raises(InputError, match="belong together"):
        check_cameras(rgb[:, ::2], cameras)
