"""Speaks the contract with the truth that a test gives it, or misbehaves in one named way.

    python geometry_worker.py TRUTH.npz BEHAVIOUR [--contract | --serve]

Runs without ReMind, as a worker in another environment would.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[4] / "src/remind/curation/estimators/workers"))
import worker_loop
from worker_loop import Result, SetupError, main, read_frames

TRUTH, BEHAVIOUR = Path(sys.argv[1]), sys.argv[2]
del sys.argv[1:3]
STARTS = TRUTH.with_suffix(".starts")  # how often this worker was started
SPAWNED = TRUTH.with_suffix(".pid")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(TRUTH.with_suffix(".owned")), "w"))


def handle(task: str, parameters: dict[str, object], folder: Path) -> Result:
    rgb = read_frames(folder)
    with np.load(TRUTH) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    sys.stderr.write(f"looking at {len(rgb)} pictures\n")
    sys.stderr.flush()
    misbehave(folder, arrays)
    facts = {"sha256": hashlib.sha256(rgb.tobytes()).hexdigest(), "parameters": json.dumps(parameters)}
    return Result("truth", "CC0", arrays, facts)


def misbehave(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    if BEHAVIOUR == "hang":
        if os.fork() == 0:  # a child of its own, which must go too
            SPAWNED.write_text(str(os.getpid()))
        time.sleep(60)
    if BEHAVIOUR == "crash_midway":
        (folder / "result.npz").write_bytes(b"PK\x03\x04 half of a resul")
        sys.stderr.write("CUDA error: out of memory\n")
        sys.stderr.flush()
        os._exit(139)
    if BEHAVIOUR == "crash_first" and len(STARTS.read_text()) == 1:
        os.kill(os.getpid(), 9)
    if BEHAVIOUR == "exception":
        raise RuntimeError("the pictures are too dark")
    if BEHAVIOUR == "no_weights":
        raise SetupError("no such weights")
    if BEHAVIOUR == "prints":
        print("Processing... 100%")
        os.system("echo native code prints too")
    if BEHAVIOUR == "garbage_on_stdout":
        os.write(PROTOCOL, b"<html>hello</html>\n")
    if BEHAVIOUR == "flood_on_stdout":
        os.write(PROTOCOL, b"x" * (1 << 20))
    if BEHAVIOUR == "answers_twice":
        os.write(PROTOCOL, 2 * json.dumps({"folder": str(folder), "ok": True}).encode() + b"\n")
    if BEHAVIOUR == "other_folder":
        os.write(PROTOCOL, json.dumps({"folder": "/etc", "ok": True}).encode() + b"\n")
    if BEHAVIOUR == "nan_depth":
        arrays["depth"][1, 2, 3] = np.nan
    if BEHAVIOUR == "negative_depth":
        arrays["depth"][1, 2, 3] = -1
    if BEHAVIOUR == "mirrored":
        arrays["w2c"][:, 0] *= -1
    if BEHAVIOUR == "skewed":
        arrays["w2c"][1, 0, 1] += 0.3
    if BEHAVIOUR == "nan_pose":
        arrays["w2c"][2, 0, 3] = np.nan
    if BEHAVIOUR == "zero_focal":
        arrays["intrinsics_px"][:, 0] = 0
    if BEHAVIOUR == "frame_missing":
        arrays.update({name: value[1:] for name, value in arrays.items()})
    if BEHAVIOUR == "w2c_missing":
        del arrays["w2c"]
    if BEHAVIOUR == "double_depth":
        arrays["depth"] = arrays["depth"].astype(np.float64)
    if BEHAVIOUR == "fortran_depth":
        arrays["depth"] = np.asfortranarray(arrays["depth"])
    if BEHAVIOUR == "pickled":
        arrays["depth"] = np.array([Evil()], dtype=object)
    if BEHAVIOUR == "cropped":
        arrays["depth"] = np.ascontiguousarray(arrays["depth"][:, :, 20:])
        arrays["conf"] = np.ascontiguousarray(arrays["conf"][:, :, 20:])
    if BEHAVIOUR == "endless_array":
        write_header_only(folder, (4, 10**6, 10**6))
        arrays.clear()
    if BEHAVIOUR == "short_array":
        write_header_only(folder, (4, 42, 70))
        arrays.clear()
    if BEHAVIOUR == "no_archive":
        (folder / "result.npz").write_bytes(b"not a zip")
        arrays.clear()
    if BEHAVIOUR == "link":
        np.savez(TRUTH.with_name("elsewhere.npz"), **arrays)
        (folder / "result.npz").symlink_to(TRUTH.with_name("elsewhere.npz"))
        arrays.clear()


def write_header_only(folder: Path, shape: tuple[int, ...]) -> None:
    import io
    import zipfile

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(folder / "result.npz", "w") as archive:
        archive.writestr("depth.npy", header.getvalue())


if __name__ == "__main__":
    with STARTS.open("a") as starts:
        starts.write("x")
    if BEHAVIOUR == "older":
        worker_loop.CONTRACT = 0
    if BEHAVIOUR == "newer":
        worker_loop.CONTRACT = 2
    if BEHAVIOUR == "chatty_start":
        print("Welcome!")
    if BEHAVIOUR == "dies_at_start":
        sys.exit("ImportError: libcudart.so.11 is missing")
    if BEHAVIOUR == "sleeps_at_start":
        time.sleep(60)
    PROTOCOL = os.dup(1)
    tasks = ("something_else",) if BEHAVIOUR == "other_task" else ("geometry",)
    main("stand_in", "1.0", tasks, handle)
