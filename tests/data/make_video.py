"""Small video files of every kind, good and bad, for tests to read."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io.yuv import EXACT


def moving_square(
    num_frames: int, hw: tuple[int, int] = (48, 64), *, seed: int = 0
) -> UInt8[Tensor, "t h w 3"]:
    """A bright square that crosses a coloured gradient; its background and path depend on the seed."""
    generator = torch.Generator().manual_seed(seed)
    tint = torch.rand(3, generator=generator) * 120 + 60
    height, width = hw
    y, x = torch.meshgrid(torch.linspace(0.3, 1, height), torch.linspace(0.3, 1, width), indexing="ij")
    rgb = ((x * y)[..., None] * tint).expand(num_frames, *hw, 3).clone()
    side, row = max(2, height // 4), int(torch.randint(0, max(1, height // 2), (1,), generator=generator))
    for t in range(num_frames):
        left = (t * 2) % (width - side)
        rgb[t, row : row + side, left : left + side] = 240
    return rgb.to(torch.uint8)


def write(
    path: Path,
    rgb: UInt8[Tensor, "t h w 3"],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 16,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation_deg: int = 0,
    pixel_aspect: Fraction | None = None,
    audio: bool = False,
    matrix: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames into any container that the name asks for.

    Args:
        pts: one per frame, in `time_base`; None for a constant rate.
        rotation_deg: of the display matrix, counterclockwise.
        matrix: declared, and used, to make YUV of RGB, as its number in H.273; None declares none and uses BT.601.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width, stream.pix_fmt = rgb.shape[1], rgb.shape[2], pix_fmt
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        sound = container.add_stream("aac", rate=16000) if audio else None
        for i, image in enumerate(rgb.numpy()):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if matrix is not None:
                frame = frame.reformat(format=pix_fmt, dst_colorspace=5 if matrix == 6 else matrix, interpolation=EXACT)
            frame.pts = i if pts is None else pts[i]
            frame.time_base = Fraction(1, fps) if time_base is None else time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _write_sound(container, sound, seconds=rgb.shape[0] / fps + 1)
    return path


def write_audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        _write_sound(container, container.add_stream("aac", rate=16000), seconds=1)
    return path


def _write_sound(container: av.container.OutputContainer, stream: av.AudioStream, *, seconds: float) -> None:
    t = np.arange(int(16000 * seconds))
    samples = (0.1 * np.sin(t * 0.1)).astype(np.float32)[None]
    for start in range(0, samples.shape[1], 1024):
        frame = av.AudioFrame.from_ndarray(samples[:, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
