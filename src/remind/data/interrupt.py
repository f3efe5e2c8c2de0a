"""Interruptions of a clip: darkness, a panel across the view, a zoom. Recipes applied on load, never copies.

Source: ReMind F.2. Every family moves on one clock, `geometry.away_and_back`; frames outside [start, stop)
come back bit for bit. Camera loops need true geometry and are rendered by `remind.world`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor
from torch.nn.functional import grid_sample

from remind.clip import Cameras, Clip
from remind.data.events import sample_interruption
from remind.errors import InputError
from remind.frame_graph import Interruption, InterruptionKind, Schedule
from remind.geometry import away_and_back, crop_intrinsics

Side = Literal["left", "right", "top", "bottom"]
Texture = Literal["plain", "stripes", "checker", "grain"]
Byte = Annotated[int, Field(ge=0, le=255)]
Rgb = tuple[Byte, Byte, Byte]
Pan = Annotated[float, Field(ge=-0.8, le=0.8)]

# Muted colours of cardboard, cloth, wood and paint: a panel of any of them stands out from few scenes only.
PANEL_COLORS: tuple[Rgb, ...] = (
    (172, 134, 92), (110, 76, 48), (196, 190, 176), (88, 104, 122), (62, 92, 74), (142, 62, 58), (54, 54, 60),
    (206, 172, 96),
)  # fmt: skip


class _Style(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class LightStyle(_Style):
    """Linear-light dimming to exactly black.

    Args:
        curve: exponent on the share of light that is left, 0.5 (late) to 4 (early).
    """

    kind: Literal["light_toggle"] = "light_toggle"
    curve: float = Field(1.0, ge=0.5, le=4)


class OccluderStyle(_Style):
    """A textured panel that slides in front of the camera.

    Args:
        side: where it comes from.
        leaves: on through the opposite side, or back where it came from.
        colors: the two colours of the texture, sRGB.
        period: length of one period of the texture as a share of the frame, 0.05..1.
        shading: strength of the soft light across the panel, 0..0.6.
    """

    kind: Literal["occluder"] = "occluder"
    side: Side = "left"
    leaves: Literal["through", "back"] = "through"
    texture: Texture = "stripes"
    colors: tuple[Rgb, Rgb] = (PANEL_COLORS[0], PANEL_COLORS[1])
    period: float = Field(0.25, ge=0.05, le=1)
    shading: float = Field(0.3, ge=0, le=0.6)


class ZoomStyle(_Style):
    """A crop that closes in and opens again, upsampled to the full frame.

    Args:
        peak_scale: magnification at the closest moment, 1..4.
        pan: where the crop goes within the room that it has, right and down, -0.8..0.8.
        shake: amplitude of a hand's tremor within the same room, 0..0.2.
    """

    kind: Literal["zoom"] = "zoom"
    peak_scale: float = Field(1.6, gt=1, le=4)
    pan: tuple[Pan, Pan] = (0.0, 0.0)
    shake: float = Field(0.0, ge=0, le=0.2)


class CameraLoopStyle(_Style):
    """A look away and back; how far it must turn depends on the scene, so the world decides."""

    kind: Literal["camera_loop"] = "camera_loop"


Style = Annotated[LightStyle | OccluderStyle | ZoomStyle | CameraLoopStyle, Field(discriminator="kind")]


class InterruptionRecipe(_Style):
    """All that is needed to degrade a clip again: when, how, and the seed of what is random in it.

    Args:
        interruption: the times, in pixel frames.
        style: the looks; its kind is the interruption's.
        seed: of the panel's grain and the tremor, >= 0.
    """

    interruption: Interruption
    style: Style
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _one_kind(self) -> InterruptionRecipe:
        if self.style.kind != self.interruption.kind:
            raise ValueError(f"style {self.style.kind!r} does not fit a {self.interruption.kind!r}")
        return self

    @property
    def kind(self) -> InterruptionKind:
        return self.interruption.kind

    def schedule(self, num_frames: int) -> Schedule:
        """The schedule of a clip of `num_frames` frames under this recipe."""
        return Schedule(num_frames, (self.interruption,))

    def to_json(self) -> str:
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> InterruptionRecipe:
        """Read a recipe written by `to_json`, trusting nothing.

        Raises:
            InputError: not JSON, an unknown field or kind, or a value out of range.
            GraphError: times out of order.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "recipe"
            raise InputError(
                f"not an interruption recipe: {where}",
                got=str(first.get("input"))[:80],
                expected=first["msg"],
            ) from None


def sample_recipe(
    kind: InterruptionKind,
    num_frames: int,
    generator: np.random.Generator,
    *,
    hidden_frames: tuple[int, int] | None = None,
) -> InterruptionRecipe:
    """Draw times and looks; a pure function of the generator's state. Arguments as `sample_interruption`."""
    interruption = sample_interruption(kind, num_frames, generator, hidden_frames=hidden_frames)
    seed = int(generator.integers(2**31))
    looks: dict[str, object] = {"kind": kind}
    if kind == "light_toggle":
        looks["curve"] = round(float(generator.uniform(1.0, 2.5)), 3)
    elif kind == "occluder":
        first, second = (int(i) for i in generator.choice(len(PANEL_COLORS), 2, replace=False))
        looks |= {
            "side": str(generator.choice(["left", "right", "top", "bottom"])),
            "leaves": str(generator.choice(["through", "back"])),
            "texture": str(generator.choice(["plain", "stripes", "checker", "grain"])),
            "colors": (PANEL_COLORS[first], PANEL_COLORS[second]),
            "period": round(float(generator.uniform(0.12, 0.5)), 3),
            "shading": round(float(generator.uniform(0.1, 0.4)), 3),
        }
    elif kind == "zoom":
        looks |= {
            "peak_scale": round(float(generator.uniform(1.3, 2.2)), 3),
            "pan": tuple(round(float(v), 3) for v in generator.uniform(-0.7, 0.7, 2)),
            "shake": round(float(generator.choice([0.0, generator.uniform(0.02, 0.15)])), 3),
        }
    return InterruptionRecipe.model_validate({"interruption": interruption, "style": looks, "seed": seed})


def apply_interruption(clip: Clip, recipe: InterruptionRecipe) -> Clip:
    """The degraded clip; `recipe.schedule(len(clip))` says when. The clean clip is left as it is.

    Light changes the colours alone. A panel also blanks the depth behind it (0 = unknown). A zoom updates the
    intrinsics exactly and takes depth from the nearest pixel.

    Raises:
        InputError: a camera loop, which cannot be made from finished frames.
        GraphError: an interruption that ends after the clip.
    """
    event = recipe.schedule(len(clip)).interruptions[0]
    away = away_and_back(
        len(clip),
        start=event.start,
        hidden_start=event.hidden_start,
        hidden_stop=event.hidden_stop,
        stop=event.stop,
    )
    style = recipe.style
    if event.start == event.stop:
        return clip
    if isinstance(style, LightStyle):
        return _dim(clip, event, away, style)
    if isinstance(style, OccluderStyle):
        return _occlude(clip, event, away, style, recipe.seed)
    if isinstance(style, ZoomStyle):
        return _zoom(clip, event, away, style, recipe.seed)
    raise InputError(
        "a camera loop needs true geometry and cannot be applied to finished frames",
        got="camera_loop",
        expected="light_toggle, occluder or zoom",
        fix="for world scenes call remind.world.interrupt_camera_loop(scene, interruption)",
    )


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Linear light of sRGB values, both in [0, 1]. Source: IEC 61966-2-1."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """sRGB values of linear light, both in [0, 1]. Source: IEC 61966-2-1."""
    curved = 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curved)


def _dim(clip: Clip, event: Interruption, away: Tensor, style: LightStyle) -> Clip:
    frames = slice(event.start, event.stop)
    gain = (1 - away[frames]) ** style.curve
    levels = srgb_to_linear(torch.arange(256, dtype=torch.float64) / 255)
    table = (linear_to_srgb(gain[:, None] * levels) * 255).round().to(torch.uint8)  # one row per frame
    rgb = clip.rgb.clone()
    rgb[frames] = table.gather(1, clip.rgb[frames].flatten(1).long()).view_as(rgb[frames])
    return clip.with_rgb(rgb)


def _occlude(clip: Clip, event: Interruption, away: Tensor, style: OccluderStyle, seed: int) -> Clip:
    horizontal = style.side in ("left", "right")
    extent = clip.hw[1] if horizontal else clip.hw[0]
    # `ahead` is how far the panel's front has come, `behind` how much of its rear has left; both in frames.
    share = away[event.start : event.stop]
    leaving = torch.arange(event.start, event.stop) >= event.hidden_stop
    ahead = torch.where(leaving & (style.leaves == "through"), torch.ones_like(share), share)
    behind = torch.where(leaving & (style.leaves == "through"), 1 - share, torch.zeros_like(share))

    # Hidden frames are all alike: paint one and repeat it.
    moving = torch.ones(len(share), dtype=torch.bool)
    moving[event.hidden_start - event.start : event.hidden_stop - event.start] = False
    at = (torch.arange(extent, dtype=torch.float64) + 0.5) / extent  # along the motion, from the entry side
    if style.side in ("right", "bottom"):
        at = at.flip(0)
    rgb = clip.rgb.clone()
    depth = None if clip.depth is None else clip.depth.clone()
    panel = _paint_panel(style, clip.hw, seed)
    if not moving.all():
        rgb[event.hidden_start : event.hidden_stop] = panel
        if depth is not None:
            depth[event.hidden_start : event.hidden_stop] = 0
    for i in moving.nonzero().flatten().tolist():
        t = event.start + i
        front, rear = (ahead[i] - at) * extent, (at - behind[i]) * extent  # px inside the panel's two edges
        alpha = (front + 0.5).clamp(0, 1) * (rear + 0.5).clamp(0, 1)
        # The texture travels with the panel: it is at rest in full cover, displaced by what is missing to it.
        displaced = round(float((ahead[i] - 1 + behind[i]) * extent))
        if style.side in ("right", "bottom"):
            displaced = -displaced
        image = panel.roll(displaced, dims=1 if horizontal else 0).double()
        cover = (alpha[None, :] if horizontal else alpha[:, None])[..., None]
        rgb[t] = torch.lerp(clip.rgb[t].double(), image, cover).round().to(torch.uint8)
        if depth is not None:
            depth[t] = torch.where(cover[..., 0] > 0, 0, depth[t])
    return replace(clip, rgb=rgb, depth=depth)


def _paint_panel(style: OccluderStyle, hw: tuple[int, int], seed: int) -> UInt8[Tensor, "h w 3"]:
    """The panel at rest: two colours mixed by a texture, under a soft light."""
    height, width = hw
    size = max(hw)
    y = ((torch.arange(height, dtype=torch.float64) + 0.5) / size)[:, None].expand(hw)
    x = ((torch.arange(width, dtype=torch.float64) + 0.5) / size)[None, :].expand(hw)
    wave = 2 * math.pi / style.period
    generator = torch.Generator().manual_seed(seed)
    if style.texture == "stripes":
        mix = 0.5 + 0.5 * torch.tanh(4 * torch.sin(wave * x))
    elif style.texture == "checker":
        mix = 0.5 + 0.5 * torch.tanh(6 * torch.sin(wave * x) * torch.sin(wave * y))
    elif style.texture == "grain":  # wood: waves across a bent board, and a little noise
        bend, phase = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        mix = 0.5 + 0.4 * torch.sin(wave * (y + 0.3 * bend * torch.sin(3 * x + 6 * phase)))
        mix = mix + 0.1 * torch.rand(hw, generator=generator, dtype=torch.float64)
    else:
        mix = torch.zeros(hw, dtype=torch.float64)
    first, second = torch.tensor(style.colors, dtype=torch.float64)
    color = torch.lerp(first, second, mix.clamp(0, 1)[..., None])
    light = 1 - style.shading * (0.5 - 0.5 * torch.cos(2 * math.pi * (0.6 * x + 0.4 * y)))
    return (color * light[..., None]).round().clamp(0, 255).to(torch.uint8)


def _zoom(clip: Clip, event: Interruption, away: Tensor, style: ZoomStyle, seed: int) -> Clip:
    frames = slice(event.start, event.stop)
    height, width = clip.hw
    share = 1 / (1 + (style.peak_scale - 1) * away[frames])  # side of the crop over side of the frame
    offset = torch.tensor(style.pan) + style.shake * _tremor(len(share), seed)
    centre = 0.5 + 0.5 * (1 - share)[:, None] * offset
    left, top = (centre[:, 0] - share / 2) * width, (centre[:, 1] - share / 2) * height

    # Where each output pixel's centre lies in the source, in grid_sample's [-1, 1] (pixel edges at the ends).
    x = (left[:, None] + (torch.arange(width) + 0.5) * share[:, None]) / width * 2 - 1
    y = (top[:, None] + (torch.arange(height) + 0.5) * share[:, None]) / height * 2 - 1
    x, y = x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)
    grid = torch.stack([x, y], -1).float()

    def sample(source: Float[Tensor, "t c h w"], mode: str) -> Float[Tensor, "t c h w"]:
        return grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=False)

    rgb = clip.rgb.clone()
    pixels = sample(clip.rgb[frames].permute(0, 3, 1, 2).float(), "bilinear")
    rgb[frames] = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    depth = clip.depth
    if depth is not None:  # nearest: a blend of near and far lies on no surface
        depth = depth.clone()
        depth[frames] = sample(depth[frames, None].float(), "nearest")[:, 0].to(depth.dtype)
    cameras = clip.cameras
    if cameras is not None:
        scaled = _crop_cameras(cameras.intrinsics_px[frames], cameras.hw, clip.hw, left, top, share)
        intrinsics = cameras.intrinsics_px.clone()
        intrinsics[frames] = scaled.to(intrinsics.dtype)
        cameras = Cameras(cameras.c2w, intrinsics, cameras.hw, cameras.valid)
    return replace(clip, rgb=rgb, depth=depth, cameras=cameras)


def _crop_cameras(
    intrinsics_px: Float[Tensor, "t 4"],
    camera_hw: tuple[int, int],
    clip_hw: tuple[int, int],
    left: Tensor,
    top: Tensor,
    share: Tensor,
) -> Float[Tensor, "t 4"]:
    """Intrinsics after the crop and the way back to full size; the crop is given in the clip's pixels."""
    left_px = left * (camera_hw[1] / clip_hw[1])
    top_px = top * (camera_hw[0] / clip_hw[0])
    return crop_intrinsics(intrinsics_px.double(), left_px=left_px, top_px=top_px) / share[:, None]


def _tremor(num_frames: int, seed: int) -> Float[Tensor, "t 2"]:
    """Two slow sines per axis with drawn phases, within [-1, 1]."""
    phase = torch.rand(2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 * math.pi
    t = torch.arange(num_frames, dtype=torch.float64)[:, None]
    return 0.6 * torch.sin(2 * math.pi * t / 11 + phase[0]) + 0.4 * torch.sin(2 * math.pi * t / 5 + phase[1])
