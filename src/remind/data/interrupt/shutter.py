"""The view closes to black as an iris or as eyelids, and opens again. A held-out variant of covering the view."""

from __future__ import annotations

import torch
from torch import Tensor

from remind.data.interrupt.canvas import Stretch, cover, cover_hidden
from remind.data.interrupt.styles import BlinkStyle

_LID_CURVE = 0.35  # how much later lids meet in the middle than at the corners, as a share of half the height


def blink(stretch: Stretch, style: BlinkStyle) -> None:
    """Close along the clock. What is left open shrinks to nothing exactly where the clock says fully hidden."""
    height, width = stretch.hw
    black = torch.zeros(height, width, 3, dtype=torch.uint8)
    cover_hidden(stretch, black)
    y = (torch.arange(height, dtype=torch.float64) + 0.5 - height / 2)[:, None]
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - width / 2)[None, :]
    for t in range(len(stretch)):
        if t not in stretch.hidden:
            opened = 1 - float(stretch.away[t])
            outside_px = _outside_iris(x, y, opened) if style.shape == "iris" else _outside_lids(x, y, opened)
            cover(stretch, t, black, (outside_px + 0.5).clamp(0, 1).expand(stretch.hw))


def _outside_iris(x: Tensor, y: Tensor, opened: float) -> Tensor:
    """Distance outside of a circle that at first just holds the frame's corners, px."""
    return torch.hypot(x, y) - opened * torch.hypot(x.abs().max(), y.abs().max())


def _outside_lids(x: Tensor, y: Tensor, opened: float) -> Tensor:
    """Vertical distance beyond the lids, px; below their ends the corners are shut first."""
    half = y.abs().max()
    corner = (x / x.abs().max()) ** 2
    return y.abs() - half * (opened * (1 + _LID_CURVE) - _LID_CURVE * corner).clamp_min(-1)
