"""Interruptions: hidden means hidden, everything else is untouched, and geometry stays true."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.clip import Cameras, Clip
from remind.data.interrupt import (
    InterruptionRecipe,
    LightStyle,
    OccluderStyle,
    Side,
    Texture,
    ZoomStyle,
    apply_interruption,
    linear_to_srgb,
    sample_recipe,
    srgb_to_linear,
)
from remind.errors import GraphError, InputError
from remind.frame_graph import Interruption, InterruptionKind
from remind.geometry import intrinsics_from_fov, rigid

PLAIN: tuple[InterruptionKind, ...] = ("light_toggle", "occluder", "zoom")


def make_clip(seed: int = 0, *, frames: int = 81, hw: tuple[int, int] = (32, 32)) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(1, 256, (frames, *hw, 3), dtype=torch.uint8, generator=generator)
    c2w = rigid(
        torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1), torch.zeros(frames, 3, dtype=torch.float64)
    )
    cameras = Cameras(c2w, intrinsics_from_fov(60.0, hw, frames), hw, torch.ones(frames, dtype=torch.bool))
    depth = 1 + torch.rand(frames, *hw, generator=generator)
    return Clip(rgb, 16.0, cameras, depth, caption="noise", clip_id=f"noise-{seed}")


def recipe(style: LightStyle | OccluderStyle | ZoomStyle, seed: int = 0) -> InterruptionRecipe:
    hidden = (45, 45) if style.kind == "zoom" else (27, 57)
    start, stop = (30, 60) if style.kind == "zoom" else (23, 61)
    return InterruptionRecipe(
        interruption=Interruption(style.kind, start, *hidden, stop), style=style, seed=seed
    )


CLIP, OTHER = make_clip(0), make_clip(1)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(PLAIN), st.integers(0, 2**32 - 1))
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


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(PLAIN[:2]), st.integers(0, 2**32 - 1))
def test_hidden_frames_tell_nothing_about_the_clip(kind: InterruptionKind, seed: int) -> None:
    drawn = sample_recipe(kind, 81, np.random.default_rng(seed))
    hidden = slice(drawn.interruption.hidden_start, drawn.interruption.hidden_stop)
    first, second = apply_interruption(CLIP, drawn), apply_interruption(OTHER, drawn)
    assert torch.equal(first.rgb[hidden], second.rgb[hidden])
    if kind == "light_toggle":
        assert (first.rgb[hidden] == 0).all()


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


@given(st.sampled_from((*PLAIN, "camera_loop")), st.integers(0, 2**32 - 1))
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
