"""A path that grows: what was handed out stays, and pieces give what the whole gives, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.clip import Cameras
from remind.errors import CameraError
from remind.geometry import intrinsics_from_fov, rigid, rotation_pitch, rotation_yaw
from remind.inference.camera_path import camera_path
from remind.inference.camera_walk import CameraWalk
from remind.models.camera_conditions import camera_conditions

HW = (32, 32)
EYE = torch.eye(4, dtype=torch.float64)


def frames_of(num_latents: int, *, first: bool) -> int:
    return 4 * num_latents - (3 if first else 0)


def told(walk: CameraWalk, chunks: int) -> tuple[torch.Tensor, torch.Tensor]:
    descriptors, valid = zip(*(walk.conditions(chunk) for chunk in range(chunks)), strict=True)
    return torch.cat(descriptors), torch.cat(valid)


def winding(seed: int, num_frames: int) -> Cameras:
    """A smooth path with a lens that zooms, and some unknown poses."""
    share = torch.linspace(0, 1, num_frames, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    a, b, c, d = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    wave = torch.sin(6 * a * share)
    c2w = rigid(rotation_yaw(60 * a * wave) @ rotation_pitch(20 * b * share),
                torch.stack([c * share, b * wave, d * share * share], -1))  # fmt: skip
    lens = intrinsics_from_fov(55, HW, num_frames) * (1 + share)[:, None]
    valid = torch.rand(num_frames, generator=generator) > 0.1
    valid[0] = True
    return Cameras(c2w, lens, HW, valid)


@given(st.integers(0, 10**6), st.lists(st.integers(1, 7), min_size=1, max_size=8))
@settings(max_examples=30)
def test_cameras_in_pieces_are_the_whole_bit_for_bit(seed: int, pieces: list[int]) -> None:
    pieces = [*pieces, -sum(pieces) % 3 or 3]  # whole chunks
    num_frames = 4 * sum(pieces) - 3
    whole = camera_path(winding(seed, num_frames), num_frames=num_frames, hw=HW, allow_jumps=True)
    walk = CameraWalk(HW, allow_jumps=True)
    for num_latents in pieces:
        count = frames_of(num_latents, first=len(walk) == 0)
        walk.extend(whole[slice(len(walk), len(walk) + count)], num_latents)
    descriptors, valid = camera_conditions(whole, num_frames)
    got, got_valid = told(walk, sum(pieces) // 3)
    assert torch.equal(got, descriptors)
    assert torch.equal(got_valid, valid)


@pytest.mark.parametrize("action", ["right", "right+up", "w+left", "a+down", "s"])
def test_moves_chunk_by_chunk_are_the_moves_in_one_line_bit_for_bit(action: str) -> None:
    whole = camera_path(f"{action}-20", num_frames=81, hw=HW)
    walk = CameraWalk(HW)
    walk.extend(f"{action}-2")
    for _ in range(3):
        walk.extend(f"{action}-3")
    walk.extend(f"{action}-9", 9)
    assert torch.equal(walk.cameras.c2w, whole.c2w)
    descriptors, _ = camera_conditions(whole, 81)
    assert torch.equal(told(walk, 7)[0], descriptors)


def test_the_gauge_is_that_of_the_first_chunk_whatever_comes_later() -> None:
    """First a small step, then a long way: the unit stays the small step, and earlier conditions are as they were."""
    walk = CameraWalk(HW)
    walk.extend("w-2")
    before = walk.conditions(0)
    scale = walk.scale
    assert scale == pytest.approx(0.16)
    for _ in range(20):
        walk.extend("w-3")
    assert walk.scale == scale
    assert all(torch.equal(now, then) for now, then in zip(walk.conditions(0), before, strict=True))
    assert walk.conditions(20)[0][-1, 11].item() == pytest.approx((2 + 60) / 2)
    descriptors, _ = camera_conditions(walk.cameras, len(walk))
    assert torch.equal(told(walk, 21)[0], descriptors)


def test_words_go_on_from_where_the_camera_stands() -> None:
    walk = CameraWalk(HW)
    walk.extend("right-2")
    turned = walk.extend("yaw:right:84@12")
    assert walk.num_latents == 6
    torch.testing.assert_close(turned.c2w[-1, :3, :3], rotation_yaw(torch.tensor([90.0]))[0])
    assert turned.c2w[0, 0, 2] > 0.1  # the first new frame moves already: no stop at the seam
    forward = walk.extend("dolly:forward:2@12")
    torch.testing.assert_close(forward.c2w[-1, :3, 3], torch.tensor([2.0, 0, 0]).double())  # forward is right by now
    rested = walk.extend("stay-3")
    torch.testing.assert_close(rested.c2w, forward.c2w[-1:].expand(12, 4, 4))
    away = walk.extend("lookaway:30")
    torch.testing.assert_close(away.c2w[-1], rested.c2w[-1])
    array = torch.cat([EYE[None], EYE.repeat(12, 1, 1)])
    array[:, 2, 3] = torch.arange(13) * 0.1  # its own first pose is where the camera stands
    onwards = walk.extend(array, convention="c2w")
    torch.testing.assert_close(onwards.c2w[-1, :3, 3], torch.tensor([3.2, 0, 0]).double())


def test_frames_of_which_nothing_is_known() -> None:
    walk = CameraWalk(HW)
    walk.extend(None)
    walk.extend("w-3")
    descriptor, valid = walk.conditions(0)
    assert not valid.any()
    assert not descriptor.any()
    assert walk.scale == 1
    descriptor, valid = walk.conditions(1)
    assert valid.all()
    torch.testing.assert_close(descriptor[:, 11], torch.tensor([0.08, 0.16, 0.24]))
    expected, expected_valid = camera_conditions(walk.cameras, len(walk))
    assert torch.equal(told(walk, 2)[0], expected)
    assert torch.equal(told(walk, 2)[1], expected_valid)


def test_forks_part_and_a_walk_can_be_taken_up_again() -> None:
    walk = CameraWalk(HW, fov_deg=40)
    walk.extend("d-2")
    other = walk.fork()
    walk.extend("right-3")
    other.extend("left-3")
    assert torch.equal(walk.conditions(0)[0], other.conditions(0)[0])
    assert not torch.equal(walk.conditions(1)[0], other.conditions(1)[0])
    again = CameraWalk(HW)
    again.extend(walk.cameras, walk.num_latents)
    for one in (walk, again):
        one.extend("up-3")
    assert torch.equal(walk.cameras.c2w, again.cameras.c2w)
    assert torch.equal(told(walk, 3)[0], told(again, 3)[0])  # the lens of 40 degrees too


def test_what_does_not_fit_leaves_the_walk_as_it_was() -> None:
    walk = CameraWalk(HW)
    walk.extend("right-2")
    kept = walk.cameras
    turned = rigid(rotation_yaw(torch.full((12,), 80.0)), torch.zeros(12, 3).double())
    far = Cameras(turned, intrinsics_from_fov(55, HW, 12), HW, torch.ones(12, dtype=torch.bool))
    with pytest.raises(CameraError, match=r"jumps at frame 9 .*from frame 8 to frame 9"):
        walk.extend(far)
    for spec, num_latents, line in (
        (far, 2, "number of frames"), ("right-3", 0, "so long"), ("right-3", 10**6, "so long"), ("jump-3", 3, "move 1"),
        (torch.zeros(13, 4, 4), 3, "does not say"),
    ):  # fmt: skip
        with pytest.raises(CameraError, match=line):
            walk.extend(spec, num_latents)
    assert walk.cameras is kept
    with pytest.raises(CameraError, match="come so far"):
        walk.conditions(1)
    assert len(CameraWalk(HW, allow_jumps=True).extend("yaw:left:90@9", 3)) == 9
    with pytest.raises(CameraError, match="origin"):
        CameraWalk(HW).extend(far[slice(0, 9)])
    short = CameraWalk(HW)
    short.extend("static", 1)
    with pytest.raises(CameraError, match="first chunk"):
        _ = short.scale
