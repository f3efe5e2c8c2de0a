"""Videos come in as whole chunks at the model's rate; what was left out, repeated or held is said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image

from remind.errors import InputError, VideoError
from remind.generate.inputs import read_prefix
from tests.data.make_video import write

HW = (16, 16)
LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgra"}


def numbered(num_frames: int, hw: tuple[int, int] = HW) -> torch.Tensor:
    """Frames whose brightness is their number."""
    return torch.arange(num_frames, dtype=torch.uint8)[:, None, None, None].expand(-1, *hw, 3).contiguous()


def numbers(rgb: torch.Tensor) -> list[int]:
    return rgb[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(("given", "kept"), [(9, 9), (20, 9), (21, 21), (32, 21), (33, 33)])
def test_a_prefix_is_cut_to_whole_chunks_and_said(tmp_path: Path, given: int, kept: int) -> None:
    path = write(tmp_path / "a.avi", numbered(given), **LOSSLESS)
    prefix = read_prefix(path, HW, max_frames=81)
    assert numbers(prefix.rgb) == list(range(kept))
    left = f"the last {given - kept} of its frames from 0 s on are left out"
    assert prefix.notices == (() if given == kept else (f"a.avi: {kept} frames, {(kept + 3) // 12} whole chunks, "
                                                        f"are used; {left}",))  # fmt: skip


def test_a_longer_video_goes_on_after_the_prefix(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", numbered(40), **LOSSLESS)
    prefix = read_prefix(path, HW, max_frames=21)
    assert numbers(prefix.rgb) == list(range(21))
    assert prefix.notices == ("a.avi: the 21 frames from 0 s on are used, the video goes on after them",)


def test_the_start_is_counted_from_the_first_picture(tmp_path: Path) -> None:
    times_ms = [7000 + 50 * i for i in range(40)]
    late = write(tmp_path / "a.mkv", numbered(40), pts=times_ms, time_base=Fraction(1, 1000), fps=20, **LOSSLESS)
    got = numbers(read_prefix(late, HW, max_frames=9, start_s=0.5).rgb)
    assert got == [int((500 + 62.5 * k) / 50) for k in range(9)]


@pytest.mark.parametrize(("fps", "word"), [(8, "repeated"), (32, "left out")])
def test_another_rate_is_sampled_and_said(tmp_path: Path, fps: int, word: str) -> None:
    path = write(tmp_path / "a.avi", numbered(2 * fps), fps=fps, **LOSSLESS)
    prefix = read_prefix(path, HW, max_frames=21)
    assert numbers(prefix.rgb) == [i * fps // 16 for i in range(21)]
    assert prefix.notices[0] == f"a.avi has {fps} fps: pictures are shown at 16 fps, {word} as a viewer would see them"


def test_another_size_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", numbered(9, (8, 24)), **LOSSLESS)
    notices = read_prefix(path, HW, max_frames=9).notices
    assert "a.avi is 24 x 8 px, smaller than the model's 16 x 16 px: it is enlarged" in notices
    assert "a.avi is 24 x 8 px: 67% of its width is cut off, the middle is kept" in notices


def test_less_than_a_chunk_is_refused_or_held(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", numbered(5), **LOSSLESS)
    says = (r"a.avi: shorter than one chunk; got 5 frames at 16 fps from 0 s on; expected 9 frames or more "
            r"\(0.56 s at 16 fps\). Fix: .*hold its last frame")  # fmt: skip
    with pytest.raises(InputError, match=says):
        read_prefix(path, HW, max_frames=81)
    prefix = read_prefix(path, HW, max_frames=81, hold=True)
    assert numbers(prefix.rgb) == [0, 1, 2, 3, 4, 4, 4, 4, 4]
    assert prefix.notices == (
        "a.avi has only 5 frames: its last one is held for 4 more, so it seems to stand still there",)


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (16, 16), (40 * i, 0, 0)) for i in range(6)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    assert len(read_prefix(tmp_path / "a.gif", HW, max_frames=81).rgb) == 9


def test_a_start_behind_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", numbered(32), **LOSSLESS)
    with pytest.raises(InputError, match=r"start lies behind the end; got start 9 s; expected less than 2.00 s. Fix"):
        read_prefix(path, HW, max_frames=81, start_s=9.0)


@pytest.mark.parametrize("start", [-1.0, float("nan"), float("inf")])
def test_no_such_time(tmp_path: Path, start: float) -> None:
    with pytest.raises(InputError, match=r"read from a time on; got start .*; expected 0 or more seconds"):
        read_prefix(tmp_path / "a.avi", HW, max_frames=81, start_s=start)


def test_what_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a prefix is at least one chunk; got 8 frames; expected 9 or more"):
        read_prefix(tmp_path / "a.mp4", HW, max_frames=8)
    with pytest.raises(VideoError, match=r"no such file; got .*a.mp4. Fix: check the path"):
        read_prefix(tmp_path / "a.mp4", HW, max_frames=81)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a.png is a picture; got png; expected a video. Fix: give it as --image"):
        read_prefix(tmp_path / "a.png", HW, max_frames=81)
    (tmp_path / "b.mp4").write_bytes(b"what is this")
    with pytest.raises(VideoError, match=r"b.mp4: not a video.*; got .*; expected mp4.*Fix"):
        read_prefix(tmp_path / "b.mp4", HW, max_frames=81)


def test_a_truncated_video(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mkv", numbered(60, (48, 64)), **LOSSLESS)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"cut.mkv: (truncated|damaged).*got .*expected .*Fix: export or download"):
        read_prefix(tmp_path / "cut.mkv", HW, max_frames=81)


def test_a_real_video(real_videos: Path) -> None:
    prefix = read_prefix(real_videos / "sintel_30s.mp4", (32, 48), max_frames=33, start_s=10.0)
    assert prefix.rgb.shape == (33, 32, 48, 3)
    assert any("24 fps" in notice for notice in prefix.notices)
    assert prefix.rgb.float().std() > 5
