"""Short trainings of nano that differ in one choice, judged on validation scenes; never on the test clips.

    python experiments/nano_recipe/compare.py adamw muon --steps 500 --threads 1
    python experiments/nano_recipe/compare.py --table-only

Each variant gets the same clips in the same order. Results go to results/NAME-STEPS.json; what exists is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from remind.data.dataset import MemoryBank, Mixture, WorldBankSpec
from remind.data.world_clips import HIDING_KINDS, VALIDATION_SEEDS, make_world_clip
from remind.evaluation.aggregate import aggregate
from remind.evaluation.calibration import Calibration
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.world_benchmark import score_video
from remind.flow import velocity_target
from remind.inference.pipeline import RecoveryTask, RemindPipeline
from remind.models.codec import LinearCodec
from remind.models.dit import CausalVideoDiT
from remind.models.text import WordHashEncoder
from remind.recipes import recipe
from remind.training.batches import noise_of, plans_of_step
from remind.training.config import Execution, TrainConfig
from remind.training.curriculum import Curriculum
from remind.training.data_source import open_data
from remind.training.distributed import Ranks
from remind.training.losses import LossOptions
from remind.training.machine import git_commit, machine_facts
from remind.training.progress import progress_bar
from remind.training.regimes import RegimeOptions
from remind.training.run_checkpoint import plain
from remind.training.step import assemble, predict
from remind.training.trainer import Trainer
from remind.world import FAMILIES

HERE = Path(__file__).parent
ASSETS = HERE.parents[1] / "src/remind/assets"
SIGMA_EDGES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.01)
Change = Callable[[TrainConfig], TrainConfig]


def model(**changes: Any) -> Change:
    return lambda c: replace(c, model=replace(c.model, **changes))


def config(**changes: Any) -> Change:
    return lambda c: replace(c, **changes)


def step(**changes: Any) -> Change:
    return lambda c: replace(c, step=replace(c.step, **changes))


VARIANTS: dict[str, tuple[Change, ...]] = {
    "recipe": (),
    "adamw": (config(optimizer="adamw"),),
    "adamw_wan_rope": (config(optimizer="adamw"), model(rope_theta=1e4, rope_grid_scale=1.0)),
    "wan_rope": (model(rope_theta=1e4, rope_grid_scale=1.0),),
    "muon_0.01": (config(muon_learning_rate=0.01),),
    "muon_0.02": (config(muon_learning_rate=0.02),),

    "muon_0.08": (config(muon_learning_rate=0.08),),
    "rate_1.2e-3": (config(learning_rate=1.2e-3),),
    "wide": (model(dim=192, ffn_dim=768, num_heads=6, num_layers=4),),
    "shift_2": (step(sigma_shift=2.0),),
    "no_delta_loss": (config(loss=LossOptions(variant="flow_only")),),
}


def validation_loss(trained: CausalVideoDiT, base: TrainConfig, regime: str, *, batches: int = 8) -> list[float]:
    """Mean flow loss of supervised latent frames, then the same per bucket of noise levels."""
    codec, encoder = LinearCodec.load(), WordHashEncoder(base.model.text_dim, base.model.text_len)
    bank = MemoryBank.world(WorldBankSpec(256, base.hw, first_seed=VALIDATION_SEEDS.start), codec, encoder, workers=2)
    config = replace(base, batch_size=32, group_size=0, seed=123, curriculum=Curriculum.constant({regime: 1.0}),
                     regime=RegimeOptions(clean_prefix_share=0.0), step=replace(base.step, sigma_shift=2.0))
    errors, sigmas = [], []
    for number in range(batches):
        samples, plans = plans_of_step(config, Mixture([bank], [1.0], config.seed), number)
        noise = [noise_of(config, 32 * number + i) for i in range(32)]
        batch = assemble(samples, plans, noise, config.step)
        with torch.no_grad():
            velocity = predict(trained, batch)
        error = (velocity - velocity_target(batch.x0, batch.noise)).square().mean((2, 3, 4))
        errors.append(error[batch.supervised])
        sigmas.append(batch.sigmas[batch.supervised])
    e, s = torch.cat(errors), torch.cat(sigmas)
    buckets = [e[(s >= low) & (s < high)].mean() for low, high in pairwise(SIGMA_EDGES)]
    return [round(float(x), 4) for x in (e.mean(), *buckets)]


def recovery(trained: CausalVideoDiT, hw: tuple[int, int], num_clips: int) -> dict[str, Any]:
    """The measures of validation clips, video to video and image to video."""
    families, first = sorted(FAMILIES), VALIDATION_SEEDS.start + 700_000
    cases = [make_world_clip(first + i, hw=hw, family=families[i % len(families)],
                             kind=HIDING_KINDS[(i + i // len(families)) % len(HIDING_KINDS)])
             for i in range(num_clips)]
    tasks = [RecoveryTask(case.degraded, case.schedule, i) for i, case in enumerate(cases)]
    pipeline = RemindPipeline.of_small_model(trained, LinearCodec.load(), hw)
    calibration = Calibration.load(ASSETS / f"calibration-{hw[0]}.json")
    videos, from_image = pipeline.recover(tasks), pipeline.image_to_video(tasks)
    found: dict[str, list[Any]] = {"v2v": [], "i2v": []}
    for case, video, other in zip(cases, videos, from_image, strict=True):
        meter = CaseMeter(case)
        found["v2v"].append(score_video(case, video, meter, calibration))
        found["i2v"].append(score_video(case, other, meter, calibration, generated_from=1))
    keep = ("state_progress", "within_15", "after_error", "shown", "plausible", "coherent", "observation_control",
            "background_psnr")
    return {name: {k: aggregate(scores)[k] for k in keep} for name, scores in found.items()}


def run(name: str, steps: int, clips: int, console: Console) -> dict[str, Any]:
    chosen = replace(recipe("nano"), steps=steps, execution=Execution(checkpoint_every=steps))
    for change in VARIANTS[name]:
        chosen = change(chosen)
    trainer = Trainer(chosen, open_data(chosen, console, workers=2).mixture, Ranks(torch.device("cpu")))
    with progress_bar(name, console, total=steps) as (bar, task):
        for record in trainer.steps():
            bar.update(task, completed=record["step"], note=f"flow {record['flow']:.3f}")
    with trainer.averaged_model(sharded=False) as trained:
        assert trained is not None
        return {
            "variant": name, "steps": steps, "seconds_per_step": round(trainer.seconds / steps, 3),
            "parameters": sum(p.numel() for p in trained.parameters()),
            "validation_loss": {r: validation_loss(trained, chosen, r) for r in ("v2v_frontier", "all_history")},
            **recovery(trained, chosen.hw, clips),
            "machine": machine_facts(), "commit": git_commit(), "config": plain(chosen),
        }


def table() -> None:
    heads = ("variant", "steps", "s/step", "loss V2V", "loss history", "progress", "within 15 %", "error", "shown",
             "PSNR", "I2V obeys")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for path in sorted((HERE / "results").glob("*.json")):
        r = json.loads(path.read_text())
        v, i = r["v2v"], r["i2v"]
        print(f"| {r['variant']} | {r['steps']} | {r['seconds_per_step']:.2f} | "
              f"{r['validation_loss']['v2v_frontier'][0]:.3f} | {r['validation_loss']['all_history'][0]:.3f} | "
              f"{v['state_progress']['mean']:.2f} | {100 * v['within_15']['mean']:.0f} % | "
              f"{v['after_error']['mean']:.2f} | {100 * v['shown']['mean']:.0f} % | "
              f"{v['background_psnr']['mean']:.1f} | {100 * i['observation_control']['mean']:.0f} % |")


def main(variants: tyro.conf.Positional[tuple[str, ...]] = (), steps: int = 500, threads: int = 2, clips: int = 88,
         table_only: bool = False) -> None:
    torch.set_num_threads(threads)
    for name in () if table_only else variants:
        out = HERE / "results" / f"{name}-{steps}.json"
        if not out.exists():
            out.write_text(json.dumps(run(name, steps, clips, Console(stderr=True)), indent=1) + "\n")
    table()


if __name__ == "__main__":
    tyro.cli(main)
