"""What goes from a decoder to an encoder without being RGB in between shows the same picture."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation, VideoReformatter

from remind.data.video_io import (
    Picture,
    YuvFrames,
    decode,
    decode_all,
    empty_planes,
    encode_mp4,
    encode_yuv_mp4,
    open_video,
    read_clip,
)
from remind.data.video_io.yuv import BT709, EXACT, plane_views, split_planes
from remind.errors import VideoError
from remind.geometry import cover_crop
from tests.data.make_video import moving_square, write

FRAMES = moving_square(12)


def as_yuv(pictures: list[Picture], hw: tuple[int, int]) -> YuvFrames:
    planes = empty_planes(len(pictures), hw)
    for picture, out in zip(pictures, planes, strict=True):
        picture.write_yuv(hw, out)
    return YuvFrames(planes, hw, pictures[0].scaler.matrix)


def matrix_in(data: bytes) -> int:
    with open_video(data) as video:
        return video.matrix


@pytest.mark.parametrize(
    ("name", "how", "matrix"),
    [
        ("silent.mp4", {}, 6),
        ("bt601.mp4", {"matrix": 6}, 6),
        ("bt709.mp4", {"matrix": 1}, 1),
        ("bt2020.mp4", {"matrix": 9, "pix_fmt": "yuv420p10le"}, 9),
        ("full_range.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {"qmin": "1", "qmax": "2"}}, 6),
        ("444.mp4", {"pix_fmt": "yuv444p", "matrix": 1}, 1),
        ("rgb.mkv", {"codec": "ffv1", "pix_fmt": "bgra"}, 6),
        ("grey.mkv", {"codec": "ffv1", "pix_fmt": "gray"}, 6),
        ("turned.mp4", {"rotation_deg": 90}, 6),
        ("upside_down.mp4", {"rotation_deg": 180}, 6),
        ("wide_pixels.mp4", {"pixel_aspect": Fraction(3, 2)}, 6),
    ],
)
@pytest.mark.parametrize("hw", [(48, 64), (24, 24), (33, 47), (80, 96)])
def test_a_stored_picture_looks_as_its_source(
    tmp_path: Path, name: str, how: dict, matrix: int, hw: tuple[int, int]
) -> None:
    path = write(tmp_path / name, FRAMES, **how)
    pictures = list(decode(path))
    frames = as_yuv(pictures, hw)
    assert frames.matrix == matrix
    data = encode_yuv_mp4(frames, 16, crf=0)
    assert matrix_in(data) == matrix
    seen = decode_all(data)[:, : hw[0], : hw[1]].float()
    wanted = torch.from_numpy(np.stack([p.rgb(hw) for p in pictures])).float()
    error = seen - wanted
    assert error.mean((0, 1, 2)).abs().max() < 1.0  # neither darker nor of another tint
    assert error.abs().mean() < 1.0


def test_nothing_is_touched_that_needs_no_change(tmp_path: Path) -> None:
    """A crop of a 4:2:0 video is a copy of its planes, at even places so that colours stay where they are."""
    path = write(tmp_path / "a.mp4", moving_square(3, (48, 86)), matrix=1)
    assert cover_crop((48, 86), (48, 64)) == ((48, 86), (0, 10))  # 11 would be the middle
    for picture in decode(path):
        out = empty_planes(1, (48, 64))[0]
        picture.write_yuv((48, 64), out)
        stored, (luma, *chroma) = plane_views(picture.frame), split_planes(out)
        assert np.array_equal(luma, stored[0][:, 10:74])
        assert all(np.array_equal(a, b[:, 5:37]) for a, b in zip(chroma, stored[1:], strict=True))


def test_odd_sides_repeat_their_last_row_and_column(tmp_path: Path) -> None:
    (picture, *_) = decode(write(tmp_path / "a.mp4", FRAMES))
    out = empty_planes(1, (33, 47))[0]
    picture.write_yuv((33, 47), out)
    luma, *chroma = split_planes(out)
    assert luma.shape == (34, 48)
    assert [c.shape for c in chroma] == [(17, 24), (17, 24)]
    assert np.array_equal(luma[33], luma[32])
    assert np.array_equal(luma[:, 47], luma[:, 46])


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuva420p", "nv12",
                                     "gray", "gray16le", "ya8"])  # fmt: skip
def test_rgb_by_planes_is_rgb(pix_fmt: str) -> None:
    """swscale turns YUV into planes of RGB three times faster than into pixels; the numbers must be the same."""
    noise = np.random.default_rng(0).integers(0, 256, (38, 54, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=pix_fmt)
    flags = Interpolation.BICUBIC | EXACT
    packed = VideoReformatter().reformat(frame, format="rgb24", interpolation=flags, threads=1).to_ndarray()
    assert np.array_equal(Picture(0, 1, Fraction(1), frame).rgb(), packed)


@pytest.mark.parametrize("effort", ["small", "fast"])
def test_both_efforts_give_the_same_bytes_and_key_frames(effort: str) -> None:
    noise = torch.randint(0, 256, (24, 66, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    noise = (noise // 4 + moving_square(24, (66, 64)) // 2).contiguous()
    files = {encode_mp4(noise, 16, effort=effort) for _ in range(4)}
    assert len(files) == 1
    pictures = list(decode(files.pop()))
    assert [i for i, picture in enumerate(pictures) if picture.frame.key_frame] == [0, 8, 16]
    steps = {b.pts - a.pts for a, b in pairwise(pictures)}
    assert len(steps) == 1  # a constant rate in integer pts


def test_fast_is_no_worse_than_small(real_videos: Path) -> None:
    """At one crf, on real pictures; what it costs is size."""
    wanted = read_clip(real_videos / "mammoth_81.mp4", num_frames=16, fps=16, hw=(240, 416)).rgb
    pictures = list(decode(real_videos / "mammoth_81.mp4"))[:16]
    error = {}
    for name, data in [("small", encode_mp4(wanted, 16)), ("fast", encode_mp4(wanted, 16, effort="fast"))]:
        error[name] = (decode_all(data).float() - wanted.float()).square().mean().item()
    assert error["fast"] < error["small"]
    kept = decode_all(encode_yuv_mp4(as_yuv(pictures, (240, 416)), 16)).float()
    truth = torch.from_numpy(np.stack([p.rgb((240, 416)) for p in pictures])).float()
    assert (kept - truth).square().mean().item() < error["small"]


def test_no_frames_are_refused() -> None:
    with pytest.raises(VideoError, match="without frames"):
        encode_yuv_mp4(YuvFrames(empty_planes(0, (16, 16)), (16, 16), BT709), 16)
