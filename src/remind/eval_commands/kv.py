"""`remind eval kv`: which chunks of the past a model reads, and whether it needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def kv(
    checkpoint: str,
    out: Path,
    base: Path | None = None,
    settings: tuple[str, ...] = ("v2v-occluder", "i2v-camera_loop"),
    layers: str = "paper",
    heads: Literal["mean", "max"] = "mean",
    limit: int = 32,
    seed: int = 0,
    device: str = "cpu",
    retry: bool = False,
) -> None:
    """Measure which chunks of the past a model reads (Figure 5), and what happens when they are taken away.

    Held-out clips of the embedded world with one layout of chunks: two anchors, four chunks of interruption, the
    recovery. Attention mass is exact. Beside it stand the same scene with nothing to recall, which shows what is drawn
    by place alone (the sink), and state progress with anchors, without them, and without hidden chunks instead, paired.
    Kill it at any time and run it again: it goes on where it was. Writes OUT/scores.json, a heatmap a setting in
    OUT/figures, and every video.

    Args:
        checkpoint: A shipped checkpoint (nano), a run folder, or weights of the Wan family.
        out: The folder of this evaluation.
        base: A local Wan pipeline, where the checkpoint needs its VAE and text encoder.
        settings: v2v or i2v, and the interruption: occluder, light_toggle or camera_loop.
        layers: paper (maximum over layers 20-24 of 30, at this model's depth), all (mean), or e.g. 3-4 (maximum).
        heads: mean or max over heads.
        limit: Clips of every setting.
        seed: Of the noise.
        device: auto, cpu, cuda or mps.
        retry: Try again what failed.
    """
    from rich.console import Console

    from remind.eval_commands.model_under_test import load_model
    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.kv_settings import KVPlan
    from remind.evaluation.kv_suite import KVSuite
    from remind.evaluation.limits import limits_for
    from remind.training.progress import progress_bar

    plan = KVPlan(settings, limit, layers, heads, seed)
    pipe, model = load_model(checkpoint, base=base, device=device)
    suite = KVSuite(plan, pipe, limits_for(pipe))
    run = EvalRun(out, suite.identity(model), list(suite.examples))
    done = len(suite.examples) - len(run.todo(retry_failed=retry))
    console = Console(stderr=True)
    with progress_bar("kv", console, total=len(suite.examples), done=done) as (bar, task):
        suite.run(run, retry_failed=retry, advance=lambda n: bar.advance(task, n))
    found = suite.finish(run)
    counts = found["counts"]
    print(f"wrote {out / 'scores.json'}: {counts['scored']} clips scored, {counts['failed']} failed "
          f"{counts['reasons'] or ''}".rstrip())  # fmt: skip
    for heatmap in found["summary"]["heatmaps"]:
        print(out / heatmap["file"])
