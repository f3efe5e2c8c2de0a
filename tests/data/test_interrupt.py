"""Interruptions: hidden means hidden, everything else is untouched, and geometry stays true."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import permutations
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.clip import Cameras, Clip
from remind.data.interrupt import (
    BlinkStyle,
    CardboardStyle,
    CurtainStyle,
    Event,
    GivenStyle,
    InterruptionRecipe,
    LightStyle,
    LookawayStyle,
    OccluderStyle,
    Side,
    Style,
    Texture,
    View,
    ZoomStyle,
    apply_interruption,
    clean_view,
    linear_to_srgb,
    sample_recipe,
    srgb_to_linear,
)
from remind.data.kinds import KINDS, kinds_of
from remind.errors import GraphError, InputError
from remind.frame_graph import Interruption, InterruptionKind
from remind.geometry import intrinsics_from_fov, rigid

PLAIN: tuple[InterruptionKind, ...] = ("light_toggle", "occluder", "zoom")
DRAWN: tuple[InterruptionKind, ...] = (*PLAIN, *kinds_of("held_out"))
HIDING = tuple(kind for kind in DRAWN if KINDS[kind].hides)


def make_clip(seed: int = 0, *, frames: int = 81, hw: tuple[int, int] = (32, 32)) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(1, 256, (frames, *hw, 3), dtype=torch.uint8, generator=generator)
    c2w = rigid(
        torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1), torch.zeros(frames, 3, dtype=torch.float64)
    )
    cameras = Cameras(c2w, intrinsics_from_fov(60.0, hw, frames), hw, torch.ones(frames, dtype=torch.bool))
    depth = 1 + torch.rand(frames, *hw, generator=generator)
    return Clip(rgb, 16.0, cameras, depth, caption="noise", clip_id=f"noise-{seed}")


def recipe(style: Style, seed: int = 0) -> InterruptionRecipe:
    hidden = (45, 45) if style.kind == "zoom" else (27, 57)
    start, stop = (30, 60) if style.kind == "zoom" else (23, 61)
    return InterruptionRecipe(
        interruption=Interruption(style.kind, start, *hidden, stop), style=style, seed=seed
    )


CLIP, OTHER = make_clip(0), make_clip(1)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(DRAWN), st.integers(0, 2**32 - 1))
def test_frames_outside_are_untouched_inside_are_not_and_the_same_recipe_repeats(
    kind: InterruptionKind, seed: int
) -> None:
    drawn = sample_recipe(kind, 81, np.random.default_rng(seed))
    assert drawn == sample_recipe(kind, 81, np.random.default_rng(seed))
    before = CLIP.rgb.clone()
    out, event = apply_interruption(CLIP, drawn), drawn.interruption
    assert torch.equal(CLIP.rgb, before)
    inside = torch.zeros(81, dtype=torch.bool)
    inside[event.start : event.stop] = True
    assert torch.equal(out.rgb[~inside], CLIP.rgb[~inside])
    assert all(not torch.equal(out.rgb[t], CLIP.rgb[t]) for t in range(event.start, event.stop))
    assert torch.equal(out.rgb, apply_interruption(CLIP, drawn).rgb)
    assert drawn.schedule(81).interruptions == (event,)
    assert (out.caption, out.clip_id, out.fps) == (CLIP.caption, CLIP.clip_id, CLIP.fps)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(HIDING), st.integers(0, 2**32 - 1))
def test_hidden_frames_tell_nothing_about_the_clip(kind: InterruptionKind, seed: int) -> None:
    drawn = sample_recipe(kind, 81, np.random.default_rng(seed))
    hidden = slice(drawn.interruption.hidden_start, drawn.interruption.hidden_stop)
    first, second = apply_interruption(CLIP, drawn), apply_interruption(OTHER, drawn)
    assert torch.equal(first.rgb[hidden], second.rgb[hidden])
    if KINDS[kind].layer in ("light", "shutter"):
        assert (first.rgb[hidden] == 0).all()
    if KINDS[kind].layer in ("front", "shutter"):
        assert first.depth is not None
        assert (first.depth[hidden] == 0).all()


def test_dimming_is_linear_in_light() -> None:
    grey = CLIP.with_rgb(torch.full_like(CLIP.rgb, 200))
    out = apply_interruption(grey, recipe(LightStyle(curve=1.0)))
    light = srgb_to_linear(out.rgb[:, 0, 0, 0].double() / 255) / srgb_to_linear(torch.tensor(200 / 255))
    ramp = light[22:28]
    assert (ramp.diff() < 0).all()
    x = torch.tensor(3 / 5)  # third of the ramp's five steps; smoothstep, then light that is left
    assert ramp[3].item() == pytest.approx(1 - (3 * x**2 - 2 * x**3).item(), abs=0.01)


def test_srgb_curves_are_each_others_inverse() -> None:
    levels = torch.arange(256, dtype=torch.float64) / 255
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(levels)), levels, atol=1e-7, rtol=0)
    assert srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.2140, abs=1e-4)


@pytest.mark.parametrize("side", get_args(Side))
@pytest.mark.parametrize("leaves", ["through", "back"])
def test_the_panel_enters_and_leaves_where_it_should(side: Side, leaves: str) -> None:
    black = CLIP.with_rgb(torch.zeros_like(CLIP.rgb))
    style = OccluderStyle.model_validate({"side": side, "leaves": leaves, "texture": "plain"})
    covered = apply_interruption(black, recipe(style)).rgb.amax(-1) > 0
    edge = {
        "left": (slice(None), 0),
        "right": (slice(None), -1),
        "top": (0, slice(None)),
        "bottom": (-1, slice(None)),
    }
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    last_side = opposite[side] if leaves == "through" else side
    assert covered[23][edge[side]].all()
    assert not covered[23][edge[opposite[side]]].any()
    assert covered[27:57].all()
    assert covered[60][edge[last_side]].all()
    assert not covered[60][edge[opposite[last_side]]].any()


@pytest.mark.parametrize("texture", get_args(Texture))
def test_panels_of_every_texture_cover_the_depth_they_hide(texture: Texture) -> None:
    out = apply_interruption(CLIP, recipe(OccluderStyle(texture=texture), seed=3))
    assert out.depth is not None
    assert CLIP.depth is not None
    assert (out.depth[27:57] == 0).all()
    assert (out.depth[24] == 0).any()
    assert (out.depth[24] > 0).any()
    assert torch.equal(out.depth[:23], CLIP.depth[:23])
    if texture != "plain":
        assert out.rgb[30].float().std((0, 1)).max() > 8


def test_panels_differ_with_the_seed() -> None:
    looks = {sample_recipe("occluder", 81, np.random.default_rng(s)).style for s in range(40)}
    assert len(looks) == 40
    grains = [
        apply_interruption(CLIP, recipe(OccluderStyle(texture="grain"), seed=s)).rgb[30] for s in (0, 1)
    ]
    assert not torch.equal(*grains)


def ramp_clip(hw: tuple[int, int]) -> Clip:
    """A clip whose red is x and whose green is y, so that a pixel tells where it came from."""
    x = (torch.arange(hw[1]) + 0.5).expand(hw)
    y = (torch.arange(hw[0]) + 0.5)[:, None].expand(hw)
    rgb = torch.stack([x, y, torch.zeros(hw)], -1).mul(2).round().to(torch.uint8)
    clip = make_clip(hw=hw)
    return clip.with_rgb(rgb.expand(81, *hw, 3).contiguous())


@pytest.mark.parametrize(
    "style", [ZoomStyle(peak_scale=2.0, pan=(0.5, -0.6), shake=0.1), ZoomStyle(peak_scale=1.3)]
)
def test_zoomed_intrinsics_project_a_point_to_the_pixel_that_shows_it(style: ZoomStyle) -> None:
    clip = ramp_clip((48, 64))
    out = apply_interruption(clip, recipe(style, seed=5))
    assert clip.cameras is not None
    assert out.cameras is not None

    def pixel(cameras: Cameras, t: int, point: Tensor) -> Tensor:
        fx, fy, cx, cy = cameras.intrinsics_px[t]
        return torch.stack([fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy])

    for t in (31, 40, 44, 45, 52):
        u, v = 20.5, 30.5  # a pixel of the zoomed frame, and the ray through it
        fx, fy, cx, cy = out.cameras.intrinsics_px[t]
        point = torch.stack([(u - cx) / fx, (v - cy) / fy, torch.tensor(1.0, dtype=torch.float64)])
        shown_from = out.rgb[t, int(v), int(u), :2].double() / 2
        torch.testing.assert_close(pixel(clip.cameras, t, point), shown_from, atol=0.5, rtol=0)
    assert torch.equal(out.cameras.c2w, clip.cameras.c2w)
    assert torch.equal(out.cameras.intrinsics_px[:30], clip.cameras.intrinsics_px[:30])
    assert torch.equal(out.cameras.intrinsics_px[60:], clip.cameras.intrinsics_px[60:])
    ratio = out.cameras.intrinsics_px[30:60, 0] / clip.cameras.intrinsics_px[30:60, 0]
    assert (ratio > 1).all()
    assert ratio.max() <= style.peak_scale
    torch.testing.assert_close(
        ratio, out.cameras.intrinsics_px[30:60, 1] / clip.cameras.intrinsics_px[30:60, 1]
    )


def test_zoomed_depth_comes_from_the_same_place_as_the_colour() -> None:
    clip = ramp_clip((48, 64))
    depth = clip.rgb[..., 0].float() + 1
    out = apply_interruption(Clip(clip.rgb, 16.0, clip.cameras, depth), recipe(ZoomStyle(peak_scale=2.0)))
    assert out.depth is not None
    assert (out.depth - 1 - out.rgb[..., 0].float()).abs().max() <= 2  # half a pixel is one level of red


def test_a_clip_without_geometry_stays_without() -> None:
    bare = Clip(CLIP.rgb, 16.0)
    for kind in PLAIN:
        out = apply_interruption(bare, sample_recipe(kind, 81, np.random.default_rng(0)))
        assert out.cameras is None
        assert out.depth is None


def test_a_camera_loop_needs_a_scene() -> None:
    loop = sample_recipe("camera_loop", 81, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"true geometry.*interrupt_camera_loop"):
        apply_interruption(CLIP, loop)


def test_a_recipe_that_ends_after_the_clip_is_refused() -> None:
    with pytest.raises(GraphError, match="after the clip"):
        apply_interruption(make_clip(frames=45), recipe(LightStyle()))


@given(st.sampled_from((*DRAWN, "camera_loop")), st.integers(0, 2**32 - 1))
def test_recipes_survive_json(kind: InterruptionKind, seed: int) -> None:
    drawn = sample_recipe(kind, 81, np.random.default_rng(seed))
    assert InterruptionRecipe.from_json(drawn.to_json()) == drawn


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind":"light_toggle"', '"kind":"earthquake"'),
        ('"curve":1.0', '"curve":1e9'),
        ('"curve":1.0', '"curve":"1.0"'),
        ('"curve":1.0', '"curve":1.0,"extra":2'),
        ('"seed":0', '"seed":-1'),
        ('"start":23', '"start":30'),
        ('"start":23', '"start":null'),
        ('"seed":0', '"seed":0,"also":[{"kind":"light_toggle","curve":1.0}]'),
        ('"seed":0', '"seed":0,"also":[{"kind":"zoom"},{"kind":"zoom"},{"kind":"zoom"},{"kind":"zoom"}]'),
        ('"stop":61}', '"stop":61,"also":["zoom"]}'),
        ('"stop":61}', '"stop":61,"more":1}'),
        ('"seed":0', '"seed":0,"events":[]'),
        ('"seed":0', '"seed":0,"view":null'),
        ("{", "["),
    ],
)
def test_recipes_from_outside_are_not_trusted(old: str, new: str) -> None:
    text = recipe(LightStyle()).to_json()
    assert old in text
    with pytest.raises((InputError, GraphError)):
        InterruptionRecipe.from_json(text.replace(old, new))


def test_the_looks_must_fit_the_kind() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        InterruptionRecipe(interruption=Interruption("occluder", 23, 27, 57, 61), style=LightStyle())


# --- the sampler of the world benchmark: weights, test clips and caches depend on its draws ---


@pytest.mark.parametrize(
    ("kind", "pin"),
    [
        ("light_toggle", "8e48e0d5562dd0ce"),
        ("occluder", "e0a6b3837f0a8039"),
        ("camera_loop", "4acf087017c8bcd5"),
        ("zoom", "28ce69726c009165"),
    ],
)
def test_the_draws_behind_published_results_never_change(kind: InterruptionKind, pin: str) -> None:
    digest = hashlib.sha256()
    for seed in range(40):
        for frames in (81, 57, 153):
            digest.update(sample_recipe(kind, frames, np.random.default_rng([seed, frames])).to_json().encode())
    assert digest.hexdigest()[:16] == pin


def test_a_recipe_of_one_event_reads_as_it_always_did() -> None:
    text = (
        '{"interruption":{"kind":"occluder","start":23,"hidden_start":27,"hidden_stop":57,"stop":61},'
        '"style":{"kind":"occluder","side":"left","leaves":"through","texture":"stripes",'
        '"colors":[[172,134,92],[110,76,48]],"period":0.25,"shading":0.3},"seed":7}'
    )
    assert InterruptionRecipe.from_json(text) == recipe(OccluderStyle(), seed=7)
    assert recipe(OccluderStyle(), seed=7).to_json() == text


@pytest.mark.parametrize("style", [OccluderStyle(), OccluderStyle(side="bottom", leaves="back", texture="checker")])
def test_a_panel_is_blended_in_as_by_plain_arithmetic(style: OccluderStyle) -> None:
    """Against the slow and obvious way: every pixel of every frame mixed in float64."""
    panel = apply_interruption(CLIP, recipe(style)).rgb[30].double()
    out = apply_interruption(CLIP, recipe(style))
    horizontal, backwards = style.side in ("left", "right"), style.side in ("right", "bottom")
    for t in (23, 25, 58, 60):
        x = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
        x = x.flip(0) if backwards else x
        s = torch.tensor((t - 22) / 5 if t < 27 else (61 - t) / 5, dtype=torch.float64)
        gone = 3 * s**2 - 2 * s**3
        through = t >= 57 and style.leaves == "through"
        ahead, behind = (1.0, 1 - gone) if through else (gone, 0.0)
        alpha = ((ahead - x) * 32 + 0.5).clamp(0, 1) * ((x - behind) * 32 + 0.5).clamp(0, 1)
        moved = round(float((ahead - 1 + behind) * 32)) * (-1 if backwards else 1)
        cover = (alpha[None, :] if horizontal else alpha[:, None])[..., None]
        expected = torch.lerp(CLIP.rgb[t].double(), panel.roll(moved, 1 if horizontal else 0), cover).round()
        assert torch.equal(out.rgb[t].double(), expected)


# --- several events ---

EVENTS = (
    Event(interruption=Interruption("light_toggle", 10, 12, 20, 22), style=LightStyle()),
    Event(interruption=Interruption("zoom", 34, 40, 40, 44), style=ZoomStyle(shake=0.1), seed=3),
    Event(
        interruption=Interruption("occluder", 50, 54, 66, 69),
        style=OccluderStyle(softness=0.2),
        seed=4,
        also=(LightStyle(curve=2.0),),
    ),
)


def test_disjoint_events_are_applied_one_after_another_in_any_order() -> None:
    together = apply_interruption(CLIP, InterruptionRecipe(events=EVENTS))
    for order in permutations(EVENTS):
        assert InterruptionRecipe(events=order) == InterruptionRecipe(events=EVENTS)
        one_by_one = CLIP
        for event in order:
            one_by_one = apply_interruption(one_by_one, InterruptionRecipe(events=(event,)))
        assert torch.equal(one_by_one.rgb, together.rgb)
        assert one_by_one.depth is not None
        assert together.depth is not None
        assert torch.equal(one_by_one.depth, together.depth)
        assert one_by_one.cameras is not None
        assert together.cameras is not None
        assert torch.equal(one_by_one.cameras.intrinsics_px, together.cameras.intrinsics_px)
    inside = {f for e in EVENTS for f in range(e.interruption.start, e.interruption.stop)}
    for t in range(81):
        assert torch.equal(together.rgb[t], CLIP.rgb[t]) == (t not in inside)


def test_a_composition_knows_its_schedule_and_its_kinds() -> None:
    drawn = InterruptionRecipe(events=EVENTS[::-1])
    assert drawn.kind == "light_toggle+zoom+occluder&light_toggle"
    assert drawn.kinds == ("light_toggle", "zoom", "occluder", "light_toggle")
    schedule = drawn.schedule(81)
    assert [i.start for i in schedule.interruptions] == [10, 34, 50]
    assert schedule.interruptions[2].kinds == ("occluder", "light_toggle")
    assert schedule.hidden_frames() == {*range(12, 20), *range(54, 66)}
    assert InterruptionRecipe.from_json(drawn.to_json()) == drawn
    with pytest.raises(InputError, match="not exactly one event"):
        _ = drawn.interruption


def test_what_acts_together_is_layered_from_the_scene_to_the_sensor() -> None:
    times = Interruption("light_toggle", 23, 27, 57, 61)
    orders = [
        Event(interruption=times, style=LightStyle(), seed=5, also=(OccluderStyle(), BlinkStyle())),
        Event(
            interruption=replace(times, kind="blink"),
            style=BlinkStyle(),
            seed=5,
            also=(OccluderStyle(), LightStyle()),
        ),
    ]
    one, other = (apply_interruption(CLIP, InterruptionRecipe(events=(e,))) for e in orders)
    assert torch.equal(one.rgb, other.rgb)
    assert (one.rgb[27:57] == 0).all()  # the panel is dark too: it stands in the same light
    panel = apply_interruption(CLIP, recipe(OccluderStyle(), seed=5)).rgb
    lit = apply_interruption(CLIP.with_rgb(panel), recipe(LightStyle())).rgb
    assert torch.equal(one.rgb, apply_interruption(CLIP.with_rgb(lit), recipe(BlinkStyle())).rgb)


def test_a_zoom_on_the_clock_of_darkness_stays_at_its_peak() -> None:
    event = Event(interruption=Interruption("light_toggle", 23, 27, 57, 61), style=LightStyle(), also=(ZoomStyle(),))
    out = apply_interruption(CLIP, InterruptionRecipe(events=(event,)))
    assert out.cameras is not None
    assert CLIP.cameras is not None
    ratio = out.cameras.intrinsics_px[:, 0] / CLIP.cameras.intrinsics_px[:, 0]
    torch.testing.assert_close(ratio[27:57], torch.full((30,), 1.6, dtype=torch.float64))


def test_what_cannot_be_composed_is_refused() -> None:
    times = Interruption("light_toggle", 23, 27, 57, 61)
    with pytest.raises(ValueError, match="act in the same place at once"):
        Event(interruption=replace(times, kind="occluder"), style=OccluderStyle(), also=(CurtainStyle(),))
    with pytest.raises(ValueError, match="hides nothing"):
        Event(interruption=replace(times, kind="zoom"), style=ZoomStyle())
    with pytest.raises(ValueError, match="by `also` of the event"):
        Event(interruption=replace(times, also=("zoom",)), style=LightStyle())
    late = Event(interruption=Interruption("occluder", 60, 62, 66, 68), style=OccluderStyle())
    with pytest.raises(GraphError, match="overlap"):
        InterruptionRecipe(events=(Event(interruption=times, style=LightStyle()), late))
    away = Event(interruption=replace(times, kind="lookaway"), style=LookawayStyle())
    with pytest.raises(ValueError, match="needs a `view`"):
        InterruptionRecipe(events=(away,))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "null",
        '{"events":null}',
        '{"events":[],"view":{"hw":[4,4]}}',
        '{"events":[],"view":{"hw":[64,64],"rest_deg":1e400}}',
        '{"events":[],"view":{"hw":[64,64.5]}}',
        '{"events":[],"view":{"hw":[64,9000]}}',
        '{"events":[{}]}',
        '{"events":[],"seed":1}',
        "[" * 100_000,
    ],
)
def test_hostile_compositions_are_refused(text: str) -> None:
    with pytest.raises((InputError, GraphError)):
        InterruptionRecipe.from_json(text)


def test_a_recipe_without_end_is_refused() -> None:
    single = json.loads(recipe(LightStyle()).to_json())
    with pytest.raises(InputError, match="events"):
        InterruptionRecipe.from_json(json.dumps({"events": [single] * 65}))


def test_no_event_at_all_is_a_clean_control() -> None:
    control = InterruptionRecipe(events=())
    assert control.kind == "clean"
    assert InterruptionRecipe.from_json(control.to_json()) == control
    assert control.schedule(81).interruptions == ()
    assert apply_interruption(CLIP, control) is CLIP


def test_a_camera_loop_that_the_clip_itself_makes_changes_no_pixel() -> None:
    loop = Interruption("camera_loop", 23, 27, 57, 61)
    given_loop = InterruptionRecipe(events=(Event(interruption=loop, style=GivenStyle()),))
    assert given_loop.kind == "camera_loop"
    assert apply_interruption(CLIP, given_loop) is CLIP
    assert given_loop.schedule(81).interruptions == (loop,)
    assert InterruptionRecipe.from_json(given_loop.to_json()) == given_loop
    dark = InterruptionRecipe(events=(Event(interruption=loop, style=GivenStyle(), also=(LightStyle(),)),))
    assert (apply_interruption(CLIP, dark).rgb[27:57] == 0).all()
    assert dark.without("camera_loop").events == recipe(LightStyle()).events


def test_the_clip_and_its_clean_view_are_the_same_without_a_view() -> None:
    assert clean_view(CLIP, recipe(LightStyle())) is CLIP
    with pytest.raises(ValueError, match="hw"):
        View(hw=(0, 64))


@pytest.mark.parametrize("softness", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("leaves", ["through", "back"])
def test_soft_edges_come_and_go_without_a_jump(softness: float, leaves: str) -> None:
    white = CLIP.with_rgb(torch.full_like(CLIP.rgb, 255))
    style = OccluderStyle.model_validate(
        {"texture": "plain", "colors": ((0, 0, 0), (0, 0, 0)), "softness": softness, "leaves": leaves}
    )
    light = apply_interruption(white, recipe(style)).rgb.double().mean((1, 2, 3))
    assert (light[27:57] == 0).all()
    assert (light[22:28].diff() < 0).all()
    assert (light[56:62].diff() > 0).all()
    torch.testing.assert_close(light[23:27], light[57:61].flip(0), atol=6.0, rtol=0)  # in as out


def test_held_out_covers_come_from_where_they_should() -> None:
    white = CLIP.with_rgb(torch.full_like(CLIP.rgb, 255))

    def covered(style: Style, t: int) -> Tensor:
        return (apply_interruption(white, recipe(style)).rgb[t].amin(-1) < 255).double()

    slanted = covered(CardboardStyle(slant=0.4), 24)
    assert slanted[0].sum() > slanted[-1].sum() > 0
    sides = covered(CurtainStyle(comes="sides"), 24)
    assert sides[:, 0].all()
    assert sides[:, -1].all()
    assert not sides[:, 16].any()
    above = covered(CurtainStyle(comes="above"), 24)
    assert above[0].all()
    assert not above[-1].any()
    lids = covered(BlinkStyle(shape="lids"), 24)
    assert lids[0].all()
    assert lids[-1].all()
    assert not lids[16, 16]
    iris = covered(BlinkStyle(shape="iris"), 24)
    assert iris[0, 0] == iris[-1, -1] == 1
    assert not iris[16, 16]
