"""How much moves in a window of frames: enough to leave still pictures out.

Our choice: two numbers from luma differences. Optical flow would tell a moving camera from a moving object;
this only tells something from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.errors import InputError

# Frames between the pictures compared for area: half a second at 16 fps, so that slow motion counts too.
_AREA_LAG = 8
# Change of luma, 0..1, above which a pixel counts as moving: over the noise of compression.
_AREA_THRESHOLD = 0.06


@dataclass(frozen=True)
class Motion:
    """Motion of a window.

    Args:
        mean_change: mean |luma(t+1) - luma(t)|, 0..1.
        moving_share: share of the pixels that change visibly within half a second at some time, 0..1.
    """

    mean_change: float
    moving_share: float


def thumbnails(rgb: UInt8[Tensor, "t h w 3"], side_px: int = 128) -> UInt8[Tensor, "t y x 3"]:
    """Frames made small enough that no side is longer than `side_px`, antialiased: what statistics are taken of.

    Raises:
        InputError: OpenCV is not installed.
    """
    height, width = rgb.shape[1:3]
    scale = side_px / max(height, width)
    if scale >= 1:
        return rgb
    cv2 = opencv()
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return torch.from_numpy(np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in rgb.numpy()]))


def opencv() -> Any:
    """OpenCV with one thread: files, not pictures, are what runs side by side."""
    try:
        import cv2
    except ImportError:
        raise InputError("motion is measured with OpenCV, which is not installed",
                         fix="pip install 'remind-video[data]'") from None
    cv2.setNumThreads(1)
    return cv2


def luma(rgb: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, "t h w"]:
    """Rec. 709 luma of the sRGB values, 0..255."""
    return rgb.float() @ torch.tensor([0.2126, 0.7152, 0.0722])


def measure_motion(rgb: UInt8[Tensor, "t h w 3"]) -> Motion:
    """Motion of a window of at least two frames."""
    seen = luma(rgb) / 255
    lag = min(_AREA_LAG, len(seen) - 1)
    far = (seen[lag:] - seen[:-lag]).abs().amax(0)
    return Motion(
        mean_change=(seen[1:] - seen[:-1]).abs().mean().item(),
        moving_share=(far > _AREA_THRESHOLD).float().mean().item(),
    )


def why_static(motion: Motion, *, min_change: float = 5e-4, min_share: float = 0.01) -> str | None:
    """A reason to leave a window out, or None.

    Args:
        min_change: least mean change, 0..1.
        min_share: least moving share of the picture, 0..1.
    """
    if motion.moving_share < min_share:
        return f"static: {motion.moving_share:.1%} of the picture moves, at least {min_share:.1%} is needed"
    if motion.mean_change < min_change:
        return f"static: luma changes by {motion.mean_change:.5f} a frame, at least {min_change} is needed"
    return None
