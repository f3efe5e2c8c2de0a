"""Runs in VBench's own environment, by its path, and imports nothing of this project: measures one dimension.

    python vbench_worker.py DIMENSION TASKS VIDEOS OUT RATIO DEVICE

Writes OUT/DIMENSION_eval_results.json. The pictures are read relative to the working folder, VBench's checkout.
"""

from __future__ import annotations

import sys


def main(dimension: str, tasks: str, videos: str, out: str, ratio: str, device: str) -> None:
    """Call the official evaluation as its own script does."""
    import torch
    from vbench2_beta_i2v import VBenchI2V

    VBenchI2V(torch.device(device), tasks, out).evaluate(
        videos_path=videos, name=dimension, dimension_list=[dimension], resolution=ratio,
        imaging_quality_preprocessing_mode="longer",
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
