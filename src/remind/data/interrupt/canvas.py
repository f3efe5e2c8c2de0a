"""What effects draw on: the frames of one interruption, in place, and the clock that they all follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.frame_graph import Interruption
from remind.geometry import away_and_back


@dataclass(frozen=True)
class Stretch:
    """The frames [start, stop) of a clip of its own, to be written to.

    Args:
        rgb: their colours.
        depth: their depth, or None.
        intrinsics_px: of their cameras, in pixels of `camera_hw`, or None.
        camera_hw: what the intrinsics belong to.
        away: how far gone each frame is, 0..1; 1 on all hidden frames.
        hidden: the fully hidden frames, counted from the first of the stretch.
    """

    rgb: UInt8[Tensor, "t h w 3"]
    depth: Float[Tensor, "t h w"] | None
    intrinsics_px: Float[Tensor, "t 4"] | None
    camera_hw: tuple[int, int]
    away: Float[Tensor, " t"]
    hidden: range

    def __len__(self) -> int:
        return self.rgb.shape[0]

    @property
    def hw(self) -> tuple[int, int]:
        return self.rgb.shape[1], self.rgb.shape[2]

    @property
    def leaving(self) -> list[bool]:
        """Per frame, whether it is on the way back."""
        return [t >= self.hidden.stop for t in range(len(self))]


def clock(event: Interruption, num_frames: int) -> Float[Tensor, " t"]:
    """How far gone each frame of a clip is, 0 outside of [start, stop)."""
    return away_and_back(num_frames, start=event.start, hidden_start=event.hidden_start,
                         hidden_stop=event.hidden_stop, stop=event.stop)  # fmt: skip


def cover(stretch: Stretch, t: int, image: UInt8[Tensor, "h w 3"], alpha: Float[Tensor, "h w"]) -> None:
    """Lay an image over a frame; depth behind it becomes unknown.

    Args:
        alpha: share of each pixel that is covered, 0..1.
    """
    frame = stretch.rgb[t]
    mixed = (alpha > 0) & (alpha < 1)  # few pixels at the edges: only they need arithmetic
    under, over, share = frame[mixed].double(), image[mixed].double(), alpha[mixed].double()[:, None]
    torch.where((alpha >= 1)[..., None], image, frame, out=frame)
    frame[mixed] = torch.lerp(under, over, share).round().to(torch.uint8)
    if stretch.depth is not None:
        stretch.depth[t].masked_fill_(alpha > 0, 0)


def cover_hidden(stretch: Stretch, image: UInt8[Tensor, "h w 3"]) -> None:
    """Lay an image over all hidden frames, wholly."""
    hidden = slice(stretch.hidden.start, stretch.hidden.stop)
    stretch.rgb[hidden] = image
    if stretch.depth is not None:
        stretch.depth[hidden] = 0
