"""A decoded frame and its time; turned into pixels only when somebody looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from jaxtyping import UInt8

from remind.data.video_io.yuv import BT709, EXACT, MATRICES, FromRgb, copy_planes, plane_views
from remind.geometry import cover_crop


class Scaler:
    """Converts the frames of one stream; setting a conversion up costs more than doing it, so each is kept.

    Args:
        matrix: of the YUV that it makes, as its number in H.273.
    """

    def __init__(self, matrix: int = BT709) -> None:
        self.matrix = matrix
        self.from_rgb = FromRgb(matrix)
        self._conversions: dict[object, VideoReformatter] = {}

    def __call__(
        self, frame: av.VideoFrame, hw: tuple[int, int], pixel_format: str, interpolation: Interpolation
    ) -> av.VideoFrame:
        """The frame at another size, in another format; the frame itself if it is all that."""
        conversion = self._conversions.setdefault((hw, pixel_format, interpolation), VideoReformatter())
        # One thread: files, not rows of a picture, are what runs side by side.
        return conversion.reformat(frame, hw[1], hw[0], pixel_format, interpolation=interpolation, threads=1)


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
        """Upright sRGB without alpha; `hw` scales to cover that size (antialiased) and crops the middle."""
        display = self.display_hw()
        height, width = display if hw is None else hw
        cover, (top, left) = cover_crop(display, (height, width))
        turns = _quarter_turns(self.frame)
        stored = (cover[1], cover[0]) if turns % 2 else cover
        out = np.empty((height, width, 3), np.uint8)
        for channel, plane in enumerate(self._rgb_planes(stored, _method(display, cover))):
            out[..., channel] = np.rot90(plane, turns)[top : top + height, left : left + width]
        return out

    def write_yuv(self, hw: tuple[int, int], out: UInt8[np.ndarray, "rows w"]) -> None:
        """The picture of `rgb(hw)` as 4:2:0, under the matrix of its file.

        Args:
            out: one of `YuvFrames.planes`, to be filled.
        """
        if not self._is_plain_yuv():
            copy_planes(plane_views(self.scaler.from_rgb(self.rgb(hw))), (0, 0), hw, out)
            return
        display = self.display_hw()
        cover, corner = cover_crop(display, hw)
        scaled = self.scaler(self.frame, cover, "yuv420p", _method(display, cover) | Interpolation.ACCURATE_RND)
        copy_planes(plane_views(scaled), corner, hw, out)

    def thumbnail(self, side_px: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB, antialiased, so small that no side is longer; as stored, not turned and not cut: for statistics."""
        scale = min(1.0, side_px / max(self.frame.height, self.frame.width))
        height, width = (max(1, round(side * scale)) for side in (self.frame.height, self.frame.width))
        return np.stack(self._rgb_planes((height, width), Interpolation.AREA), -1)

    def _rgb_planes(self, hw: tuple[int, int], method: Interpolation) -> list[UInt8[np.ndarray, "_ _"]]:
        """Red, green and blue of the frame as it is stored."""
        if self.frame.format.is_rgb or self.frame.format.has_palette:
            image = self.scaler(self.frame, hw, "rgb24", method | EXACT).to_ndarray()
            return [image[..., channel] for channel in range(3)]
        # The same numbers as "rgb24" in a third of the time: swscale has vector code for planes alone.
        green, blue, red = plane_views(self.scaler(self.frame, hw, "gbrp", method | EXACT))
        return [red, green, blue]

    def _is_plain_yuv(self) -> bool:
        """Whether its colours may be kept: upright YUV under the matrix that the file promised, rows in order.

        Full range is none: swscale's way to limited range tints by a level.
        """
        frame = self.frame
        return (
            frame.format.name.startswith("yuv")
            and not frame.format.name.startswith("yuvj")
            and frame.color_range != ColorRange.JPEG
            and MATRICES.get(frame.colorspace) == self.scaler.matrix
            and frame.planes[0].line_size > 0
            and not _quarter_turns(frame)
        )


def _method(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Interpolation:
    smaller = to_hw[0] < from_hw[0] or to_hw[1] < from_hw[1]
    return Interpolation.AREA if smaller else Interpolation.BICUBIC


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns to the left that bring the picture upright, 0..3."""
    return round(frame.rotation / 90) % 4
