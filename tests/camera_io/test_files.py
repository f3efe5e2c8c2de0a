"""Readers and writers of camera files: round trips, known answers, and files that lie."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from remind.camera_io import (
    CameraTrack,
    read_cameras_npz,
    read_intrinsics_npy,
    read_matrix_npy,
    read_quaternion_npy,
    read_realestate10k,
    read_transforms_json,
    realestate10k_url_and_span_s,
    transforms_names,
    write_cameras_npz,
    write_realestate10k,
    write_transforms_json,
)
from remind.clip import Cameras
from remind.errors import CameraError
from remind.geometry import dolly_trajectory, invert_rigid, orbit_trajectory, pan_trajectory

HW = (48, 64)
LENS = torch.tensor([[50.0, 40.0, 31.0, 25.0]], dtype=torch.float64)
PATH = orbit_trajectory(6, angle_deg=40.0, distance=2.0) @ dolly_trajectory(6, down=0.5)
URL = "https://www.youtube.com/watch?v=aB3-_dEfGhI"


def make_track(c2w: Tensor = PATH, *, times: Tensor | None = None) -> CameraTrack:
    times = torch.arange(len(c2w), dtype=torch.float64) / 8 if times is None else times
    return CameraTrack(c2w, LENS.repeat(len(c2w), 1), HW, times)


def assert_same(got: CameraTrack, wanted: CameraTrack, *, atol: float = 1e-12) -> None:
    torch.testing.assert_close(got.c2w, wanted.c2w, atol=atol, rtol=0)
    torch.testing.assert_close(got.intrinsics_px, wanted.intrinsics_px, atol=max(atol, 1e-5), rtol=0)
    torch.testing.assert_close(got.times_s, wanted.times_s, atol=1e-6, rtol=0)
    assert got.hw == wanted.hw


def test_transforms_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    write_transforms_json(path, make_track(), [f"images/frame_{i}.png" for i in range(8, 14)])
    assert_same(read_transforms_json(path, fps=8), make_track())
    assert list(tmp_path.iterdir()) == [path]


def test_realestate10k_round_trip(tmp_path: Path) -> None:
    track = make_track(times=torch.tensor([7.007, 7.04, 7.1, 8.0, 9.0, 9.5], dtype=torch.float64))
    write_realestate10k(tmp_path / "clip.txt", track, url=URL)
    assert_same(read_realestate10k(tmp_path / "clip.txt", hw=HW), track, atol=1e-7)
    assert realestate10k_url_and_span_s(tmp_path / "clip.txt") == (URL, 7.007, 9.5)
    cut = read_realestate10k(tmp_path / "clip.txt", hw=HW, origin_s=7.007)
    assert cut.times_s[0].item() == pytest.approx(0, abs=1e-9)


def test_cameras_npz_round_trip_leaves_out_what_is_not_valid(tmp_path: Path) -> None:
    valid = torch.tensor([True, True, False, True, True, True])
    c2w = PATH.clone()
    c2w[2] = torch.nan
    write_cameras_npz(tmp_path / "cameras.npz", Cameras(c2w, LENS.repeat(6, 1), HW, valid))
    wanted = make_track()
    kept = CameraTrack(wanted.c2w[valid], wanted.intrinsics_px[valid], HW, wanted.times_s[valid])
    assert_same(read_cameras_npz(tmp_path / "cameras.npz", fps=8), kept)
    assert_same(read_cameras_npz((tmp_path / "cameras.npz").read_bytes(), fps=8.0), kept)


def dl3dv(path: Path, **changes: object) -> Path:
    """A table as DL3DV has it: one lens for all, OpenGL axes, frames in any order."""
    rows = {"images/frame_00001.png": (0.0, 0.0, 0.0), "images/frame_00002.png": (0.0, 0.0, -1.0)}
    frames = [
        {"file_path": name, "colmap_im_id": 3,
         "transform_matrix": [[1, 0, 0, x], [0, 1, 0, y], [0, 0, 1, z], [0, 0, 0, 1]]}
        for name, (x, y, z) in reversed(rows.items())
    ]  # fmt: skip
    lens = {"w": 3840, "h": 2160, "fl_x": 2000.0, "fl_y": 2010.0, "cx": 1920.0, "cy": 1080.0}
    table = {**lens, "camera_model": "OPENCV", "k1": 0.01, "k2": -0.01, "p1": 0.0, "p2": 0.0, "applied_scale": 1.0,
             "frames": frames, **changes}  # fmt: skip
    path.write_text(json.dumps(table))
    return path


def test_dl3dv_looks_along_minus_z_and_its_lens_follows_the_real_size(tmp_path: Path) -> None:
    track = read_transforms_json(dl3dv(tmp_path / "t.json"), fps=16, hw=(540, 960))
    motion = invert_rigid(track.c2w[0]) @ track.c2w[1]
    assert motion[:3, 3].tolist() == [0, 0, 1]  # -z in OpenGL is forward; the first name comes first
    assert track.intrinsics_px[0].tolist() == [500, 502.5, 480, 270]
    assert track.times_s.tolist() == [0, 1 / 16]
    assert 0 < track.ignored_distortion < 0.03
    assert transforms_names(tmp_path / "t.json") == ("images/frame_00001.png", "images/frame_00002.png")


def test_a_frame_of_transforms_json_may_have_a_lens_of_its_own(tmp_path: Path) -> None:
    table = json.loads(dl3dv(tmp_path / "t.json").read_text())
    table["frames"][0]["fl_x"] = 4000.0  # of frame_00002
    (tmp_path / "t.json").write_text(json.dumps(table))
    assert read_transforms_json(tmp_path / "t.json", fps=16).intrinsics_px[:, 0].tolist() == [2000, 4000]


def test_instant_ngp_gives_an_angle_for_a_focal_length(tmp_path: Path) -> None:
    path = dl3dv(tmp_path / "t.json", fl_x=None, fl_y=None, camera_angle_x=np.pi / 2)
    assert read_transforms_json(path, fps=16).intrinsics_px[0, :2].tolist() == pytest.approx([1920, 1920])


def test_names_with_numbers_sort_as_numbers(tmp_path: Path) -> None:
    names = ["a_2.png", "a_10.png", "a_0011.png", "b_1.png"]
    write_transforms_json(tmp_path / "t.json", make_track(PATH[:4]), names)
    table = json.loads((tmp_path / "t.json").read_text())
    table["frames"].sort(key=lambda frame: frame["file_path"])
    (tmp_path / "t.json").write_text(json.dumps(table))
    assert list(transforms_names(tmp_path / "t.json")) == names


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "not a pinhole"),
        ({"k1": 0.3}, "distorts too much"),
        ({"k1": float("nan")}, "k1"),
        ({"fl_x": -5.0}, "focal lengths must be positive"),
        ({"w": 0}, "w: "),
        ({"w": None}, "intrinsics are missing"),
        ({"fl_x": None, "camera_angle_x": 4.0}, "field of view"),
        ({"frames": []}, "frames"),
        ({"frames": [{"file_path": "a.png", "transform_matrix": [[1, 0], [0, 1]]}]}, "transform_matrix"),
        ({"frames": [{"file_path": "a.png", "transform_matrix": np.diag([1, 1, -1, 1]).tolist()}]}, "pose 0 .*det"),
        ({"frames": [{"file_path": "a.png", "transform_matrix": (2 * np.eye(4)).tolist()}]}, "pose 0"),
        ({"frames": 2 * [{"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}]}, "two poses for one"),
    ],
)
def test_transforms_json_that_cannot_be_used_says_why(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    with pytest.raises(CameraError, match=match):
        read_transforms_json(dl3dv(tmp_path / "t.json", **changes), fps=16)


def test_realestate10k_is_world_to_camera_and_normalised(tmp_path: Path) -> None:
    row = "1000000 0.5 0.9 0.5 0.5 0 0 1 0 0 {x} 0 1 0 0 0 0 1 0"
    (tmp_path / "c.txt").write_text("\n".join([URL, row.format(x=0), "2" + row.format(x=-3)[1:], ""]))
    track = read_realestate10k(tmp_path / "c.txt", hw=(100, 200))
    assert track.c2w[1, :3, 3].tolist() == [3, 0, 0]
    assert track.intrinsics_px[0].tolist() == [100, 90, 100, 50]
    assert track.times_s.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("1 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1", "line 2 .*19 numbers"),
        ("1 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 x", "line 2"),
        ("1 0.5 0.9 0.5 0.5 0 0 1 0 0 nan 0 1 0 0 0 0 1 0", "pose 0 holds NaN"),
        ("1 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 -1 0", "pose 0 .*det"),
        ("1 -0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0", "intrinsics 0"),
        ("", "0 poses"),
    ],
)
def test_realestate10k_that_cannot_be_used_says_where(tmp_path: Path, line: str, match: str) -> None:
    (tmp_path / "c.txt").write_text(f"{URL}\n{line}\n")
    with pytest.raises(CameraError, match=f"c.txt: .*{match}"):
        read_realestate10k(tmp_path / "c.txt", hw=HW)


def test_matrices_are_read_as_they_are_declared(tmp_path: Path) -> None:
    path = tmp_path / "poses.npy"
    np.save(path, invert_rigid(PATH)[:, :3].numpy().astype(np.float32))
    track = read_matrix_npy(path, LENS, hw=HW, fps=30, stride=5, reading="w2c")
    torch.testing.assert_close(track.c2w, PATH, atol=1e-6, rtol=0)
    assert track.times_s.tolist() == pytest.approx([i / 6 for i in range(6)])


def test_quaternions_have_the_real_part_last(tmp_path: Path) -> None:
    half = np.deg2rad(40) / 2
    np.save(tmp_path / "q.npy", np.array([[0, 0, 0, 0, 0, 0, 1], [1, 2, 3, 0, np.sin(half), 0, np.cos(half)]]))
    track = read_quaternion_npy(tmp_path / "q.npy", LENS, hw=HW, fps=30, stride=1, reading="c2w")
    torch.testing.assert_close(track.c2w[1, :3, :3], pan_trajectory(2, yaw_deg=40.0)[1, :3, :3])
    assert track.c2w[1, :3, 3].tolist() == [1, 2, 3]


def test_intrinsics_are_shares_or_pixels_as_declared(tmp_path: Path) -> None:
    np.save(tmp_path / "shares.npy", np.array([[0.5, 1.0, 0.5, 0.5]]))
    np.save(tmp_path / "pixels.npy", np.array([[[32.0, 0, 30], [0, 48, 20], [0, 0, 1]]]))
    assert read_intrinsics_npy(tmp_path / "shares.npy", hw=HW, normalised=True).tolist() == [[32, 48, 32, 24]]
    assert read_intrinsics_npy(tmp_path / "pixels.npy", hw=HW, normalised=False).tolist() == [[32, 48, 30, 20]]
    for name, normalised in (("shares", False), ("pixels", True)):
        with pytest.raises(CameraError, match="another unit"):
            read_intrinsics_npy(tmp_path / f"{name}.npy", hw=HW, normalised=normalised)


def quaternions(path: Path, array: np.ndarray) -> object:
    np.save(path, array, allow_pickle=True)
    return read_quaternion_npy(path, LENS, hw=HW, fps=30, stride=1, reading="c2w")


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((3, 7)), "row 0 holds no unit quaternion"),
        (np.full((3, 7), np.nan), "row 0"),
        (np.zeros((3, 6)), r"\[3, 6\].*\[n 7\]"),
        (np.zeros((0, 7)), "rows"),
        (np.zeros(7), "another kind"),
        (np.zeros((3, 7), dtype=complex), "complex"),
        (np.zeros((200_000, 7), dtype=np.uint8), "200000"),
        (np.array([[None] * 7]), "cannot read"),
    ],
)
def test_arrays_that_are_no_poses_are_refused(tmp_path: Path, array: np.ndarray, match: str) -> None:
    with pytest.raises(CameraError, match=match):
        quaternions(tmp_path / "q.npy", array)


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (pytest.fail, ("a pickle was run",))


def lying_header() -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (90_000, 4, 4)})
    return buffer.getvalue() + b"\0" * 64


UNBALANCED_HEADER = b"\x93NUMPY\x01\x00\x10\x00{'descr': [('a', "


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY", UNBALANCED_HEADER, pickle.dumps(Bomb()), lying_header(), b"PK\x03\x04 no zip"]
)
def test_damaged_and_hostile_arrays_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(CameraError, match=r"x\.npy"):
        read_matrix_npy(tmp_path / "x.npy", LENS, hw=HW, fps=30, stride=1, reading="c2w")
    with pytest.raises(CameraError, match=r"x\.npy"):
        read_cameras_npz(tmp_path / "x.npy", fps=16)


def npz(**changes: np.ndarray) -> bytes:
    arrays = {"c2w": np.eye(4)[None].repeat(2, 0), "intrinsics_px": np.full((2, 4), 9, np.float32),
              "hw": np.array(HW), "pose_valid": np.ones(2, bool), **changes}  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"c2w": np.eye(4)[None]}, "intrinsics_px is"),
        ({"c2w": np.eye(3)[None].repeat(2, 0)}, "c2w is"),
        ({"c2w": np.array([[None]])}, "c2w is"),
        ({"pose_valid": np.zeros(2, bool)}, "no pose is valid"),
        ({"hw": np.array([0, -1])}, "impossible size"),
        ({"intrinsics_px": np.full((2, 4), -1, np.float32)}, "intrinsics 0"),
    ],
)
def test_cameras_npz_that_cannot_be_used_says_why(changes: dict[str, np.ndarray], match: str) -> None:
    assert len(read_cameras_npz(npz(), fps=16)) == 2
    with pytest.raises(CameraError, match=match):
        read_cameras_npz(npz(**changes), fps=16)


def test_a_missing_member_and_a_bomb_of_zeros_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c2w.npy", lying_header() + bytes(10_000_000))
    with pytest.raises(CameraError, match=r"cameras\.npz: damaged"):
        read_cameras_npz(buffer.getvalue(), fps=16)


def test_what_is_not_there_and_what_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="No such file"):
        read_transforms_json(tmp_path / "none.json", fps=16)
    with pytest.raises(CameraError, match="cannot read"):
        read_transforms_json(tmp_path, fps=16)
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(CameraError, match="too large"):
        read_realestate10k(tmp_path / "huge.txt", hw=HW)
    with pytest.raises(CameraError, match="cannot write"):
        write_realestate10k(tmp_path / "no" / "where.txt", make_track(), url=URL)
    with pytest.raises(CameraError, match="frame rate"):
        read_transforms_json(dl3dv(tmp_path / "t.json"), fps=0)
    with pytest.raises(CameraError, match="do not fit the poses"):
        write_transforms_json(tmp_path / "t.json", make_track(), ["b", "a"])


def test_poses_and_intrinsics_of_different_lengths(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", PATH.numpy())
    with pytest.raises(CameraError, match="differ in length"):
        read_matrix_npy(tmp_path / "p.npy", LENS.repeat(4, 1), hw=HW, fps=30, stride=1, reading="c2w")
    with pytest.raises(CameraError, match="stride"):
        read_matrix_npy(tmp_path / "p.npy", LENS, hw=HW, fps=30, stride=0, reading="c2w")
