"""How far the camera of a video has turned to the side in each frame, from its pixels, without a network.

Source: our choice: a picture laid on a cylinder about the camera moves sideways when the camera turns, and by nothing
else; frames are matched to earlier ones by correlation. It stands in where no pose estimator runs. It knows turns to
the side only: a camera that moves looks like one that turns, so it is asked about turning and resting cameras alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from remind.errors import InputError

VERSION = "turn-by-pixels-1"
WIDTH = 96
"""Columns that are compared; a larger picture is averaged to so many."""
MIN_MATCH = 0.6
"""Our choice: correlation below which two pictures do not show one place."""
MIN_COMMON = 0.4  # of the columns must be common to two frames
NEW_KEY = 0.25  # of the field of view between frames that others are matched to
_FLAT = 1e-3  # spread of grey, of 255, below which nothing can be told


@dataclass(frozen=True)
class Turn:
    """What was measured.

    Args:
        yaw_deg: per frame, positive to the right, frame 0 is 0.
        matched: per frame, the correlation with the frame that it was matched to, -1..1; low = the number means little.
    """

    yaw_deg: Float[Tensor, " t"]
    matched: Float[Tensor, " t"]


def turn_by_pixels(rgb: UInt8[Tensor, "t h w 3"], *, fov_deg: float) -> Turn:
    """Measure it. Every frame is matched to a key frame that looks nearly the same way, so that a camera that comes
    back finds its old place instead of adding up errors; to the frame before where no key frame fits.

    Args:
        fov_deg: horizontal field of view; the angles are proportional to what it is taken for.

    Raises:
        InputError: no frames, or no possible field of view.
    """
    if not len(rgb) or not 5 <= fov_deg <= 170:
        raise InputError("turns need frames and a field of view", got=f"{len(rgb)} frames, {fov_deg} degrees",
                         expected="1 or more frames, 5..170 degrees")  # fmt: skip
    pictures, step_deg = _cylinder(rgb, fov_deg)
    yaw, matched, keys = [0.0], [1.0], [0]
    for frame in range(1, len(pictures)):
        near = min(keys, key=lambda key: abs(yaw[key] - yaw[frame - 1]))
        shift, match = _shift(pictures[near], pictures[frame], around=(yaw[frame - 1] - yaw[near]) / step_deg)
        found = yaw[near] + shift * step_deg
        if match < MIN_MATCH:
            shift, match = _shift(pictures[frame - 1], pictures[frame], around=0.0)
            found = yaw[frame - 1] + shift * step_deg
        yaw.append(found)
        matched.append(match)
        if min(abs(yaw[key] - found) for key in keys) > NEW_KEY * fov_deg:
            keys.append(frame)
    return Turn(torch.tensor(yaw, dtype=torch.float64), torch.tensor(matched, dtype=torch.float64))


def _cylinder(rgb: UInt8[Tensor, "t h w 3"], fov_deg: float) -> tuple[Float[Tensor, "t h w"], float]:
    """Grey pictures whose columns are equal angles, and degrees per column."""
    height, width = rgb.shape[1:3]
    columns = min(WIDTH, width)
    rows = max(4, round(height * columns / width))
    grey = torch.stack([interpolate(frame.float().mean(-1)[None, None], (rows, columns), mode="area")[0]
                        for frame in rgb])  # fmt: skip
    half = math.radians(fov_deg) / 2
    angles = torch.linspace(-half, half, 2 * columns + 1)[1::2]  # of the columns' middles
    across = (torch.tan(angles) / math.tan(half)).expand(rows, columns)
    heights = torch.linspace(-1, 1, 2 * rows + 1)[1::2]
    down = heights[:, None] / torch.cos(angles)[None]  # rows of equal height on the cylinder
    grid = torch.stack([across, down], -1).expand(len(grey), -1, -1, -1)
    kept = down.abs().amax(1) <= 1  # rows that every column has
    return grid_sample(grey, grid, align_corners=False, padding_mode="border")[:, 0, kept], fov_deg / columns


def _shift(first: Float[Tensor, "h w"], second: Float[Tensor, "h w"], *, around: float) -> tuple[float, float]:
    """Columns that the camera turned by to the right from one picture to the next, and the correlation there.

    The best whole shift that leaves enough in common, then the top of a parabola through it and its neighbours.
    """
    width = first.shape[1]
    most = int(width * (1 - MIN_COMMON))
    shifts = list(range(-most, most + 1))
    matches = torch.tensor([_correlation(first, second, shift) for shift in shifts])
    # Equal matches, as of plain pictures, go to what is expected.
    expected = torch.tensor([abs(shift - around) for shift in shifts])
    best = int((matches - 1e-4 * expected).argmax())
    top = float(matches[best])
    if not 0 < best < len(shifts) - 1:
        return float(shifts[best]), top
    before, after = float(matches[best - 1]), float(matches[best + 1])
    bend = before - 2 * top + after
    return shifts[best] + (0.5 * (before - after) / bend if bend < -1e-9 else 0.0), top


def _correlation(first: Float[Tensor, "h w"], second: Float[Tensor, "h w"], shift: int) -> float:
    width = first.shape[1]
    a, b = first[:, max(shift, 0) : width + min(shift, 0)], second[:, max(-shift, 0) : width - max(shift, 0)]
    a, b = a - a.mean(), b - b.mean()
    spread = a.norm() * b.norm()
    return float((a * b).sum() / spread) if spread > _FLAT * a.numel() else 0.0
