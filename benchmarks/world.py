"""Rendering speed of the embedded world on one core: `python benchmarks/world.py --out FILE.json`.

Rendering alone is timed (scenes are sampled beforehand). CPU time stands beside wall time, because a shared machine
slows the latter. The camera is at rest unless a row says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from remind.frame_graph import Interruption
from remind.world import FAMILIES, Scene, StateMeter, interrupt_camera_loop, sample_scene
from remind.world.scenes import turn

LOOP = Interruption("camera_loop", start=24, hidden_start=32, hidden_stop=52, stop=60)
SETTINGS = ((64, 1), (64, 2), (32, 1), (32, 2))


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(), "threads": 1,
            "python": platform.python_version(), "torch": torch.__version__, "system": platform.platform()}


def scene_at_rest(family: str, size: int) -> Scene:
    """The first scene of a family whose camera does not drift."""
    scenes = (sample_scene(s, family=family, hw=(size, size)) for s in range(1000))
    return next(s for s in scenes if torch.equal(s.cameras.c2w[0], s.cameras.c2w[-1]))


def frames_per_second(work: Callable[[], object], frames: int, repeats: int) -> dict[str, float]:
    """Median over repeats, by wall and by CPU time, after one run to warm up."""
    work()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": round(frames / statistics.median(walls), 1), "cpu": round(frames / statistics.median(cpus), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs a row")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, object] = {"machine": machine(), "frames": 81, "unit": "frames/s on one core"}

    for size, samples in SETTINGS:
        rows = {}
        for family in FAMILIES:
            scene = scene_at_rest(family, size)
            rows[family] = frames_per_second(lambda s=scene, n=samples: s.render_rgb(samples=n), 81, args.repeats)
        total = {k: round(len(rows) / sum(1 / r[k] for r in rows.values()), 1) for k in ("wall", "cpu")}
        result[f"rgb_{size}px_samples{samples}"] = {"all_families": total, "per_family": rows}
        print(f"{size} px, samples={samples}: {total['cpu']:.0f} frames/s/core (wall {total['wall']:.0f})", flush=True)
        for family, row in rows.items():
            print(f"    {family:14s} {row['cpu']:7.0f}")

    others = {}
    for size in (64, 32):
        scene = scene_at_rest("walker", size)
        looped = interrupt_camera_loop(scene, LOOP)
        turned = turn(scene.cameras, torch.linspace(0, 20, 81, dtype=torch.float64))
        rgb = scene.render_rgb()
        meter = StateMeter(scene)
        others[f"walker_{size}px"] = {
            "rgb_depth_instances_samples2": frames_per_second(scene.render, 81, args.repeats),
            "rgb_samples2_camera_loop": frames_per_second(lambda s=scene, c=looped: s.render_rgb(None, c), 81,
                                                          args.repeats),
            "rgb_samples1_camera_always_moving": frames_per_second(
                lambda s=scene, c=turned: s.render_rgb(None, c, samples=1), 81, args.repeats),
            "meter_build_states_per_s": frames_per_second(lambda s=scene: StateMeter(s), 97, args.repeats),
            "meter_measure": frames_per_second(lambda m=meter, x=rgb: m.measure(x), 81, args.repeats)}
        for name, row in others[f"walker_{size}px"].items():
            print(f"walker {size} px, {name}: {row['cpu']:.0f}/s/core (wall {row['wall']:.0f})")
    result["others"] = others
    partial = args.out.with_suffix(".tmp")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(args.out)


if __name__ == "__main__":
    main()
