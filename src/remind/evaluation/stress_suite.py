"""The stress suite: how far recovery reaches. State progress by gap, by distractors and by distance of a reference.

Measured on clips of the embedded world, whose truth is known: progress 0 is a world that stood still, or that is not
shown at all; 1 is the truth. What a guess in the middle of the range would reach is reported beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from remind.errors import RemindError
from remind.evaluation.blind_meter import BLIND, is_blind
from remind.evaluation.calibration import Calibration
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.fixed_clock import FixedCase, fixed_cases
from remind.evaluation.kept_video import keep_video
from remind.evaluation.stress_makers import Maker
from remind.evaluation.stress_points import StressPlan, StressPoint
from remind.evaluation.stress_summary import summarise
from remind.evaluation.world_benchmark import score_video, state_progress

VERSION = "stress-2"  # 2: clips on which the meter is blind are failed
MEASURES = ("progress", "within_15", "shown_share", "after_error", "plausible", "coherent", "background_psnr_db")


class StressSuite:
    """All examples of a plan, and how each is run.

    Args:
        plan: what is varied.
        hw: frame size, px.

    Raises:
        InputError: a setting in which too little happens.
    """

    def __init__(self, plan: StressPlan, hw: tuple[int, int]):
        self.plan, self.hw = plan, hw
        self.cases: dict[StressPoint, list[FixedCase]] = {
            point: fixed_cases(plan.clips, point.interruption, point.num_chunks, hw) for point in plan.points()
        }
        self.examples: dict[str, tuple[StressPoint, int, str]] = {
            example_id(point, number, memory): (point, number, memory)
            for point in self.cases for number in range(plan.clips) for memory in plan.memories
        }  # fmt: skip

    def identity(self, model: Mapping[str, Any], limits: Calibration) -> dict[str, Any]:
        """What decides the numbers.

        Args:
            model: checkpoint and its hash, or the control.
        """
        return {"suite": "stress", "version": VERSION, **model, "hw": self.hw, "plan": asdict(self.plan),
                "test_set": {point.name: [case.seed for case in cases] for point, cases in self.cases.items()},
                "limits": asdict(limits)}  # fmt: skip

    def run(
        self, run: EvalRun, maker: Maker, limits: Calibration, *, retry_failed: bool = False,
        advance: Callable[[int], None] = lambda done: None,
    ) -> None:  # fmt: skip
        """Do what is not there yet.

        Args:
            run: of this suite's `examples`.
            maker: makes the videos.
            limits: by which frames show a state.
            retry_failed: also what failed before.
            advance: called with the number of examples that have just been done.
        """
        todo = set(run.todo(retry_failed=retry_failed))
        for point, cases in self.cases.items():
            for number, case in enumerate(cases):
                names = {memory: example_id(point, number, memory) for memory in self.plan.memories}
                waiting = {memory: name for memory, name in names.items() if name in todo}
                if waiting:
                    meter = CaseMeter(case.render())  # once for all memories
                    blind = is_blind(meter, limits)
                    for memory, name in waiting.items():
                        self._one(run, name, point, case, meter, memory, number, maker, limits, blind=blind)
                        advance(1)

    def _one(
        self, run: EvalRun, name: str, point: StressPoint, case: FixedCase, meter: CaseMeter, memory: str, number: int,
        maker: Maker, limits: Calibration, *, blind: bool,
    ) -> None:  # fmt: skip
        seed = self.plan.seed * 1_000_003 + number
        about: dict[str, Any] = {
            "study": point.study, "mode": point.mode, "x": point.x, "memory": memory, "clip": number,
            "world_seed": case.seed, "family": case.family, "seed": seed, "hidden_s": point.hidden_s,
            "num_frames": case.num_frames, "caption": meter.case.clean.caption,
        }  # fmt: skip
        if blind:
            run.write(Record(name, "failed", {}, about, reason=BLIND))
            return
        try:
            video, facts = maker(point, meter, memory, seed)
        except RemindError as error:
            run.write(Record(name, "failed", {}, {**about, "error": str(error)}, reason=reason_of(error)))
            return
        score = score_video(meter.case, video, meter, limits, generated_from=1 if point.mode == "i2v" else None)
        if score.progress is None:
            run.write(Record(name, "failed", {}, about, reason="no camera sees the state after the gap"))
            return
        scores = {key: getattr(score, key) for key in MEASURES}
        about |= facts | {"video": keep_video(run, name, video)}
        run.write(Record(name, "scored", {**scores, "chance": chance_progress(meter)}, about))

    def finish(self, run: EvalRun, *, trained_latent_frames: int | None = None) -> dict[str, Any]:
        """Summarise and draw; returns what `scores.json` holds.

        Args:
            trained_latent_frames: the farthest that attention reached in training, or None if unknown.

        Raises:
            InputError: examples are missing.
        """
        if run.todo():
            return run.finish({})  # it says what is missing
        records = run.records()
        of = {name: records[name] for name in self.examples}
        return run.finish(summarise(run.folder, self.plan, tuple(self.cases), self.examples, of,
                                    trained_latent_frames=trained_latent_frames))  # fmt: skip


def example_id(point: StressPoint, number: int, memory: str) -> str:
    """A name that can be a file's."""
    return f"{point.name}-{memory.replace(':', '=').replace('@', '-in-')}-{number:03d}"


def reason_of(error: RemindError) -> str:
    """Of few kinds, to be counted: without the chunk at which it happened."""
    return re.sub(r" at chunk \d+", "", error.what)


def chance_progress(meter: CaseMeter) -> float:
    """Progress of one who has seen nothing and says the middle of the range."""
    truth = meter.true_state[meter.after]
    return state_progress(torch.full_like(truth, 0.5), truth, meter.last_seen_state)[0]


__all__ = ["VERSION", "StressSuite", "chance_progress", "example_id", "reason_of"]
