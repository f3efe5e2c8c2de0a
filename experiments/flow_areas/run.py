"""How well `data.optical_flow` finds what moves: against the exact motion of the embedded world.

    python experiments/flow_areas/run.py --out experiments/flow_areas/results/after.json
"""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import tyro

from remind.data import optical_flow
from remind.data.motion import opencv
from remind.training.launch import git_commit, machine_facts
from remind.world import FAMILIES, sample_scene
from remind.world.exact_motion import object_flow

HW, LAG, FPS = (80, 128), 4, 16.0  # no side is longer than what flow is measured on


def main(out: Path | None = None, seeds: tuple[int, ...] = (0, 3)) -> None:
    cv2 = opencv()
    limit_px = optical_flow._OBJECT_SPEED * max(HW) * LAG / FPS
    rows, seconds = [], []
    for family in sorted(FAMILIES):
        for seed in seeds:
            scene = sample_scene(seed, family=family, num_frames=81, hw=HW)
            rgb, exact = scene.clip().rgb, object_flow(scene, LAG).norm(dim=-1).numpy() > limit_px
            start = time.process_time()
            found = optical_flow.measure_flow(rgb, FPS)
            seconds.append(time.process_time() - start)
            luma = np.stack([cv2.cvtColor(frame.numpy(), cv2.COLOR_RGB2GRAY) for frame in rgb[::LAG]])
            changed = np.stack([cv2.absdiff(a, b) > optical_flow._UNEXPLAINED for a, b in pairwise(luma)])
            areas = exact.mean((1, 2))
            active = areas > optical_flow._MIN_AREA
            rows.append({
                "family": family, "seed": seed, "found": found.object_area,
                "exact": float(areas[active].mean()) if active.any() else 0.0,
                "changed": float(changed.mean((1, 2))[active].mean()) if active.any() else 0.0,
                "found_duration": found.object_duration, "exact_duration": float(active.mean()),
            })  # fmt: skip
    moving = [row for row in rows if row["exact"] > 0]
    found, exact, changed = (np.array([row[name] for row in moving]) for name in ("found", "exact", "changed"))
    result = {
        "machine": machine_facts(), "commit": git_commit(), "scenes": len(rows), "moving": len(moving),
        "ratio_to_exact": {"median": float(np.median(found / exact)), "p10": float(np.quantile(found / exact, 0.1)),
                           "p90": float(np.quantile(found / exact, 0.9))},
        "ratio_to_changed_median": float(np.median(found / changed)),
        "mean_abs_error": float(np.abs(found - exact).mean()), "correlation": float(np.corrcoef(found, exact)[0, 1]),
        "false_area_at_rest": float(sum(row["found"] for row in rows if row["exact"] == 0)),
        "duration_mean_abs_error": float(np.mean([abs(r["found_duration"] - r["exact_duration"]) for r in rows])),
        "cpu_ms_per_window": 1e3 * float(np.median(seconds)), "rows": rows,
    }  # fmt: skip
    print(json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
