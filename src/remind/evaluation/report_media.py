"""Pictures and clips inside an HTML file: strips as PNG and side-by-side videos as H.264, in base64."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from remind.errors import InputError
from remind.frame_graph import Schedule

PHASES = ("before", "changing", "hidden", "after")
PHASE_COLOURS = {"before": "#2a9d8f", "changing": "#e9a23b", "hidden": "#4a4e69", "after": "#3a6fd8"}
MIN_PANEL_PX = 192  # smaller H.264 pictures are shown as a smear, or not at all
COLUMNS_OF_CLIP = 3
_LABEL_PX = 22
_BAR_PX = 8


def phase_of(frame: int, schedule: Schedule) -> str:
    """Where a frame lies: `before` any interruption, `changing` (part of it), `hidden`, or `after`."""
    if frame in schedule.hidden_frames():
        return "hidden"
    if frame in schedule.degraded_frames():
        return "changing"
    first = min((i.start for i in schedule.interruptions), default=schedule.num_frames)
    return "before" if frame < first else "after"


def strip_frames(schedule: Schedule) -> list[int]:
    """About twelve frames that tell the story: three before, four of the interruption, five after it.

    Args:
        schedule: with at least one interruption; the last one is shown.
    """
    if not schedule.interruptions:
        return sorted({round(f) for f in np.linspace(0, schedule.num_frames - 1, 12)})
    event = schedule.interruptions[-1]
    before = np.linspace(0, event.start - 1, 3)
    during = np.linspace(event.start, max(event.start, event.hidden_stop - 1), 4)
    after = np.linspace(event.hidden_stop, schedule.num_frames - 1, 5)
    return sorted({round(float(f)) for f in (*before, *during, *after)})


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _enlarge(frames: np.ndarray, side_px: int) -> np.ndarray:
    """Nearest neighbour by a whole factor, so that the smaller side reaches `side_px`."""
    factor = max(1, math.ceil(side_px / min(frames.shape[1:3])))
    return frames.repeat(factor, 1).repeat(factor, 2)


def strip_png(rgb: UInt8[Tensor, "t h w 3"], frames: Sequence[int], *, side_px: int = 128) -> str:
    """Some frames side by side as a data URI, each in a cell of equal width.

    Args:
        rgb: the video.
        frames: which, in order.
        side_px: least height of a cell.
    """
    cells = _enlarge(rgb[list(frames)].numpy(), side_px)
    margin = 2
    padded = np.pad(cells, ((0, 0), (0, 0), (margin, margin), (0, 0)))
    alpha = np.pad(np.full(cells.shape[:3], 255, np.uint8), ((0, 0), (0, 0), (margin, margin)))
    image = np.concatenate([padded, alpha[..., None]], -1)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(list(image), 1)).save(buffer, "PNG", compress_level=4)
    return data_uri("image/png", buffer.getvalue())


def side_by_side(
    panels: Mapping[str, UInt8[Tensor, "t h w 3"]], schedule: Schedule, *, columns: int = COLUMNS_OF_CLIP
) -> UInt8[np.ndarray, "t height width 3"]:
    """One labelled video of several, in step, with a bar that runs with time in the colours of the phases.

    Args:
        panels: label -> video; all of one size.
        schedule: colours the bar and the frame counter.
        columns: panels per row.

    Raises:
        InputError: no panel, or panels of different size.
    """
    shapes = {tuple(video.shape) for video in panels.values()}
    if len(shapes) != 1:
        raise InputError("panels must share one size", got=shapes, expected="one shape [t h w 3]")
    num_frames = shapes.pop()[0]
    tiles = [_labelled(name, _enlarge(v.numpy(), MIN_PANEL_PX)) for name, v in panels.items()]
    tiles += [np.full_like(tiles[0], 24)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 2) for i in range(0, len(tiles), columns)]
    picture = np.concatenate(rows, 1)
    footer = np.full((num_frames, _BAR_PX + _LABEL_PX, picture.shape[2], 3), 24, np.uint8)
    width = picture.shape[2]
    colours = np.array([_rgb(PHASE_COLOURS[phase_of(f, schedule)]) for f in range(num_frames)], np.uint8)
    bar = colours[(np.arange(width) * num_frames // width).clip(0, num_frames - 1)]
    for frame in range(num_frames):
        now = (frame + 1) * width // num_frames
        footer[frame, :_BAR_PX, :now] = bar[:now]
        footer[frame, :_BAR_PX, now:] = bar[now:] // 3
        phase = phase_of(frame, schedule)
        footer[frame, _BAR_PX:] = _text(f"frame {frame}   {phase}", width, _rgb(PHASE_COLOURS[phase]))
    out = np.concatenate([picture, footer], 1)
    return np.pad(out, ((0, 0), (0, out.shape[1] % 2), (0, out.shape[2] % 2), (0, 0)))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _text(text: str, width: int, background: tuple[int, int, int] = (24, 24, 24)) -> np.ndarray:
    image = Image.new("RGB", (width, _LABEL_PX), background)
    ImageDraw.Draw(image).text((6, 3), text, fill=(255, 255, 255), font=ImageFont.load_default(14))
    return np.asarray(image)


def _labelled(name: str, video: np.ndarray) -> np.ndarray:
    label = np.broadcast_to(_text(name, video.shape[2]), (len(video), _LABEL_PX, video.shape[2], 3))
    return np.concatenate([label, video], 1)


def mp4_uri(rgb: UInt8[np.ndarray, "t h w 3"], fps: float, *, crf: int = 23) -> str:
    """An H.264 clip as a data URI that every browser plays (yuv420p).

    Args:
        rgb: even height and width, px.
        fps: frames per second.
        crf: 0 (lossless) to 51.

    Raises:
        InputError: an odd size.
    """
    height, width = rgb.shape[1:3]
    if height % 2 or width % 2:
        raise InputError("H.264 in 4:2:0 needs an even size", got=(height, width), fix="pad by one pixel")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        stream.thread_count = 1
        for image in rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
        container.mux(stream.encode())
    return data_uri("video/mp4", buffer.getvalue())
