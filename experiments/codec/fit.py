"""Fit the shipped codec on world clips of both sizes and measure it on held-out ones.

    python experiments/codec/fit.py --out src/remind/models/weights/codec-world.safetensors
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import tyro

from remind.data.world_clips import TRAIN_SEEDS, VALIDATION_SEEDS, make_world_clip
from remind.models.codec import LinearCodec, psnr_db


def main(out: Path, num_clips_32: int = 300, num_clips_64: int = 60, num_held_out: int = 40,
         whitening: float = 0.5) -> None:
    torch.set_num_threads(1)

    def videos(seeds: range, size_px: int) -> torch.Tensor:
        clips = [make_world_clip(seed, hw=(size_px, size_px)) for seed in seeds]
        return torch.stack([video for clip in clips for video in (clip.clean.rgb, clip.degraded.rgb)])

    start = TRAIN_SEEDS.stop - 10_000  # far from the seeds that training walks through
    codec = LinearCodec.fit(
        (videos(range(start, start + num_clips_32), 32),
         videos(range(start + num_clips_32, start + num_clips_32 + num_clips_64), 64)),
        whitening=whitening,
    )
    result: dict[str, float | int] = {"whitening": whitening, "clips_32": num_clips_32, "clips_64": num_clips_64}
    for size_px in (32, 64):
        held_out = videos(range(VALIDATION_SEEDS.start, VALIDATION_SEEDS.start + num_held_out), size_px)
        result[f"psnr_db_{size_px}"] = round(psnr_db(held_out, codec.decode(codec.encode(held_out))), 2)
    codec.save(out, {"fit": json.dumps(result), "command": "python experiments/codec/fit.py"})
    print(json.dumps(result | {"digest": codec.digest}))


if __name__ == "__main__":
    tyro.cli(main)
