"""How near a recovered video comes to the truth, by phase, and to what was seen before it looked away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.evaluation.lpips import LEAST_PX, Lpips
from remind.evaluation.perceptual import WINDOW_PX, psnr_db, ssim
from remind.evaluation.recovery_cases import RecoveryCase
from remind.evaluation.revisits import Revisit, revisits

MEASURES = ("psnr_db", "ssim", "lpips")
PHASES = ("before", "during", "after")
Measure = Callable[[Tensor, Tensor], Float[Tensor, " t"]]


def measures_for(hw: tuple[int, int], lpips: Lpips | None) -> dict[str, Measure]:
    """Those that can be measured at a frame size and with the weights that are there."""
    found: dict[str, Measure] = {"psnr_db": psnr_db}
    if min(hw) >= WINDOW_PX:
        found["ssim"] = ssim
    if lpips is not None and min(hw) >= LEAST_PX:
        found["lpips"] = lpips
    return found


def score_recovery(
    case: RecoveryCase, rgb: UInt8[Tensor, "t h w 3"], measures: dict[str, Measure], *, first_made: int
) -> tuple[dict[str, float | None], dict[str, Any]]:
    """Compare a video with the truth.

    Every measure is taken frame by frame and averaged over the frames of a phase that were made: given frames say
    nothing about a model. During the interruption the truth is what should be seen then, e.g. darkness.

    Args:
        case: what it shows.
        rgb: the whole video, given frames included.
        measures: from `measures_for`.
        first_made: first frame that was made; 0 for a video of unknown make.

    Returns:
        Scores: `{phase}_{measure}`; `revisit_{measure}` between frames of one pose before and after a look away, and
        `truth_revisit_{measure}`, what the truth reaches there. None where nothing can be said. And what a reader may
        want beside them: the measures frame by frame, and the pairs.
    """
    truth = case.degraded.rgb
    made = range(first_made, len(truth))
    per_frame = {name: measure(rgb[first_made:], truth[first_made:]) for name, measure in measures.items()}
    scores: dict[str, float | None] = {}
    for phase, frames in case.phases.items():
        inside = [frame - first_made for frame in frames if frame in made]
        for name in MEASURES:
            there = name in per_frame and bool(inside)
            scores[f"{phase}_{name}"] = float(per_frame[name][inside].mean()) if there else None
    pairs = [pair for pair in revisits(case) if pair.last in made]
    for prefix, video in (("revisit", rgb), ("truth_revisit", truth)):
        scores |= {f"{prefix}_{name}": _of_pairs(measures.get(name), video, pairs) for name in MEASURES}
    facts = {
        "first_made": first_made,
        "per_frame": {name: [round(v, 4) for v in values.tolist()] for name, values in per_frame.items()},
        "revisits": [[pair.first, pair.last, pair.turn_deg] for pair in pairs],
    }
    return scores, facts


def _of_pairs(measure: Measure | None, video: UInt8[Tensor, "t h w 3"], pairs: Sequence[Revisit]) -> float | None:
    if measure is None or not pairs:
        return None
    first, last = (torch.tensor([getattr(pair, end) for pair in pairs]) for end in ("first", "last"))
    return float(measure(video[last], video[first]).mean())
