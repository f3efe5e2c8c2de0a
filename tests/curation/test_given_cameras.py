"""Given cameras: every format loaded, and the direction of real poses settled by the real pictures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from remind.camera_io import CameraTrack, write_cameras_npz, write_realestate10k, write_transforms_json
from remind.clip import Cameras
from remind.curation.camera_check import CameraVerdict, Outcome, check_cameras
from remind.curation.given_cameras import load_cameras, settle_direction
from remind.curation.item import CameraFormat, CameraRef
from remind.data.video_io import decode
from remind.errors import CameraError
from remind.geometry import PoseReading, invert_rigid, orbit_trajectory

FPS = 8
C2W = orbit_trajectory(5, angle_deg=30.0, distance=2.0)
HW = (48, 64)
TRACK = CameraTrack(C2W, torch.tensor([[50.0, 40.0, 32.0, 24.0]], dtype=torch.float64).repeat(5, 1), HW,
                    torch.arange(5, dtype=torch.float64) / FPS)  # fmt: skip


def write(folder: Path, kind: CameraFormat) -> CameraRef:
    path, intrinsics = folder / "cameras", folder / "intrinsics.npy"
    if kind == "store_npz":
        write_cameras_npz(path, Cameras(C2W, TRACK.intrinsics_px, HW, torch.ones(5, dtype=torch.bool)))
        return CameraRef(kind, str(path))
    if kind == "dl3dv":
        write_transforms_json(path, TRACK, [f"{i}.png" for i in range(5)])
        return CameraRef(kind, str(path))
    if kind == "realestate10k":
        write_realestate10k(path, TRACK, url="https://www.youtube.com/watch?v=aB3-_dEfGhI")
        return CameraRef(kind, str(path))
    shares = kind == "quaternion_npy"
    np.save(intrinsics, [[50 / 64, 40 / 48, 0.5, 0.5]] if shares else [[100.0, 80.0, 64.0, 48.0]])
    if kind == "quaternion_npy":
        half = np.deg2rad(-30 * np.array([0, 5 / 32, 0.5, 27 / 32, 1])) / 2
        zero = np.zeros(5)
        rows = np.c_[C2W[:, :3, 3].numpy(), zero, np.sin(half), zero, np.cos(half)]
        np.save(folder / "poses.npy", rows)
    else:
        np.save(folder / "poses.npy", (C2W if kind == "c2w_npy" else invert_rigid(C2W)).numpy())
    return CameraRef(kind, str(folder / "poses.npy"), str(intrinsics), stride=2)


@pytest.mark.parametrize("kind", ["store_npz", "dl3dv", "realestate10k", "quaternion_npy", "c2w_npy", "w2c_npy"])
def test_every_format_gives_the_same_cameras_at_the_videos_size(tmp_path: Path, kind: CameraFormat) -> None:
    ref = write(tmp_path, kind)
    track = load_cameras(ref, hw=(96, 128), fps=FPS * ref.stride)
    torch.testing.assert_close(track.c2w, C2W, atol=1e-6, rtol=0)
    assert track.intrinsics_px[0].tolist() == pytest.approx([100, 80, 64, 48], abs=1e-4)
    torch.testing.assert_close(track.times_s, TRACK.times_s)


def test_a_video_that_was_cut_to_its_poses_begins_with_them(tmp_path: Path) -> None:
    late = CameraTrack(TRACK.c2w, TRACK.intrinsics_px, HW, TRACK.times_s + 90)
    write_realestate10k(tmp_path / "c.txt", late, url="")
    track = load_cameras(CameraRef("realestate10k", str(tmp_path / "c.txt")), hw=HW, fps=FPS, origin_s=90.0)
    torch.testing.assert_close(track.times_s, TRACK.times_s)


def test_matrices_without_intrinsics_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", C2W.numpy())
    with pytest.raises(CameraError, match="needs a file of intrinsics"):
        load_cameras(CameraRef("c2w_npy", str(tmp_path / "p.npy")), hw=HW, fps=FPS)


def verdict(outcome: Outcome, *fits: PoseReading) -> CameraVerdict:
    return CameraVerdict(outcome, fits, {}, 20.0, 5.0, 6, 900, "numbers")


def test_an_undeclared_direction_is_read_as_the_pictures_say() -> None:
    settled = settle_direction(TRACK, verdict("decided", "w2c"), "quaternion_npy")
    torch.testing.assert_close(settled.c2w, invert_rigid(C2W))
    for silent in (verdict("undecided"), verdict("ambiguous", "c2w", "w2c")):
        with pytest.raises(CameraError, match="do not decide"):
            settle_direction(TRACK, silent, "quaternion_npy")


def test_a_declared_direction_stands_unless_the_pictures_contradict_it() -> None:
    for agreeing in (verdict("undecided"), verdict("ambiguous", "c2w", "w2c"), verdict("decided", "c2w")):
        assert settle_direction(TRACK, agreeing, "dl3dv") is TRACK
    with pytest.raises(CameraError, match="another convention than declared"):
        settle_direction(TRACK, verdict("decided", "w2c"), "dl3dv")
    for kind in ("dl3dv", "quaternion_npy"):
        with pytest.raises(CameraError, match="do not fit the pictures in any reading"):
            settle_direction(TRACK, verdict("contradicted"), kind)


def test_the_disputed_poses_of_a_real_clip_are_world_to_camera(real_videos: Path) -> None:
    """Measured: w2c leaves 0.2 px of 34 px of motion, c2w 59 px, the axes of OpenGL 4 px and more."""
    pytest.importorskip("cv2")
    folder, stride, hw = real_videos / "spatialvid", 5, (360, 640)
    if not folder.is_dir():
        pytest.skip("no clip with real poses")
    pictures = islice(decode(folder / "clip.mp4"), 0, 20 * stride, stride)
    rgb = torch.from_numpy(np.stack([picture.rgb(hw) for picture in pictures]))
    ref = CameraRef("quaternion_npy", str(folder / "poses.npy"), str(folder / "intrinsics.npy"), stride)
    track = load_cameras(ref, hw=hw, fps=30)
    cameras = track.at(torch.arange(20) * stride / 30, max_gap_s=0.2)
    said = check_cameras(rgb, cameras)
    assert said.reading == "w2c", said
    assert said.residual_px["w2c"] < 0.5
    assert min(value for reading, value in said.residual_px.items() if reading != "w2c") > 2
    settled = settle_direction(track, said, ref.format)
    assert check_cameras(rgb, settled.at(torch.arange(20) * stride / 30, max_gap_s=0.2)).reading == "c2w"
