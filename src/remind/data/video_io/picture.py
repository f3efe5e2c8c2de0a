"""A decoded frame and its time; turned into pixels only when somebody looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8

# Without these two flags swscale truncates, and every conversion darkens the picture by one or two levels.
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class Scaler:
    """Converts the frames of one stream; setting a conversion up costs more than doing it, so each is kept."""

    def __init__(self) -> None:
        self._conversions: dict[object, VideoReformatter] = {}

    def __call__(
        self, frame: av.VideoFrame, hw: tuple[int, int], pixel_format: str, interpolation: Interpolation
    ) -> av.VideoFrame:
        """The frame at another size, in another format."""
        conversion = self._conversions.setdefault((hw, pixel_format, interpolation), VideoReformatter())
        return conversion.reformat(frame, hw[1], hw[0], pixel_format, interpolation=interpolation)


@dataclass(frozen=True)
class Picture:
    """One decoded frame at its time; turned to RGB only when somebody looks.

    Args:
        pts: presentation time in units of the stream's time base, strictly increasing within a file.
        duration: for how long it is shown, same unit, > 0.
        pixel_aspect: width over height of one stored pixel.
    """

    pts: int
    duration: int
    pixel_aspect: Fraction
    frame: av.VideoFrame = field(repr=False)
    scaler: Scaler = field(repr=False, default_factory=lambda: Scaler())

    def display_hw(self) -> tuple[int, int]:
        """Upright size with square pixels."""
        height, width = self.frame.height, max(1, round(self.frame.width * self.pixel_aspect))
        return (width, height) if _quarter_turns(self.frame) % 2 else (height, width)

    def rgb(self, hw: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """Upright sRGB without alpha; `hw` scales to cover that size (antialiased) and crops the centre."""
        display = self.display_hw()
        target = display if hw is None else hw
        scale = max(target[0] / display[0], target[1] / display[1])
        cover = tuple(max(t, round(d * scale)) for t, d in zip(target, display, strict=True))
        turns = _quarter_turns(self.frame)
        height, width = (cover[1], cover[0]) if turns % 2 else cover
        method = Interpolation.AREA if scale < 1 else Interpolation.BICUBIC
        converted = self.scaler(self.frame, (height, width), "rgb24", method | EXACT)
        upright = np.rot90(converted.to_ndarray(), turns)
        top, left = (cover[0] - target[0]) // 2, (cover[1] - target[1]) // 2
        return np.ascontiguousarray(upright[top : top + target[0], left : left + target[1]])

    def thumbnail(self, side_px: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB, antialiased, so small that no side is longer; as stored, not turned and not cut: for statistics."""
        scale = min(1.0, side_px / max(self.frame.height, self.frame.width))
        height, width = (max(1, round(side * scale)) for side in (self.frame.height, self.frame.width))
        return self.scaler(self.frame, (height, width), "rgb24", Interpolation.AREA).to_ndarray()


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns to the left that bring the picture upright, 0..3."""
    return round(frame.rotation / 90) % 4
