"""Pictures in a folder made into one video without loss, so that every later stage reads videos only."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from remind.curation.disk import disk_errors, resolve_inside
from remind.errors import SourceError

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_MAX_FPS = 1000
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)


def write_picture_sequence(
    folder: Path,
    names: Sequence[str],
    fps: float,
    target: Path,
    *,
    max_pictures: int,
    max_pixels: int,
    max_bytes: int,
) -> None:
    """Encode the named pictures, in this order, as FFV1 in AVI; same pictures, same bytes.

    Source: our choice: FFV1 keeps 8-bit RGB exactly, and AVI counts frames, where Matroska would round their times to
    milliseconds and put every other picture of a 16 fps clip on the wrong side of its tick.

    Args:
        folder: which `names` may not leave, links included.
        fps: above 0, at most 1000.
        target: a file that may be overwritten.
        max_pictures: and `max_pixels` of one picture, `max_bytes` of all files together and of the video.

    Raises:
        SourceError: no picture, too many or too large ones, a missing or damaged one, or sizes that differ.
    """
    if not (math.isfinite(fps) and 0 < fps <= _MAX_FPS):
        raise SourceError("pictures need a frame rate", got=fps, expected=f"above 0, at most {_MAX_FPS}")
    if not 0 < len(names) <= max_pictures:
        raise SourceError("not a video's worth of pictures", got=f"{len(names)} names", expected=f"1..{max_pictures}")
    paths = [_picture_path(folder, name) for name in names]
    with disk_errors("cannot read a picture", folder):
        total = sum(path.stat().st_size for path in paths)
    if total > max_bytes:
        raise SourceError("the pictures are too large", got=f"{total} bytes", expected=f"at most {max_bytes}")
    with disk_errors("cannot write the video", target):
        try:
            for _ in _encode(_pictures(paths, max_pixels), fps, target):
                if target.stat().st_size > max_bytes:
                    limit = f"at most {max_bytes} bytes"
                    raise SourceError("the pictures make too large a video", got=folder, expected=limit)
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from None


def _picture_path(folder: Path, name: str) -> Path:
    path = resolve_inside(folder, name)
    if not path.is_file():
        raise SourceError("no such picture", got=path, expected="a file", fix="check the list of pictures")
    return path


def _pictures(paths: Sequence[Path], max_pixels: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    first: tuple[int, ...] = ()
    for path in paths:
        try:
            rgb = _read(path, max_pixels)
        except _DAMAGE as error:
            said = str(error) or type(error).__name__
            raise SourceError(f"{path.name}: the picture cannot be read", got=said) from None
        first = first or rgb.shape
        if rgb.shape != first:
            raise SourceError(
                f"{path.name}: pictures of one video differ in size",
                got=f"{rgb.shape[1]} x {rgb.shape[0]} px",
                expected=f"{first[1]} x {first[0]} px, as {paths[0].name}",
            )
        yield rgb


def _read(path: Path, max_pixels: int) -> UInt8[np.ndarray, "h w 3"]:
    """One picture, upright as its EXIF says, without alpha, 16-bit grey scaled to 8."""
    with Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise ValueError(f"{image.width} x {image.height} px, more than {max_pixels} pixels")
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # Pillow would clip to 255
            upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
        return np.asarray(upright.convert("RGB"))


def _encode(pictures: Iterator[UInt8[np.ndarray, "h w 3"]], fps: float, target: Path) -> Iterator[None]:
    """Write frame by frame; yields after each."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(target), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.pix_fmt = "bgr0"
        stream.codec_context.thread_count = 1
        for number, rgb in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = rgb.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(format="bgr0")
            container.mux(stream.encode(frame))
            yield
        container.mux(stream.encode(None))
        yield
