"""The exact benchmark: five measures of one generated video of a known scene.

Source: ReMind Sec. 4.1 names the five (state progress, plausibility, coherence, observation and action
control) and lets judges answer them; in the embedded world they are measured instead. Definitions:
docs/decisions.md.

B are the frames before the interruption, A the clear frames after it, s_b the true state when last seen. The meter
names the nearest state of any picture, also of one that shows none. A frame of A that no state explains
(`Calibration.min_explained`) therefore counts as a world that stood still: its s_hat is s_b.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from remind.data.world_clips import WorldClip
from remind.errors import InputError
from remind.evaluation.calibration import MAX_SPEED, Calibration, residual_of_clip
from remind.evaluation.case_meter import CaseMeter, VideoReading
from remind.evaluation.observation import observe
from remind.world.state_meter import unwrap_phase

Motion = Literal["ramp", "periodic", "discrete"]

MIN_HIDDEN_CHANGE = 0.25  # of the state's range, or of a turn
PROGRESS_RANGE = (-1.0, 2.0)
WITHIN = 0.15
MIN_OBSERVABLE_SHARE = 0.5  # our choice: of the after-frames
HAPPENED = 0.1  # our choice: a triggered thing has left its rest
IN_PHASE_TURNS = 0.1  # our choice; chance level of the mean error is 0.25


@dataclass(frozen=True)
class CaseScore:
    """All that is measured on one video; None = does not apply, never zero.

    Args:
        case_id, family, group, kind: of the case.
        motion: how its state moves; headline state progress takes ramps alone.
        true_hidden_change: signed, of the range.
        eligible: the hidden change is large enough to be scored.
        observable: scene and cameras show a state in enough after-frames (a fact of the case, not of the video).
        shown_share: of these after-frames, those in which the video shows a state.
        progress: mean_A(s_hat - s_b) / mean_A(s - s_b), clipped to [-1, 2].
        within_15: mean_A|s_hat - s| <= 0.15 |mean_A(s - s_b)|.
        before_error, after_error: mean |s_hat - s| before and after.
        accuracy: discrete scenes: share of after-frames that show a state on the right side of one half.
        in_phase: periodic scenes: mean error of at most 0.1 turns.
        residual: how badly the object is explained.
        speed_excess: by how much it moves faster than three times the truth; includes what the codec may
            cause.
        plausible, coherent, observation, action: the other four measures.
        background_psnr_db, background_jump: what coherence rests on.
        hidden_share, returned_share: what observation rests on; None if the hidden frames were given.
        measured: state per frame, None where none is shown.
    """

    case_id: str
    family: str
    group: str
    kind: str
    motion: Motion
    true_hidden_change: float
    eligible: bool
    observable: bool
    shown_share: float | None = None
    progress: float | None = None
    within_15: bool | None = None
    before_error: float | None = None
    after_error: float | None = None
    accuracy: float | None = None
    in_phase: bool | None = None
    residual: float | None = None
    speed_excess: float | None = None
    plausible: bool | None = None
    coherent: bool | None = None
    observation: bool | None = None
    action: bool | None = None
    background_psnr_db: float | None = None
    background_jump: float | None = None
    hidden_share: float | None = None
    returned_share: float | None = None
    measured: tuple[float | None, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def motion_of(case: WorldClip) -> Motion:
    """How the state of a case moves."""
    return "periodic" if case.scene.periodic else "discrete" if case.scene.discrete else "ramp"


def is_eligible(case: WorldClip) -> bool:
    """Whether at least 0.25 of the range (or of a turn) passes between the clear frames around the gap."""
    start, stop = case.schedule.interruptions[0].start, case.schedule.interruptions[-1].stop
    change = float(case.scene.states[stop] - case.scene.states[start - 1])
    return abs(change) >= MIN_HIDDEN_CHANGE


def state_progress(
    measured: Float[Tensor, " a"], truth: Float[Tensor, " a"], last_seen: float
) -> tuple[float, bool]:
    """State progress p, clipped, and whether the reading stays within 15 %.

    p = mean(s_hat - s_b) / mean(s - s_b) and within_15 = mean|s_hat - s| <= 0.15 |mean(s - s_b)|: our choice,
    so that 0 is a world that stood still, 1 the truth, and a falling state counts like a rising one.

    Args:
        measured: s_hat over the after-frames that show a state.
        truth: s at the same frames.
        last_seen: s_b.

    Raises:
        InputError: no change to make progress in.
    """
    change = float((truth - last_seen).mean())
    if change == 0:
        raise InputError(
            "progress needs a true change", got=0.0, expected="!= 0", fix="check `is_eligible` first"
        )
    progress = float((measured - last_seen).mean()) / change
    error = float((measured - truth).abs().mean())
    return min(max(progress, PROGRESS_RANGE[0]), PROGRESS_RANGE[1]), error <= WITHIN * abs(change)


def score_video(
    case: WorldClip,
    rgb: UInt8[Tensor, "t h w 3"],
    meter: CaseMeter,
    calibration: Calibration,
    *,
    generated_from: int | None = None,
) -> CaseScore:
    """Score a full-length video: the given prefix followed by what a model made of it.

    Args:
        case: what the video claims to show.
        rgb: prefix and generated frames.
        meter: `CaseMeter(case)`, shared by all models.
        calibration: limits for this resolution.
        generated_from: first generated frame; None = where video-to-video generation starts. Image-to-video
            has 1: then the interruption itself was generated and is checked too.

    Raises:
        InputError: a meter of another case, or limits of another resolution.
    """
    if meter.case is not case:
        raise InputError(
            "the meter belongs to another case", got=meter.case.scene.scene_id, expected=case.scene.scene_id
        )
    if calibration.hw != case.clean.hw:
        raise InputError(
            "limits of another resolution",
            got=calibration.hw,
            expected=case.clean.hw,
            fix="calibrate on cases of this size",
        )
    first = meter.first_generated_v2v if generated_from is None else generated_from
    reading = meter.read(rgb)
    known = ~torch.isnan(reading.state[meter.after])
    observable = float(known.float().mean()) >= MIN_OBSERVABLE_SHARE
    shown = reading.explained >= calibration.explained_limit(case.scene.family)  # False where NaN
    measured = tuple(
        round(v, 4) if there else None for v, there in zip(reading.state.tolist(), shown.tolist(), strict=True)
    )
    fields: dict[str, Any] = {"measured": measured, "before_error": _mean_abs(reading.error[meter.before])}
    fields |= _coherence(reading, calibration, case.scene.family)
    if observable:
        fields |= _plausibility(reading, meter, calibration) | _progress(case, reading, shown, meter)
    if first <= min(case.schedule.hidden_frames(), default=0) and (seen := observe(rgb, meter)) is not None:
        fields |= {
            "observation": seen.passed,
            "hidden_share": seen.hidden_share,
            "returned_share": seen.returned_share,
        }
    scene, kind = case.scene, case.recipe.kind
    return CaseScore(
        case_id=f"{scene.scene_id}-{kind}", family=scene.family, group=scene.group, kind=kind,
        motion=motion_of(case), true_hidden_change=meter.true_hidden_change, eligible=is_eligible(case),
        observable=observable, **fields,
    )  # fmt: skip


def _mean_abs(error: Float[Tensor, " n"]) -> float | None:
    known = error[~torch.isnan(error)]
    return float(known.abs().mean()) if len(known) else None


def _progress(
    case: WorldClip, reading: VideoReading, shown: Bool[Tensor, " t"], meter: CaseMeter
) -> dict[str, Any]:
    known = ~torch.isnan(reading.state[meter.after])
    truth, there = meter.true_state[meter.after][known], shown[meter.after][known]
    still = torch.full_like(truth, meter.last_seen_state)
    if case.scene.periodic:
        still = unwrap_phase(still, truth)  # as the meter would read it
    measured = torch.where(there, reading.state[meter.after][known], still)
    error = float((measured - truth).abs().mean())
    fields: dict[str, Any] = {"after_error": error, "shown_share": float(there.float().mean())}
    motion = motion_of(case)
    if motion == "discrete":
        fields["accuracy"] = float((there & ((measured > 0.5) == (truth > 0.5))).float().mean())
        if case.scene.trigger_frame is not None:
            fields["action"] = float(measured.median()) > HAPPENED
    elif is_eligible(case):
        fields["progress"], fields["within_15"] = state_progress(measured, truth, meter.last_seen_state)
    if motion == "periodic":
        fields["in_phase"] = error <= IN_PHASE_TURNS
    return fields


def _plausibility(reading: VideoReading, meter: CaseMeter, calibration: Calibration) -> dict[str, Any]:
    residual = residual_of_clip(reading, meter)
    excess = meter.speed_excess(reading.state, times=MAX_SPEED)
    assert residual is not None
    return {
        "residual": residual,
        "speed_excess": excess,
        "plausible": residual <= calibration.residual_limit(meter.case.scene.family)
        and excess <= calibration.state_jitter,
    }


def _coherence(reading: VideoReading, calibration: Calibration, family: str) -> dict[str, Any]:
    psnr = reading.background_psnr_db
    if psnr is None or reading.background_jump is None:
        return {}
    jump = float(reading.background_jump.max()) if len(reading.background_jump) else 0.0
    return {
        "background_psnr_db": psnr,
        "background_jump": jump,
        "coherent": psnr >= calibration.psnr_limit_db(family) and jump <= calibration.max_background_jump,
    }
