"""Opening a stranger's file: only containers that hold their own frames, within bounds; a clear line for each fault."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from remind.errors import VideoError

Source = Path | bytes
"""A path, or the bytes of a file."""

# Containers that hold their own frames, and still pictures. Playlists and text are left out: they can name files.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,gif,nut,mxf,ivf,obu,"
    "dv,mjpeg,yuv4mpegpipe,rm,wtv,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
_STATE_THEIR_DURATION = {"mov", "matroska", "avi", "flv"}
_SAFE_OPEN = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}


@dataclass(frozen=True)
class VideoLimits:
    """Bounds that keep a hostile or absurd file from filling the machine.

    Args:
        max_bytes: of the file.
        max_pixels: of one frame; the default holds 8192 x 4320.
        max_duration_s: declared or met while decoding.
    """

    max_bytes: int = 16 * 2**30
    max_pixels: int = 8192 * 4320
    max_duration_s: float = 4 * 3600.0


DEFAULT_LIMITS = VideoLimits()


def name_of(source: Source) -> str:
    """The file's name, for messages."""
    return source.name if isinstance(source, Path) else "video in memory"


def open_container(source: Source, limits: VideoLimits) -> av.container.InputContainer:
    """Raises VideoError: missing, empty, too large, or no container of video."""
    if isinstance(source, Path):
        if not source.exists():
            raise VideoError("no such file", got=source, fix="check the path")
        if not source.is_file():
            raise VideoError("not a file", got=source, expected="a video file")
        size = source.stat().st_size
    else:
        size = len(source)
    if size == 0:
        raise VideoError(
            f"{name_of(source)}: the file is empty",
            got="0 bytes",
            expected="a video",
            fix="copy or download it again",
        )
    if size > limits.max_bytes:
        raise VideoError(
            f"{name_of(source)}: the file is too large",
            got=f"{size / 2**30:.1f} GiB",
            expected=f"at most {limits.max_bytes / 2**30:.1f} GiB",
            fix="cut it or raise the limit",
        )
    try:
        # The resolved path is absolute, so no part of a name can be taken for a protocol.
        opened = str(source.resolve()) if isinstance(source, Path) else io.BytesIO(source)
        return av.open(opened, "r", options=dict(_SAFE_OPEN), metadata_errors="replace")
    except PermissionError:
        raise VideoError(f"{name_of(source)}: no permission to read it", fix="change its permissions") from None
    except av.FFmpegError as error:
        raise VideoError(
            f"{name_of(source)}: not a video, or cut short before its index",
            got=error.strerror or type(error).__name__,
            expected="mp4, mov, mkv, webm, avi, ts or another video container",
            fix="export or download it again",
        ) from None


def video_stream(container: av.container.InputContainer, source: Source) -> av.video.stream.VideoStream:
    """The first track that is no cover picture. Raises VideoError: none, or without a decoder."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        tracks = ", ".join(sorted({s.type for s in container.streams})) or "no tracks"
        raise VideoError(
            f"{name_of(source)}: no video track",
            got=tracks,
            expected="a video track",
            fix="leave audio files out",
        )
    if streams[0].codec_context is None:
        raise VideoError(f"{name_of(source)}: no decoder for its codec", fix="convert it to H.264")
    return streams[0]


def time_base_of(source: Source, limits: VideoLimits = DEFAULT_LIMITS) -> Fraction:
    """Seconds per pts of a file. Raises VideoError as `open_container` and `video_stream`."""
    with open_container(source, limits) as container:
        return stream_time_base(video_stream(container, source))


def stream_time_base(stream: av.video.stream.VideoStream) -> Fraction:
    """Seconds per pts; MPEG's where the container names none."""
    return Fraction(stream.time_base or Fraction(1, 90_000))


def declared_duration(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Fraction | None:
    """Seconds of the video track, where the file states them; elsewhere FFmpeg guesses from the bit rate.

    The container's length counts only if no other track can be longer.
    """
    if not set(container.format.name.split(",")) & _STATE_THEIR_DURATION:
        return None
    if stream.duration is not None:
        return stream.duration * stream_time_base(stream)
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    return None


def check_bounds(source: Source, limits: VideoLimits, *, pixels: int, duration_s: Fraction | float | None) -> None:
    """Raises VideoError: a frame or a duration beyond the limits."""
    if pixels > limits.max_pixels:
        raise VideoError(
            f"{name_of(source)}: frames are too large",
            got=f"{pixels} pixels",
            expected=f"at most {limits.max_pixels}",
            fix="scale the video down or raise the limit",
        )
    if duration_s is not None and duration_s > limits.max_duration_s:
        raise VideoError(
            f"{name_of(source)}: too long",
            got=f"{float(duration_s):.0f} s",
            expected=f"at most {limits.max_duration_s:.0f} s",
            fix="cut it into parts or raise the limit",
        )
