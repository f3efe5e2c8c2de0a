"""Frames of the way back whose view was seen on the way out, from a camera path alone: what a return can be held to.

Source: the idea of `revisits`, for videos without a truth. A world that goes on is not the same when one comes back,
and a copy scores well here: it is a number beside those of a judge, not instead of them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.evaluation.perceptual import WINDOW_PX, psnr_db, ssim

MAX_TURN_DEG = 1.0
MAX_SHIFT = 0.02  # of the farthest that the camera goes
_AT_REST = 1e-6


def same_views(c2w: Float[Tensor, "t 4 4"]) -> tuple[tuple[int, int], ...]:
    """Pairs (way out, way back) of one pose, within 1 degree and 2 % of the way; none for a camera that stays.

    The way out ends where the camera is farthest, turns counted first.
    """
    c2w = c2w.double()
    turn, shift = (_apart(c2w[:1], c2w)[i] for i in (0, 1))
    reach = float(shift.max())
    if float(turn.max()) <= MAX_TURN_DEG and reach <= _AT_REST:
        return ()
    away = turn if float(turn.max()) > MAX_TURN_DEG else shift
    summit = int((away >= away.max() - 1e-9).nonzero()[0])
    found = []
    for frame in range(summit + 1, len(c2w)):
        turned, moved = _apart(c2w[frame : frame + 1], c2w[:summit])
        off = turned / MAX_TURN_DEG + moved / (MAX_SHIFT * max(reach, _AT_REST))
        near = int(off.argmin()) if summit else 0
        if summit and turned[near] <= MAX_TURN_DEG and moved[near] <= MAX_SHIFT * max(reach, _AT_REST):
            found.append((near, frame))
    return tuple(found)


def view_scores(rgb: UInt8[Tensor, "t h w 3"], pairs: tuple[tuple[int, int], ...]) -> dict[str, float | None]:
    """How alike the views of the pairs are, and the first and last frame if they are a pair; None without pairs."""
    scores: dict[str, float | None] = {"return_psnr_db": None, "return_ssim": None}
    if pairs:
        out, back = (torch.tensor(side) for side in zip(*pairs, strict=True))
        scores["return_psnr_db"] = float(psnr_db(rgb[out], rgb[back]).mean())
        if min(rgb.shape[1:3]) >= WINDOW_PX:
            scores["return_ssim"] = float(ssim(rgb[out], rgb[back]).mean())
    return scores


def _apart(one: Float[Tensor, "1 4 4"], others: Float[Tensor, "t 4 4"]) -> tuple[Tensor, Tensor]:
    chord = (others[:, :3, :3] - one[:, :3, :3]).flatten(1).norm(dim=-1) / (2 * 2**0.5)
    return 2 * torch.rad2deg(torch.asin(chord.clamp(max=1))), (others[:, :3, 3] - one[:, :3, 3]).norm(dim=-1)
