"""Cameras from pictures alone by COLMAP on the CPU: the option that needs no weights.

It needs texture and parallax: a camera that only turns, or a scene that mostly moves, has no answer, and is told so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from remind.curation.estimators.adapter import Request, WorkerTool
from remind.curation.estimators.contract import ArraySpec, EstimatorError, ResultInfo, read_arrays
from remind.curation.estimators.estimate import EstimatedGeometry, cameras_from_w2c, tool_facts
from remind.errors import InputError

WORKERS = Path(__file__).parent / "workers"
Mapper = Literal["incremental", "global"]
CameraModel = Literal["simple_pinhole", "pinhole", "simple_radial"]
_MIN_FRAMES, _MAX_FRAMES = 3, 1000


class Colmap:
    """COLMAP behind the file contract, in a process apart with bounded time. Use as a context manager.

    Args:
        command: an interpreter with pycolmap and the worker; None takes this interpreter.
        camera_model: shared by all frames; `simple_radial` estimates a distortion too, which is reported in the facts
            and otherwise left out.
        focal_px: if known, in pixels of the pictures, and then kept as it is; None estimates it, which a camera that
            moves straight ahead does not allow.
        mapper: `incremental` adds frame by frame and is the more exact; `global` solves all at once and holds clips
            together where the former breaks, but needs a focal length that is known or well determined.
        overlap: every frame is matched with this many neighbours and with those 2, 4, 8, ... away, 2..100.
        max_side_px: pictures are shrunk to this for finding features, 64..8192.
        max_features: per picture, 100..20000.
        min_registered: least share of the frames that must get a pose, 0..1.
        min_points: least number of points in space that hold the frames together, >= 0. Our choice: 250; where there
            were fewer, paths were off by more than a tenth of their length (experiments/colmap_accuracy).
        seed: of every random choice, 0 <= seed < 2^31.
        timeout_s: for one clip.

    Raises:
        InputError: an option out of range.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        camera_model: CameraModel = "simple_pinhole",
        focal_px: float | None = None,
        mapper: Mapper = "incremental",
        overlap: int = 8,
        max_side_px: int = 1024,
        max_features: int = 2048,
        min_registered: float = 0.5,
        min_points: int = 250,
        seed: int = 0,
        timeout_s: float = 600.0,
    ):
        if not (2 <= overlap <= 100 and 64 <= max_side_px <= 8192 and 100 <= max_features <= 20_000):
            raise InputError("a COLMAP option is out of range", got=(overlap, max_side_px, max_features),
                             expected="overlap 2..100, max_side_px 64..8192, max_features 100..20000")  # fmt: skip
        if not (0 <= min_registered <= 1 and min_points >= 0 and 0 <= seed < 2**31):
            raise InputError("a COLMAP option is out of range", got=(min_registered, min_points, seed),
                             expected="min_registered 0..1, min_points >= 0, seed 0..2^31-1")  # fmt: skip
        if focal_px is not None and not 1 <= focal_px <= 1e5:
            raise InputError("this is no focal length", got=focal_px, expected="pixels, 1..100000")
        self.min_registered, self.min_points = min_registered, min_points
        self._mapper = mapper
        self._parameters = {
            "camera_model": camera_model.upper(),
            "focal_px": focal_px,
            "mapper": mapper,
            "overlap": overlap,
            "max_side_px": max_side_px,
            "max_features": max_features,
            "seed": seed,
        }
        default = (sys.executable, str(WORKERS / "colmap_worker.py"))
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._tool = WorkerTool(default if command is None else command, timeout_s=timeout_s, env=one_thread)

    def __enter__(self) -> Colmap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tool.close()

    def estimate(self, rgb: UInt8[Tensor, "t h w 3"]) -> EstimatedGeometry:
        """Poses and one pair of focal lengths for a clip; no depth. Frames that found no place are not valid.

        Raises:
            EstimatorSetupError: pycolmap is missing.
            EstimatorError: no reconstruction, too few frames in it, a crash or too long a time.
        """
        frames, height, width, _ = rgb.shape
        if not _MIN_FRAMES <= frames <= _MAX_FRAMES:
            raise InputError("poses cannot be estimated from this many frames", got=frames,
                             expected=f"{_MIN_FRAMES}..{_MAX_FRAMES}")  # fmt: skip

        def read(folder: Path, info: ResultInfo) -> EstimatedGeometry:
            found = read_arrays(folder, {
                "w2c": ArraySpec("float64", (frames, 3, 4)),
                "intrinsics_px": ArraySpec("float64", (frames, 4)),
                "pose_valid": ArraySpec("bool", (frames,)),
            })  # fmt: skip
            valid = found["pose_valid"]
            facts = {**tool_facts(info), "mapper": self._mapper,
                     "anchor_frame": float(valid.argmax())}  # fmt: skip
            if valid.sum() < max(2, self.min_registered * frames):
                raise EstimatorError("too few frames found a place in the reconstruction",
                                     got=f"{int(valid.sum())} of {frames}",
                                     expected=f"at least {self.min_registered:.0%}")  # fmt: skip
            if float(facts["points"]) < self.min_points:
                raise EstimatorError("the reconstruction hangs on too few points", got=f"{facts['points']:.0f}",
                                     expected=f"at least {self.min_points}")  # fmt: skip
            cameras = cameras_from_w2c(found["w2c"], found["intrinsics_px"], (height, width), valid)
            return EstimatedGeometry(cameras, None, None, "relative", facts)

        return self._tool.run(Request("poses", self._parameters, rgb=np.ascontiguousarray(rgb.numpy())), read)


def estimate_poses(
    rgb: UInt8[Tensor, "t h w 3"],
    fps: float,
    *,
    camera_model: CameraModel = "simple_pinhole",
    focal_px: float | None = None,
    mapper: Mapper = "incremental",
    min_registered: float = 0.5,
    seed: int = 0,
    timeout_s: float = 600.0,
) -> EstimatedGeometry:
    """Poses of one clip by COLMAP in a process of its own; for many clips keep a `Colmap`.

    Args:
        fps: frames within half a second are matched with each other, > 0.

    Raises:
        EstimatorError: as `Colmap.estimate`.
    """
    if not fps > 0:
        raise InputError("the frame rate must be positive", got=fps, expected="e.g. 16")
    overlap = min(100, max(2, round(fps / 2)))
    with Colmap(camera_model=camera_model, focal_px=focal_px, mapper=mapper, overlap=overlap,
                min_registered=min_registered, seed=seed, timeout_s=timeout_s) as colmap:  # fmt: skip
        return colmap.estimate(rgb)
