"""Does the world suite rank what must rank, and find what must be found? Every video goes through a codec and a file.

    python experiments/suite_check/run.py --out experiments/suite_check/result.json

Faults are put into oracle videos after the codec, since a codec would smooth them away.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import tyro

from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import CONTROLS, run_control
from remind.evaluation.mutations import MUTATIONS, mutate
from remind.evaluation.score_cells import mean_cell, share_cell
from remind.evaluation.statistics import paired_difference, paired_p_value
from remind.evaluation.world_files import read_case_video, write_case_video
from remind.evaluation.world_makers import through_codec
from remind.evaluation.world_run import VERSION, limits_at
from remind.evaluation.world_scores import score_case
from remind.evaluation.world_suite import NUM_FRAMES, whole_suite
from remind.models.codec import LinearCodec
from remind.training.machine import git_commit, machine_facts
from remind.whole_file import whole_file

HW = (32, 32)
MUST_RANK = (("oracle", "linear"), ("linear", "freeze"), ("linear", "copy_anchor"), ("freeze", "reset"),
             ("copy_anchor", "reset"))  # fmt: skip


class Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - began)

    def per_minute(self) -> dict[str, float]:
        return {name: round(60 * len(all_) / sum(all_), 1) for name, all_ in self.seconds.items()}


def caught(scores: list[dict[str, Any]], measures: tuple[str, ...]) -> dict[str, Any]:
    return share_cell([any(score[m] is False for m in measures) for score in scores])


def nearness(score: dict[str, Any]) -> float | None:
    """1 - |1 - p|: too much progress is no better than as much too little."""
    return None if score["progress"] is None or score["motion"] != "ramp" else 1 - abs(1 - score["progress"])


def main(out: Path, clips: int = 66, test_set: str = "world-v1") -> None:
    torch.set_num_threads(1)
    codec, limits, clock = LinearCodec.load(), limits_at(HW), Clock()
    cases = [case for case in whole_suite(test_set).cases if case.part != "zoom"][:clips]
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    errors: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"

        def round_trip(rgb: torch.Tensor) -> torch.Tensor:
            return through_codec(codec, rgb)

        def score(meter: CaseMeter, rgb: torch.Tensor, mode: Any = "v2v") -> dict[str, Any]:
            with clock.step("write the file"):
                write_case_video(file, rgb)
            with clock.step("read the file"):
                rgb = read_case_video(file, HW, NUM_FRAMES)
            with clock.step("score (all measures)"):
                return score_case(meter, rgb, limits, mode)

        for case in cases:
            with clock.step("render a clip"):
                clip = case.render(HW)
            with clock.step("build its meter"):
                meter = CaseMeter(clip)
                _ = meter.background
            with clock.step("read all states of a video"):
                meter.read(clip.degraded.rgb)
            for control in CONTROLS:
                found[control].append(score(meter, run_control(control, meter, round_trip=round_trip)))
            for fault in MUTATIONS:
                found[fault].append(score(meter, mutate(fault, meter, round_trip=round_trip)))
            found["asked, i2v"].append(score(meter, round_trip(clip.degraded.rgb), "i2v"))
            found["uninterrupted, i2v"].append(score(meter, round_trip(clip.clean.rgb), "i2v"))
            reading = found["oracle"][-1]["measured"]
            errors[case.family] += [abs(m - t) for m, t in zip(reading, clip.scene.states.tolist(), strict=True)
                                    if m is not None]
    p = {name: [s["progress"] if s["motion"] == "ramp" else None for s in found[name]] for name in CONTROLS}
    near = {name: [nearness(s) for s in found[name]] for name in CONTROLS}
    result = {
        "command": f"python experiments/suite_check/run.py --clips {clips} --test-set {test_set}",
        "commit": git_commit(), "machine": machine_facts(), "test_set": whole_suite(test_set).identity(),
        "clips": len(cases), "version": VERSION,
        "false_alarms_on_oracle": {"plausible or coherent": caught(found["oracle"], ("plausible", "coherent")),
                                   "with steady": caught(found["oracle"], ("plausible", "coherent", "steady"))},
        "mutations_caught": {name: {"plausible or coherent": caught(found[name], ("plausible", "coherent")),
                                    "with steady": caught(found[name], ("plausible", "coherent", "steady")),
                                    "missed by plausible and coherent": [
                                        case.id for case, s in zip(cases, found[name], strict=True)
                                        if s["plausible"] is not False and s["coherent"] is not False]}
                             for name in MUTATIONS},
        "observation_control": {
            "passed where interrupted as asked": share_cell([s["observation"] for s in found["asked, i2v"]]),
            "failed where never interrupted": share_cell(
                [None if s["observation"] is None else not s["observation"] for s in found["uninterrupted, i2v"]])},
        "state_progress": {name: mean_cell([v for v in p[name] if v is not None]) for name in CONTROLS},
        "nearness_to_the_truth": {name: mean_cell([v for v in near[name] if v is not None]) for name in CONTROLS},
        "ranks": {f"{a} - {b}": {
            "state progress": vars(paired_difference(p[a], p[b])),
            "1 - |1 - p|": vars(paired_difference(near[a], near[b])), "p of it": paired_p_value(near[a], near[b]),
            "state error after, all scenes": vars(paired_difference([s["after_error"] for s in found[a]],
                                                                    [s["after_error"] for s in found[b]]))}
            for a, b in MUST_RANK},
        "state_meter_error": {family: {
            "median": round(float(torch.tensor(e).median()), 4),
            "95 %": round(float(torch.tensor(e).quantile(0.95)), 4), "frames": len(e)}
            for family, e in sorted(errors.items())},
        "per_minute": clock.per_minute(),
    }  # fmt: skip
    with whole_file(out) as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n")
    for key in ("false_alarms_on_oracle", "mutations_caught", "observation_control", "state_progress", "per_minute"):
        print(key, json.dumps(result[key], indent=1))


if __name__ == "__main__":
    tyro.cli(main)
