"""Pictures of a file in order of time, and what the file says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io.container import (
    DEFAULT_LIMITS,
    Source,
    VideoLimits,
    check_bounds,
    declared_duration,
    name_of,
    open_container,
    stream_time_base,
    video_stream,
)
from remind.data.video_io.picture import Picture, Scaler
from remind.data.video_io.yuv import BT709, MATRICES
from remind.errors import VideoError


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its picture; sizes are upright (after the rotation that its metadata asks for).

    Args:
        name: the file's name, for messages.
        time_base: seconds per pts.
        fps: average rate, None if unknown.
        duration_s: None if the file does not say.
    """

    name: str
    container: str
    codec: str
    pixel_format: str
    hw: tuple[int, int]
    fps: Fraction | None
    time_base: Fraction
    duration_s: float | None
    has_audio: bool


@dataclass(frozen=True)
class Video:
    """A file that is being read.

    Args:
        matrix: of the YUV that its pictures give, as its number in H.273.
        pictures: all of them in order of time, one held at a time; raises as `decode`.
    """

    info: VideoInfo
    matrix: int
    pictures: Iterator[Picture]


@contextmanager
def open_video(source: Source, *, limits: VideoLimits = DEFAULT_LIMITS) -> Iterator[Video]:
    """Open a file once, for what it says and for its pictures; arguments and errors as `probe`."""
    with open_container(source, limits) as container:
        stream = video_stream(container, source)
        pictures = _pictures(container, stream, source, limits)
        first = next(pictures, None)
        if first is None:
            raise VideoError(f"{name_of(source)}: no frame can be decoded", fix="export the video again")
        duration = declared_duration(container, stream)
        info = VideoInfo(
            name=name_of(source),
            container=container.format.name,
            codec=stream.codec_context.name,
            pixel_format=stream.codec_context.pix_fmt or "unknown",
            hw=first.display_hw(),
            fps=stream.average_rate or None,
            time_base=stream_time_base(stream),
            duration_s=None if duration is None else float(duration),
            has_audio=bool(container.streams.audio),
        )
        yield Video(info, first.scaler.matrix, chain([first], pictures))


def probe(source: Source, *, limits: VideoLimits = DEFAULT_LIMITS) -> VideoInfo:
    """Open a file and decode its first frame.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        VideoError: missing, empty, not a video, damaged at the start, without a video track, out of bounds.
    """
    with open_video(source, limits=limits) as video:
        return video.info


def decode(
    source: Source, *, start_pts: int | None = None, limits: VideoLimits = DEFAULT_LIMITS
) -> Iterator[Picture]:
    """Pictures in order of time, one held at a time.

    Args:
        start_pts: begin at the last key frame at or before this; None begins at the first frame.

    Raises:
        VideoError: as `probe`; damage on the way; or an end well before the declared one (a truncated file).
    """
    if start_pts is not None:
        with open_container(source, limits) as container:
            stream = video_stream(container, source)
            try:
                container.seek(start_pts, stream=stream)
                pictures = _pictures(container, stream, source, limits)
                first = next(pictures, None)
            except (av.FFmpegError, VideoError):
                first = None
            if first is not None and first.pts <= start_pts:  # otherwise the index lies: read from the start
                yield first
                yield from pictures
                return
    with open_container(source, limits) as container:
        yield from _pictures(container, video_stream(container, source), source, limits)


def decode_all(source: Source, *, limits: VideoLimits = DEFAULT_LIMITS) -> UInt8[Tensor, "t h w 3"]:
    """Every frame as stored. For short clips only: all of them are held at once.

    Raises:
        VideoError: as `decode`, or no frame at all.
    """
    frames = [picture.rgb() for picture in decode(source, limits=limits)]
    if not frames:
        raise VideoError(f"{name_of(source)}: no frame can be decoded", fix="export the video again")
    return torch.from_numpy(np.stack(frames))


def _pictures(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    source: Source,
    limits: VideoLimits,
) -> Iterator[Picture]:
    stream.codec_context.thread_count = 1  # our choice: files, not frames, are what runs side by side
    time_base = stream_time_base(stream)
    usual = max(1, round(1 / ((stream.average_rate or Fraction(25)) * time_base)))
    declared = declared_duration(container, stream)
    check_bounds(source, limits, pixels=stream.width * stream.height, duration_s=declared)
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    begin, scaler = stream.start_time, Scaler(MATRICES.get(stream.codec_context.colorspace, BT709))
    pts_s = float(time_base)  # exact fractions would take as long as the smaller pictures
    last: Picture | None = None
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt and last is None:
                continue  # a recording that starts between two key frames
            if frame.is_corrupt:
                raise VideoError(
                    f"{name_of(source)}: damaged",
                    got=f"a broken frame at {_seconds(frame.pts, time_base)}",
                    expected="a file that decodes to its end",
                    fix="export or download it again",
                )
            pts = frame.pts
            if pts is None:
                pts = 0 if last is None else last.pts + usual
            if last is not None and pts <= last.pts:
                continue  # a stamp that goes back belongs to no time
            begin = pts if begin is None else begin
            last = Picture(pts, frame.duration or usual, aspect, frame, scaler)
            check_bounds(source, limits, pixels=frame.width * frame.height, duration_s=(pts - begin) * pts_s)
            yield last
    except av.FFmpegError as error:
        raise VideoError(
            f"{name_of(source)}: damaged or truncated",
            got=f"{error.strerror} at {_seconds(None if last is None else last.pts, time_base)}",
            expected="a file that decodes to its end",
            fix="export or download it again",
        ) from None
    if last is not None and begin is not None and declared is not None:
        decoded = (last.pts + last.duration - begin) * time_base
        if declared - decoded > max(Fraction(1, 2), declared / 20):
            raise VideoError(
                f"{name_of(source)}: truncated",
                got=f"{float(decoded):.2f} s of pictures",
                expected=f"{float(declared):.2f} s, as the file declares",
                fix="export or download it again",
            )


def _seconds(pts: int | None, time_base: Fraction) -> str:
    return "the start" if pts is None else f"{float(pts * time_base):.2f} s"
