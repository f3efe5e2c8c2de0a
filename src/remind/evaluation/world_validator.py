"""Validation by generation: a model continues held-out world clips, and the state meter reads what it remembered.

The same generation and the same measures as the benchmark's, on fewer clips of the seeds that choose: a checkpoint
must never be picked by the seeds that report.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from remind.data.world_clips import HIDING_KINDS, VALIDATION_SEEDS, WorldClip, make_world_clip
from remind.errors import InputError
from remind.evaluation.calibration import Calibration, calibrate_meters
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.layout_glances import LayoutGlances
from remind.evaluation.training_pictures import Picture, importance_heatmap, recovery_strip
from remind.evaluation.world_benchmark import CaseScore, is_eligible, score_video
from remind.inference.pipeline import RecoveryTask, RemindPipeline
from remind.inference.samplers import Sampler
from remind.models.codec import LinearCodec
from remind.models.dit import CausalVideoDiT
from remind.validation import Validation, in_eval_mode
from remind.world import FAMILIES

FIRST_SEED = VALIDATION_SEEDS.start + 900_000
"""Apart from the validation seeds that fit the codec, calibrate the meter and compare recipes."""

RAMPS = tuple(sorted(name for name, family in FAMILIES.items() if not (family.periodic or family.discrete)))


def validation_clips(num_clips: int, hw: tuple[int, int], num_frames: int = 81) -> list[WorldClip]:
    """Clips that state progress can be told from, walking through families and interruptions in turn.

    Our choice: ramps whose state changes while it is hidden, under cameras at rest; a meter for a drifting camera
    renders its candidates for every frame and takes sixty times as long. Nothing is picked by a model's result.

    Args:
        num_clips: >= 1.
        hw: px.
        num_frames: of every clip.

    Raises:
        InputError: clips so short that nothing happens in them.
    """
    found: list[WorldClip] = []
    for attempt in range(64 * num_clips):
        i = len(found)
        clip = make_world_clip(FIRST_SEED + attempt, hw=hw, num_frames=num_frames, family=RAMPS[attempt % len(RAMPS)],
                               kind=HIDING_KINDS[(i + i // len(RAMPS)) % len(HIDING_KINDS)])
        c2w = clip.scene.cameras.c2w
        if is_eligible(clip) and bool((c2w == c2w[:1]).all()):
            found.append(clip)
        if len(found) == num_clips:
            return found
    raise InputError("too little happens while world clips are hidden", got=f"clips of {num_frames} frames",
                     expected="57 or more", fix="set validation.by to loss")


class WorldValidator:
    """Generates what was hidden in world clips (V2V) and measures state progress p: 0 a world that stood still, 1 the
    truth. The score is the mean of 1 - |1 - p|: p, but too much progress is no better than as much too little.

    Scalars: `state_progress` (mean p), `within_15` (share of clips), `after_error` (of the state's range), `shown`
    (share of the frames after the interruption in which the video shows a state), `background_psnr_db`,
    `mass_on_anchors` (of the attention to the past of recovery chunks). Pictures: `clip/NUMBER` for the first clips,
    `kv_importance`.

    Clips, their meters and their limits are made at the first call and kept; a pure function of the weights.

    Args:
        hw: frame size that the model was made for, px.
        num_frames: pixel frames of a clip.
        num_clips: >= 1.
        num_strips: clips that are drawn.
        sampler: of generation.

    Raises:
        InputError: no clips.
    """

    def __init__(self, hw: tuple[int, int], num_frames: int = 81, *, num_clips: int = 16, num_strips: int = 4,
                 sampler: Sampler = Sampler()):  # noqa: B008 (frozen)
        if num_clips < 1:
            raise InputError("validation needs clips", got=num_clips, expected="1 or more")
        self.hw, self.num_frames, self.num_clips, self.num_strips = hw, num_frames, num_clips, num_strips
        self.sampler = sampler
        self.codec = LinearCodec.load()

    @cached_property
    def meters(self) -> list[CaseMeter]:
        return [CaseMeter(clip) for clip in validation_clips(self.num_clips, self.hw, self.num_frames)]

    @cached_property
    def calibration(self) -> Calibration:
        """The shipped limits for this size; without any, limits measured on the validator's own clips."""
        path = Path(str(resources.files("remind") / "assets" / f"calibration-{self.hw[0]}.json"))
        shipped = Calibration.load(path) if path.is_file() else None
        if shipped is not None and shipped.hw == self.hw:
            return shipped
        return calibrate_meters(self.meters, lambda rgb: self.codec.decode(self.codec.encode(rgb[None]))[0])

    def __call__(self, model: CausalVideoDiT) -> Validation:
        """Look at a model; see `Validator`."""
        pipeline = RemindPipeline(model, self.codec, {"train": {"hw": list(self.hw)}})
        cases = [meter.case for meter in self.meters]
        tasks = [RecoveryTask(case.degraded, case.schedule, seed=i) for i, case in enumerate(cases)]
        glances = LayoutGlances([case.graph for case in cases])
        with in_eval_mode(model):
            found = self.judge(pipeline.recover(tasks, sampler=self.sampler, glance=glances))
        mass = glances.mass_on_anchors()
        heatmap = importance_heatmap("attention to the past", glances.result(), glances.graph)
        return Validation(found.scalars | ({} if mass is None else {"mass_on_anchors": mass}), found.score,
                          found.pictures | {"kv_importance": heatmap})

    def judge(self, videos: Sequence[UInt8[Tensor, "t h w 3"]]) -> Validation:
        """What can be told from videos alone, whoever made them.

        Args:
            videos: of all clips in order, the given frames included.
        """
        scores = [score_video(meter.case, video, meter, self.calibration)
                  for meter, video in zip(self.meters, videos, strict=True)]
        progress = [_progress(score) for score in scores]
        strips = {f"clip/{i}": _strip(meter, video, score) for i, (meter, video, score)
                  in enumerate(zip(self.meters[: self.num_strips], videos, scores, strict=False))}
        return Validation({"state_progress": sum(progress) / len(progress), **_means(scores)},
                          sum(1 - abs(1 - p) for p in progress) / len(progress), strips)


def _progress(score: CaseScore) -> float:
    """A clip whose state no camera sees afterwards makes no progress, whoever generates it."""
    return 0.0 if score.progress is None else score.progress


def _means(scores: Sequence[CaseScore]) -> dict[str, float]:
    """Other measures, each over the clips that have it."""
    found: dict[str, float] = {}
    values: dict[str, list[float | bool | None]] = {
        "within_15": [s.within_15 for s in scores],
        "after_error": [s.after_error for s in scores],
        "shown": [s.shown_share for s in scores],
        "background_psnr_db": [s.background_psnr_db for s in scores],
    }
    for name, column in values.items():
        known = [float(value) for value in column if value is not None]
        if known:
            found[name] = sum(known) / len(known)
    return found


def _strip(meter: CaseMeter, video: UInt8[Tensor, "t h w 3"], score: CaseScore) -> Picture:
    case = meter.case
    progress = "not observable" if score.progress is None else f"state progress {round(score.progress, 2) + 0:.2f}"
    return recovery_strip(
        f"{case.scene.family}, {case.recipe.kind}: {progress}   \"{case.clean.caption}\"",
        case.clean.rgb, case.degraded.rgb, video, case.schedule, meter.first_generated_v2v,
        true_state=meter.true_state.tolist(), measured=score.measured,
    )


__all__ = ["FIRST_SEED", "RAMPS", "WorldValidator", "validation_clips"]
