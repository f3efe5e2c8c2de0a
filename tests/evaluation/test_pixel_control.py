"""Observation control from pixels alone: on interrupted world clips, on videos that disobey, on a real video."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from remind.clip import Cameras
from remind.data.video_io import read_clip
from remind.data.world_clips import TEST_SEEDS, WorldClip, make_world_clip
from remind.errors import InputError
from remind.evaluation.pixel_control import check_control, find_cuts
from remind.evaluation.view_in_sight import view_in_sight
from remind.frame_graph import Interruption, InterruptionKind

KINDS: tuple[InterruptionKind, ...] = ("light_toggle", "occluder", "camera_loop")
HW = (32, 32)


@pytest.fixture(scope="module")
def cases() -> dict[str, WorldClip]:
    return {kind: make_world_clip(TEST_SEEDS.start + 77_001 + i, hw=HW, kind=kind, family="filling")
            for i, kind in enumerate(KINDS)}  # fmt: skip


@pytest.fixture(scope="module")
def elsewhere() -> torch.Tensor:
    return make_world_clip(TEST_SEEDS.start + 77_100, hw=HW, kind="light_toggle", family="carousel").clean.rgb


def times_of(case: WorldClip) -> Interruption:
    return case.schedule.interruptions[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_what_was_asked_for_passes_and_what_was_not_does_not(
    cases: dict[str, WorldClip], elsewhere: torch.Tensor, kind: InterruptionKind, known: bool
) -> None:
    case, times = cases[kind], times_of(cases[kind])
    asked = times if known else None
    rgb, clean = case.degraded.rgb, case.clean.rgb
    found = check_control(rgb, kind, times=asked)
    assert found.passed, found.why
    hidden = torch.tensor(found.hidden)
    assert hidden[times.hidden_start : times.hidden_stop].all()
    assert not hidden[: times.start].any()
    assert not hidden[times.stop :].any()
    assert check_control(clean, kind, times=asked).why == "never hidden"
    assert check_control(clean[:1].expand(81, -1, -1, -1), kind, times=asked).why == "never hidden"
    stays = rgb.clone()
    stays[times.hidden_stop :] = rgb[times.hidden_start]
    assert check_control(stays, kind, times=asked).why == "never back"
    other = rgb.clone()
    other[times.hidden_stop :] = elsewhere[times.hidden_stop :]
    assert check_control(other, kind, times=asked).why == "never back"
    cut = rgb.clone()
    cut[times.stop + 3] = elsewhere[0]  # one wrong frame: the shares do not notice
    found = check_control(cut, kind, times=times)
    assert (found.why, found.cuts[0]) == ("cut", times.stop + 3)


def test_one_kind_does_not_pass_for_another(cases: dict[str, WorldClip]) -> None:
    dark, panel, away = (cases[kind].degraded.rgb for kind in KINDS)
    for rgb, case in ((panel, cases["occluder"]), (away, cases["camera_loop"])):
        assert check_control(rgb, "light_toggle", times=times_of(case)).why == "never hidden"
    assert check_control(dark, "camera_loop", times=times_of(cases["light_toggle"])).why == "never hidden"


def test_measured_cameras_decide_where_they_are_known(cases: dict[str, WorldClip]) -> None:
    """Poses of a camera that stays are believed although the pictures look away."""
    case, times = cases["camera_loop"], times_of(cases["camera_loop"])
    grey = torch.full_like(case.clean.rgb, 120)
    assert check_control(grey, "camera_loop", times=times).why == "never hidden"
    seen = case.degraded.rgb
    assert check_control(seen, "camera_loop", times=times, cameras=case.degraded.cameras).passed
    assert check_control(seen, "camera_loop", times=times, cameras=case.clean.cameras).why == "never hidden"
    assert case.degraded.cameras is not None
    unknown = Cameras(case.degraded.cameras.c2w, case.degraded.cameras.intrinsics_px, HW,
                      torch.zeros(81, dtype=torch.bool))  # fmt: skip
    with pytest.raises(InputError, match="last clear frame"):
        check_control(case.degraded.rgb, "camera_loop", times=times, cameras=unknown)


def test_a_view_is_known_again_after_a_shift_and_not_in_another_place(elsewhere: torch.Tensor) -> None:
    view = elsewhere[0]
    assert view_in_sight(view, elsewhere[:1]) == 1
    assert view_in_sight(view, view.roll(4, 1)[None]) >= 0.8
    assert view_in_sight(view, 255 - elsewhere[:1]) < 0.5
    assert len(view_in_sight(view, elsewhere[:0])) == 0


def test_a_real_video_has_no_cut_until_one_is_made(real_videos: Path, elsewhere: torch.Tensor) -> None:
    names = sorted(real_videos.glob("*.mp4"))[:3]
    shots = [read_clip(name, num_frames=33, fps=16, hw=(60, 104)).rgb for name in names]
    for shot in shots:
        dark = shot.clone()
        dark[12:24] = 2
        found = check_control(dark, "light_toggle", times=Interruption("light_toggle", 12, 12, 24, 24))
        assert (found.hidden_share, found.returned_share) == (1, 1)
    joined = torch.cat([shots[0][:16], shots[1][:16]])
    assert 16 in find_cuts(joined)


def test_what_cannot_be_checked_is_refused(cases: dict[str, WorldClip]) -> None:
    rgb, times = cases["occluder"].degraded.rgb, times_of(cases["occluder"])
    with pytest.raises(InputError, match="hides nothing"):
        check_control(rgb, "zoom")
    with pytest.raises(InputError, match="ends before"):
        check_control(rgb[: times.stop - 1], "occluder", times=times)
    with pytest.raises(InputError, match="ends before"):
        check_control(rgb[:4], "occluder")
