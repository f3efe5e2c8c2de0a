"""Looking away within a wider clip: against the world rendered by the camera that really turned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from remind.clip import Cameras, Clip
from remind.data.interrupt import (
    HIDDEN_OVERLAP,
    Event,
    InterruptionRecipe,
    LightStyle,
    LookawayPlan,
    LookawayStyle,
    View,
    apply_interruption,
    clean_view,
    plan_lookaway,
    view_overlap,
)
from remind.errors import CameraError, InputError
from remind.frame_graph import Interruption
from remind.geometry import anchor, away_and_back, check_rotations, intrinsics_from_fov, rigid, rotation_yaw
from remind.world import Scene, sample_scene
from remind.world.scenes import turn

STORED, SEEN = (96, 224), (64, 80)
TIMES = Interruption("lookaway", 9, 12, 33, 36)
FRAMES = 45
SCENE = sample_scene(3, family="walker", hw=STORED, num_frames=FRAMES)
WIDE = SCENE.clip()


def recipe(plan: LookawayPlan, times: Interruption = TIMES) -> InterruptionRecipe:
    return InterruptionRecipe(events=(Event(interruption=times, style=plan.style),), view=plan.view)


def known(scene: Scene) -> Tensor:
    return scene.cameras.intrinsics_px[0]


def psnr_db(one: Tensor, other: Tensor) -> float:
    return float(-10 * torch.log10(((one.double() - other.double()) / 255).square().mean()))


def pitched(pitch_deg: Tensor) -> Tensor:
    """Rotations that look up, written out apart from the code under test."""
    a = torch.deg2rad(pitch_deg)
    out = torch.eye(3, dtype=torch.float64).repeat(len(a), 1, 1)
    out[:, 1, 1], out[:, 1, 2], out[:, 2, 1], out[:, 2, 2] = torch.cos(a), -torch.sin(a), torch.sin(a), torch.cos(a)
    return out


def true_cameras(scene: Scene, rest_deg: float, yaw_deg: float, pitch_deg: float = 0.0) -> Cameras:
    """The scene's cameras, turned to their right by the yaw and up by the pitch, with a narrower field of view."""
    away = away_and_back(FRAMES, start=9, hidden_start=12, hidden_stop=33, stop=36)
    turned = turn(scene.cameras, rest_deg + yaw_deg * away)
    c2w = turned.c2w.clone()
    c2w[:, :3, :3] = c2w[:, :3, :3] @ pitched(pitch_deg * away)
    fx, fy = known(scene)[:2].tolist()
    inner = torch.tensor([fx, fy, SEEN[1] / 2, SEEN[0] / 2], dtype=torch.float64).repeat(FRAMES, 1)
    return Cameras(c2w, inner, SEEN, scene.cameras.valid)


@pytest.mark.parametrize("seed", [3, 8])
@pytest.mark.parametrize("direction", ["left", "right"])
def test_turning_finished_frames_is_as_good_as_turning_the_camera(seed: int, direction: str) -> None:
    scene = sample_scene(seed, hw=STORED, num_frames=FRAMES)
    plan = plan_lookaway(STORED, SEEN, direction, intrinsics_px=known(scene))
    assert plan.hides, plan.reason
    out = apply_interruption(scene.clip(), recipe(plan))
    cameras = true_cameras(scene, plan.view.rest_deg, plan.style.turn_deg[0])
    truth = scene.render(None, cameras)
    mirrored = scene.render_rgb(None, true_cameras(scene, -plan.view.rest_deg, -plan.style.turn_deg[0]))
    for t in (0, 10, 11, 20, 34, 44):
        assert psnr_db(out.rgb[t], truth.rgb[t]) > 32
        assert psnr_db(out.rgb[t], mirrored[t]) < 25  # the signs are the right ones
        assert out.depth is not None
        assert ((out.depth[t] / truth.depth[t] - 1).abs() < 0.01).float().mean() > 0.95
    assert out.cameras is not None
    torch.testing.assert_close(out.cameras.c2w, anchor(cameras.c2w), atol=1e-9, rtol=0)
    torch.testing.assert_close(out.cameras.intrinsics_px, cameras.intrinsics_px)
    assert out.cameras.hw == out.hw == SEEN
    check_rotations(out.cameras.c2w)
    assert (plan.style.turn_deg[0] > 0) == (direction == "right")


@pytest.mark.parametrize(("yaw_deg", "pitch_deg"), [(6.0, 3.0), (-5.0, -3.0), (0.0, 4.0)])
def test_looking_up_is_up_and_both_turns_compose(yaw_deg: float, pitch_deg: float) -> None:
    times = replace(TIMES, hidden_start=20, hidden_stop=20)
    event = Event(interruption=times, style=LookawayStyle(turn_deg=(yaw_deg, pitch_deg)))
    out = apply_interruption(WIDE, InterruptionRecipe(events=(event,), view=View(hw=SEEN)))
    away = away_and_back(FRAMES, start=9, hidden_start=20, hidden_stop=20, stop=36)
    turned = turn(SCENE.cameras, yaw_deg * away)
    turned.c2w[:, :3, :3] @= pitched(pitch_deg * away)
    inner = true_cameras(SCENE, 0, 0).intrinsics_px
    cameras = Cameras(turned.c2w, inner, SEEN, SCENE.cameras.valid)
    truth = SCENE.render_rgb(None, cameras)
    assert min(psnr_db(out.rgb[t], truth[t]) for t in (12, 19, 28)) > 32
    assert out.cameras is not None
    torch.testing.assert_close(out.cameras.c2w, turned.c2w, atol=1e-9, rtol=0)
    # The turned camera's forward axis, in world coordinates: x to the right, y down.
    forward = out.cameras.c2w[19, :3, 2] - WIDE.cameras.c2w[19, :3, 2]  # type: ignore[union-attr]
    assert (forward[0] > 0) == (yaw_deg > 0) or yaw_deg == 0
    assert (forward[1] < 0) == (pitch_deg > 0)


def test_frames_outside_are_those_of_the_clean_view_bit_for_bit() -> None:
    plan = plan_lookaway(STORED, SEEN, "right", intrinsics_px=known(SCENE))
    out, clean = apply_interruption(WIDE, recipe(plan)), clean_view(WIDE, recipe(plan))
    inside = set(range(9, 36))
    for t in range(FRAMES):
        assert torch.equal(out.rgb[t], clean.rgb[t]) == (t not in inside)
    assert out.cameras is not None
    assert clean.cameras is not None
    assert torch.equal(out.cameras.c2w[40], clean.cameras.c2w[40])
    torch.testing.assert_close(out.cameras.c2w[0], torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)
    centred = clean_view(WIDE, InterruptionRecipe(events=(), view=View(hw=SEEN)))
    assert torch.equal(centred.rgb, WIDE.rgb[:, 16:80, 72:152])  # at rest in the middle: a plain crop
    assert WIDE.cameras is not None
    assert centred.cameras is not None
    assert torch.equal(centred.cameras.c2w, WIDE.cameras.c2w)


def test_hidden_frames_show_nothing_of_the_view_at_rest() -> None:
    """Whatever lies in the view at rest may change without a trace in hidden frames."""
    plan = plan_lookaway(STORED, SEEN, "left", intrinsics_px=known(SCENE))
    drawn = recipe(plan)
    window = plan_window(drawn)
    spoilt = WIDE.rgb.clone()
    spoilt[:, window] = 255 - spoilt[:, window]
    hidden = slice(TIMES.hidden_start, TIMES.hidden_stop)
    before, after = (apply_interruption(WIDE.with_rgb(rgb), drawn).rgb for rgb in (WIDE.rgb, spoilt))
    assert torch.equal(before[hidden], after[hidden])
    assert not torch.equal(before[0], after[0])
    assert not torch.equal(before[TIMES.start], after[TIMES.start])


def plan_window(drawn: InterruptionRecipe) -> Tensor:
    """Which stored pixels the view at rest is made of: those whose change it notices."""
    one = Clip(torch.zeros(1, *STORED, 3, dtype=torch.uint8), 16.0, SCENE.cameras[:1])
    marks = torch.zeros(STORED, dtype=torch.bool)
    control = InterruptionRecipe(events=(), view=drawn.view)
    for column in range(STORED[1]):
        rgb = one.rgb.clone()
        rgb[:, :, column] = 255
        if clean_view(one.with_rgb(rgb), control).rgb.any():
            marks[8:88, column] = True
    return marks


def test_a_clip_that_is_not_wide_enough_says_so_and_hides_nothing() -> None:
    plan = plan_lookaway((96, 120), SEEN, "right", assumed_fov_deg=40.0)
    assert not plan.hides
    assert 0.1 < plan.overlap < 1
    assert plan.reason.startswith("pictures of 96x120 px allow a turn of")
    needed = plan.reason.split("pictures of ")[2].split(" px")[0]
    height, width = (int(side) for side in needed.split("x"))
    assert width > 120
    fov = 2 * torch.rad2deg(torch.atan(torch.tan(torch.deg2rad(torch.tensor(20.0))) * width / 120)).item()
    assert plan_lookaway((height, width + 1), SEEN, "right", assumed_fov_deg=fov).hides  # as the message promises
    clip = Clip(torch.randint(0, 256, (FRAMES, 96, 120, 3), dtype=torch.uint8), 16.0)
    with pytest.raises(InputError, match=r"leaves part of the view in sight.*at most 2%"):
        apply_interruption(clip, recipe(plan))
    partial = recipe(plan, replace(TIMES, hidden_start=20, hidden_stop=20))
    assert partial.schedule(FRAMES).hidden_frames() == frozenset()
    assert not torch.equal(apply_interruption(clip, partial).rgb[19], clean_view(clip, partial).rgb[19])
    dark = Event(interruption=replace(TIMES, kind="light_toggle"), style=LightStyle(), also=(plan.style,))
    both = apply_interruption(clip, InterruptionRecipe(events=(dark,), view=plan.view))
    assert (both.rgb[12:33] == 0).all()  # the darkness hides what the turn does not


def test_a_picture_with_room_rests_in_the_middle_and_one_without_beside_it() -> None:
    wide = plan_lookaway((100, 400), SEEN, "right", assumed_fov_deg=90.0)
    assert wide.hides
    assert wide.view.rest_deg == 0
    narrow = plan_lookaway(STORED, SEEN, "right", intrinsics_px=known(SCENE))
    assert narrow.hides
    assert narrow.view.rest_deg < 0 < narrow.style.turn_deg[0]
    for plan, inner in ((wide, intrinsics_from_fov(90.0, (100, 400), 1)[0]), (narrow, known(SCENE))):
        assert view_overlap(inner, SEEN, plan.style.turn_deg) <= HIDDEN_OVERLAP


def test_intrinsics_are_assumed_exactly_where_they_are_unknown_and_the_recipe_says_so() -> None:
    plan = plan_lookaway(STORED, SEEN, "right")
    assert plan.view.assumed_fov_deg == 60.0
    bare = Clip(WIDE.rgb, 16.0)
    out = apply_interruption(bare, recipe(plan))
    assert out.cameras is None
    assert InterruptionRecipe.from_json(recipe(plan).to_json()) == recipe(plan)
    with pytest.raises(CameraError, match="known, but the recipe assumes"):
        apply_interruption(WIDE, recipe(plan))
    with pytest.raises(CameraError, match="not known"):
        apply_interruption(bare, recipe(plan_lookaway(STORED, SEEN, "right", intrinsics_px=known(SCENE))))


def test_poses_that_are_partly_unknown_stay_so() -> None:
    assert WIDE.cameras is not None
    valid = torch.arange(FRAMES) % 3 > 0
    intrinsics = WIDE.cameras.intrinsics_px.clone()
    intrinsics[~valid] = 0
    holed = replace(WIDE, cameras=Cameras(WIDE.cameras.c2w, intrinsics, STORED, valid))
    plan = plan_lookaway(STORED, SEEN, "right", intrinsics_px=known(SCENE))
    out = apply_interruption(holed, recipe(plan))
    assert out.cameras is not None
    assert torch.equal(out.cameras.valid, valid)
    assert torch.equal(out.rgb, apply_interruption(WIDE, recipe(plan)).rgb)


def test_cameras_of_another_size_than_the_pictures_are_rescaled() -> None:
    assert WIDE.cameras is not None
    doubled = Cameras(WIDE.cameras.c2w, WIDE.cameras.intrinsics_px * 2, (192, 448), WIDE.cameras.valid)
    plan = plan_lookaway(STORED, SEEN, "right", intrinsics_px=known(SCENE))
    out = apply_interruption(replace(WIDE, cameras=doubled), recipe(plan))
    assert torch.equal(out.rgb, apply_interruption(WIDE, recipe(plan)).rgb)


@pytest.mark.parametrize("turn_deg", [(60.0, 0.0), (0.0, 50.0), (-110.0, 0.0)])
def test_a_view_never_leaves_the_stored_pictures(turn_deg: tuple[float, float]) -> None:
    event = Event(interruption=replace(TIMES, hidden_start=20, hidden_stop=20), style=LookawayStyle(turn_deg=turn_deg))
    with pytest.raises(InputError, match="leaves the stored pictures"):
        apply_interruption(WIDE, InterruptionRecipe(events=(event,), view=View(hw=SEEN)))


def test_pictures_no_larger_than_the_view_are_refused() -> None:
    with pytest.raises(InputError, match="leaves the stored pictures"):
        clean_view(WIDE, InterruptionRecipe(events=(), view=View(hw=(8192, 8192))))
    for stored in (SEEN, (60, 400), (400, 60)):
        with pytest.raises(InputError, match="wider than the view"):
            plan_lookaway(stored, SEEN, "right")


def test_a_moving_camera_keeps_its_own_motion() -> None:
    assert WIDE.cameras is not None
    yaw = torch.linspace(0, 8, FRAMES)
    moved = Cameras(
        rigid(rotation_yaw(yaw), torch.stack([yaw, 0 * yaw, yaw / 2], -1).double()),
        WIDE.cameras.intrinsics_px, STORED, WIDE.cameras.valid,
    )  # fmt: skip
    plan = plan_lookaway(STORED, SEEN, "right", intrinsics_px=known(SCENE))
    out = apply_interruption(replace(WIDE, cameras=moved), recipe(plan)).cameras
    clean = clean_view(replace(WIDE, cameras=moved), recipe(plan)).cameras
    assert out is not None
    assert clean is not None
    assert torch.equal(out.c2w[:, :3, 3], clean.c2w[:, :3, 3])  # it turns on the spot
    distance = moved.c2w[:, :3, 3].norm(dim=-1)
    torch.testing.assert_close(clean.c2w[:, :3, 3].norm(dim=-1), distance)
