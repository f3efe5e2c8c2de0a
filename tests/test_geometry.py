"""Rigid motion, intrinsics and the pose descriptor, checked by projecting points."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from remind.clip import Cameras
from remind.errors import CameraError, InputError
from remind.geometry import (
    POSE_DESCRIPTOR_DIM,
    anchor,
    away_and_back,
    check_rotations,
    context_scale,
    crop_intrinsics,
    intrinsics_from_fov,
    invert_rigid,
    pose_descriptor,
    rescale_intrinsics,
    rigid,
    rotation_yaw,
    smoothstep,
    yaw_trajectory,
)


def random_poses(num: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(num, 3, 3, generator=generator, dtype=torch.float64))
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    return rigid(rotation, torch.randn(num, 3, generator=generator, dtype=torch.float64))


def project(point: Tensor, intrinsics_px: Tensor) -> Tensor:
    """Pixel coordinates of one camera-frame point in each of several views."""
    fx, fy, cx, cy = intrinsics_px.unbind(-1)
    return torch.stack([fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy], -1)


def test_inverse_undoes_a_pose_exactly() -> None:
    poses = random_poses(20)
    identity = torch.eye(4, dtype=torch.float64).expand(20, 4, 4)
    torch.testing.assert_close(invert_rigid(poses) @ poses, identity, atol=1e-12, rtol=0)
    torch.testing.assert_close(invert_rigid(poses), torch.linalg.inv(poses), atol=1e-12, rtol=0)


def test_anchor_makes_the_first_pose_the_identity_and_keeps_relative_motion() -> None:
    poses = random_poses(6)
    anchored = anchor(poses)
    torch.testing.assert_close(anchored[0], torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        invert_rigid(anchored[2]) @ anchored[5], invert_rigid(poses[2]) @ poses[5], atol=1e-12, rtol=0
    )


def test_positive_yaw_turns_to_the_right() -> None:
    forward = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    (right,) = rotation_yaw(torch.tensor([90.0])) @ forward
    torch.testing.assert_close(right, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    ahead = rotation_yaw(torch.tensor([10.0]))[0].T @ forward  # a point straight ahead, seen after the turn
    assert ahead[0] < 0  # has moved to the left


def test_check_rotations_refuses_scaled_and_mirrored_poses() -> None:
    check_rotations(random_poses(5))
    with pytest.raises(CameraError, match="not rotations"):
        check_rotations(random_poses(5) * 1.1)
    with pytest.raises(CameraError, match="det"):
        check_rotations(
            random_poses(5) @ torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
        )


def test_context_scale_is_the_farthest_context_camera_and_1_at_rest() -> None:
    poses = yaw_trajectory(torch.zeros(4))
    assert context_scale(poses) == 1.0
    poses[2, :3, 3] = torch.tensor([3.0, 0.0, 4.0])
    assert context_scale(poses) == pytest.approx(5.0)


def test_descriptor_layout_is_rotation_translation_log_focal() -> None:
    poses = random_poses(3)
    intrinsics = torch.tensor([[100.0, 50.0, 40.0, 30.0]], dtype=torch.float64).repeat(3, 1)
    valid = torch.tensor([True, True, False])
    descriptor, got_valid = pose_descriptor(Cameras(poses, intrinsics, (60, 80), valid), scale=2.0)
    assert descriptor.shape == (3, POSE_DESCRIPTOR_DIM)
    assert descriptor.dtype == torch.float32
    torch.testing.assert_close(descriptor[0, :9], poses[0, :3, :3].reshape(9).float())
    torch.testing.assert_close(descriptor[0, 9:12], poses[0, :3, 3].float() / 2)
    assert descriptor[0, 12].item() == pytest.approx(math.log(100 / 80))
    assert descriptor[0, 13].item() == pytest.approx(math.log(50 / 80))
    assert (descriptor[2] == 0).all()
    assert torch.equal(got_valid, valid)


def test_descriptor_does_not_depend_on_the_resolution() -> None:
    poses, intrinsics = random_poses(2), intrinsics_from_fov(60.0, (48, 64), 2)
    valid = torch.ones(2, dtype=torch.bool)
    small, _ = pose_descriptor(Cameras(poses, intrinsics, (48, 64), valid), scale=1.0)
    larger = rescale_intrinsics(intrinsics, from_hw=(48, 64), to_hw=(96, 128))
    large, _ = pose_descriptor(Cameras(poses, larger, (96, 128), valid), scale=1.0)
    torch.testing.assert_close(small, large)


def test_descriptor_refuses_a_bad_scale_and_bad_focal_lengths() -> None:
    poses, valid = random_poses(1), torch.ones(1, dtype=torch.bool)
    good = intrinsics_from_fov(60.0, (48, 64), 1)
    with pytest.raises(InputError, match="scale"):
        pose_descriptor(Cameras(poses, good, (48, 64), valid), scale=0.0)
    with pytest.raises(CameraError, match="focal"):
        pose_descriptor(Cameras(poses, -good, (48, 64), valid), scale=1.0)


def test_cameras_refuse_nan_poses_unless_marked_unknown() -> None:
    poses = random_poses(2)
    poses[1] = float("nan")
    intrinsics = intrinsics_from_fov(60.0, (8, 8), 2)
    Cameras(poses, intrinsics, (8, 8), torch.tensor([True, False]))
    with pytest.raises(CameraError, match="NaN"):
        Cameras(poses, intrinsics, (8, 8), torch.tensor([True, True]))


def test_field_of_view_meets_the_edges_of_the_frame() -> None:
    (intrinsics,) = intrinsics_from_fov(90.0, (48, 64), 1)
    edge = project(torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), intrinsics[None])
    torch.testing.assert_close(edge[0], torch.tensor([64.0, 24.0], dtype=torch.float64))


def test_rescaled_intrinsics_project_to_the_scaled_pixel() -> None:
    intrinsics = torch.tensor([[70.0, 60.0, 30.0, 25.0]], dtype=torch.float64)
    point = torch.tensor([0.3, -0.2, 2.0], dtype=torch.float64)
    before = project(point, intrinsics)
    after = project(point, rescale_intrinsics(intrinsics, from_hw=(48, 64), to_hw=(120, 96)))
    torch.testing.assert_close(after, before * torch.tensor([96 / 64, 120 / 48], dtype=torch.float64))


def test_cropped_intrinsics_project_to_the_shifted_pixel() -> None:
    intrinsics = torch.tensor([[70.0, 60.0, 30.0, 25.0]], dtype=torch.float64).repeat(2, 1)
    point = torch.tensor([0.3, -0.2, 2.0], dtype=torch.float64)
    left, top = torch.tensor([5.0, 0.0]), torch.tensor([2.5, 1.0])
    after = project(point, crop_intrinsics(intrinsics, left_px=left, top_px=top))
    torch.testing.assert_close(after, project(point, intrinsics) - torch.stack([left, top], -1).double())


def test_smoothstep_rests_at_both_ends() -> None:
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0])
    torch.testing.assert_close(smoothstep(x), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


@given(st.tuples(*[st.integers(1, 60)] * 4).map(sorted))
def test_the_clock_is_0_outside_1_while_hidden_and_between_on_the_ramps(times: list[int]) -> None:
    start, hidden_start, hidden_stop, stop = times
    away = away_and_back(61, start=start, hidden_start=hidden_start, hidden_stop=hidden_stop, stop=stop)
    assert (away[:start] == 0).all()
    assert (away[stop:] == 0).all()
    assert (away[hidden_start:hidden_stop] == 1).all()
    ramps = [t for t in range(start, stop) if not hidden_start <= t < hidden_stop]
    assert all(0 < away[t] < 1 for t in ramps)
