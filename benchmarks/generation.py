"""Long generation: seconds and memory per chunk by memory policy, drift, int8, latency, and recomputation.

    python benchmarks/generation.py --part speed --out benchmarks/results/generation_speed.json
    python benchmarks/generation.py --part nano --out benchmarks/results/generation_nano.json

*Speed* is that of a model of random weights at a fixed small shape (width 384, 4 layers, 100 tokens per latent frame),
which knows no difference between policies but what each lets it see. *Drift* and *state progress* are nano's, on
held-out world scenes. Recomputation runs every pass over the whole video so far, as a model without a cache must.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from remind.data.world_clips import TEST_SEEDS, WorldClip, make_world_clip
from remind.demo import choose_clips
from remind.evaluation.calibration import Calibration
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.world_benchmark import is_eligible, motion_of, score_video
from remind.frame_graph import LATENTS_PER_CHUNK, FrameGraph, frames_of_chunk
from remind.inference.memory_policy import memory_policy
from remind.inference.past import ChunkConditions
from remind.inference.pipeline import RemindPipeline
from remind.inference.rollout import Rollout
from remind.inference.samplers import Sampler
from remind.models import CausalVideoDiT, DiTConfig
from remind.models.codec import psnr_db
from remind.models.kv_cache import Storage
from remind.prompt_schedule import PromptSchedule
from remind.training.machine import git_commit, machine_facts
from remind.world.families import FAMILIES
from remind.world.scenes import sample_scene
from remind.world.state_meter import background_mask

CONFIG = DiTConfig(dim=384, ffn_dim=1536, num_heads=6, num_layers=4, freq_dim=256, text_dim=64, text_len=24,
                   camera_mode="none")  # fmt: skip
LATENT_HW = (20, 20)
POLICIES = ("full", "window:6", "sink_window:1+5", "anchors:2", "retrieve:4")
PARTS = 8


def asked(chunk: int) -> ChunkConditions:
    """Text of no meaning, and the first two chunks as anchors."""
    return ChunkConditions(torch.zeros(1, CONFIG.text_len, CONFIG.text_dim), role="anchor" if chunk < 2 else "clean")


def by_policy(model: CausalVideoDiT, name: str, chunks: int, storage: Storage = "float") -> dict[str, Any]:
    """Seconds per chunk over the first, second, ... eighth of a rollout, and bytes at its end."""
    rollout = Rollout(model, batch=1, latent_hw=LATENT_HW, seeds=[0], sampler=Sampler(), policy=memory_policy(name),
                      storage=storage)  # fmt: skip
    seconds = []
    for chunk in range(chunks):
        start = time.perf_counter()
        rollout.generate(asked(chunk))
        if chunk == 1:
            for k in (0, 1):
                rollout.protect(k)
        seconds.append(time.perf_counter() - start)
    size = chunks // PARTS
    parts = [round(statistics.median(seconds[i * size : (i + 1) * size]), 4) for i in range(PARTS)]
    return {"seconds_per_chunk": parts, "first_chunk_s": round(seconds[0], 4),
            "remembered": len(rollout.memory.resident), "cache_mib": round(rollout.cache_nbytes / 2**20, 2),
            "kept_latents_mib": round(rollout.latents_nbytes / 2**20, 2)}  # fmt: skip


@torch.no_grad()
def recomputed(model: CausalVideoDiT, chunks: int) -> float:
    """Seconds of a rollout in which every pass runs over the whole video so far."""
    latents = torch.zeros(1, 0, CONFIG.in_channels, *LATENT_HW)
    start = time.perf_counter()
    for chunk in range(chunks):
        x = torch.randn(1, LATENTS_PER_CHUNK, CONFIG.in_channels, *LATENT_HW)
        for _ in range(Sampler().steps):
            whole = torch.cat([latents, x], 1)
            t = whole.shape[1]
            model(whole, torch.full((1, t), 0.5), torch.arange(t).float()[None], asked(chunk).text)
        latents = torch.cat([latents, x], 1)
    return time.perf_counter() - start


def cached(model: CausalVideoDiT, chunks: int) -> float:
    rollout = Rollout(model, batch=1, latent_hw=LATENT_HW, seeds=[0], sampler=Sampler())
    start = time.perf_counter()
    for chunk in range(chunks):
        rollout.generate(asked(chunk))
    return time.perf_counter() - start


def drift(pipe: RemindPipeline, policy: str, clips: int, chunks: int) -> list[float]:
    """Mean PSNR, dB, of the background against the truth, chunk by chunk; two chunks given, nothing interrupted."""
    rows: list[list[float]] = []
    spans = [frames_of_chunk(chunk) for chunk in range(2, chunks)]
    for seed in range(clips):
        scene = sample_scene(TEST_SEEDS.start + seed, num_frames=spans[-1].stop, hw=pipe.hw)
        truth = scene.render_rgb(scene.states, scene.cameras)
        still = background_mask(scene)
        made = pipe(scene.caption, video=truth[: spans[0].start], num_chunks=chunks, memory=policy,
                    cameras=scene.cameras, seed=seed).frames  # fmt: skip
        parts = [slice(span.start, span.stop) for span in spans]
        rows.append([psnr_db(made[part][still[part]], truth[part][still[part]]) for part in parts])
    return [round(statistics.mean(column), 2) for column in zip(*rows, strict=True)]


def interrupted(clips: int, hw: tuple[int, int]) -> list[WorldClip]:
    """Those of the demo's held-out clips that are scored."""
    cases = (clip.render() for clip in choose_clips(clips, hw))
    return [case for case in cases if is_eligible(case) and motion_of(case) == "ramp"]


def in_the_dark(clips: int, num_frames: int, hw: tuple[int, int]) -> list[WorldClip]:
    """Held-out scenes whose lights are off in the middle: 1.8 s of 81 frames' 5 s, 8.4 s of 321 frames' 20."""
    families = sorted(name for name, family in FAMILIES.items() if not (family.periodic or family.discrete))
    cases = (make_world_clip(TEST_SEEDS.start + 5000 + i, hw=hw, num_frames=num_frames, kind="light_toggle",
                             family=families[i % len(families)]) for i in range(clips))  # fmt: skip
    return [case for case in cases if is_eligible(case)]


def progress_of(pipe: RemindPipeline, cases: Sequence[WorldClip], **how: Any) -> dict[str, Any]:
    """State progress of nano on interrupted clips, and the cache at the end of the last one."""
    calibration = Calibration.load(Path(str(resources.files("remind") / "assets" / f"calibration-{pipe.hw[0]}.json")))
    found: list[float] = []
    nbytes = 0
    for number, case in enumerate(cases):
        graph = FrameGraph(case.schedule)
        assert graph.frontier is not None
        given = frames_of_chunk(graph.frontier).start
        made = pipe(PromptSchedule.of_interruption(case.clean.caption, case.schedule), seed=number,
                    video=case.degraded.rgb[:given], num_chunks=graph.num_chunks, schedule=case.schedule,
                    cameras=case.degraded.cameras, allow_camera_jumps=True, **how)  # fmt: skip
        nbytes = sum(row.nbytes for row in made.memory)
        progress = score_video(case, made.frames, CaseMeter(case), calibration).progress
        if progress is not None:
            found.append(progress)
    return {"clips": len(found), "state_progress": round(statistics.mean(found), 4),
            "median": round(statistics.median(found), 4), "cache_kib": round(nbytes / 1024, 1)}  # fmt: skip


def speed(chunks: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = CausalVideoDiT(CONFIG).eval()
    by_policy(model, "window:6", PARTS)  # warm
    return {
        "shape": CONFIG.to_json(), "chunks": chunks,
        "policies": {name: by_policy(model, name, chunks) for name in POLICIES},
        "int8": {name: by_policy(model, name, chunks, "int8") for name in ("full", "window:6")},
        "recomputation": {"chunks": 7, "cached_s": cached(model, 7), "recomputed_s": recomputed(model, 7)},
    }  # fmt: skip


def nano(clips: int, drift_clips: int, drift_chunks: int, dark_clips: int) -> dict[str, Any]:
    pipe = RemindPipeline.from_pretrained("nano")
    started = time.perf_counter()
    first = next(pipe.stream("a ball rolls")).seconds
    cases = interrupted(clips, pipe.hw)
    result: dict[str, Any] = {
        "first_chunk_s": round(first, 3), "clip_s": round(timed(pipe), 3),
        "storage": {storage: progress_of(pipe, cases, memory_storage=storage) for storage in ("float", "int8")},
        "darkness": {}, "drift_psnr_db": {},
    }  # fmt: skip
    for num_frames in (81, 165, 321):
        dark = in_the_dark(dark_clips, num_frames, pipe.hw)
        hidden = statistics.mean(len(case.schedule.hidden_frames()) for case in dark)
        result["darkness"][num_frames] = {"hidden_s": round(hidden / 16, 2)} | {
            name: progress_of(pipe, dark, memory=name) for name in POLICIES
        }  # fmt: skip
    result["drift_psnr_db"] = {name: drift(pipe, name, drift_clips, drift_chunks) for name in POLICIES}
    return {**result, "seconds": round(time.perf_counter() - started)}


def timed(pipe: RemindPipeline) -> float:
    """Seconds of a usual clip, the second time."""
    pipe("a ball rolls")
    start = time.perf_counter()
    pipe("a ball rolls")
    return time.perf_counter() - start


def main(
    part: Literal["speed", "nano"], out: Path | None = None, chunks: int = 64, clips: int = 66, drift_clips: int = 12,
    drift_chunks: int = 27, dark_clips: int = 32,
) -> None:  # fmt: skip
    found = speed(chunks) if part == "speed" else nano(clips, drift_clips, drift_chunks, dark_clips)
    text = json.dumps({"machine": machine_facts(), "commit": git_commit(), **found}, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
