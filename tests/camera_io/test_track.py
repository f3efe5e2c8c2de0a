"""Tracks of cameras: interpolation by the known answer, gaps, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from remind.camera_io import CameraTrack
from remind.errors import CameraError
from remind.geometry import dolly_trajectory, invert_rigid, orbit_trajectory, rigid, rotation_yaw

HW = (48, 64)
LENS = torch.tensor([50.0, 50.0, 32.0, 24.0], dtype=torch.float64)


def make_track(c2w: Tensor, times: list[int] | list[float] | list[int | float], lens: Tensor = LENS) -> CameraTrack:
    return CameraTrack(c2w, lens.expand(len(c2w), 4).clone(), HW, torch.tensor(times, dtype=torch.float64))


def turning(yaw_deg: list[int]) -> Tensor:
    rotation = rotation_yaw(torch.tensor(yaw_deg, dtype=torch.float64))
    return rigid(rotation, torch.zeros(len(yaw_deg), 3, dtype=torch.float64))


def seconds(*times: float) -> Tensor:
    return torch.tensor(times, dtype=torch.float64)


def test_between_poses_the_camera_turns_evenly_and_moves_straight() -> None:
    c2w = turning([0, 60])
    c2w[1, :3, 3] = seconds(2, 0, 4)
    (middle,) = make_track(c2w, [1, 2]).at(seconds(1.25), max_gap_s=1.0).c2w
    torch.testing.assert_close(middle[:3, :3], rotation_yaw(torch.tensor([15.0]))[0])
    assert middle[:3, 3].tolist() == pytest.approx([0.5, 0, 1])


def test_intrinsics_of_a_zoom_are_interpolated_too() -> None:
    track = make_track(turning([0, 0]), [0, 1], torch.stack([LENS, LENS * 2]))
    torch.testing.assert_close(track.at(seconds(0.5), max_gap_s=1.0).intrinsics_px[0], LENS * 1.5)


def test_outside_of_the_track_and_in_wide_gaps_nothing_is_claimed() -> None:
    track = make_track(turning([0, 1, 2, 30]), [0, 0.1, 0.2, 1.0])
    cameras = track.at(seconds(-0.1, 0, 0.05, 0.2, 0.5, 1.0, 1.01), max_gap_s=0.1)
    assert cameras.valid.tolist() == [False, True, True, True, False, True, False]
    assert torch.isfinite(cameras.c2w).all()
    assert cameras.hw == HW
    assert track.at(seconds(0.5), max_gap_s=0.8).valid.all()


def test_a_track_of_one_pose_knows_that_moment_only() -> None:
    cameras = make_track(turning([10]), [0.5]).at(seconds(0.4, 0.5), max_gap_s=9.0)
    assert cameras.valid.tolist() == [False, True]


@given(st.lists(st.floats(0, 2), min_size=1, max_size=20))
def test_cameras_at_any_time_are_rigid(times: list[float]) -> None:
    track = make_track(orbit_trajectory(9, angle_deg=170.0, distance=3.0), [i / 4 for i in range(9)])
    cameras = track.at(seconds(*times), max_gap_s=1.0)
    rotation = cameras.c2w[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand_as(rotation))
    assert cameras.valid.all()


def test_poses_come_back_at_their_own_times() -> None:
    c2w = orbit_trajectory(5, angle_deg=90.0, distance=3.0)
    cameras = make_track(c2w, [0, 1, 2, 3, 4]).at(seconds(0, 1, 2, 3, 4), max_gap_s=0.0)
    torch.testing.assert_close(cameras.c2w, c2w, atol=1e-12, rtol=0)
    assert cameras.valid.all()


def test_reading_the_track_as_w2c_inverts_it() -> None:
    c2w = dolly_trajectory(3, forward=2.0)
    torch.testing.assert_close(make_track(c2w, [0, 1, 2]).read_as("w2c").c2w, invert_rigid(c2w))


def test_intrinsics_follow_the_pictures_size() -> None:
    track = make_track(turning([0]), [0])
    assert track.resized((96, 64)).intrinsics_px[0].tolist() == [50, 100, 32, 48]
    assert track.covering((48, 32)).intrinsics_px[0].tolist() == [50, 50, 16, 24]


def bad_scale(c2w: Tensor) -> None:
    c2w[2, :3, :3] *= 1.01


def bad_mirror(c2w: Tensor) -> None:
    c2w[2, :3, 0] *= -1


def bad_nan(c2w: Tensor) -> None:
    c2w[2, 1, 3] = math.nan


def bad_transpose(c2w: Tensor) -> None:
    c2w[2] = c2w[2].T.clone()


@pytest.mark.parametrize("spoil", [bad_scale, bad_mirror, bad_nan, bad_transpose])
def test_a_pose_that_is_none_is_named_by_its_row(spoil: object) -> None:
    c2w = dolly_trajectory(4, forward=2.0)
    spoil(c2w)  # type: ignore[operator]
    with pytest.raises(CameraError, match="pose 2 "):
        make_track(c2w, [0, 1, 2, 3])


@pytest.mark.parametrize("focal", [-1.0, 0.0, math.nan, math.inf])
def test_impossible_lenses_are_refused(focal: float) -> None:
    lens = LENS.repeat(3, 1)
    lens[1, 1] = focal
    with pytest.raises(CameraError, match="intrinsics 1 "):
        make_track(turning([0, 1, 2]), [0, 1, 2], lens)


@pytest.mark.parametrize("times", [[0, 1, 1], [0, 2, 1], [0, 1, math.nan]])
def test_times_must_increase(times: list[float]) -> None:
    with pytest.raises(CameraError, match="pose 2 is not"):
        make_track(turning([0, 1, 2]), times)


def test_no_poses_and_absurd_sizes_are_refused() -> None:
    with pytest.raises(CameraError, match="0 poses"):
        make_track(turning([]), [])
    with pytest.raises(CameraError, match="impossible size"):
        make_track(turning([0]), [0]).resized((0, 10))
    with pytest.raises(CameraError, match="no possible time"):
        make_track(turning([0]), [0]).at(seconds(math.nan), max_gap_s=1.0)
