"""What a viewer sees at the ticks of a constant clock, whatever the rate of the file, in exact fractions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io.container import DEFAULT_LIMITS, Source, VideoLimits, name_of, time_base_of
from remind.data.video_io.picture import Picture
from remind.data.video_io.reading import decode
from remind.errors import InputError, VideoError

Rate = int | float | Fraction


@dataclass(frozen=True)
class Sample:
    """What is on screen at one tick of a constant clock, and the pts it was stored under."""

    pts: int
    rgb: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class SampledClip:
    """Frames on a constant clock and where each came from."""

    rgb: UInt8[Tensor, "t h w 3"]
    pts: tuple[int, ...]
    time_base: Fraction


def shown(
    source: Source,
    *,
    fps: Rate,
    start_pts: int | None = None,
    stop_pts: int | None = None,
    first_tick: int = 0,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> Iterator[Picture]:
    """What a viewer sees at the ticks start + k / fps: the picture with the largest pts at or before each.

    Our choice: sample and hold in exact fractions, right for variable frame rates; it repeats pictures of
    slower videos, skips pictures of faster ones, and blends none. One that is repeated is the same object.

    Args:
        fps: rate of the clock, > 0.
        start_pts: time of tick 0; None is the first picture's.
        stop_pts: no tick at or after this; None goes on until the last picture leaves the screen.
        first_tick: of those that are given out; other than 0 only with a `start_pts`.
    """
    if not fps > 0:
        raise InputError("the frame rate must be positive", got=fps, expected="e.g. 16")
    time_base = time_base_of(source, limits)
    ticks_per_pts = time_base * Fraction(fps).limit_denominator(1_000_000)
    origin, k, seen = start_pts, first_tick, None
    until = None

    def tick(index: int) -> Fraction:
        assert origin is not None
        return origin + index / ticks_per_pts

    seek_pts = None if start_pts is None else int(tick(first_tick))
    for picture in decode(source, start_pts=seek_pts, limits=limits):
        origin = picture.pts if origin is None else origin
        while seen is not None and tick(k) < picture.pts:
            if stop_pts is not None and tick(k) >= stop_pts:
                return
            yield seen
            k += 1
        if seen is None and tick(k) < picture.pts:
            raise VideoError(
                f"{name_of(source)}: nothing is shown yet at the start asked for",
                got=f"pts {origin}",
                expected=f"pts {picture.pts} or later",
                fix="start at the first picture",
            )
        seen, until = picture, picture.pts + picture.duration
    while seen is not None and until is not None and tick(k) < min(until, stop_pts or until):
        yield seen
        k += 1


def sample(
    source: Source,
    *,
    fps: Rate,
    hw: tuple[int, int] | None = None,
    start_pts: int | None = None,
    stop_pts: int | None = None,
    first_tick: int = 0,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> Iterator[Sample]:
    """The pictures of `shown` as RGB.

    Args:
        hw: size to scale and crop to; None keeps the upright size. The others as `shown`.
    """
    last: Picture | None = None
    for picture in shown(
        source, fps=fps, start_pts=start_pts, stop_pts=stop_pts, first_tick=first_tick, limits=limits
    ):
        if picture is not last:
            last, rgb = picture, picture.rgb(hw)
        yield Sample(picture.pts, rgb)


def read_clip(
    source: Source,
    *,
    num_frames: int,
    fps: Rate,
    hw: tuple[int, int] | None = None,
    start_pts: int | None = None,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> SampledClip:
    """Exactly `num_frames` frames on a constant clock; sampling as in `sample`.

    Raises:
        VideoError: as `decode`, or a video with too few frames from `start_pts` on.
    """
    samples = []
    for item in sample(source, fps=fps, hw=hw, start_pts=start_pts, limits=limits):
        samples.append(item)
        if len(samples) == num_frames:
            break
    if len(samples) < num_frames:
        raise VideoError(
            f"{name_of(source)}: too short",
            got="one picture"
            if len({s.pts for s in samples}) == 1
            else f"{len(samples)} frames at {fps} fps",
            expected=f"{num_frames} frames at {fps} fps ({num_frames / float(fps):.2f} s)",
            fix="use a longer video or fewer frames",
        )
    rgb = torch.from_numpy(np.stack([s.rgb for s in samples]))
    return SampledClip(rgb, tuple(s.pts for s in samples), time_base_of(source, limits))
