"""World clips as video files, small frames enlarged, and back to the pixels that are measured.

What is scored is always what a file shows, whoever wrote it. H.264 halves the resolution of colours: at 32x32 px an
error of 3 to 6 levels of 255 (RMS). Every pixel as a block of 8x8 brings it below one level.
"""

from __future__ import annotations

from pathlib import Path

from einops import reduce, repeat
from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io import write_video
from remind.errors import InputError
from remind.evaluation.found_videos import VideoProblem, read_video
from remind.prompt_schedule import FPS

MIN_SHOWN_PX = 256
MAX_SCORED_PX = 64  # our choice: a meter renders about a hundred candidates of a frame; finer ones tell nothing more
CRF = 12


def scored_hw(hw: tuple[int, int]) -> tuple[int, int]:
    """Size at which videos of a size are measured: their own, or a whole fraction whose smaller side is <= 64 px.

    Raises:
        InputError: no whole fraction is that small.
    """
    smaller = min(hw)
    for factor in range(1, smaller // 16 + 1):
        if smaller <= MAX_SCORED_PX * factor and hw[0] % factor == 0 == hw[1] % factor:
            return hw[0] // factor, hw[1] // factor
    raise InputError("videos of this size cannot be measured", got=hw, expected="16 px or more, with a common divisor",
                     fix="e.g. 32 32, 64 64 or 480 832")  # fmt: skip


def write_case_video(path: Path, rgb: UInt8[Tensor, "t h w 3"]) -> None:
    """Write a video so that its pixels survive; its folder is made if missing.

    Raises:
        VideoError: a place that cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    factor = -(-MIN_SHOWN_PX // min(rgb.shape[1:3]))
    write_video(path, repeat(rgb, "t h w c -> t (h a) (w b) c", a=factor, b=factor), FPS, crf=CRF)


def read_case_video(path: Path, hw: tuple[int, int], num_frames: int) -> UInt8[Tensor, "t h w 3"]:
    """The frames of a video at the size that is measured, each pixel the mean of those that it stands for.

    Args:
        hw: of the result; the file's is a whole multiple of it.

    Raises:
        VideoProblem: damaged, of another length, or of no such size.
    """
    rgb = read_video(path, num_frames=num_frames)
    height, width = rgb.shape[1:3]
    factor = height // hw[0]
    if factor < 1 or (height, width) != (factor * hw[0], factor * hw[1]):
        raise VideoProblem("wrong size", got=f"{path.name}: {height}x{width} px",
                           expected=f"a whole multiple of {hw[0]}x{hw[1]} px")  # fmt: skip
    if factor == 1:
        return rgb
    return reduce(rgb.float(), "t (h a) (w b) c -> t h w c", "mean", a=factor, b=factor).round().to(rgb.dtype)
