"""Thresholds of plausibility and coherence, set by what a codec alone does to true videos.

Our choice: a generator that works in a codec's latents cannot be asked for less error than the codec makes.
A limit is the 95th percentile (5th for PSNR) over validation scenes, and generated videos may have twice
that error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.data.world_clips import WorldClip
from remind.errors import InputError
from remind.evaluation.case_meter import CaseMeter, VideoReading

RoundTrip = Callable[[UInt8[Tensor, "t h w 3"]], UInt8[Tensor, "t h w 3"]]

SLACK = 2.0  # times the codec's own error, = 6 dB
RESIDUAL_QUANTILE = 0.9  # over a clip's after-frames: a flicker in every fifth frame still shows
MAX_SPEED = 3.0  # times the true rate


@dataclass(frozen=True)
class Calibration:
    """Limits for one resolution.

    Args:
        hw: resolution that they hold for.
        max_residual: of the object, RMS 0..1, at the 90th percentile of a clip's after-frames.
        state_jitter: how far a reading may seem to jump because of the codec alone, in units of the state's
            range.
        min_background_psnr_db: over the after-frames.
        max_background_jump: RMS 0..1 from one frame to the next.
        num_cases: validation scenes behind the numbers.
    """

    hw: tuple[int, int]
    max_residual: float
    state_jitter: float
    min_background_psnr_db: float
    max_background_jump: float
    num_cases: int

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            InputError: a missing file, or one that is no calibration.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                hw=(int(found["hw"][0]), int(found["hw"][1])),
                num_cases=int(found["num_cases"]),
                **{
                    key: float(found[key])
                    for key in (
                        "max_residual",
                        "state_jitter",
                        "min_background_psnr_db",
                        "max_background_jump",
                    )
                },
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                "not a calibration file", got=f"{path}: {error}", fix="run `calibrate` again"
            ) from None


def residual_of_clip(reading: VideoReading, meter: CaseMeter) -> float | None:
    """The object residual that stands for a clip; None if no after-frame is observable."""
    after = reading.residual[meter.after]
    after = after[~torch.isnan(after)]
    return float(torch.quantile(after, RESIDUAL_QUANTILE)) if len(after) else None


def calibrate(cases: Sequence[WorldClip], round_trip: RoundTrip) -> Calibration:
    """Measure a codec's error on true videos.

    Args:
        cases: of the validation seeds, one resolution, about fifty for steady percentiles.
        round_trip: a video through encoder and decoder.

    Raises:
        InputError: no case, cases of several sizes, or too few that can be read.
    """
    sizes = {case.clean.hw for case in cases}
    if len(sizes) != 1:
        raise InputError("calibration needs cases of one resolution", got=sizes, expected="one")
    residuals, jitters, psnrs, jumps = [], [], [], []
    for case in cases:
        meter = CaseMeter(case)
        reading = meter.read(round_trip(case.degraded.rgb))
        if (residual := residual_of_clip(reading, meter)) is not None:
            residuals.append(residual)
            jitters.append(max(0.0, meter.speed_excess(reading.state, times=1.0)))
        if (psnr := reading.background_psnr_db) is not None and reading.background_jump is not None:
            psnrs.append(psnr)
            jumps.append(float(reading.background_jump.max()))
    if not residuals or not psnrs:
        raise InputError("no calibration case could be read", got=f"{len(cases)} cases", expected="about 50")
    return Calibration(
        hw=sizes.pop(),
        max_residual=SLACK * float(np.quantile(residuals, 0.95)),
        state_jitter=SLACK * float(np.quantile(jitters, 0.95)),
        min_background_psnr_db=float(np.quantile(psnrs, 0.05)) - 20 * float(np.log10(SLACK)),
        max_background_jump=SLACK * float(np.quantile(jumps, 0.95)),
        num_cases=len(cases),
    )
