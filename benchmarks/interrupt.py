"""What interruptions cost on one core: `python benchmarks/interrupt.py --out FILE.json`.

Each kind is applied to an 81-frame clip whose frames 21..62 are interrupted, 27..56 of them fully hidden: the rate is
what a loader sees per frame of the clip, copying the clip included. A lookaway turns within pictures 2.25 times as wide
and 1.25 times as high as the view. Beside them stands what any loader must pay first, decoding the same clip from
H.264, and for the lookaway the wide one. CPU time, since a shared machine slows the wall clock; the best of the
repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.clip import Clip
from remind.data.interrupt import (
    Event,
    GivenStyle,
    InterruptionRecipe,
    LightStyle,
    OccluderStyle,
    RecipeDistribution,
    Window,
    apply_interruption,
    plan_lookaway,
    sample_composition,
    sample_recipe,
)  # fmt: skip
from remind.data.kinds import KINDS
from remind.data.video_io import decode, encode_mp4
from remind.frame_graph import Interruption, InterruptionKind

FRAMES = 81
SIZES = ((64, 64), (480, 832))


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(), "threads": 1,
            "python": platform.python_version(), "torch": torch.__version__, "system": platform.platform()}


def textured(hw: tuple[int, int]) -> UInt8[Tensor, "t h w 3"]:
    """A drifting pattern with some noise: neither trivial nor impossible to encode."""
    y, x = torch.meshgrid(torch.arange(hw[0]), torch.arange(hw[1]), indexing="ij")
    generator = torch.Generator().manual_seed(0)
    frames = []
    for t in range(FRAMES):
        waves = torch.stack([torch.sin((x + 2 * t) / 17), torch.cos((y - t) / 23), torch.sin((x + y + t) / 29)], -1)
        noise = torch.randn(*hw, 3, generator=generator) * 4
        frames.append((128 + 90 * waves + noise).clamp(0, 255).to(torch.uint8))
    return torch.stack(frames)


def rate(work: Callable[[], object], repeats: int) -> float:
    """Frames of the clip per second of CPU time."""
    work()
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return round(FRAMES / best, 1)


def recipe_of(kind: InterruptionKind) -> InterruptionRecipe:
    """Drawn looks at fixed times."""
    hidden = (27, 57) if KINDS[kind].hides else (42, 42)
    times = Interruption(kind, 21, *hidden, 63)
    if kind == "camera_loop":
        return InterruptionRecipe(events=(Event(interruption=times, style=GivenStyle()),))
    style = sample_recipe(kind, FRAMES, np.random.default_rng(3)).style
    return InterruptionRecipe(events=(Event(interruption=times, style=style, seed=1),))


def measure(hw: tuple[int, int], repeats: int) -> dict[str, float]:
    """Rates of decoding, of every kind, and of what the richer sampler draws on average."""
    rgb = textured(hw)
    video = encode_mp4(rgb, 16, effort="fast")  # as clips are stored
    rows = {"decode": rate(lambda: [picture.rgb() for picture in decode(video)], repeats)}
    clip = Clip(rgb, 16.0)
    for kind in KINDS:
        if kind != "lookaway":
            recipe = recipe_of(kind)
            rows[kind] = rate(lambda r=recipe: apply_interruption(clip, r), repeats)
    both = InterruptionRecipe(events=(Event(interruption=Interruption("light_toggle", 21, 27, 57, 63),
                                            style=LightStyle(), also=(OccluderStyle(),)),))  # fmt: skip
    rows["light_toggle&occluder"] = rate(lambda: apply_interruption(clip, both), repeats)
    wide = Clip(textured((hw[0] * 5 // 4, hw[1] * 9 // 4)), 16.0)
    wide_video = encode_mp4(wide.rgb, 16, effort="fast")
    rows["decode, wide clip"] = rate(lambda: [picture.rgb() for picture in decode(wide_video)], repeats)
    plan = plan_lookaway(wide.hw, hw, "right")
    times = Interruption("lookaway", 21, *((27, 57) if plan.hides else (42, 42)), 63)
    away = InterruptionRecipe(events=(Event(interruption=times, style=plan.style),), view=plan.view)
    rows["lookaway" if plan.hides else "lookaway_partial"] = rate(lambda: apply_interruption(wide, away), repeats)

    mixed = RecipeDistribution((("light_toggle", 1.0), ("occluder", 1.0), ("zoom", 0.5), ("lookaway", 0.5)))
    window = Window(stored_hw=wide.hw, view_hw=hw)
    drawn = [sample_composition(FRAMES, np.random.default_rng(s), mixed, window=window) for s in range(8)]
    rows["sampled, wide clip"] = round(
        len(drawn) / sum(1 / rate(lambda r=r: apply_interruption(wide, r), 1) for r in drawn), 1
    )
    rows["sample_recipes_per_s"] = round(
        rate(lambda: [sample_composition(FRAMES, np.random.default_rng(s)) for s in range(FRAMES)], 1), 1
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs a row")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, object] = {"machine": machine(), "frames": FRAMES, "unit": "frames of the clip/s on one core"}
    for hw in SIZES:
        rows = measure(hw, args.repeats)
        result["x".join(map(str, hw))] = rows
        print(f"{hw[0]}x{hw[1]}")
        for name, value in rows.items():
            print(f"    {name:24s} {value:10.0f}", flush=True)
    partial = args.out.with_suffix(".tmp")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(args.out)


if __name__ == "__main__":
    main()
