"""Frames as H.264 holds them: 4:2:0, 8 bits, limited range.

Our choice: a stored clip keeps the colour matrix of its source. On the way through RGB its colours would be rounded
twice, and that would take longer than decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8

BT709 = 1
_BT601 = 6
# Numbers of H.273 that swscale reads: BT.709, none (it takes BT.601), FCC, BT.601 twice, SMPTE 240M, BT.2020.
MATRICES = {BT709: BT709, 2: _BT601, 4: 4, 5: _BT601, _BT601: _BT601, 7: 7, 9: 9}
# Without these two flags swscale truncates, and every conversion darkens the picture by one or two levels.
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class YuvFrames:
    """Frames of one size and matrix.

    Args:
        planes: of each frame Y, then U, then V, as in I420; odd sides repeat their last row or column.
        hw: of the pictures, without what was repeated.
        matrix: its number in H.273.
    """

    planes: UInt8[np.ndarray, "t rows w"]
    hw: tuple[int, int]
    matrix: int

    def __len__(self) -> int:
        return len(self.planes)


def empty_planes(num_frames: int, hw: tuple[int, int]) -> UInt8[np.ndarray, "t rows w"]:
    """Room for frames of this size, as `YuvFrames` holds them."""
    height, width = hw[0] + hw[0] % 2, hw[1] + hw[1] % 2
    return np.empty((num_frames, height * 3 // 2, width), np.uint8)


def split_planes(i420: UInt8[np.ndarray, "rows w"]) -> tuple[UInt8[np.ndarray, "_ _"], ...]:
    """Y, U and V of one frame; views."""
    width, flat = i420.shape[1], i420.reshape(-1)
    height = i420.shape[0] * 2 // 3
    luma, chroma = height * width, height * width // 4
    half = (height // 2, width // 2)
    return (flat[:luma].reshape(height, width), flat[luma : luma + chroma].reshape(half),
            flat[luma + chroma :].reshape(half))  # fmt: skip


def plane_views(frame: av.VideoFrame) -> list[UInt8[np.ndarray, "_ _"]]:
    """The planes of a frame of 8 bits without their padding; views that keep the frame alive."""
    return [np.frombuffer(memoryview(p), np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in frame.planes]


def copy_planes(source: list[UInt8[np.ndarray, "_ _"]], corner: tuple[int, int], hw: tuple[int, int],
                out: UInt8[np.ndarray, "rows w"]) -> None:  # fmt: skip
    """Y, U and V of a rectangle.

    Args:
        source: planes of a 4:2:0 picture.
        corner: top left, even.
        hw: of the rectangle.
        out: as one of `YuvFrames.planes`.
    """
    (top, left), (height, width) = corner, hw
    luma, *chroma = split_planes(out)
    luma[:height, :width] = source[0][top : top + height, left : left + width]
    luma[height:, :width] = luma[height - 1 : height, :width]
    luma[:, width:] = luma[:, width - 1 : width]
    for target, plane in zip(chroma, source[1:], strict=True):
        rows, columns = target.shape
        target[:] = plane[top // 2 : top // 2 + rows, left // 2 : left // 2 + columns]


def frame_of(i420: UInt8[np.ndarray, "rows w"]) -> av.VideoFrame:
    """A frame to encode, from one of `YuvFrames.planes`."""
    planes = split_planes(i420)
    frame = av.VideoFrame(i420.shape[1], len(planes[0]), "yuv420p")
    for view, plane in zip(plane_views(frame), planes, strict=True):
        view[:] = plane
    return frame


class FromRgb:
    """Turns RGB into YUV; odd sides repeat their last row or column, since 4:2:0 needs even ones.

    Args:
        matrix: its number in H.273.
    """

    def __init__(self, matrix: int):
        self._matrix = 5 if matrix == _BT601 else matrix  # swscale's number
        self._conversion = VideoReformatter()

    def __call__(self, rgb: UInt8[np.ndarray, "h w 3"]) -> av.VideoFrame:
        if rgb.shape[0] % 2 or rgb.shape[1] % 2:
            rgb = np.pad(rgb, [(0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0)], mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        return self._conversion.reformat(frame, format="yuv420p", dst_colorspace=self._matrix,
                                         interpolation=Interpolation.AREA | EXACT, threads=1)  # fmt: skip
