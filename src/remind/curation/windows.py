"""A window's pictures again, and its clip's cameras: what later stages need of a file that was scanned before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.clip import Cameras
from remind.curation.scan import ScanOptions, Window
from remind.data.video_io import Picture, YuvFrames, empty_planes, shown
from remind.errors import VideoError
from remind.geometry import anchor


def read_window(path: Path, window: Window, options: ScanOptions) -> UInt8[Tensor, "t h w 3"]:
    """The pictures of a window as RGB.

    Raises:
        VideoError: a file that is not what was scanned.
    """
    frames: list[np.ndarray] = []
    last: Picture | None = None
    for picture in _pictures(path, window, options):
        frames.append(frames[-1] if picture is last else picture.rgb(options.hw))
        last = picture
    return torch.from_numpy(np.stack(frames))


def read_window_yuv(path: Path, window: Window, options: ScanOptions) -> YuvFrames:
    """The pictures of a window, bit for bit those that the scan saw.

    Raises:
        VideoError: as `read_window`.
    """
    planes = empty_planes(options.num_frames, options.hw)
    last: Picture | None = None
    for number, picture in enumerate(_pictures(path, window, options)):
        if picture is last:
            planes[number] = planes[number - 1]
        else:
            picture.write_yuv(options.hw, planes[number])
        last = picture
    assert last is not None
    return YuvFrames(planes, options.hw, last.scaler.matrix)


def _pictures(path: Path, window: Window, options: ScanOptions) -> Iterator[Picture]:
    """What is shown at each tick of a window."""
    ticks = shown(path, fps=options.fps, start_pts=window.shot_start_pts, first_tick=window.first_tick,
                  limits=options.limits)  # fmt: skip
    found, last = 0, None
    for picture in islice(ticks, options.num_frames):
        if found == 0 and picture.pts != window.start_pts:
            break
        found, last = found + 1, picture
        yield picture
    if found != options.num_frames or last is None or last.pts != window.stop_pts:
        raise VideoError(f"{path.name}: not the file that was scanned", got=f"{found} frames",
                         expected=f"{options.num_frames} from pts {window.start_pts}", fix="build again")


def shown_at(options: ScanOptions, hw: tuple[int, int], side_px: int) -> ScanOptions:
    """The same windows in larger pictures: framed like the clip, no side longer than `side_px` nor than the video's."""
    height, width = options.hw
    scale = max(1.0, min(side_px / max(height, width), hw[0] / height, hw[1] / width))
    return replace(options, hw=(round(height * scale), round(width * scale)))


def frame_times_s(window: Window, first_pts: int, options: ScanOptions) -> Float[Tensor, " t"]:
    """When each frame of a window is shown, seconds from the video's first picture, float64."""
    origin = (window.shot_start_pts - first_pts) * Fraction(*window.time_base)
    ticks = range(window.first_tick, window.first_tick + options.num_frames)
    return torch.tensor([float(origin + Fraction(k, options.fps)) for k in ticks], dtype=torch.float64)


def anchored(cameras: Cameras) -> Cameras:
    """With the first known pose as the origin; unknown poses become the identity."""
    if not cameras.valid.any():
        return Cameras(torch.eye(4, dtype=torch.float64).repeat(len(cameras), 1, 1), cameras.intrinsics_px,
                       cameras.hw, cameras.valid)
    first = int(cameras.valid.nonzero()[0])
    c2w = anchor(cameras.c2w[first:].double())
    c2w = torch.cat([torch.eye(4, dtype=torch.float64).repeat(first, 1, 1), c2w])
    c2w[~cameras.valid] = torch.eye(4, dtype=torch.float64)
    c2w[first] = torch.eye(4, dtype=torch.float64)  # exactly
    c2w[:, 3] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    return Cameras(c2w, cameras.intrinsics_px, cameras.hw, cameras.valid)
