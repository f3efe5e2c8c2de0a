"""View overlap where the share of common sight is known by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.clip import Cameras
from remind.errors import CameraError, InputError
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw
from remind.inference.view_overlap import view_overlap

HW = (50, 80)
FINE = {"rays_hw": (3, 400)}


def camera(yaw_deg: float = 0.0, at: tuple[float, float, float] = (0.0, 0.0, 0.0), fov_deg: float = 90.0) -> Cameras:
    return cameras(torch.tensor([float(yaw_deg)]), torch.tensor([at]), fov_deg)


def cameras(yaw_deg: Tensor, at: Tensor, fov_deg: float = 90.0) -> Cameras:
    n = len(yaw_deg)
    c2w = rigid(rotation_yaw(yaw_deg), at.double())
    return Cameras(c2w, intrinsics_from_fov(fov_deg, HW, n), HW, torch.ones(n, dtype=torch.bool))


def test_a_camera_sees_all_of_its_own_view_and_none_of_the_one_behind() -> None:
    assert view_overlap(camera(), camera()) == 1
    assert view_overlap(camera(), camera(180)) == 0
    assert view_overlap(camera(), camera(100)) == 0


@pytest.mark.parametrize("yaw_deg", [10, 30, 45, 60, 80, -30])
def test_a_turned_camera_keeps_the_share_of_columns_that_geometry_says(yaw_deg: float) -> None:
    """At 90 degrees of view the columns that remain are tan(x) in (tan(|yaw| - 45 deg) .. 1); rows are asked for in the
    middle alone, where turning moves nothing up or down."""
    want = (1 - math.tan(math.radians(abs(yaw_deg) - 45))) / 2
    got = view_overlap(camera(), camera(yaw_deg), rays_hw=(1, 400))
    assert got == pytest.approx(want, abs=0.005)
    assert got == pytest.approx(view_overlap(camera(yaw_deg), camera(), rays_hw=(1, 400)), abs=0.005)


def test_turning_does_not_ask_for_depth_and_moving_does() -> None:
    near, far = ({"depths": (depth,), **FINE} for depth in (1.0, 8.0))
    turned, moved = camera(30), camera(at=(1.0, 0.0, 0.0))
    assert view_overlap(camera(), turned, **near) == pytest.approx(view_overlap(camera(), turned, **far), abs=1e-9)
    assert view_overlap(camera(), moved, **near) == pytest.approx(1 / 2, abs=0.01)  # a picture is 2 deep at depth 1
    assert view_overlap(camera(), moved, **far) == pytest.approx(15 / 16, abs=0.01)


def test_it_is_b_that_is_asked_for() -> None:
    wide, narrow = camera(fov_deg=90.0), camera(fov_deg=2 * math.degrees(math.atan(0.5)))
    assert view_overlap(wide, narrow) == 1
    assert view_overlap(narrow, wide, rays_hw=(100, 100)) == pytest.approx(1 / 4, abs=0.01)


def test_what_is_behind_the_camera_is_not_seen_however_it_projects() -> None:
    ahead = camera(at=(0.0, 0.0, 20.0))
    assert view_overlap(ahead, camera(), depths=(1.0, 2.0)) == 0


def test_what_several_frames_have_seen_adds_up_and_invalid_ones_see_nothing() -> None:
    pan = cameras(torch.tensor([-30.0, 30.0]), torch.zeros(2, 3))
    middle = camera(fov_deg=120.0)
    left, right = (view_overlap(pan[torch.tensor([i])], middle, **FINE) for i in (0, 1))
    assert max(left, right) < view_overlap(pan, middle, **FINE) <= left + right
    blind = replace(pan, valid=torch.tensor([True, False]))
    assert view_overlap(blind, middle, **FINE) == left
    nothing = replace(pan, valid=torch.tensor([False, False]))
    assert view_overlap(nothing, middle) == view_overlap(middle, nothing) == 0


def test_an_unknown_pose_may_hold_anything() -> None:
    pan = cameras(torch.tensor([0.0, 30.0]), torch.zeros(2, 3))
    broken = pan.c2w.clone()
    broken[1] = torch.nan
    assert view_overlap(replace(pan, c2w=broken, valid=torch.tensor([True, False])), camera()) == 1


def test_the_size_that_intrinsics_are_given_in_does_not_matter() -> None:
    one, turned = camera(), camera(25)
    double = Cameras(turned.c2w, 2 * turned.intrinsics_px, (2 * HW[0], 2 * HW[1]), turned.valid)
    assert view_overlap(double, one) == view_overlap(turned, one)
    assert view_overlap(one, double) == view_overlap(one, turned)


@given(st.lists(st.floats(-180, 180), min_size=4, max_size=4), st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=30)
def test_it_is_a_share_and_knows_no_origin(yaws: list[float], x: float, z: float) -> None:
    at = torch.tensor([[0.0, 0, 0], [x, 0, z], [z, x, 0], [x, 0, x]])
    both = cameras(torch.tensor(yaws), at)
    a, b = both[:2], both[2:]
    share = view_overlap(a, b)
    assert 0 <= share <= 1
    moved = rigid(rotation_yaw(torch.tensor([33.0])), torch.tensor([[1.0, -2, 3]]).double()) @ both.c2w
    again = replace(both, c2w=moved)
    assert view_overlap(again[:2], again[2:]) == pytest.approx(share, abs=0.02)  # edges may round either way


@pytest.mark.parametrize(("options", "message"), [
    ({"depths": ()}, "depths must be positive"), ({"depths": (1.0, 0.0)}, "depths must be positive"),
    ({"rays_hw": (0, 4)}, "at least one ray"),
])
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        view_overlap(camera(), camera(), **options)  # type: ignore[arg-type]


def test_focal_lengths_must_be_positive() -> None:
    flat = replace(camera(), intrinsics_px=torch.zeros(1, 4, dtype=torch.float64))
    with pytest.raises(CameraError, match="focal lengths must be positive"):
        view_overlap(camera(), flat)
