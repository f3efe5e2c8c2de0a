"""Codec speed on one core, beside the bare matrix products it cannot do without.

    python benchmarks/codec.py --out benchmarks/results/codec.json
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro

from remind.data.world_clips import VALIDATION_SEEDS, make_world_clip
from remind.models.codec import LinearCodec, psnr_db
from remind.training.launch import git_commit, machine_facts


def best_seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """Shortest of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main(out: Path | None = None, clips: int = 66) -> None:
    torch.set_num_threads(1)
    codec = LinearCodec.load()
    result: dict[str, object] = {"machine": machine_facts(), "commit": git_commit(), "threads": 1}
    for size in (32, 64):
        held_out = [make_world_clip(VALIDATION_SEEDS.start + i, hw=(size, size)) for i in range(clips)]
        clean, degraded = (torch.stack([getattr(c, n).rgb for c in held_out]) for n in ("clean", "degraded"))
        rgb = degraded[:16]
        latents = codec.encode(rgb)
        frames = rgb.shape[0] * rgb.shape[1]
        blocks = torch.randn(frames // 4 * (size // 8) ** 2, 768)
        floor = best_seconds(lambda b=blocks: b @ codec.tensors["rest.encode"].T)
        encode = best_seconds(lambda x=rgb: codec.encode(x))
        decode = best_seconds(lambda z=latents: codec.decode(z))
        result[f"{size}px"] = {
            "encode_frames_per_s": round(frames / encode), "decode_frames_per_s": round(frames / decode),
            "gemm_alone_frames_per_s": round(frames / floor), "encode_share_of_gemm": round(floor / encode, 3),
            "psnr_db_clean": round(psnr_db(clean, codec.decode(codec.encode(clean))), 2),
            "psnr_db_degraded": round(psnr_db(degraded, codec.decode(codec.encode(degraded))), 2),
            "clips": clips,
        }
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
