"""Roles from pixels and poses: held against the schedules of real interruptions of world clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.clip import Cameras
from remind.data.events import sample_schedule
from remind.data.interrupt import apply_interruption, sample_recipe
from remind.data.video_io import read_clip
from remind.data.world_clips import TEST_SEEDS, make_world_clip
from remind.errors import InputError
from remind.frame_graph import FrameGraph, InterruptionKind, Role, frames_of_chunk
from remind.geometry import intrinsics_from_fov
from remind.inference.camera_path import camera_path
from remind.inference.roles import RoleTracker, looks_hidden, looks_of, roles_of
from remind.models.codec import LinearCodec
from remind.world.scenes import sample_scene

KINDS: tuple[InterruptionKind, ...] = ("light_toggle", "occluder", "cardboard", "curtain", "blink")


def interrupted(kind: InterruptionKind, seeds: range, hw: tuple[int, int]):  # type: ignore[no-untyped-def]
    """Degraded frames with their schedule."""
    for seed in seeds:
        clean = sample_scene(seed, num_frames=81, hw=hw).clip()
        recipe = sample_recipe(kind, 81, np.random.default_rng([seed, 5]))
        yield apply_interruption(clean, recipe).rgb, recipe.schedule(81)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_frames_are_found_and_clean_ones_left_alone(kind: InterruptionKind) -> None:
    """Seeds that were not calibrated on, as rendered and as the codec gives them back."""
    codec = LinearCodec.load()
    found, alarms, alarms_beside = [], [], []
    start = TEST_SEEDS.start + 100 * KINDS.index(kind)
    for hw, count in (((32, 32), 6), ((64, 64), 1)):
        for rgb, schedule in interrupted(kind, range(start, start + count), hw):
            for seen, margin in ((rgb, 0), (codec.decode(codec.encode(rgb[None]))[0], 4)):
                event = schedule.interruptions[0]
                hidden = range(event.hidden_start + margin, event.hidden_stop - margin)  # the codec blurs four frames
                clean = [t for t in range(81) if not event.start - margin <= t < event.stop + margin]
                usual = looks_of(seen[:9])
                flags, flags_beside = looks_hidden(seen), looks_hidden(seen, clean=usual)
                found += [flags[list(hidden)], flags_beside[list(hidden)]]
                alarms.append(flags[clean])
                alarms_beside.append(flags_beside[clean])
    rates = [torch.cat(flags).double().mean().item() for flags in (found, alarms, alarms_beside)]
    print(f"{kind}: found {rates[0]:.4f}, false alarms {rates[1]:.4f}, beside a clean view {rates[2]:.4f}")
    assert rates[0] >= 0.95
    assert rates[1] <= 0.02
    assert rates[2] <= 0.01


def test_a_muted_video_does_not_look_hidden_beside_its_own_clean_view(real_videos: Path) -> None:
    """A nearly grey film looks covered by itself, and does not to a tracker that has seen how it begins."""
    rgb = read_clip(real_videos / "nasa_13013.mp4", num_frames=57, fps=16, hw=(120, 208)).rgb // 2  # muted further
    assert looks_hidden(rgb).any()
    assert not looks_hidden(rgb, clean=looks_of(rgb[:9])).any()
    tracker = RoleTracker()
    for chunk in range(5):
        frames = frames_of_chunk(chunk)
        tracker.see(chunk, rgb[frames.start : frames.stop])
    assert set(tracker.roles.values()) == {"clean"}
    assert tracker.see(5, torch.zeros_like(rgb[:12]))[5] == "degraded"


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_roles_are_those_of_the_frame_graph(kind: InterruptionKind, seed: int) -> None:
    schedule = sample_schedule(kind, 81, np.random.default_rng(seed))
    degraded = schedule.degraded_frames()
    flags = [any(frame in degraded for frame in frames_of_chunk(chunk)) for chunk in range(7)]
    assert roles_of(flags) == FrameGraph(schedule).roles


def test_a_tracker_says_what_changed_when_the_lights_go_off_and_on() -> None:
    tracker = RoleTracker()
    said = [tracker.add(chunk, bool(hidden)) for chunk, hidden in enumerate([0, 0, 1, 1, 0, 0, 1, 0], 5)]
    assert said == [
        {5: "clean"}, {6: "clean"}, {5: "anchor", 6: "anchor", 7: "degraded"}, {8: "degraded"}, {9: "recovery"},
        {10: "clean"}, {10: "anchor", 11: "degraded"}, {12: "recovery"},
    ]  # fmt: skip
    assert tracker.roles[9] == "recovery"  # it serves as an anchor too, as in the frame graph
    with pytest.raises(InputError, match="in order"):
        tracker.add(12, False)
    assert roles_of([True, True, False]) == ("degraded", "degraded", "recovery")  # nothing clean came before
    assert roles_of([]) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_tracker_that_looks_finds_the_hidden_chunks_of_a_clip(kind: InterruptionKind) -> None:
    clip = make_world_clip(TEST_SEEDS.start + 3, hw=(32, 32), kind=kind)
    hidden = clip.recipe.schedule(81).hidden_frames()
    tracker = RoleTracker()
    for chunk in range(7):
        frames = frames_of_chunk(chunk)
        tracker.see(chunk, clip.degraded.rgb[frames.start : frames.stop])
    flags = [tracker.roles[chunk] == "degraded" for chunk in range(7)]
    assert all(flags[chunk] for chunk in range(7) if any(frame in hidden for frame in frames_of_chunk(chunk)))
    graph = FrameGraph(clip.recipe.schedule(81))
    assert not any(flags[chunk] for chunk in range(7) if chunk not in graph.degraded)
    assert tracker.roles[0] == "anchor"


def chunks_of(path: Cameras) -> list[Cameras]:
    count = (len(path) + 3) // 12
    return [path[slice(frames_of_chunk(k).start, frames_of_chunk(k).stop)] for k in range(count)]


def test_a_camera_that_looks_away_degrades_and_comes_back() -> None:
    """lookaway:60 leaves its view after the first chunk and is back in the last one."""
    path = camera_path("lookaway:60", num_frames=81, hw=(32, 32))
    roles: tuple[Role, ...] = ("anchor", "degraded", "degraded", "degraded", "degraded", "degraded", "recovery")
    assert roles_of([False] * 7, chunks_of(path)) == roles
    small = camera_path("lookaway:20", num_frames=81, hw=(32, 32))
    assert set(roles_of([False] * 7, chunks_of(small))) == {"clean"}  # more than half of the view is still in sight
    assert roles_of([False] * 6 + [True], chunks_of(small))[0] == "anchor"


def test_unknown_poses_are_not_away_and_the_next_run_has_its_own_anchor() -> None:
    away = camera_path("lookaway:60", num_frames=81, hw=(32, 32))
    unknown = Cameras(away.c2w, away.intrinsics_px, away.hw, torch.zeros(81, dtype=torch.bool))
    assert set(roles_of([False] * 7, chunks_of(unknown))) == {"clean"}
    turned = camera_path("right-20", num_frames=81, hw=(32, 32))
    views = chunks_of(turned)
    tracker = RoleTracker()
    tracker.add(0, False, views[0])
    tracker.add(1, True, views[6])
    assert tracker.add(2, False, views[6])[2] == "degraded"  # still turned away from the anchor
    assert tracker.add(3, False, views[0])[3] == "recovery"
    with pytest.raises(InputError, match="number of chunks"):
        roles_of([False], [])
    lens = intrinsics_from_fov(55, (32, 32), 1)
    nothing = Cameras(torch.eye(4).double()[None], lens, (32, 32), torch.zeros(1, dtype=torch.bool))
    assert roles_of([False, False], [nothing, views[0]]) == ("clean", "clean")


def test_a_tracker_goes_on_from_what_it_was_told_as_if_it_had_not_stopped() -> None:
    views = chunks_of(camera_path("lookaway:60", num_frames=81, hw=(32, 32)))
    rgb = make_world_clip(TEST_SEEDS.start, hw=(32, 32)).clean.rgb
    tracker = RoleTracker()
    for chunk in range(3):
        tracker.see(chunk, rgb[:9], views[chunk])
    again, fork = RoleTracker(), tracker.fork()
    for chunk, role in tracker.roles.items():  # what a session's file holds: roles, cameras, and how it usually looks
        again.add(chunk, role == "degraded", views[chunk])
    again.clean = tracker.clean
    for chunk in range(3, 7):
        said = [one.see(chunk, rgb[:9], views[chunk]) for one in (tracker, again, fork)]
        assert said[0] == said[1] == said[2]
    assert tracker.roles[6] == "recovery"
