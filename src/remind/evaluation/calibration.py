"""Thresholds of plausibility and coherence, and of whether a frame shows a state at all.

Our choice: a generator that works in a codec's latents cannot be asked for less error than the codec makes.
A limit is the 95th percentile (5th for PSNR) over validation scenes, and generated videos may have twice
that error. A frame shows a state if a state explains it better than halfway between what the same scene's hidden
view reaches (darkness, the panel, the other wall: median) and what true frames reach through the codec (5th
percentile). No model's output enters any limit.
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
RESIDUAL_QUANTILE = 0.9  # over a clip's settled frames: a flicker in every fifth frame still shows
MAX_SPEED = 3.0  # times the true rate
# Our choice: plain walls pass a codec almost untouched, which would make a limit that is not about coherence.
PSNR_LIMIT_AT_MOST_DB = 26.0
JUMP_LIMIT_AT_LEAST = 0.05


@dataclass(frozen=True)
class Calibration:
    """Limits for one resolution.

    Residual and PSNR have a limit per family, because a codec blurs the thin hand of a clock far more than a
    bank of snow; "*" is over all families and stands in for those that calibration did not see.

    Args:
        hw: resolution that they hold for.
        max_residual: of the object, RMS 0..1, at the 90th percentile of settled frames; per family.
        min_background_psnr_db: over the settled frames; per family.
        min_explained: below it a frame shows no state; per family.
        state_jitter: how far a reading may seem to jump because of the codec alone, of the state's range.
        max_background_jump: RMS 0..1 from one frame to the next.
        num_cases: validation scenes behind the numbers.
    """

    hw: tuple[int, int]
    max_residual: dict[str, float]
    min_background_psnr_db: dict[str, float]
    min_explained: dict[str, float]
    state_jitter: float
    max_background_jump: float
    num_cases: int

    def residual_limit(self, family: str) -> float:
        return self.max_residual.get(family, self.max_residual["*"])

    def psnr_limit_db(self, family: str) -> float:
        return self.min_background_psnr_db.get(family, self.min_background_psnr_db["*"])

    def explained_limit(self, family: str) -> float:
        return self.min_explained.get(family, self.min_explained["*"])

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
                max_residual=_limits(found["max_residual"]),
                min_background_psnr_db=_limits(found["min_background_psnr_db"]),
                min_explained=_limits(found["min_explained"]),
                state_jitter=float(found["state_jitter"]),
                max_background_jump=float(found["max_background_jump"]),
                num_cases=int(found["num_cases"]),
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                "not a calibration file", got=f"{path}: {error}", fix="run `calibrate` again"
            ) from None


def _limits(found: dict[str, float]) -> dict[str, float]:
    """Limits per family from JSON; "*" must be among them."""
    return {"*": float(found["*"])} | {str(family): float(limit) for family, limit in found.items()}


def residual_of_clip(reading: VideoReading, meter: CaseMeter) -> float | None:
    """The object residual that stands for a clip; None if no settled frame is observable."""
    after = reading.residual[meter.settled]
    after = after[~torch.isnan(after)]
    return float(torch.quantile(after, RESIDUAL_QUANTILE)) if len(after) else None


def calibrate(cases: Sequence[WorldClip], round_trip: RoundTrip) -> Calibration:
    """Measure a codec's error on true videos.

    Args:
        cases: of the validation seeds, one resolution, some of every family, about a hundred in all.
        round_trip: a video through encoder and decoder.

    Raises:
        InputError: no case, cases of several sizes, or too few that can be read.
    """
    return calibrate_meters([CaseMeter(case) for case in cases], round_trip)


def calibrate_meters(meters: Sequence[CaseMeter], round_trip: RoundTrip) -> Calibration:
    """As `calibrate`, for cases whose meters are there already."""
    sizes = {meter.case.clean.hw for meter in meters}
    if len(sizes) != 1:
        raise InputError("calibration needs cases of one resolution", got=sizes, expected="one")
    residuals: dict[str, list[float]] = {"*": []}
    psnrs: dict[str, list[float]] = {"*": []}
    shown: dict[str, list[float]] = {"*": []}
    blank: dict[str, list[float]] = {"*": []}
    jitters, jumps = [], []
    for meter in meters:
        case, family = meter.case, meter.case.scene.family
        reading = meter.read(round_trip(case.degraded.rgb))
        if (residual := residual_of_clip(reading, meter)) is not None:
            residuals["*"].append(residual)
            residuals.setdefault(family, []).append(residual)
            for found, video in ((shown, reading), (blank, meter.read(_without_return(case, meter)))):
                explained = video.explained[meter.settled]
                for name in ("*", family):
                    found.setdefault(name, []).extend(explained[~torch.isnan(explained)].tolist())
            jitters.append(max(0.0, meter.speed_excess(reading.state, times=1.0)))
        if (psnr := reading.background_psnr_db) is not None and reading.background_jump is not None:
            psnrs["*"].append(psnr)
            psnrs.setdefault(family, []).append(psnr)
            jumps.append(float(reading.background_jump.max()))
    if not residuals["*"] or not psnrs["*"]:
        raise InputError("no calibration case could be read", got=f"{len(meters)} cases", expected="about 100")
    slack_db = 20 * float(np.log10(SLACK))
    return Calibration(
        hw=sizes.pop(),
        max_residual={f: SLACK * float(np.quantile(v, 0.95)) for f, v in residuals.items()},
        min_background_psnr_db={
            f: min(PSNR_LIMIT_AT_MOST_DB, float(np.quantile(v, 0.05)) - slack_db) for f, v in psnrs.items()
        },
        min_explained={f: (float(np.quantile(v, 0.05)) + float(np.median(blank[f]))) / 2 for f, v in shown.items()},
        state_jitter=SLACK * float(np.quantile(jitters, 0.95)),
        max_background_jump=max(JUMP_LIMIT_AT_LEAST, SLACK * float(np.quantile(jumps, 0.95))),
        num_cases=len(meters),
    )


def _without_return(case: WorldClip, meter: CaseMeter) -> UInt8[Tensor, "t h w 3"]:
    """The degraded clip as if its view never came back: the middle of the hidden stretch stays to the end."""
    hidden = sorted(case.schedule.hidden_frames())
    video = case.degraded.rgb.clone()
    video[meter.after] = video[hidden[len(hidden) // 2]]
    return video
