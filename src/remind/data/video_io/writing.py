"""Writing H.264: whole files or none, the same bytes for the same frames, a key frame every 8 for fast exact seeks."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io.clock import Rate
from remind.data.video_io.yuv import BT709, FromRgb, YuvFrames, frame_of
from remind.errors import VideoError
from remind.whole_file import whole_file

KEYFRAME_INTERVAL = 8
# x264 reads memory that it has not written when it weighs B-frames: the same frames gave several files until
# both B-frames and the look-ahead went. With a key frame every 8 they would have saved little.
SAME_BYTES = "rc-lookahead=0:mbtree=0"
# How hard x264 tries. A store is written once, read often, and training waits for its decoder: without CABAC and
# deblocking, writing takes a third of the time and reading half. Files are larger; 8x8 blocks keep the PSNR at the same
# crf. benchmarks/clip_encoding.py compares.
EFFORTS = {
    "small": {"preset": "veryfast", "x264-params": SAME_BYTES},
    "fast": {"preset": "ultrafast", "x264-params": f"{SAME_BYTES}:8x8dct=1:analyse=i8x8"},
}
Effort = Literal["small", "fast"]


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


class Mp4File:
    """An mp4 that takes frames as they are made and appears under its name, whole, when it is left without an error.

        with Mp4File(path, fps=16) as file:
            file.push(frames)

    The same frames give the bytes of `encode_mp4`, however they are cut into pushes. Held in memory is what the encoder
    holds, a few frames.

    Args:
        path: ends in .mp4; replaced if it exists.
        metadata: e.g. title, comment or description, which players and ffprobe show; the same words, the same bytes.
        fps, crf, effort: as `encode_mp4`.

    Raises:
        VideoError: when it is made: an output that cannot be written. When frames are pushed: another size than before.
            When it is left: no frames, or a full disk.
    """

    def __init__(self, path: Path, fps: Rate, *, crf: int = 18, effort: Effort = "small",
                 metadata: Mapping[str, str] | None = None):  # fmt: skip
        check_writable(path)
        self.path, self.num_frames = path, 0
        self._how = (BT709, fps, crf, effort, dict(metadata or {}))
        self._convert = FromRgb(BT709)
        self._hw: tuple[int, int] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Mp4File:
        with _disk(self.path), ExitStack() as opened:
            partial = opened.enter_context(whole_file(self.path))
            self._encoder = opened.enter_context(_Encoder(str(partial), *self._how))
            self._open = opened.pop_all()
        return self

    def push(self, rgb: UInt8[Tensor, "t h w 3"]) -> None:
        """Frames that follow; any number, none included."""
        hw = (rgb.shape[1], rgb.shape[2])
        if self._hw not in (None, hw):
            raise VideoError("frames of one video differ in size", got=hw, expected=self._hw)
        self._hw = hw
        with _disk(self.path):
            for image in rgb.cpu().numpy():
                self._encoder.write(self._convert(image))
                self.num_frames += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        empty = None
        if kind is None and self.num_frames == 0:
            empty = VideoError("cannot write a video without frames", got=0, expected="at least one frame")
        with _disk(self.path):
            self._open.__exit__(*((VideoError, empty, None) if empty else (kind, error, trace)))
        if empty:
            raise empty


def write_video(path: Path, rgb: UInt8[Tensor, "t h w 3"], fps: Rate, *, crf: int = 18) -> None:
    """Write H.264 that appears under `path` whole or not at all; arguments as `encode_mp4`.

    Raises:
        VideoError: an output that cannot be written, found before any encoding.
    """
    with Mp4File(path, fps, crf=crf) as file:
        file.push(rgb)


def encode_mp4(rgb: UInt8[Tensor, "t h w 3"], fps: Rate, *, crf: int = 18, effort: Effort = "small") -> bytes:
    """The bytes of an mp4: H.264, yuv420p, BT.709, constant rate, a key frame every 8 for fast exact seeks.

    Same frames, same bytes (one encoder thread). Odd sizes repeat their last row or column, since 4:2:0 needs
    even ones.

    Args:
        fps: > 0.
        crf: 0 (lossless) to 51; 18 is visually transparent.
        effort: `small` files, or `fast` to write and to read.
    """
    if rgb.shape[0] == 0:
        raise VideoError("cannot write a video without frames", got=tuple(rgb.shape))
    convert = FromRgb(BT709)
    return _encode((convert(image) for image in rgb.cpu().numpy()), BT709, fps, crf, effort)


def encode_yuv_mp4(frames: YuvFrames, fps: Rate, *, crf: int = 18, effort: Effort = "fast") -> bytes:
    """As `encode_mp4`, but from frames that never were RGB; the file names their matrix."""
    if not len(frames):
        raise VideoError("cannot write a video without frames", got=frames.planes.shape)
    return _encode(map(frame_of, frames.planes), frames.matrix, fps, crf, effort)


def _encode(frames: Iterable[av.VideoFrame], matrix: int, fps: Rate, crf: int, effort: Effort) -> bytes:
    buffer = io.BytesIO()
    with _Encoder(buffer, matrix, fps, crf, effort, {}) as encoder:
        for frame in frames:
            encoder.write(frame)
    return buffer.getvalue()


class _Encoder:
    """Frames of one size into mp4; left without an error, the file is complete."""

    def __init__(self, target: str | io.BytesIO, matrix: int, fps: Rate, crf: int, effort: Effort,
                 metadata: Mapping[str, str]):  # fmt: skip
        self._container = av.open(target, "w", format="mp4")
        self._container.metadata.update(metadata)
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        context = self._stream.codec_context
        context.gop_size, context.thread_count = KEYFRAME_INTERVAL, 1
        context.options = {"crf": str(crf), "keyint_min": str(KEYFRAME_INTERVAL), "sc_threshold": "0", "bf": "0",
                           **EFFORTS[effort]}  # fmt: skip
        context.color_primaries = context.color_trc = BT709  # RGB is sRGB everywhere here, whatever the matrix
        context.colorspace = matrix
        self._sized = False

    def __enter__(self) -> _Encoder:
        return self

    def write(self, frame: av.VideoFrame) -> None:
        if not self._sized:
            stream, self._sized = self._stream, True
            stream.height, stream.width, stream.pix_fmt = frame.height, frame.width, "yuv420p"
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._sized:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """What the operating system refuses, as an error that says what to do."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise VideoError("cannot write the video", got=f"{path}: {error.strerror}", fix="free some space") from None
