"""Cameras of RealEstate10K: a line with the URL, then one line a pose.

`timestamp_us fx fy cx cy 0 0` and a 3x4 world-to-camera matrix in rows; intrinsics are shares of width and height.
"""

from __future__ import annotations

from pathlib import Path

import torch

from remind.camera_io.files import naming, read_bytes, write_whole
from remind.camera_io.track import MAX_POSES, CameraTrack, check_poses
from remind.errors import CameraError
from remind.geometry import invert_rigid, rescale_intrinsics, to_opencv_c2w

_COLUMNS = 19
_BOTTOM_ROW = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)


def read_realestate10k(path: Path, *, hw: tuple[int, int], origin_s: float = 0.0) -> CameraTrack:
    """A track on the clock of the video.

    Args:
        hw: size of the video's pictures.
        origin_s: time on the clock of the file's timestamps at which the video begins: 0 for the whole video, the
            first timestamp for a video that was cut to the poses.

    Raises:
        CameraError: no such file, a line of another shape, cameras that `CameraTrack` refuses.
    """
    _, rows = _load(path)
    values = torch.tensor(rows, dtype=torch.float64)
    w2c = torch.cat([values[:, 7:].reshape(-1, 3, 4), _BOTTOM_ROW.expand(len(values), 1, 4)], 1)
    with naming(path.name):
        intrinsics = rescale_intrinsics(values[:, 1:5], from_hw=(1, 1), to_hw=hw)
        check_poses(w2c)
        return CameraTrack(to_opencv_c2w(w2c, "w2c"), intrinsics, hw, values[:, 0] / 1e6 - origin_s)


def realestate10k_url_and_span_s(path: Path) -> tuple[str, float, float]:
    """The video's URL, and first and last time of a pose on its clock, seconds.

    Raises:
        CameraError: as `read_realestate10k`.
    """
    url, rows = _load(path)
    return url, rows[0][0] / 1e6, rows[-1][0] / 1e6


def write_realestate10k(path: Path, track: CameraTrack, *, url: str) -> None:
    """Times are rounded to microseconds, all else to nine digits.

    Raises:
        CameraError: a place that cannot be written.
    """
    shares = rescale_intrinsics(track.intrinsics_px, from_hw=track.hw, to_hw=(1, 1)).tolist()
    w2c = invert_rigid(track.c2w)[:, :3].flatten(1).tolist()
    lines = [
        " ".join([str(round(time_s * 1e6)), *(f"{number:.9f}" for number in (*share, 0.0, 0.0, *pose))])
        for time_s, share, pose in zip(track.times_s.tolist(), shares, w2c, strict=True)
    ]
    write_whole(path, "\n".join(["".join(url.splitlines()), *lines, ""]).encode())


def _load(path: Path) -> tuple[str, list[list[float]]]:
    url, *lines = read_bytes(path).decode("utf-8", errors="replace").splitlines() or [""]
    rows = [_row(path, number, line.split()) for number, line in enumerate(lines, 2) if line.strip()]
    if not 1 <= len(rows) <= MAX_POSES:
        raise CameraError(f"{path.name}: no cameras of RealEstate10K", got=f"{len(rows)} poses",
                          expected=f"1..{MAX_POSES} after the line with the URL")  # fmt: skip
    return url.strip(), rows


def _row(path: Path, number: int, columns: list[str]) -> list[float]:
    try:
        row = [float(column) for column in columns]
    except ValueError:
        row = []
    if len(row) != _COLUMNS:
        raise CameraError(f"{path.name}: line {number} is no pose of RealEstate10K", got=" ".join(columns)[:60],
                          expected=f"{_COLUMNS} numbers")  # fmt: skip
    return row
