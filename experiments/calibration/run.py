"""Measure the codec's own error on validation scenes: the limits that plausibility and coherence are judged by.

    python experiments/calibration/run.py --size-px 32 --out src/remind/assets/calibration-32.json
"""

from __future__ import annotations

from pathlib import Path

import torch
import tyro

from remind.data.world_clips import HIDING_KINDS, VALIDATION_SEEDS, make_world_clip
from remind.evaluation.calibration import calibrate
from remind.models.codec import LinearCodec
from remind.world import FAMILIES


def main(out: Path, size_px: int = 32, clips_per_family: int = 5) -> None:
    torch.set_num_threads(1)
    codec = LinearCodec.load()
    families = sorted(FAMILIES)
    start = VALIDATION_SEEDS.start + 500_000
    cases = [
        make_world_clip(start + i, hw=(size_px, size_px), family=families[i % len(families)],
                        kind=HIDING_KINDS[(i // len(families)) % len(HIDING_KINDS)])
        for i in range(clips_per_family * len(families))
    ]
    calibration = calibrate(cases, lambda rgb: codec.decode(codec.encode(rgb[None]))[0])
    calibration.save(out)
    print(calibration)


if __name__ == "__main__":
    tyro.cli(main)
