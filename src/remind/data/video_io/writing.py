"""Writing H.264: whole files or none, the same bytes for the same frames, a key frame every 8 for fast exact seeks."""

from __future__ import annotations

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io.clock import Rate
from remind.data.video_io.picture import EXACT
from remind.errors import VideoError
from remind.whole_file import whole_file

_BT709 = 1  # the number of ITU-R BT.709 in H.273, for primaries, transfer and matrix alike
KEYFRAME_INTERVAL = 8
# x264 reads memory that it has not written when it weighs B-frames: the same frames gave several files until
# both B-frames and the look-ahead went. With a key frame every 8 they would have saved little.
_SAME_BYTES = {
    "keyint_min": str(KEYFRAME_INTERVAL),
    "sc_threshold": "0",
    "bf": "0",
    "x264-params": "rc-lookahead=0:mbtree=0",
}


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
    try:
        with whole_file(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
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
                frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, interpolation=Interpolation.AREA | EXACT
            )
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return buffer.getvalue()
