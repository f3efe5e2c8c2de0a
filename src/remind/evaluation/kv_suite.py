"""The KV suite: which chunk of the past a recovery reads, and whether it needs what it reads. Source: ReMind Sec. 4.4.

Attention shows where a model looks, not what it uses. So each clip is run four times on the same noise:

    interrupted        attention is measured; state progress with everything remembered
    uninterrupted      the same scene and cut without the interruption: the sink, and what is looked at for its place
    without anchors    what shows the state is knocked out by `rebuild`; attention and state progress
    without hidden     chunks that show nothing are knocked out instead: losing any memory is not the cause
    (all futures fork from one past, so that differences are paired)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from remind.errors import RemindError
from remind.evaluation.blind_meter import BLIND, is_blind
from remind.evaluation.calibration import Calibration
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.continuation import Continuation, interrupted, uninterrupted
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.fixed_clock import FixedCase, fixed_cases
from remind.evaluation.kept_video import keep_video
from remind.evaluation.kv_groups import group_shares
from remind.evaluation.kv_importance import KVImportanceRecorder, Reduction, reduction_of
from remind.evaluation.kv_settings import NUM_CHUNKS, KVPlan, KVSetting
from remind.evaluation.kv_summary import summarise
from remind.evaluation.world_benchmark import CaseScore, score_video
from remind.inference.glance import Glance
from remind.inference.pipeline import RemindPipeline

VERSION = "kv-2"  # 2: clips on which the meter is blind are failed


class KVSuite:
    """All examples of a plan, and how each is run.

    Args:
        plan: what is run.
        pipe: whose model.
        limits: by which frames show a state.

    Raises:
        InputError: layers that the model does not have.
    """

    def __init__(self, plan: KVPlan, pipe: RemindPipeline, limits: Calibration):
        self.plan, self.pipe, self.limits = plan, pipe, limits
        self.reduction: Reduction = reduction_of(plan.layers, pipe.model.config.num_layers, over_heads=plan.heads)
        self.settings = [KVSetting.of(words) for words in plan.settings]
        self.cases: dict[KVSetting, list[FixedCase]] = {
            setting: fixed_cases(plan.clips, setting.interruption, NUM_CHUNKS, pipe.hw) for setting in self.settings
        }
        self.examples: dict[str, tuple[KVSetting, int]] = {
            f"{setting.name}-{number:03d}": (setting, number)
            for setting in self.settings for number in range(plan.clips)
        }  # fmt: skip

    def identity(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """What decides the numbers."""
        return {"suite": "kv", "version": VERSION, **model, "hw": self.pipe.hw, "plan": self.plan.to_json(),
                "reduction": self.reduction.describe(), "limits": asdict(self.limits),
                "test_set": {s.name: [case.seed for case in cases] for s, cases in self.cases.items()}}  # fmt: skip

    def run(
        self, run: EvalRun, *, retry_failed: bool = False, advance: Callable[[int], None] = lambda done: None
    ) -> None:
        """Do what is not there yet.

        Args:
            run: of this suite's `examples`.
            retry_failed: also what failed before.
            advance: called with the number of examples that have just been done.
        """
        for name in run.todo(retry_failed=retry_failed):
            setting, number = self.examples[name]
            run.write(self._one(run, name, setting, number))
            advance(1)

    def finish(self, run: EvalRun) -> dict[str, Any]:
        """Summarise and draw; returns what `scores.json` holds.

        Raises:
            InputError: examples are missing.
        """
        if run.todo():
            return run.finish({})  # it says what is missing
        records = run.records()
        of = {s: [records[name] for name, (its, _) in self.examples.items() if its == s] for s in self.settings}
        return run.finish(summarise(run.folder, of))

    def _one(self, run: EvalRun, name: str, setting: KVSetting, number: int) -> Record:
        case, seed = self.cases[setting][number], self.plan.seed * 1_000_003 + number
        about: dict[str, Any] = {"setting": setting.name, "clip": number, "world_seed": case.seed,
                                 "family": case.family, "seed": seed}  # fmt: skip
        try:
            clip, image = case.render(), setting.mode == "i2v"
            meter, graph = CaseMeter(clip), clip.graph
            if is_blind(meter, self.limits):
                return Record(name, "failed", {}, about, reason=BLIND)
            hidden = tuple(k for k in range(graph.frontier or 0) if k not in graph.witnesses)
            past, twin, without = (self._recorder() for _ in range(3))
            script = interrupted(clip, image=image)
            started = Continuation(self.pipe, script, seed=seed, glance=_into(past))
            videos = {"with": started.future(glance=_into(past)),
                      "without_anchors": started.future(forget=graph.witnesses, glance=_into(without)),
                      "without_hidden": started.future(forget=hidden)}  # fmt: skip
            calm = Continuation(self.pipe, uninterrupted(clip, image=image), seed=seed, glance=_into(twin))
            calm.future(glance=_into(twin))
        except RemindError as error:
            return Record(name, "failed", {}, {**about, "error": str(error)}, reason=error.what)
        about |= {"prompts": list(script.prompts), "anchors": list(graph.witnesses), "hidden": list(hidden),
                  "videos": {which: keep_video(run, f"{name}-{which}", video) for which, video in videos.items()}}
        seen = {which: self._score(setting, meter, video) for which, video in videos.items()}
        maps = {"interrupted": past.result(), "uninterrupted": twin.result(), "without_anchors": without.result()}
        return Record(name, "scored", {
            "progress": {which: score.progress for which, score in seen.items()},
            "shown": {which: score.shown_share for which, score in seen.items()},
            "groups": {reader: {which: group_shares(maps[which], graph, query)
                                for which in ("interrupted", "uninterrupted")}
                       for reader, query in setting.readers.items()},
            "maps": {which: found.to_json() for which, found in maps.items()},
        }, about)  # fmt: skip

    def _recorder(self) -> KVImportanceRecorder:
        return KVImportanceRecorder(NUM_CHUNKS, self.reduction)

    def _score(self, setting: KVSetting, meter: CaseMeter, video: UInt8[Tensor, "t h w 3"]) -> CaseScore:
        return score_video(meter.case, video, meter, self.limits,
                           generated_from=1 if setting.mode == "i2v" else None)  # fmt: skip


def _into(recorder: KVImportanceRecorder) -> Callable[[Glance], None]:
    """A `glance` for one clip."""

    def take(glance: Glance) -> None:
        tokens = glance.lse[0].shape[2]
        recorder.add(glance.chunk, [entry.chunk for entry in glance.entries], [layer[0] for layer in glance.lse],
                     [tokens] * len(glance.entries))  # fmt: skip

    return take


__all__ = ["VERSION", "KVSuite"]
