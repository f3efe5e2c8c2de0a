"""Things that pass in front of the camera: panels, cardboard, curtains (ReMind F.2, moving occluders).

Each is painted once, at rest in full cover, and displaced on its way; its nodes are enter, full cover and exit.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.data.interrupt.canvas import Stretch, cover, cover_hidden
from remind.data.interrupt.styles import CardboardStyle, CurtainStyle, OccluderStyle, Rgb, Side

# Muted colours of cardboard, cloth, wood and paint: a panel of any of them stands out from few scenes only.
PANEL_COLORS: tuple[Rgb, ...] = (
    (172, 134, 92), (110, 76, 48), (196, 190, 176), (88, 104, 122), (62, 92, 74), (142, 62, 58), (54, 54, 60),
    (206, 172, 96),
)  # fmt: skip
_HEM = 0.06  # how far a curtain's hem waves, as a share of its way


def slide_panel(stretch: Stretch, style: OccluderStyle, seed: int) -> None:
    """A panel comes in from a side, stands still, and leaves through the other side or back."""
    panel = paint_panel(style, stretch.hw, seed)
    cover_hidden(stretch, panel)
    horizontal, backwards = _axis(style.side)
    extent = stretch.hw[1] if horizontal else stretch.hw[0]
    blur_px = max(1.0, style.softness * extent)
    way = 1 + style.softness
    at = (torch.arange(extent, dtype=torch.float64) + 0.5) / extent  # along the motion, from the entry side
    at = at.flip(0) if backwards else at
    for t, leaves in enumerate(stretch.leaving):
        if t in stretch.hidden:
            continue
        # `ahead` is how far the panel's front has come, `behind` how much of its rear has left; both in frames.
        through = leaves and style.leaves == "through"
        ahead = 1.0 if through else float(stretch.away[t])
        behind = 1 - float(stretch.away[t]) if through else 0.0
        front = (ahead * way - at) * extent  # px inside the panel's two edges
        rear = (at - behind * way + style.softness) * extent
        alpha = ((front + 0.5) / blur_px).clamp(0, 1) * ((rear + 0.5) / blur_px).clamp(0, 1)
        image = _displaced(panel, ahead - 1 + behind, style.side)
        cover(stretch, t, image, (alpha[None, :] if horizontal else alpha[:, None]).expand(stretch.hw))


def hold_cardboard(stretch: Stretch, style: CardboardStyle, seed: int) -> None:
    """A sheet with a slanted edge comes in from a side and goes back."""
    sheet = paint_cardboard(style, stretch.hw, seed)
    cover_hidden(stretch, sheet)
    horizontal, backwards = _axis(style.side)
    y, x = _grid(stretch.hw)
    along, across = (x, y) if horizontal else (y, x)
    along = 1 - along if backwards else along
    way = 1 + abs(style.slant)
    edge = along + style.slant * (across - 0.5) + abs(style.slant) / 2  # 0 where it enters first, `way` at the end
    extent = stretch.hw[1] if horizontal else stretch.hw[0]
    for t in range(len(stretch)):
        if t not in stretch.hidden:
            ahead = float(stretch.away[t])
            image = _displaced(sheet, ahead - 1, style.side)
            cover(stretch, t, image, ((ahead * way - edge) * extent + 0.5).clamp(0, 1))


def draw_curtain(stretch: Stretch, style: CurtainStyle, seed: int) -> None:
    """Cloth with a waving hem falls from above or closes from both sides, and opens the same way."""
    cloth = paint_curtain(style, stretch.hw, seed)
    cover_hidden(stretch, cloth)
    y, x = _grid(stretch.hw)
    sides = style.comes == "sides"
    along, across = (2 * torch.minimum(x, 1 - x), y) if sides else (y, x)
    edge = along + _HEM * (0.5 + 0.5 * torch.sin(2 * math.pi * 3 * across))
    extent = stretch.hw[1] / 2 if sides else stretch.hw[0]
    middle = stretch.hw[1] // 2
    for t in range(len(stretch)):
        if t in stretch.hidden:
            continue
        ahead = float(stretch.away[t])
        image = _displaced(cloth, ahead - 1, "top")
        if sides:  # each half hangs from its own side
            halves = _displaced(cloth, (ahead - 1) / 2, "left"), _displaced(cloth, (ahead - 1) / 2, "right")
            image = torch.cat([halves[0][:, :middle], halves[1][:, middle:]], 1)
        cover(stretch, t, image, ((ahead * (1 + _HEM) - edge) * extent + 0.5).clamp(0, 1))


def _axis(side: Side) -> tuple[bool, bool]:
    """Whether something from this side moves along x, and whether against the axis."""
    return side in ("left", "right"), side in ("right", "bottom")


def _displaced(panel: UInt8[Tensor, "h w 3"], share: float, side: Side) -> UInt8[Tensor, "h w 3"]:
    """A panel moved on from its entry side by a share of the frame; it repeats beyond its edges."""
    horizontal, backwards = _axis(side)
    moved_px = round(share * (panel.shape[1] if horizontal else panel.shape[0]))
    return panel.roll(-moved_px if backwards else moved_px, dims=1 if horizontal else 0)


def _grid(hw: tuple[int, int]) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """y and x of pixel centres as shares of the frame."""
    height, width = hw
    y = ((torch.arange(height, dtype=torch.float64) + 0.5) / height)[:, None].expand(hw)
    x = ((torch.arange(width, dtype=torch.float64) + 0.5) / width)[None, :].expand(hw)
    return y, x


def _shaded(color: Tensor, light: Float[Tensor, "h w"]) -> UInt8[Tensor, "h w 3"]:
    return (color * light[..., None]).round().clamp(0, 255).to(torch.uint8)


def paint_panel(style: OccluderStyle, hw: tuple[int, int], seed: int) -> UInt8[Tensor, "h w 3"]:
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
    return _shaded(color, light)


def paint_cardboard(style: CardboardStyle, hw: tuple[int, int], seed: int) -> UInt8[Tensor, "h w 3"]:
    """The sheet at rest: faint corrugation along the way it moves, fibres, and light that falls off to one side."""
    y, x = _grid(hw)
    across = y if _axis(style.side)[0] else x
    fibres = torch.rand(hw, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    light = 0.88 + 0.07 * torch.sin(2 * math.pi * style.flutes * across) + 0.05 * fibres - 0.12 * across
    return _shaded(torch.tensor(style.color, dtype=torch.float64), light)


def paint_curtain(style: CurtainStyle, hw: tuple[int, int], seed: int) -> UInt8[Tensor, "h w 3"]:
    """The cloth at rest: uneven vertical folds with shadows between them, darker towards the floor."""
    y, x = _grid(hw)
    sway, phase = torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    turns = style.folds * (x + 0.02 * sway * torch.sin(2 * math.pi * y))
    turns = turns + 0.4 * torch.sin(2 * math.pi * (2 * x + phase))
    light = (1 - style.shading * (0.5 - 0.5 * torch.cos(2 * math.pi * turns))) * (1 - 0.2 * y)
    return _shaded(torch.tensor(style.color, dtype=torch.float64), light)
