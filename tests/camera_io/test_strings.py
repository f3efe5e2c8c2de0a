"""Camera moves as text: both grammars against poses worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from remind.camera_io import pose_string_c2w, wrbench_c2w
from remind.errors import CameraError
from remind.geometry import check_rotations, rotation_pitch, rotation_yaw

IDENTITY = torch.eye(4, dtype=torch.float64)


def yaw_deg(c2w: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(c2w[:, 0, 2], c2w[:, 2, 2]))


def pitch_deg(c2w: Tensor) -> Tensor:
    return torch.rad2deg(torch.asin(-c2w[:, 1, 2]))


def test_the_benchmarks_lookaway_has_173_frames_and_turns_60_degrees_to_the_right() -> None:
    c2w = pose_string_c2w("s-3, right-20, left-20")
    assert len(c2w) == 4 * 43 + 1
    torch.testing.assert_close(c2w[0], IDENTITY)
    torch.testing.assert_close(c2w[12, :3, 3], torch.tensor([0, 0, -0.24], dtype=torch.float64))
    assert yaw_deg(c2w).max().item() == pytest.approx(60)
    assert yaw_deg(c2w).argmax().item() == 4 * 23
    assert yaw_deg(c2w)[16].item() == pytest.approx(3)  # three degrees a latent, a latent is four frames
    torch.testing.assert_close(c2w[-1, :3, :3], IDENTITY[:3, :3])


@given(st.integers(3, 400))
def test_any_other_length_keeps_the_peak_angle_and_comes_back(num_frames: int) -> None:
    c2w = pose_string_c2w("s-3, right-20, left-20", num_frames=num_frames + 1)
    assert len(c2w) == num_frames + 1
    assert yaw_deg(c2w).max().item() == pytest.approx(60)
    assert c2w[-1, 2, 3].item() == pytest.approx(-0.24)
    assert yaw_deg(c2w)[-1].item() == pytest.approx(0, abs=1e-9)


def test_compound_moves_turn_and_go_at_once() -> None:
    c2w = pose_string_c2w("right+up-1")
    three = torch.tensor([3.0])
    torch.testing.assert_close(c2w[-1, :3, :3], (rotation_yaw(three) @ rotation_pitch(three))[0])
    c2w = pose_string_c2w("w+d-10")
    torch.testing.assert_close(c2w[-1, :3, 3], torch.tensor([0.8, 0, 0.8], dtype=torch.float64))


def test_steps_go_where_the_camera_looks_and_staying_stays() -> None:
    c2w = pose_string_c2w("right-30, w-10, stay-5")
    torch.testing.assert_close(c2w[160, :3, 3], torch.tensor([0.8, 0, 0], dtype=torch.float64))
    assert (c2w[160:] - c2w[160]).abs().max() < 1e-12


@given(st.lists(st.sampled_from(["right", "left+w", "up", "down+a", "s", "d", "stay"]), min_size=1, max_size=6))
def test_all_poses_are_rigid_and_begin_at_the_identity(actions: list[str]) -> None:
    c2w = pose_string_c2w(", ".join(f"{action}-{i + 1}" for i, action in enumerate(actions)))
    check_rotations(c2w, tolerance=1e-9)
    torch.testing.assert_close(c2w[0], IDENTITY)


@pytest.mark.parametrize(
    "text",
    ["", ",", "right", "right-", "right-0", "right--3", "right-1.5", "jump-3", "right+-3", "+right-3",
     "right-3,,left-3", "right-3; left-3", "right-999999", "right-99999", "right-3\x00", "x" * 20_000, "right-１"],
)  # fmt: skip
def test_what_is_no_move_is_refused(text: str) -> None:
    with pytest.raises(CameraError):
        pose_string_c2w(text)


def test_too_few_frames_for_the_moves_are_refused() -> None:
    assert len(pose_string_c2w("right-2, left-2", num_frames=3)) == 3
    with pytest.raises(CameraError, match="2 moves"):
        pose_string_c2w("right-2, left-2", num_frames=2)


def test_wrbench_goes_to_the_left_and_comes_back_in_81_frames() -> None:
    c2w = wrbench_c2w("yaw:left:60@40,yaw:right:60@41")
    assert len(c2w) == 81
    torch.testing.assert_close(c2w[[0, 80]], IDENTITY.repeat(2, 1, 1), atol=1e-12, rtol=0)
    assert yaw_deg(c2w)[[39, 40]].tolist() == pytest.approx([-60, -60])  # the turn ends and the next one begins
    assert yaw_deg(c2w)[13].item() == pytest.approx(-60 * 13 / 39)


@pytest.mark.parametrize(
    ("script", "axis", "sign"),
    [("pan:right:2@9", 0, 1), ("pan:left:2@9", 0, -1), ("crane:up:2@9", 1, -1), ("crane:down:2@9", 1, 1),
     ("dolly:forward:2@9", 2, 1), ("dolly:back:2@9", 2, -1), ("dolly:backward:2@9", 2, -1)],
)  # fmt: skip
def test_wrbench_moves_along_the_first_cameras_axes(script: str, axis: int, sign: int) -> None:
    assert wrbench_c2w(script)[-1, axis, 3].item() == sign * 2
    turned = wrbench_c2w(f"yaw:right:90@5,{script}")
    assert turned[-1, axis, 3].item() == sign * 2  # however it has turned


def test_wrbench_turns_up_and_clockwise() -> None:
    assert pitch_deg(wrbench_c2w("pitch:up:20@5"))[-1].item() == pytest.approx(20)
    assert torch.equal(wrbench_c2w("roll:left:20@5"), wrbench_c2w("roll:ccw:20@5"))
    assert torch.allclose(wrbench_c2w("roll:right:20@5"), wrbench_c2w("roll:cw:20@5"))


def test_wrbench_joins_moves_and_holds_still() -> None:
    c2w = wrbench_c2w("yaw:left:60+dolly:forward:1.0@27,static@27,yaw:right:60+dolly:back:1.0@27")
    assert len(c2w) == 81
    assert torch.equal(c2w[26:54], c2w[26:27].expand(28, 4, 4))
    torch.testing.assert_close(c2w[-1], IDENTITY, atol=1e-12, rtol=0)


@given(st.integers(2, 300))
def test_wrbench_at_another_length_keeps_its_angle(num_frames: int) -> None:
    c2w = wrbench_c2w("yaw:left:60@40,yaw:right:60@41", num_frames=num_frames)
    assert len(c2w) == num_frames
    assert yaw_deg(c2w).min().item() == pytest.approx(-60)
    assert yaw_deg(c2w)[-1].item() == pytest.approx(0, abs=1e-9)


def test_one_wrbench_segment_may_leave_its_length_to_the_caller() -> None:
    assert len(wrbench_c2w("yaw:left:37", num_frames=49)) == 49
    with pytest.raises(CameraError, match="segment 1 has no length"):
        wrbench_c2w("yaw:left:37")
    with pytest.raises(CameraError, match="segment 2 has no length"):
        wrbench_c2w("yaw:left:37@4,static", num_frames=49)


@pytest.mark.parametrize(
    "text",
    ["", "yaw", "yaw:left@4", "yaw:up:3@4", "spin:left:3@4", "yaw:left:nan@4", "yaw:left:inf@4", "yaw:left:1e300@4",
     "yaw:left:3@0", "yaw:left:3@-4", "yaw:left:3@4@4", "yaw:left:3@4,", "static:3@4", "yaw:left:3@999999",
     "yaw:left:3+@4", "a" * 20_000],
)  # fmt: skip
def test_what_is_no_wrbench_segment_is_refused(text: str) -> None:
    with pytest.raises(CameraError):
        wrbench_c2w(text)


def test_both_grammars_agree_about_a_turn() -> None:
    latents = pose_string_c2w("right-20")[::4]
    degrees = yaw_deg(wrbench_c2w("yaw:right:60@21"))
    torch.testing.assert_close(yaw_deg(latents), degrees)
    assert math.isclose(degrees[-1].item(), 60)
