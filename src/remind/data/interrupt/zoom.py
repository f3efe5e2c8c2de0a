"""A crop that closes in and opens again, with intrinsics that follow it (ReMind F.2, zoom)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from remind.data.interrupt.canvas import Stretch
from remind.data.interrupt.styles import ZoomStyle
from remind.geometry import crop_intrinsics


def zoom(stretch: Stretch, style: ZoomStyle, seed: int) -> None:
    """Crop and enlarge along the clock. Intrinsics stay exact; depth is taken from the nearest pixel."""
    height, width = stretch.hw
    share = 1 / (1 + (style.peak_scale - 1) * stretch.away)  # side of the crop over side of the frame
    offset = torch.tensor(style.pan) + style.shake * _tremor(len(share), seed)
    centre = 0.5 + 0.5 * (1 - share)[:, None] * offset
    left, top = (centre[:, 0] - share / 2) * width, (centre[:, 1] - share / 2) * height

    # Where each output pixel's centre lies in the source, in grid_sample's [-1, 1] (pixel edges at the ends).
    x = ((left[:, None] + (torch.arange(width) + 0.5) * share[:, None]) / width * 2 - 1).float()
    y = ((top[:, None] + (torch.arange(height) + 0.5) * share[:, None]) / height * 2 - 1).float()
    grid = torch.empty(1, height, width, 2)
    for t in range(len(stretch)):  # frame by frame: grids and floats of a whole clip fit into no cache
        grid[0, :, :, 0], grid[0, :, :, 1] = x[t], y[t, :, None]
        pixels = _sample(stretch.rgb[t].permute(2, 0, 1)[None].float(), grid, "bilinear")[0]
        stretch.rgb[t] = pixels.round_().to(torch.uint8).permute(1, 2, 0)  # means of bytes need no clamp
        if stretch.depth is not None:  # nearest: a blend of near and far lies on no surface
            stretch.depth[t] = _sample(stretch.depth[t][None, None].float(), grid, "nearest")[0, 0]
    if stretch.intrinsics_px is not None:
        stretch.intrinsics_px[:] = _crop_cameras(stretch, left, top, share).to(stretch.intrinsics_px.dtype)


def _sample(source: Float[Tensor, "1 c h w"], grid: Float[Tensor, "1 h w 2"], mode: str) -> Float[Tensor, "1 c h w"]:
    return grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=False)


def _crop_cameras(stretch: Stretch, left: Tensor, top: Tensor, share: Tensor) -> Float[Tensor, "t 4"]:
    """Intrinsics after the crop and the way back to full size; the crop is given in the clip's pixels."""
    assert stretch.intrinsics_px is not None
    left_px = left * (stretch.camera_hw[1] / stretch.hw[1])
    top_px = top * (stretch.camera_hw[0] / stretch.hw[0])
    return crop_intrinsics(stretch.intrinsics_px.double(), left_px=left_px, top_px=top_px) / share[:, None]


def _tremor(num_frames: int, seed: int) -> Float[Tensor, "t 2"]:
    """Two slow sines per axis with drawn phases, within [-1, 1]."""
    phase = torch.rand(2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 * math.pi
    t = torch.arange(num_frames, dtype=torch.float64)[:, None]
    return 0.6 * torch.sin(2 * math.pi * t / 11 + phase[0]) + 0.4 * torch.sin(2 * math.pi * t / 5 + phase[1])
