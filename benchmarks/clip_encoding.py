"""What x264 is asked for in stored clips: time to write and to read, size, and what is lost, for several ways.

    python benchmarks/clip_encoding.py --videos FOLDER --out benchmarks/results/clip_encoding.json

*PSNR* is over the RGB that a reader gets, against the exact RGB of the same scaled pictures before encoding, crf 18.
*Through RGB* is how clips were stored before: scaled as RGB, then turned back to YUV. Times are of the processor, per
frame, one thread; the least of three.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from curation import render

from remind.data.video_io import (
    YuvFrames,
    decode,
    decode_all,
    empty_planes,
    encode_mp4,
    encode_yuv_mp4,
    probe,
    shown,
    writing,
)
from remind.training.launch import git_commit, machine_facts

FPS, FRAMES, SIZES = 16, 48, ((64, 64), (480, 832))
_PLAIN = f"{writing.SAME_BYTES}:8x8dct=1:analyse=i8x8"
OTHERS = {
    "superfast": {"preset": "superfast", "x264-params": writing.SAME_BYTES},
    "superfast, no CABAC, no deblocking, no AQ": {
        "preset": "superfast", "x264-params": f"{writing.SAME_BYTES}:cabac=0:no-deblock=1:weightp=0:aq-mode=0"},
    "ultrafast": {"preset": "ultrafast", "x264-params": writing.SAME_BYTES},
    "ultrafast, 8x8, quarter pixels": {"preset": "ultrafast", "x264-params": f"{_PLAIN}:subme=1"},
}  # fmt: skip


def per_frame_ms(call: Callable[[], Any], frames: int) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return round(1000 * best / frames, 3)


def psnr(seen: np.ndarray, wanted: np.ndarray) -> float:
    error = np.mean([np.square(a.astype(np.float32) - b).mean() for a, b in zip(seen, wanted, strict=True)])
    return round(float(10 * np.log10(255**2 / max(error, 1e-9))), 2)


def compare(path: Path, hw: tuple[int, int]) -> dict[str, dict[str, float]]:
    """All ways on the first frames of one video."""
    wanted, planes, matrix = [], empty_planes(FRAMES, hw), 1
    for number, picture in enumerate(islice(shown(path, fps=FPS), FRAMES)):
        wanted.append(picture.rgb(hw))
        picture.write_yuv(hw, planes[number])
        matrix = picture.scaler.matrix
    rgb, frames = torch.from_numpy(np.stack(wanted)), YuvFrames(planes[: len(wanted)], hw, matrix)
    ways: dict[str, Callable[[], bytes]] = {"through RGB, small": lambda: encode_mp4(rgb, FPS)}
    for effort in (*writing.EFFORTS, *OTHERS):
        ways[effort] = lambda effort=effort: encode_yuv_mp4(frames, FPS, effort=effort)
    writing.EFFORTS.update(OTHERS)
    found = {}
    for name, encode in ways.items():
        data = encode()
        seen = decode_all(data)[:, : hw[0], : hw[1]].numpy()
        found[name] = {
            "write_ms": per_frame_ms(encode, len(wanted)), "bytes": len(data), "psnr": psnr(seen, rgb.numpy()),
            "read_ms": per_frame_ms(lambda data=data: sum(1 for _ in decode(data)), len(wanted)),
        }  # fmt: skip
    for name in OTHERS:
        del writing.EFFORTS[name]
    return found


def summary(of_videos: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over videos; size and PSNR against the first way, for PSNR the least favourable video too."""
    ways = next(iter(of_videos.values()))
    before = next(iter(ways))
    table = {}
    for way in ways:
        rows = [(found[way], found[before]) for found in of_videos.values()]
        table[way] = {
            "write_ms": round(float(np.mean([row["write_ms"] for row, _ in rows])), 2),
            "read_ms": round(float(np.mean([row["read_ms"] for row, _ in rows])), 2),
            "times_size": round(float(np.mean([row["bytes"] / old["bytes"] for row, old in rows])), 2),
            "psnr_gain_mean": round(float(np.mean([row["psnr"] - old["psnr"] for row, old in rows])), 2),
            "psnr_gain_least": round(min(row["psnr"] - old["psnr"] for row, old in rows), 2),
        }  # fmt: skip
    return table


def main(out: Path | None = None, videos: Path | None = None) -> None:
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        if videos is None:
            render(folder, 2)
        files = sorted((videos or folder).rglob("*.mp4"))
        result: dict[str, Any] = {"machine": machine_facts(), "commit": git_commit(), "frames": FRAMES}
        for hw in SIZES:
            fitting = [p for p in files if videos is None or all(a >= b for a, b in zip(probe(p).hw, hw, strict=True))]
            of_videos = {f"{path.parent.name}/{path.name}": compare(path, hw) for path in fitting}
            result[f"{hw[0]}x{hw[1]}"] = {"summary": summary(of_videos), "videos": of_videos}
    finally:
        shutil.rmtree(folder)
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
