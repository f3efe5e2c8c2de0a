"""Camera paths from whatever users write: the same poses from every form; lengths and jumps are said."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.camera_io import (
    CameraTrack,
    pose_string_c2w,
    wrbench_c2w,
    write_cameras_npz,
    write_realestate10k,
    write_transforms_json,
)
from remind.clip import Cameras
from remind.errors import CameraError
from remind.geometry import (
    anchor,
    check_rotations,
    intrinsics_from_fov,
    invert_rigid,
    orbit_trajectory,
    rigid,
    rotation_pitch,
    rotation_yaw,
)
from remind.inference.camera_jumps import turns_deg
from remind.inference.camera_path import DEFAULT_FOV_DEG, camera_path

HW = (48, 64)
EYE = torch.eye(4, dtype=torch.float64)


def yaw_deg(c2w: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(c2w[:, 0, 2], c2w[:, 2, 2]))


def a_path(num_frames: int = 81) -> Tensor:
    """Turns, climbs and moves; its first pose is not the identity."""
    share = torch.linspace(0, 1, num_frames, dtype=torch.float64)
    rotation = rotation_yaw(20 + 40 * share) @ rotation_pitch(10 * share)
    return rigid(rotation, torch.stack([share, 0.2 * share, 3 - share], -1))


def cameras(c2w: Tensor, hw: tuple[int, int] = HW, fov: float = 70) -> Cameras:
    return Cameras(c2w, intrinsics_from_fov(fov, hw, len(c2w)), hw, torch.ones(len(c2w), dtype=torch.bool))


def fov_of(path: Cameras) -> float:
    return math.degrees(2 * math.atan(path.hw[1] / 2 / float(path.intrinsics_px[0, 0])))


def test_the_three_grammars_of_words() -> None:
    moves = camera_path("right-20, left-20", num_frames=81, hw=HW)
    assert torch.equal(moves.c2w, pose_string_c2w("right-20, left-20", num_frames=81))
    script = camera_path("yaw:left:60+dolly:forward:1.0@40,yaw:right:60@41", num_frames=81, hw=HW)
    assert torch.equal(script.c2w, wrbench_c2w("yaw:left:60+dolly:forward:1.0@40,yaw:right:60@41"))
    assert torch.equal(camera_path("orbit:30:2", num_frames=81, hw=HW).c2w,
                       orbit_trajectory(81, angle_deg=30, distance=2))  # fmt: skip
    assert torch.equal(camera_path("Static", num_frames=81, hw=HW).c2w, EYE.expand(81, 4, 4))
    for path in (moves, script):
        assert path.valid.all()
        assert fov_of(path) == pytest.approx(DEFAULT_FOV_DEG)


@given(st.integers(6, 400), st.floats(-120, 120))
@settings(max_examples=30)
def test_a_lookaway_rests_leaves_and_is_back(num_frames: int, angle: float) -> None:
    path = camera_path(f"lookaway:{angle:.3f}", num_frames=num_frames, hw=HW, allow_jumps=True).c2w
    assert yaw_deg(path)[yaw_deg(path).abs().argmax()].item() == pytest.approx(round(angle, 3), abs=1e-6)
    assert torch.equal(path[0], EYE)
    assert torch.equal(path[-1], EYE)
    assert yaw_deg(camera_path("lookaway", num_frames=81, hw=HW).c2w).max().item() == pytest.approx(60)


def test_a_lookaway_leaves_a_clean_chunk_at_either_end() -> None:
    moved = (camera_path("lookaway", num_frames=81, hw=HW).c2w != EYE).flatten(1).any(1)
    assert not moved[:9].any()
    assert not moved[69:].any()
    assert moved[10:68].all()


LOOPS = {"loop": 30, "loop:right-5": 15, "loop:yaw:left:20+dolly:forward:1": 20, "loop:orbit:9": 9}


@given(st.integers(4, 200), st.sampled_from(sorted(LOOPS)))
@settings(max_examples=30)
def test_a_loop_comes_back_the_way_it_went(num_frames: int, spec: str) -> None:
    path = camera_path(spec, num_frames=num_frames, hw=HW, allow_jumps=True).c2w
    assert len(path) == num_frames
    assert torch.equal(path, path.flip(0))
    assert turns_deg(EYE.expand_as(path), path).max().item() == pytest.approx(LOOPS[spec])


def written(folder: Path, c2w: Tensor) -> dict[str, Path]:
    """The same cameras in every kind of file that has a lens."""
    made = {name: folder / name for name in ("cameras.npz", "re10k.txt", "transforms.json", "own.json", "fov.json")}
    given_cameras = cameras(c2w)
    write_cameras_npz(made["cameras.npz"], given_cameras)
    times = 3.0 + torch.arange(len(c2w), dtype=torch.float64) / 16
    track = CameraTrack(c2w, given_cameras.intrinsics_px, HW, times)
    write_realestate10k(made["re10k.txt"], track, url="")
    write_transforms_json(made["transforms.json"], track, [f"{i}.png" for i in range(len(c2w))])
    made["own.json"].write_text(json.dumps({
        "convention": "w2c", "poses": invert_rigid(c2w).tolist(), "hw": HW,
        "intrinsics_px": given_cameras.intrinsics_px[0].tolist(),
    }))  # fmt: skip
    made["fov.json"].write_text(json.dumps({"convention": "c2w", "poses": c2w[:, :3].tolist(), "fov_deg": 70}))
    return made


def test_every_kind_of_file_gives_the_same_cameras(tmp_path: Path) -> None:
    expected = anchor(a_path())
    for name, file in written(tmp_path, a_path()).items():
        for spec in (file, str(file)):
            path = camera_path(spec, num_frames=81, hw=HW)
            torch.testing.assert_close(path.c2w, expected, rtol=0, atol=1e-6, msg=name)
            assert torch.equal(path.c2w[0], EYE)
            assert fov_of(path) == pytest.approx(70, abs=1e-3), name
            check_rotations(path.c2w, tolerance=1e-6)


def test_matrices_need_a_convention_unless_the_file_is_npy(tmp_path: Path) -> None:
    c2w = a_path()
    np.save(tmp_path / "a.npy", c2w[:, :3].numpy().astype(np.float32))
    np.save(tmp_path / "b.npy", invert_rigid(c2w).numpy())
    (tmp_path / "bare.json").write_text(json.dumps(c2w.tolist()))
    expected = anchor(c2w)
    opengl = c2w.clone()
    opengl[:, :3, 1:3] *= -1
    for spec, convention in (
        (tmp_path / "a.npy", None), (tmp_path / "b.npy", "w2c"), (tmp_path / "bare.json", "c2w"), (c2w, "c2w"),
        (c2w[:, :3].float().numpy(), "c2w"), (opengl, "c2w_opengl"), (invert_rigid(opengl).numpy(), "w2c_opengl"),
    ):  # fmt: skip
        path = camera_path(spec, num_frames=81, hw=HW, convention=convention)
        torch.testing.assert_close(path.c2w, expected, rtol=0, atol=1e-6)
        assert fov_of(path) == pytest.approx(DEFAULT_FOV_DEG)
    for spec in (c2w, tmp_path / "bare.json"):
        with pytest.raises(CameraError, match="does not say"):
            camera_path(spec, num_frames=81, hw=HW)


def test_a_lens_follows_the_picture_and_an_argument_replaces_it() -> None:
    wide = cameras(a_path(), hw=(96, 192))
    path = camera_path(wide, num_frames=81, hw=HW)
    assert path.intrinsics_px[0].tolist() == pytest.approx([float(wide.intrinsics_px[0, 0]) / 2] * 2 + [32, 24])
    assert fov_of(camera_path(wide, num_frames=81, hw=HW, fov_deg=40)) == pytest.approx(40)
    with pytest.raises(CameraError, match="field of view"):
        camera_path("loop", num_frames=81, hw=HW, fov_deg=float("nan"))


def test_cameras_that_fit_are_left_as_they_are() -> None:
    given_cameras = cameras(camera_path("right-20", num_frames=81, hw=HW).c2w)
    path = camera_path(given_cameras, num_frames=81, hw=HW)
    assert torch.equal(path.c2w, given_cameras.c2w)
    assert torch.equal(path.intrinsics_px, given_cameras.intrinsics_px)


def test_unknown_poses_stay_unknown(tmp_path: Path) -> None:
    some = cameras(a_path())
    some.valid[[0, 40, 80]] = False
    some.c2w[[0, 40, 80]] = float("nan")
    write_cameras_npz(tmp_path / "c.npz", some)
    rows = torch.where(some.valid[:, None, None], some.c2w, torch.tensor(float("nan")).double())
    for spec, convention in ((tmp_path / "c.npz", None), (some, None), (rows, "c2w")):
        path = camera_path(spec, num_frames=81, hw=HW, convention=convention)
        assert torch.equal(path.valid, some.valid)
        assert torch.equal(path.c2w[1], EYE)
        assert torch.isfinite(path.c2w).all()
    longer = camera_path(some, num_frames=161, hw=HW, fit="stretch")
    assert (~longer.valid).nonzero()[:, 0].tolist() == [0, 1, 79, 80, 81, 159, 160]


def test_another_length_is_an_error_that_names_both_and_the_ways_out(tmp_path: Path) -> None:
    for spec in (cameras(a_path(49)), "right-20, left-20"):
        fit = "exact" if isinstance(spec, str) else None
        length = 161 if isinstance(spec, str) else 49
        with pytest.raises(CameraError, match=rf"{length} frames; expected 81.*stretch.*hold"):
            camera_path(spec, num_frames=81, hw=HW, fit=fit)
    assert len(camera_path("right-20, left-20", num_frames=161, hw=HW, fit="exact")) == 161


@given(st.integers(30, 300))
@settings(max_examples=25)
def test_stretching_keeps_every_turning_angle(num_frames: int) -> None:
    path = pose_string_c2w("stay-2, right-20, stay-3, left-30, right-10, w-5")
    made = camera_path(cameras(path), num_frames=num_frames, hw=HW, fit="stretch").c2w
    assert len(made) == num_frames
    assert yaw_deg(made).max().item() == pytest.approx(60, abs=1e-6)
    assert yaw_deg(made).min().item() == pytest.approx(-30, abs=1e-6)
    torch.testing.assert_close(made[-1], path[-1], rtol=0, atol=1e-9)


def test_holding_keeps_the_pace() -> None:
    path = cameras(pose_string_c2w("right-10"))
    shorter = camera_path(path, num_frames=21, hw=HW, fit="hold")
    assert torch.equal(shorter.c2w, path.c2w[:21])
    longer = camera_path(path, num_frames=81, hw=HW, fit="hold")
    assert torch.equal(longer.c2w[:41], path.c2w)
    assert torch.equal(longer.c2w[41:], path.c2w[-1:].expand(40, 4, 4))
    assert torch.equal(camera_path("right-10", num_frames=81, hw=HW, fit="hold").c2w, longer.c2w)
    one = camera_path(cameras(EYE[None]), num_frames=9, hw=HW, fit="stretch")
    assert torch.equal(one.c2w, EYE.expand(9, 4, 4))


def test_a_jump_names_its_frame() -> None:
    cut = a_path()
    cut[50:] = rigid(rotation_yaw(torch.tensor([45.0])), torch.tensor([[0.0, 0, 0]]).double()) @ cut[50:]
    with pytest.raises(CameraError, match=r"jumps at frame 50 \(3\.12 s\).*turns by.*from frame 49 to frame 50.*30"):
        camera_path(cameras(cut), num_frames=81, hw=HW)
    assert len(camera_path(cameras(cut), num_frames=81, hw=HW, allow_jumps=True)) == 81
    cut = a_path()
    cut[20:, 0, 3] += 2.0
    with pytest.raises(CameraError, match=r"frame 20 .*moves by 2.*as elsewhere"):
        camera_path(cameras(cut), num_frames=81, hw=HW)
    turned = rotation_yaw(torch.where(torch.arange(81) < 33, 0.1, 14.0) * 1.0)
    with pytest.raises(CameraError, match=r"frame 33 .*turns by 13.9"):
        camera_path(cameras(rigid(turned, torch.zeros(81, 3).double())), num_frames=81, hw=HW)
    with pytest.raises(CameraError, match=r"frame 1 .*at most 5 degrees"):
        camera_path("yaw:left:60@10", num_frames=10, hw=HW, max_turn_deg=5)


def test_what_moves_smoothly_is_no_jump() -> None:
    """A still start with the jitter of an estimate, then a real move; and the makers at their usual lengths."""
    noise = torch.randn(81, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-4
    move = (torch.arange(81) - 50).clamp(min=0)[:, None] * torch.tensor([[0.02, 0, 0]]).double()
    c2w = EYE.repeat(81, 1, 1)
    c2w[:, :3, 3] = noise + move
    assert len(camera_path(cameras(c2w), num_frames=81, hw=HW)) == 81
    for spec in ("lookaway", "lookaway:-90", "orbit:120", "loop", "stay-19, w-1", "yaw:left:60@40,yaw:right:60@41"):
        for num_frames in (33, 81, 321):
            assert len(camera_path(spec, num_frames=num_frames, hw=HW)) == num_frames


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("", "no camera path"),
        ("turn around", "lookaway, orbit or loop"),
        ("jump-3", "camera move 1"),
        ("yaw:sideways:3@4", "camera segment 1"),
        ("lookaway:far", "lookaway:60"),
        ("lookaway:60:20", "at most 1"),
        ("orbit:30:-1", "distance > 0"),
        ("orbit:1e9", "numbers"),
        ("loop:loop", "comes back by itself"),
        ("loop:nothing", "no camera path"),
        ("none.json", "cannot read"),
        (Path("poses.bin"), "no such kind"),
        (torch.zeros(81, 4, 4), "convention|not say"),
    ],
)
def test_what_is_no_path_is_refused(spec: object, line: str) -> None:
    with pytest.raises(CameraError, match=line):
        camera_path(spec, num_frames=81, hw=HW)  # type: ignore[arg-type]


def test_bad_arrays_and_files_are_refused(tmp_path: Path) -> None:
    for array, line in (
        (torch.zeros(81, 4, 4), "pose 0"), (torch.zeros(81, 3, 3), "not poses"),
        (torch.ones(2, 4, 4).int(), "not poses"),
        (np.full((3, 4, 4), np.nan), "no pose is valid"), (np.array([["a"]]), "not poses"),
    ):  # fmt: skip
        with pytest.raises(CameraError, match=line):
            camera_path(array, num_frames=81, hw=HW, convention="c2w")
    for text, line in (
        ("{", "not JSON"), ("{}", "convention"), ('{"convention": "c2w", "poses": []}', "poses"),
        ("[[1]]", "convention"),
        ('{"convention": "c2w", "poses": [[[1,0,0,0],[0,1,0,0],[0,0,1,NaN]]]}', "poses"), ("[" * 90_000, "not JSON"),
        ('{"convention": "c2w", "poses": [[[1,0,0,0],[0,1,0,0],[0,0,1,0]]], "hw": [4, 4]}', "a lens is"),
        ('{"convention": "c2w", "poses": [[[2,0,0,0],[0,1,0,0],[0,0,1,0]]]}', "pose 0 is not a rotation"),
    ):  # fmt: skip
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(CameraError, match=line) as caught:
            camera_path(tmp_path / "bad.json", num_frames=1, hw=HW)
        assert "bad.json" in str(caught.value)
    files = written(tmp_path, a_path())
    others = {"cameras.npz": "w2c", "re10k.txt": "c2w", "transforms.json": "c2w", "own.json": "c2w"}
    for name, convention in others.items():
        with pytest.raises(CameraError, match="convention"):
            camera_path(files[name], num_frames=81, hw=HW, convention=convention)  # type: ignore[arg-type]
    with pytest.raises(CameraError, match="convention"):
        camera_path("right-3", num_frames=81, hw=HW, convention="w2c")
    for num_frames in (0, 10**6):
        with pytest.raises(CameraError, match="length"):
            camera_path("loop", num_frames=num_frames, hw=HW)
