"""Building memory clips against PyAV's bare decode rate in the same run, and how it scales to two workers.

    python benchmarks/curation.py --out benchmarks/results/curation.json
    python benchmarks/curation.py --videos FOLDER           # with videos of your own instead of rendered ones

*Share of decoding*: pictures per second and core of a whole build over those of decoding alone, without even turning
pictures to RGB.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import torch
import tyro

from remind.curation.motion_policy import MotionPolicy
from remind.curation.options import BuildOptions
from remind.curation.pipeline import build_store
from remind.data.video_io import decode_all, write_video
from remind.training.launch import git_commit, machine_facts
from remind.world import sample_scene
from remind.world.clutter import add_clutter

HW, FPS, FRAMES = (480, 854), 24, 280
KEEP_ALL = MotionPolicy(0.0, 0.0, 0.0, 0.0)


def render(folder: Path, count: int) -> None:
    """Videos of 480 lines with texture and noise: plain rooms alone would decode faster than anything filmed."""
    for seed in range(count):
        scene = add_clutter(sample_scene(seed, num_frames=70, hw=HW), count=60)
        rgb = scene.render_rgb(samples=1).repeat_interleave(FRAMES // 70, 0)
        noise = torch.randint(-6, 7, (8, *HW, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.int16)
        for t in range(len(rgb)):
            rgb[t] = (rgb[t].to(torch.int16) + noise[t % 8]).clamp(0, 255).to(torch.uint8)
        write_video(folder / f"{seed}.mp4", rgb, FPS, crf=23)


def bare_decode(files: list[Path]) -> tuple[int, float]:
    """Pictures, and seconds that PyAV takes to decode them with one thread."""
    pictures, start = 0, time.perf_counter()
    for path in files:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            pictures += sum(1 for _ in container.decode(video=0))
    return pictures, time.perf_counter() - start


def measure(folder: Path, hw: tuple[int, int], files: list[Path]) -> dict[str, Any]:
    """One build in this process, between two rounds of decoding."""
    options = BuildOptions(hw=hw, motion=KEEP_ALL)
    with tempfile.TemporaryDirectory() as work:
        pictures, before = bare_decode(files)
        start = time.perf_counter()
        report = build_store(folder, Path(work) / "store", options)
        seconds = time.perf_counter() - start
        _, after = bare_decode(files)
        start = time.perf_counter()
        build_store(folder, Path(work) / "store", options)
        again = time.perf_counter() - start
    decode_s = (before + after) / 2
    return {
        "clips": report.kept, "pictures": pictures, "seconds": round(seconds, 2),
        "clips_per_minute": round(60 * report.kept / seconds, 1), "pictures_per_s": round(pictures / seconds, 1),
        "decode_pictures_per_s": round(pictures / decode_s, 1), "share_of_decoding": round(decode_s / seconds, 3),
        "rerun_seconds": round(again, 2),
    }  # fmt: skip


def scaling(files: list[Path], copies: int = 8) -> dict[str, float]:
    """Seconds of a build of many videos with one and with two worker processes, and those of one that does nothing."""
    seconds = {}
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "videos"
        source.mkdir()
        for path in files:
            for copy in range(copies):
                (source / f"{copy}-{path.name}").symlink_to(path.resolve())
        for workers in (1, 2):
            out = Path(work) / str(workers)
            start = time.perf_counter()
            build_store(source, out, BuildOptions(motion=KEEP_ALL), engine="pool", workers=workers)
            seconds[workers] = time.perf_counter() - start
        start = time.perf_counter()
        build_store(source, out, BuildOptions(motion=KEEP_ALL), engine="pool", workers=2)
        idle = time.perf_counter() - start
    return {"videos": len(files) * copies, "one_worker_s": round(seconds[1], 2), "two_workers_s": round(seconds[2], 2),
            "speedup": round(seconds[1] / seconds[2], 2), "starting_two_workers_s": round(idle, 2)}  # fmt: skip


def peak_mib(path: Path, hw: tuple[int, int]) -> int:
    """Most memory that a process which builds from one video has held, imports included."""
    code = ("import sys; from pathlib import Path; from remind.curation.motion_policy import MotionPolicy; "
            "from remind.curation.options import BuildOptions; "
            "from remind.curation.pipeline import build_store; h, w = map(int, sys.argv[3:]); "
            "options = BuildOptions(hw=(h, w), motion=MotionPolicy(0, 0, 0, 0)); "
            "build_store(Path(sys.argv[1]), Path(sys.argv[2]), options); "
            "print([l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0])")  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run([sys.executable, "-c", code, str(path), f"{work}/store", *map(str, hw)],
                              capture_output=True, text=True, check=True)  # fmt: skip
    return round(int(done.stdout) / 1024)


def main(out: Path | None = None, videos: Path | None = None, count: int = 6) -> None:
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        if videos is None:
            render(folder, count)
        else:
            for path in videos.rglob("*.mp4"):
                (folder / path.name).symlink_to(path.resolve())
        files = sorted(folder.iterdir())
        bare_decode(files)  # into the page cache
        result: dict[str, Any] = {
            "machine": machine_facts(), "commit": git_commit(),
            "input": {"videos": len(files), "source": "rendered" if videos is None else "given"},
            "64x64": measure(folder, (64, 64), files), "480x832": measure(folder, (480, 832), files),
            "scaling": scaling(files),
        }  # fmt: skip
        long = folder / "long.mp4"
        rgb = decode_all(files[0])[:, ::2, ::2]
        write_video(long, rgb.repeat(4, 1, 1, 1), FPS, crf=23)
        write_video(folder / "short.mp4", rgb, FPS, crf=23)
        result["peak_mib"] = {
            f"{name}, {hw[0]}x{hw[1]}": peak_mib(folder / name, hw)
            for name in ("short.mp4", "long.mp4") for hw in ((64, 64), (480, 832))
        }  # fmt: skip
    finally:
        shutil.rmtree(folder)
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
