"""Cameras and depth by Depth Anything 3, which lives in an environment of its own (ReMind Sec. 3.1).

Its weights have licences of their own: SMALL and BASE are Apache-2.0, LARGE and GIANT CC BY-NC; the one that was used
is in the facts of every estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from remind.curation.estimators.adapter import Request, WorkerTool
from remind.curation.estimators.contract import ArraySpec, EstimatorError, Handshake, ResultInfo, read_arrays
from remind.curation.estimators.estimate import EstimatedGeometry, cameras_from_w2c, depth_of, tool_facts
from remind.errors import InputError

_MAX_FRAMES = 1000


class DepthAnything3:
    """Depth Anything 3 behind the file contract. Use as a context manager: the weights stay loaded until it ends.

    Args:
        command: interpreter of its environment and `workers/depth_anything3_worker.py`.
        model: name on the hub or folder on the worker's machine.
        process_res: longest side that the model sees, a multiple of 14, 56..2016.
        device: as torch names it, in the worker.
        timeout_s: for one clip; the first one also loads the weights.

    Raises:
        InputError: an option out of range.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        model: str = "depth-anything/DA3-BASE",
        process_res: int = 504,
        device: str = "cuda",
        timeout_s: float = 900.0,
        start_timeout_s: float = 60.0,
    ):
        if process_res % 14 or not 56 <= process_res <= 2016:
            raise InputError("Depth Anything 3 works in patches of 14", got=process_res,
                             expected="a multiple of 14, 56..2016")  # fmt: skip
        self.process_res = process_res
        self._parameters = {"model": model, "process_res": process_res, "device": device}
        self._tool = WorkerTool(command, timeout_s=timeout_s, start_timeout_s=start_timeout_s)

    def __enter__(self) -> DepthAnything3:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tool.close()

    def handshake(self) -> Handshake:
        """Which worker answers; loads no weights. Raises as `estimate`."""
        return self._tool.handshake()

    def estimate(self, rgb: UInt8[Tensor, "t h w 3"]) -> EstimatedGeometry:
        """Cameras and depth of a clip, both at the model's own resolution, anchored at frame 0, of relative scale.

        The model sees the whole picture, its longest side brought to `process_res` and both sides rounded to multiples
        of 14; depth is left at that size (`EstimatedGeometry.resized` brings it to another).

        Raises:
            EstimatorSetupError: the tool or its weights are missing, or of another version.
            EstimatorError: it crashed, took too long, or answered what is no geometry.
        """
        frames, height, width, _ = rgb.shape
        if not 1 <= frames <= _MAX_FRAMES:
            raise InputError("geometry cannot be estimated from this many frames", got=frames,
                             expected=f"1..{_MAX_FRAMES}")  # fmt: skip

        def read(folder: Path, info: ResultInfo) -> EstimatedGeometry:
            limit = frames * (self.process_res + 14) ** 2
            found = read_arrays(folder, {
                "depth": ArraySpec("float32", (frames, None, None), limit),
                "conf": ArraySpec("float32", (frames, None, None), limit, optional=True),
                "w2c": ArraySpec("float64", (frames, 3, 4)),
                "intrinsics_px": ArraySpec("float64", (frames, 4)),
            })  # fmt: skip
            hw = (int(found["depth"].shape[1]), int(found["depth"].shape[2]))
            _check_size(hw, (height, width), self.process_res)
            conf = found.get("conf")
            if conf is not None and conf.shape != found["depth"].shape:
                raise EstimatorError("depth and its confidence differ in size", got=conf.shape, expected=hw)
            cameras = cameras_from_w2c(found["w2c"], found["intrinsics_px"], hw, np.ones(frames, bool))
            facts = {**tool_facts(info), "process_res": float(self.process_res)}
            return EstimatedGeometry(
                cameras,
                depth_of(found["depth"], what="depth"),
                None if conf is None else depth_of(conf, what="confidence"),
                "relative",
                facts,
            )

        return self._tool.run(Request("geometry", self._parameters, rgb=np.ascontiguousarray(rgb.numpy())), read)


def _check_size(got: tuple[int, int], picture: tuple[int, int], process_res: int) -> None:
    """The picture scaled so that its longest side is `process_res`, within the rounding to patches.

    Raises:
        EstimatorError: another size, so that intrinsics and depth would belong to another crop.
    """
    scale = process_res / max(picture)
    expected = (picture[0] * scale, picture[1] * scale)
    if any(abs(a - b) > 14 for a, b in zip(got, expected, strict=True)):
        raise EstimatorError("the tool's depth has another shape than the picture", got=got,
                             expected=f"about {tuple(round(side) for side in expected)}")  # fmt: skip
