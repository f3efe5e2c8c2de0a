"""`remind eval stress`: how far recovery reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from remind.errors import InputError


def stress(
    out: Path,
    checkpoint: str = "",
    base: Path | None = None,
    control: Literal["oracle", "linear", "middle", "freeze", "copy_anchor", "reset", "stays_hidden"] | None = None,
    studies: tuple[Literal["gap", "distractors", "reference"], ...] = ("gap", "distractors", "reference"),
    gaps: tuple[float, ...] = (1.5, 3.0, 5.0, 10.0, 20.0, 30.0),
    modes: tuple[Literal["v2v", "i2v"], ...] = ("v2v",),
    distractors: tuple[int, ...] = (0, 1, 2, 4, 8),
    distractor_gap: float = 10.0,
    reference_gaps: tuple[int, ...] = (2, 4, 6, 12, 24),
    kind: Literal["light_toggle", "occluder", "camera_loop"] = "light_toggle",
    memories: tuple[str, ...] = ("full", "window:6", "sink_window:1+5", "anchors:2", "retrieve:4", "knocked_out"),
    limit: int = 16,
    seed: int = 0,
    device: str = "cpu",
    retry: bool = False,
) -> None:
    """Measure recovery by length of the gap, by distractors in memory, and by distance of a reference (Figure 1 d).

    Held-out clips of the embedded world whose truth is known, hidden at stated times; the same clips and noise under
    every memory. Kill it at any time and run it again: it goes on where it was. Writes OUT/scores.json, a curve a study
    in OUT/figures, and every video.

    Args:
        out: The folder of this evaluation.
        checkpoint: A shipped checkpoint (nano), a run folder, or weights of the Wan family.
        base: A local Wan pipeline, where the checkpoint needs its VAE and text encoder.
        control: Instead of a checkpoint: a control of known behaviour. stays_hidden never brings the view back.
        studies: Which curves. gap: everything remembered, hidden for longer and longer. distractors: one gap, more and
            more hidden chunks in memory. reference: a clean reference farther and farther back is all that is known.
        gaps: Seconds hidden, of study gap.
        modes: Of study gap: v2v continues a video, i2v makes all but the first frame.
        distractors: Hidden chunks left in memory, of study distractors.
        distractor_gap: Its gap, seconds.
        reference_gaps: Chunks from the reference to the video, of study reference.
        kind: Of interruption.
        memories: Memory policies, each with a budget of chunks if one follows an @: full, window:6, retrieve:4@6; or
            knocked_out: everything but what shows the state, taken out by rebuild. The others are compared with the
            first.
        limit: Clips of every setting.
        seed: Of the noise.
        device: auto, cpu, cuda or mps.
        retry: Try again what failed.
    """
    from rich.console import Console

    from remind.eval_commands.model_under_test import load_model
    from remind.evaluation.calibration import Calibration
    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.limits import limits_for, shipped_limits
    from remind.evaluation.stress_makers import ControlMaker, Maker, Memory, ModelMaker
    from remind.evaluation.stress_points import StressPlan
    from remind.evaluation.stress_suite import StressSuite
    from remind.training.progress import progress_bar

    if bool(checkpoint) == (control is not None):
        raise InputError("a model or a control is tested", got="both" if checkpoint else "neither",
                         fix="give --checkpoint or --control")  # fmt: skip
    for memory in memories if control is None else ():
        Memory.of(memory)  # refused before anything is loaded
    plan = StressPlan(studies, gaps, modes, distractors, distractor_gap, reference_gaps, kind,
                      memories if control is None else (control,), limit, seed)  # fmt: skip
    maker: Maker
    limits: Calibration
    if control is None:
        pipe, model = load_model(checkpoint, base=base, device=device)
        maker, limits, trained = ModelMaker(pipe), limits_for(pipe), pipe.model.config.max_trained_distance
    else:
        limits, trained = shipped_limits(), None
        maker, model = ControlMaker(control), {"control": control}
    suite = StressSuite(plan, limits.hw)
    run = EvalRun(out, suite.identity(model, limits), list(suite.examples))
    done = len(suite.examples) - len(run.todo(retry_failed=retry))
    console = Console(stderr=True)
    with progress_bar("stress", console, total=len(suite.examples), done=done) as (bar, task):
        suite.run(run, maker, limits, retry_failed=retry, advance=lambda n: bar.advance(task, n))
    found = suite.finish(run, trained_latent_frames=trained)
    counts = found["counts"]
    print(f"wrote {out / 'scores.json'}: {counts['scored']} videos scored, {counts['failed']} failed "
          f"{counts['reasons'] or ''}".rstrip())  # fmt: skip
    for figure in found["summary"]["figures"]:
        print(out / figure["file"])
