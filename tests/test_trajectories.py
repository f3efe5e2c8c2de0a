"""Camera trajectories, checked by where the world goes in the picture when the camera moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from remind.errors import InputError
from remind.geometry import (
    check_rotations,
    cover_intrinsics,
    dolly_trajectory,
    invert_rigid,
    lookaway_trajectory,
    orbit_trajectory,
    pan_trajectory,
    rotation_roll,
    there_and_back,
    to_opencv_c2w,
)

AHEAD = (0.0, 0.0, 4.0)


def seen_at(c2w: Tensor, point: tuple[float, float, float]) -> Tensor:
    """Normalised picture coordinates (x right, y down) of a world point in each frame."""
    world = torch.tensor([*point, 1.0], dtype=torch.float64)
    camera = (invert_rigid(c2w) @ world)[:, :3]
    return camera[:, :2] / camera[:, 2:]


def test_a_camera_that_pans_right_sees_things_move_left_and_one_that_tilts_up_sees_them_sink() -> None:
    pan, tilt = seen_at(pan_trajectory(9, yaw_deg=20.0), AHEAD), seen_at(pan_trajectory(9, pitch_deg=20.0), AHEAD)
    assert (pan[:, 0].diff() < 0).all()
    assert pan[-1, 0].item() == pytest.approx(-torch.tan(torch.deg2rad(torch.tensor(20.0))).item(), rel=1e-6)
    assert (tilt[:, 1].diff() > 0).all()


def test_a_camera_that_rolls_clockwise_sees_the_world_turn_counterclockwise() -> None:
    c2w = torch.eye(4, dtype=torch.float64).repeat(1, 1, 1)
    c2w[:, :3, :3] = rotation_roll(torch.tensor([10.0]))
    (seen,) = seen_at(c2w, (1.0, 0.0, 4.0))  # a point on the right goes up
    assert seen[1] < 0


def test_dollying_forward_spreads_the_picture_and_moving_right_shifts_it_left() -> None:
    assert (seen_at(dolly_trajectory(9, forward=1.0), (1.0, 0.0, 4.0))[:, 0].diff() > 0).all()
    assert (seen_at(dolly_trajectory(9, right=1.0), AHEAD)[:, 0].diff() < 0).all()
    assert (seen_at(dolly_trajectory(9, down=1.0), AHEAD)[:, 1].diff() < 0).all()


def test_an_orbit_keeps_its_point_in_the_middle_and_goes_to_the_right() -> None:
    orbit = orbit_trajectory(9, angle_deg=30.0, distance=4.0)
    check_rotations(orbit)
    torch.testing.assert_close(seen_at(orbit, AHEAD), torch.zeros(9, 2, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (orbit[:, 0, 3].diff() > 0).all()
    assert (seen_at(orbit, (0.0, 0.0, 6.0))[1:, 0] > 0).all()  # what is behind the point moves with the camera
    with pytest.raises(InputError, match="in front"):
        orbit_trajectory(9, angle_deg=30.0, distance=0.0)


@pytest.mark.parametrize("path", [pan_trajectory(41, yaw_deg=50.0), orbit_trajectory(41, angle_deg=20.0, distance=2.0)])
def test_a_loop_is_the_identity_at_both_ends_and_turns_in_the_middle(path: Tensor) -> None:
    loop = there_and_back(path)
    assert len(loop) == 81
    torch.testing.assert_close(loop[[0, 80]], torch.eye(4, dtype=torch.float64).repeat(2, 1, 1))
    torch.testing.assert_close(loop[40], path[-1])
    torch.testing.assert_close(loop, loop.flip(0))


def test_a_lookaway_holds_while_hidden_and_is_back_exactly() -> None:
    c2w = lookaway_trajectory(33, start=4, hidden_start=12, hidden_stop=20, stop=28, yaw_deg=60.0, pitch_deg=-10.0)
    identity = torch.eye(4, dtype=torch.float64)
    assert torch.equal(c2w[:4], identity.expand(4, 4, 4))
    assert torch.equal(c2w[28:], identity.expand(5, 4, 4))
    assert torch.equal(c2w[12:20], c2w[12:13].expand(8, 4, 4))
    assert seen_at(c2w[12:13], AHEAD)[0, 0] < -1  # out of a 90 degree view to the left


def test_trajectories_need_a_start_and_an_end() -> None:
    with pytest.raises(InputError, match="start and an end"):
        pan_trajectory(1, yaw_deg=3.0)


def test_every_reading_of_a_pose_leads_to_the_same_camera() -> None:
    c2w = orbit_trajectory(5, angle_deg=40.0, distance=2.0)
    gl = c2w @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    written = {"c2w": c2w, "w2c": invert_rigid(c2w), "c2w_opengl": gl, "w2c_opengl": invert_rigid(gl)}
    for reading, poses in written.items():
        torch.testing.assert_close(to_opencv_c2w(poses, reading), c2w)


def test_covering_crops_the_middle_and_keeps_square_pixels_square() -> None:
    intrinsics = torch.tensor([[500.0, 500.0, 640.0, 360.0]], dtype=torch.float64)
    (square,) = cover_intrinsics(intrinsics, from_hw=(720, 1280), to_hw=(64, 64))
    assert square[:2].tolist() == pytest.approx([500 * 114 / 1280, 500 * 64 / 720])
    assert square[2:].tolist() == pytest.approx([640 * 114 / 1280 - 24, 32])  # 25 is odd: colours lie 2 x 2 apart
