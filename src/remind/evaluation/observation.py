"""Observation control: is the view lost when it was asked to be lost, and does it come back?

Source: the question is STEVO-Bench's and ReMind Table 3's; the pixel checks are our choice, deterministic
and per kind of interruption. Where the hidden frames are given to the model the answer is the prefix's, not
the model's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from remind.data.kinds import KINDS
from remind.evaluation.case_meter import CaseMeter

MIN_SHARE = 0.8  # our choice: of the frames asked to be hidden
DARK = 0.10  # a frame is dark below this share of the luminance before
COVERED = 20 / 255  # a pixel is covered if it is further than this from what the scene shows there
MIN_COVER = 0.7  # share of pixels; a panel may happen to match a wall here and there
_LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709


@dataclass(frozen=True)
class Observation:
    """Which frames hide the object, and which show the scene.

    Args:
        hidden_share: of the frames asked to be hidden, those that are.
        returned_share: of the after-frames, those in which the view is back.
    """

    hidden_share: float
    returned_share: float

    @property
    def passed(self) -> bool:
        return self.hidden_share >= MIN_SHARE and self.returned_share >= MIN_SHARE


def _luminance(rgb: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, " t"]:
    return (rgb.float() / 255 * torch.tensor(_LUMA)).sum(-1).mean((1, 2))


def _distance(rgb: Tensor, other: Tensor) -> Float[Tensor, "t h w"]:
    return (rgb.float() - other.float()).abs().amax(-1) / 255


def _is_hidden(rgb: UInt8[Tensor, "t h w 3"], meter: CaseMeter, frames: Tensor) -> Bool[Tensor, " n"]:
    """Per asked frame: dark, covered, or looking elsewhere."""
    case, shown = meter.case, rgb[frames]
    kinds = {f: i.kinds for i in case.schedule.interruptions for f in range(i.hidden_start, i.hidden_stop)}
    dark = _luminance(shown) <= DARK * _luminance(rgb[meter.before]).mean()
    away = _distance(
        shown, case.degraded.rgb[frames]
    )  # a panel of another make is still a panel; a view is a view
    covered = (_distance(shown, case.clean.rgb[frames]) > COVERED).float().mean((1, 2)) >= MIN_COVER
    elsewhere = away.mean((1, 2)) < _distance(shown, case.clean.rgb[frames]).mean((1, 2))
    checks = {"view": elsewhere, "front": covered, "light": dark, "shutter": dark}
    return torch.stack([
        torch.stack([checks[KINDS[kind].layer][i] for kind in kinds[int(f)] if KINDS[kind].hides]).any()
        for i, f in enumerate(frames)
    ])


def observe(rgb: UInt8[Tensor, "t h w 3"], meter: CaseMeter) -> Observation | None:
    """Check a video against what was asked; None where nothing was asked to be hidden (a zoom).

    Args:
        rgb: full-length video.
        meter: of its case.
    """
    frames = torch.tensor(sorted(meter.case.schedule.hidden_frames()), dtype=torch.long)
    if not len(frames):
        return None
    after = rgb[meter.after]
    lit = _luminance(after) > 0.5 * _luminance(rgb[meter.before]).mean()
    uncovered = (_distance(after, meter.case.clean.rgb[meter.after]) > COVERED).float().mean(
        (1, 2)
    ) < MIN_COVER
    return Observation(
        float(_is_hidden(rgb, meter, frames).float().mean()), float((lit & uncovered).float().mean())
    )
