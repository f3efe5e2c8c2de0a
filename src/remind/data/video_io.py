"""Reading any video into upright 8-bit RGB on a constant clock, and writing H.264. All through PyAV.

Time is counted in a file's own integer presentation timestamps (pts) and exact fractions: cut times that are
rounded to seconds end up a frame off. Reading streams: one decoded frame is held at a time.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8
from torch import Tensor

from remind.errors import InputError, VideoError

# Containers that hold their own frames, and still pictures. Playlists and text are left out: they can name files.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,gif,nut,mxf,ivf,obu,"
    "dv,mjpeg,yuv4mpegpipe,rm,wtv,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
_STATE_THEIR_DURATION = {"mov", "matroska", "avi", "flv"}
_SAFE_OPEN = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
_BT709 = 1  # the number of ITU-R BT.709 in H.273, for primaries, transfer and matrix alike
KEYFRAME_INTERVAL = 8
# Without these two flags swscale truncates, and every conversion darkens the picture by one or two levels.
_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# x264 reads memory that it has not written when it weighs B-frames: the same frames gave several files until
# both B-frames and the look-ahead went. With a key frame every 8 they would have saved little.
_SAME_BYTES = {
    "keyint_min": str(KEYFRAME_INTERVAL),
    "sc_threshold": "0",
    "bf": "0",
    "x264-params": "rc-lookahead=0:mbtree=0",
}


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
        converted = self.scaler(self.frame, (height, width), "rgb24", method | _EXACT)
        upright = np.rot90(converted.to_ndarray(), turns)
        top, left = (cover[0] - target[0]) // 2, (cover[1] - target[1]) // 2
        return np.ascontiguousarray(upright[top : top + target[0], left : left + target[1]])


    def thumbnail(self, side_px: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB, antialiased, so small that no side is longer; as stored, not turned and not cut: for statistics."""
        scale = min(1.0, side_px / max(self.frame.height, self.frame.width))
        height, width = (max(1, round(side * scale)) for side in (self.frame.height, self.frame.width))
        return self.scaler(self.frame, (height, width), "rgb24", Interpolation.AREA).to_ndarray()


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


Source = Path | bytes
Rate = int | float | Fraction


def probe(source: Source, *, limits: VideoLimits = DEFAULT_LIMITS) -> VideoInfo:
    """Open a file and decode its first frame.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        VideoError: missing, empty, not a video, damaged at the start, without a video track, out of bounds.
    """
    with _open(source, limits) as container:
        stream = _video_stream(container, source)
        first = next(_pictures(container, stream, source, limits), None)
        if first is None:
            raise VideoError(f"{_name(source)}: no frame can be decoded", fix="export the video again")
        duration = _declared_duration(container, stream)
        return VideoInfo(
            name=_name(source),
            container=container.format.name,
            codec=stream.codec_context.name,
            pixel_format=stream.codec_context.pix_fmt or "unknown",
            hw=first.display_hw(),
            fps=stream.average_rate or None,
            time_base=_stream_time_base(stream),
            duration_s=None if duration is None else float(duration),
            has_audio=bool(container.streams.audio),
        )


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
        with _open(source, limits) as container:
            stream = _video_stream(container, source)
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
    with _open(source, limits) as container:
        yield from _pictures(container, _video_stream(container, source), source, limits)


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
    """What a viewer sees at the ticks start + k / fps: the picture with the largest pts at or before each.

    Our choice: sample and hold in exact fractions, right for variable frame rates; it repeats pictures of
    slower videos, skips pictures of faster ones, and blends none.

    Args:
        fps: rate of the clock, > 0.
        hw: size to scale and crop to; None keeps the upright size.
        start_pts: time of tick 0; None is the first picture's.
        stop_pts: no tick at or after this; None goes on until the last picture leaves the screen.
        first_tick: of those that are given out; other than 0 only with a `start_pts`.
    """
    if not fps > 0:
        raise InputError("the frame rate must be positive", got=fps, expected="e.g. 16")
    time_base = _time_base(source, limits)
    ticks_per_pts = time_base * Fraction(fps).limit_denominator(1_000_000)
    origin, k, shown, shown_rgb = start_pts, first_tick, None, None
    until = None

    def tick(index: int) -> Fraction:
        assert origin is not None
        return origin + index / ticks_per_pts

    seek_pts = None if start_pts is None else int(tick(first_tick))
    for picture in decode(source, start_pts=seek_pts, limits=limits):
        origin = picture.pts if origin is None else origin
        while shown is not None and tick(k) < picture.pts:
            if stop_pts is not None and tick(k) >= stop_pts:
                return
            shown_rgb = shown.rgb(hw) if shown_rgb is None else shown_rgb
            yield Sample(shown.pts, shown_rgb)
            k += 1
        if shown is None and tick(k) < picture.pts:
            raise VideoError(
                f"{_name(source)}: nothing is shown yet at the start asked for",
                got=f"pts {origin}",
                expected=f"pts {picture.pts} or later",
                fix="start at the first picture",
            )
        shown, shown_rgb, until = picture, None, picture.pts + picture.duration
    while shown is not None and until is not None and tick(k) < min(until, stop_pts or until):
        shown_rgb = shown.rgb(hw) if shown_rgb is None else shown_rgb
        yield Sample(shown.pts, shown_rgb)
        k += 1


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
            f"{_name(source)}: too short",
            got="one picture"
            if len({s.pts for s in samples}) == 1
            else f"{len(samples)} frames at {fps} fps",
            expected=f"{num_frames} frames at {fps} fps ({num_frames / float(fps):.2f} s)",
            fix="use a longer video or fewer frames",
        )
    rgb = torch.from_numpy(np.stack([s.rgb for s in samples]))
    return SampledClip(rgb, tuple(s.pts for s in samples), _time_base(source, limits))


def decode_all(source: Source, *, limits: VideoLimits = DEFAULT_LIMITS) -> UInt8[Tensor, "t h w 3"]:
    """Every frame as stored. For short clips only: all of them are held at once.

    Raises:
        VideoError: as `decode`, or no frame at all.
    """
    frames = [picture.rgb() for picture in decode(source, limits=limits)]
    if not frames:
        raise VideoError(f"{_name(source)}: no frame can be decoded", fix="export the video again")
    return torch.from_numpy(np.stack(frames))


def check_writable(path: Path) -> None:
    """Fail now rather than after an hour's work.

    Raises:
        VideoError: another suffix than .mp4, a missing or read-only folder, or a folder in the file's place.
    """
    if path.suffix.lower() != ".mp4":
        raise VideoError(
            "cannot write this kind of video", got=path.name, expected="a name that ends in .mp4"
        )
    if path.is_dir():
        raise VideoError("cannot write the video: a folder has its name", got=path, fix="choose another name")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".remind-"):
            pass
    except OSError as error:
        raise VideoError(
            "cannot write the video",
            got=f"{path.parent}: {error.strerror}",
            expected="a folder that exists and is writable",
            fix="create it or choose another",
        ) from None


def write_video(path: Path, rgb: UInt8[Tensor, "t h w 3"], fps: Rate, *, crf: int = 18) -> None:
    """Write H.264 that appears under `path` whole or not at all; arguments as `encode_mp4`.

    Raises:
        VideoError: an output that cannot be written, found before any encoding.
    """
    check_writable(path)
    data = encode_mp4(rgb, fps, crf=crf)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".remind-", suffix=".mp4")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise VideoError(
            "cannot write the video", got=f"{path}: {error.strerror}", fix="free some space"
        ) from None


def encode_mp4(rgb: UInt8[Tensor, "t h w 3"], fps: Rate, *, crf: int = 18) -> bytes:
    """The bytes of an mp4: H.264, yuv420p, BT.709, constant rate, a key frame every 8 for fast exact seeks.

    Same frames, same bytes (one encoder thread). Odd sizes repeat their last row or column, since 4:2:0 needs
    even ones.

    Args:
        fps: > 0.
        crf: 0 (lossless) to 51; 18 is visually transparent.
    """
    if rgb.shape[0] == 0:
        raise VideoError("cannot write a video without frames", got=tuple(rgb.shape))
    frames = rgb.cpu().numpy()
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], mode="edge")
    rate = Fraction(fps).limit_denominator(1001)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        context = stream.codec_context
        context.gop_size, context.thread_count = KEYFRAME_INTERVAL, 1
        context.options = {"crf": str(crf), "preset": "veryfast", **_SAME_BYTES}
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        conversion = VideoReformatter()
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            converted = conversion.reformat(
                frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, interpolation=Interpolation.AREA | _EXACT
            )
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _name(source: Source) -> str:
    return source.name if isinstance(source, Path) else "video in memory"


def _open(source: Source, limits: VideoLimits) -> av.container.InputContainer:
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
            f"{_name(source)}: the file is empty",
            got="0 bytes",
            expected="a video",
            fix="copy or download it again",
        )
    if size > limits.max_bytes:
        raise VideoError(
            f"{_name(source)}: the file is too large",
            got=f"{size / 2**30:.1f} GiB",
            expected=f"at most {limits.max_bytes / 2**30:.1f} GiB",
            fix="cut it or raise the limit",
        )
    try:
        # The resolved path is absolute, so no part of a name can be taken for a protocol.
        opened = str(source.resolve()) if isinstance(source, Path) else io.BytesIO(source)
        return av.open(opened, "r", options=dict(_SAFE_OPEN), metadata_errors="replace")
    except PermissionError:
        raise VideoError(f"{_name(source)}: no permission to read it", fix="change its permissions") from None
    except av.FFmpegError as error:
        raise VideoError(
            f"{_name(source)}: not a video, or cut short before its index",
            got=error.strerror or type(error).__name__,
            expected="mp4, mov, mkv, webm, avi, ts or another video container",
            fix="export or download it again",
        ) from None


def _video_stream(container: av.container.InputContainer, source: Source) -> av.video.stream.VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        tracks = ", ".join(sorted({s.type for s in container.streams})) or "no tracks"
        raise VideoError(
            f"{_name(source)}: no video track",
            got=tracks,
            expected="a video track",
            fix="leave audio files out",
        )
    if streams[0].codec_context is None:
        raise VideoError(f"{_name(source)}: no decoder for its codec", fix="convert it to H.264")
    return streams[0]


def _time_base(source: Source, limits: VideoLimits) -> Fraction:
    with _open(source, limits) as container:
        return _stream_time_base(_video_stream(container, source))


def _stream_time_base(stream: av.video.stream.VideoStream) -> Fraction:
    return Fraction(stream.time_base or Fraction(1, 90_000))


def _declared_duration(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Fraction | None:
    """Seconds of the video track, where the file states them; elsewhere FFmpeg guesses from the bit rate.

    The container's length counts only if no other track can be longer.
    """
    if not set(container.format.name.split(",")) & _STATE_THEIR_DURATION:
        return None
    if stream.duration is not None:
        return stream.duration * _stream_time_base(stream)
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    return None


def _pictures(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    source: Source,
    limits: VideoLimits,
) -> Iterator[Picture]:
    stream.codec_context.thread_count = 1  # our choice: files, not frames, are what runs side by side
    time_base = _stream_time_base(stream)
    usual = max(1, round(1 / ((stream.average_rate or Fraction(25)) * time_base)))
    declared = _declared_duration(container, stream)
    _check_bounds(source, limits, pixels=stream.width * stream.height, duration_s=declared)
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    begin, scaler = stream.start_time, Scaler()
    last: Picture | None = None
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt and last is None:
                continue  # a recording that starts between two key frames
            if frame.is_corrupt:
                raise VideoError(
                    f"{_name(source)}: damaged",
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
            elapsed = (pts - begin) * time_base
            _check_bounds(source, limits, pixels=frame.width * frame.height, duration_s=elapsed)
            yield last
    except av.FFmpegError as error:
        raise VideoError(
            f"{_name(source)}: damaged or truncated",
            got=f"{error.strerror} at {_seconds(None if last is None else last.pts, time_base)}",
            expected="a file that decodes to its end",
            fix="export or download it again",
        ) from None
    if last is not None and begin is not None and declared is not None:
        decoded = (last.pts + last.duration - begin) * time_base
        if declared - decoded > max(Fraction(1, 2), declared / 20):
            raise VideoError(
                f"{_name(source)}: truncated",
                got=f"{float(decoded):.2f} s of pictures",
                expected=f"{float(declared):.2f} s, as the file declares",
                fix="export or download it again",
            )


def _seconds(pts: int | None, time_base: Fraction) -> str:
    return "the start" if pts is None else f"{float(pts * time_base):.2f} s"


def _check_bounds(source: Source, limits: VideoLimits, *, pixels: int, duration_s: Fraction | None) -> None:
    if pixels > limits.max_pixels:
        raise VideoError(
            f"{_name(source)}: frames are too large",
            got=f"{pixels} pixels",
            expected=f"at most {limits.max_pixels}",
            fix="scale the video down or raise the limit",
        )
    if duration_s is not None and duration_s > limits.max_duration_s:
        raise VideoError(
            f"{_name(source)}: too long",
            got=f"{float(duration_s):.0f} s",
            expected=f"at most {limits.max_duration_s:.0f} s",
            fix="cut it into parts or raise the limit",
        )


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns to the left that bring the picture upright, 0..3."""
    return round(frame.rotation / 90) % 4
