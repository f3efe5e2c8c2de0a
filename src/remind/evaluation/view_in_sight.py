"""How much of one frame's view another frame shows, from pixels alone: no features, no poses, no network."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

CELLS = 16
TOLERANCE = 16 / 255
"""A cell shows the same if no channel of its mean colour differs by more. Of 16, 24, 32 and 40 / 255 this one told
frames of validation clips that look away from those that do not best."""
REACH = 4
"""Cells that the view may have moved, to either side; half as many up and down: a quarter of the picture."""


def view_in_sight(anchor: UInt8[Tensor, "h w 3"], rgb: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, " t"]:
    """Share of the cells of a view that each frame still shows, 0..1, after the shift that suits it best.

    Our choice: mean colours of 16 x 16 cells. Something that moves in the scene costs its own cells alone, where a
    correlation of the whole picture would follow it; and SIFT features found only 56 % of frames that were back on 128
    px pictures of the world, and fewer on smaller ones. A light that changes for good costs all cells: such scenes look
    like another place.

    Args:
        anchor: the view.
        rgb: frames of the same size.
    """
    return _best_share(_cells(anchor[None]), _cells(rgb))


def next_in_sight(rgb: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, " n"]:
    """The same of every frame but the first, for the view of the frame right before it."""
    cells = _cells(rgb)
    return _best_share(cells[:-1], cells[1:])


def _best_share(a: Float[Tensor, "s 3 y x"], b: Float[Tensor, "t 3 y x"]) -> Float[Tensor, " t"]:
    best = torch.zeros(len(b))
    for down in range(-(REACH // 2), REACH // 2 + 1):
        for right in range(-REACH, REACH + 1):
            same = (_overlap(a, down, right) - _overlap(b, -down, -right)).abs().amax(1) <= TOLERANCE
            best = torch.maximum(best, same.float().mean((1, 2)))
    return best


def _cells(rgb: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, "t 3 y x"]:
    parts = [adaptive_avg_pool2d(part.permute(0, 3, 1, 2).float() / 255, CELLS) for part in rgb.split(16)]
    return torch.cat(parts) if parts else torch.zeros(0, 3, CELLS, CELLS)


def _overlap(cells: Float[Tensor, "t 3 y x"], down: int, right: int) -> Float[Tensor, "t 3 v u"]:
    return cells[..., max(0, down) : CELLS + min(0, down), max(0, right) : CELLS + min(0, right)]
