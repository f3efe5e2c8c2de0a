"""All that is measured on one video of the world benchmark: the five measures, and what happened in which phase.

Phases are the schedule's: *before* the first frame that differs, *during*, and *after* the last. State and pictures are
read before and after; during, only what the pictures hide. *Applied* is whether they hid what they were asked to hide:
a model that never loses sight of a thing needs no memory of it, so results stand with and without that condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.errors import InputError
from remind.evaluation.calibration import MAX_SPEED, Calibration
from remind.evaluation.case_meter import MAX_PSNR_DB, SMOOTH_FRAMES, CaseMeter, smooth
from remind.evaluation.observation import MIN_SHARE, observe
from remind.evaluation.world_benchmark import CaseScore, score_video

Mode = Literal["v2v", "i2v"]
"""What was given: all before the view returns, or the first frame."""
MAX_FLICKER = 0.1  # our choice: of the settled frames


def first_generated(meter: CaseMeter, mode: Mode) -> int:
    """First frame that a model makes."""
    return meter.first_generated_v2v if mode == "v2v" else 1


def score_case(
    meter: CaseMeter, rgb: UInt8[Tensor, "t h w 3"], calibration: Calibration, mode: Mode
) -> dict[str, Any]:
    """Scores of a video as plain values: the fields of `CaseScore`, and

    applied: at least 80 % of the frames asked to be hidden are; None where nothing is asked (zoom).
    seen_hidden_share, seen_returned_share: what that rests on, whoever made the frames.
    psnr_before_db, psnr_during_db, psnr_after_db: of whole frames to what a camera would have seen.
    flicker_share, steady: of the settled frames that show a state, those that show another one than the frames around
        them, and whether these are at most a tenth. None where none shows one.

    Args:
        meter: of the case, at the size of the video.
        rgb: the whole video, what was given included.
        calibration: limits at that size.
        mode: what was given.
    """
    score = score_video(meter.case, rgb, meter, calibration, generated_from=first_generated(meter, mode))
    seen = observe(rgb, meter)
    truth = meter.case.degraded.rgb
    phases = {"before": meter.before, "during": slice(meter.start, meter.stop), "after": meter.after}
    psnr = {f"psnr_{name}_db": _psnr_db(rgb[part], truth[part]) for name, part in phases.items()}
    applied = None if seen is None else seen.hidden_share >= MIN_SHARE
    flicker = flicker_share(score.measured, meter, calibration)
    return {**score.to_json(), "flicker_share": flicker, "steady": None if flicker is None else flicker <= MAX_FLICKER,
            "measured": list(score.measured), "applied": applied,
            "seen_hidden_share": None if seen is None else seen.hidden_share,
            "seen_returned_share": None if seen is None else seen.returned_share, **psnr}  # fmt: skip


def flicker_share(measured: Sequence[float | None], meter: CaseMeter, calibration: Calibration) -> float | None:
    """Share of settled frames whose state is not that of the frames around them.

    Our choice, beside plausibility, whose speeds are measured on smoothed readings and pass what jumps there and back:
    a frame flickers if its reading is farther from the running median of five than three times the true rate allows in
    two frames, and than the codec may cause.

    Args:
        measured: state per frame, None where none is shown.
    """
    state = torch.tensor([float("nan") if v is None else v for v in measured])[meter.settled]
    away = (state - smooth(state)).abs()
    away = away[~torch.isnan(away)]
    if not len(away):
        return None
    rate = float(meter.true_state.diff().abs().max())
    return float((away > calibration.state_jitter + MAX_SPEED * rate * (SMOOTH_FRAMES // 2)).float().mean())


def case_score(scores: Mapping[str, Any]) -> CaseScore:
    """The `CaseScore` in a record.

    Raises:
        InputError: none is in there.
    """
    try:
        known = {field.name: scores[field.name] for field in fields(CaseScore)}
        return CaseScore(**{**known, "measured": tuple(known["measured"])})
    except (KeyError, TypeError) as error:
        raise InputError("these are no scores of the world benchmark", got=f"{type(error).__name__}: {error}") from None


def _psnr_db(rgb: Tensor, truth: Tensor) -> float:
    mse = ((rgb.float() - truth.float()) / 255).square().mean().clamp_min(1e-12)
    return min(MAX_PSNR_DB, float(-10 * torch.log10(mse)))


__all__ = ["Mode", "case_score", "first_generated", "score_case"]
