"""Building memory clips against PyAV's bare decode rate in the same run, and how it scales to two workers.

    python benchmarks/curation.py --out benchmarks/results/curation.json
    python benchmarks/curation.py --videos FOLDER           # with videos of your own instead of rendered ones

*Share of decoding*: seconds that PyAV takes to decode the videos with one thread, without even turning pictures to RGB,
over those of a whole build in one process. *Share of the floor*: with the seconds added that x264 takes to encode the
clips, their frames ready: no build could do with less. Decoding and building take turns; medians. Imports are done
before.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import av
import torch
import tyro

from remind.curation import pipeline, window_work
from remind.curation import scan as scan_module
from remind.curation.blobs import Blobs
from remind.curation.motion_policy import MotionPolicy
from remind.curation.options import BuildOptions
from remind.curation.pipeline import build_store
from remind.curation.scan import Window, scan
from remind.data.cuts import CutDetector
from remind.data.video_io import Picture, YuvFrames, decode_all, encode_yuv_mp4, reading, write_video
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


def bare_decode(files: list[Path]) -> int:
    """Pictures that PyAV decodes with one thread."""
    pictures = 0
    for path in files:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            pictures += sum(1 for _ in container.decode(video=0))
    return pictures


def bare_encode(files: list[Path], options: BuildOptions) -> tuple[int, float]:
    """Frames of all windows, and seconds of encoding them alone."""
    frames, seconds = 0, 0.0

    def encode(window: Window, pictures: YuvFrames) -> None:
        nonlocal frames, seconds
        start = time.perf_counter()
        encode_yuv_mp4(pictures, options.fps, crf=options.crf)
        frames, seconds = frames + len(pictures), seconds + time.perf_counter() - start

    for path in files:
        scan(path, options.scan, encode)
    return frames, seconds


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gives, seconds on the wall, seconds of the processor: more of these would be hidden threads."""
    wall, processor = time.perf_counter(), time.process_time()
    return call(), time.perf_counter() - wall, time.process_time() - processor


def measure(folder: Path, hw: tuple[int, int], files: list[Path], rounds: int) -> dict[str, Any]:
    """Builds in this process and decoding, in turns."""
    options = BuildOptions(hw=hw, motion=KEEP_ALL)
    decode, build, again, processor = [], [], [], []
    with tempfile.TemporaryDirectory() as work:
        build_store(files[0], Path(work) / "warm", options)
        for number in range(rounds):
            store = Path(work) / str(number)
            pictures, decode_s, decode_processor_s = timed(lambda: bare_decode(files))
            report, build_s, build_processor_s = timed(lambda store=store: build_store(folder, store, options))
            decode.append(decode_s)
            build.append(build_s)
            processor.append(decode_processor_s / build_processor_s)
            again.append(timed(lambda store=store: build_store(folder, store, options))[1])
        size = sum(path.stat().st_size for path in (store / "shards").iterdir())
    frames, encode_s = bare_encode(files, options)
    shares = [d / b for d, b in zip(decode, build, strict=True)]
    floor = [(d + encode_s) / b for d, b in zip(decode, build, strict=True)]
    seconds = median(build)
    return {
        "clips": report.kept, "pictures": pictures, "seconds": round(seconds, 2),
        "clips_per_minute": round(60 * report.kept / seconds, 1), "pictures_per_s": round(pictures / seconds, 1),
        "decode_pictures_per_s": round(pictures / median(decode), 1),
        "encode_frames_per_s": round(frames / encode_s, 1),
        "share_of_decoding": round(median(shares), 3), "share_of_decoding_by_round": [round(s, 3) for s in shares],
        "share_of_decoding_processor_time": round(median(processor), 3),
        "share_of_floor": round(median(floor), 3), "rerun_seconds": round(median(again), 2),
        "bytes_per_clip": round(size / report.kept),
    }  # fmt: skip


def parts(folder: Path, hw: tuple[int, int]) -> dict[str, float]:
    """Where the time of a build goes: seconds of one, by part."""
    spent: dict[str, float] = {}

    def watch(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] = spent.get(part, 0.0) + time.perf_counter() - start

        return call

    def pictures(*args: Any, **kwargs: Any) -> Iterator[Any]:
        part = "decode the clips again" if isinstance(args[2], bytes) else "decode the videos"
        following = watch(part, really(*args, **kwargs).__next__)
        with suppress(StopIteration):
            while True:
                yield following()

    really = reading._pictures
    with ExitStack() as stack, tempfile.TemporaryDirectory() as work:
        stack.enter_context(patch.object(reading, "_pictures", pictures))
        for owner, name, part in (
            (Picture, "thumbnail", "make small for cuts and motion"), (Picture, "write_yuv", "scale and crop"),
            (CutDetector, "is_cut", "cuts"), (scan_module, "_measure", "fades, motion, flow"),
            (window_work, "encode_yuv_mp4", "encode"), (Blobs, "put", "hash and write files"),
            (pipeline, "pack_clips", "pack"),
        ):  # fmt: skip
            stack.enter_context(patch.object(owner, name, watch(part, getattr(owner, name))))
        options = BuildOptions(hw=hw, motion=KEEP_ALL)
        _, seconds, _ = timed(lambda: build_store(folder, Path(work) / "store", options))
    spent["all else"] = seconds - sum(spent.values())
    return {part: round(value, 2) for part, value in spent.items()}


def scaling(files: list[Path], copies: int = 8) -> dict[str, float]:
    """Seconds of a build of many videos with one and with two worker processes, and those of one that does nothing."""
    seconds = {}
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "videos"
        source.mkdir()
        for path in files:
            for copy in range(copies):
                # An empty box at the end: another content, since one is worked on once, but the same video.
                free = b"\0\0\0\x0cfree" + copy.to_bytes(4, "big")
                (source / f"{copy}-{path.name}").write_bytes(path.read_bytes() + free)
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


def main(out: Path | None = None, videos: Path | None = None, count: int = 6, rounds: int = 5) -> None:
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
            "64x64": measure(folder, (64, 64), files, rounds), "480x832": measure(folder, (480, 832), files, rounds),
            "seconds_by_part": {"64x64": parts(folder, (64, 64)), "480x832": parts(folder, (480, 832))},
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
