"""Poses in a JSON file of our own: a convention, a matrix a frame, and a lens if it is known. Small enough to write by
hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from remind.camera_io.files import naming, read_bytes
from remind.camera_io.track import MAX_POSES, MAX_SIDE_PX, check_poses
from remind.errors import CameraError
from remind.geometry import PoseReading, to_opencv_c2w

Number = Annotated[float, Field(allow_inf_nan=False)]
Four = Annotated[list[Number], Field(min_length=4, max_length=4)]
Matrix = Annotated[list[Four], Field(min_length=3, max_length=4)]
Matrices = Annotated[list[Matrix], Field(min_length=1, max_length=MAX_POSES)]
Focal = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Lens = tuple[Focal, Focal, Number, Number]
_BOTTOM_ROW = [0.0, 0.0, 0.0, 1.0]


class _Poses(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    convention: PoseReading
    poses: Matrices
    fov_deg: Annotated[float, Field(ge=5, le=170)] | None = None
    intrinsics_px: Lens | None = None
    hw: tuple[Annotated[int, Field(ge=1, le=MAX_SIDE_PX)], Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]] | None = None


@dataclass(frozen=True)
class PoseFile:
    """What such a file says.

    Args:
        c2w: OpenCV camera-to-world, one a frame, not anchored.
        intrinsics_px: fx, fy, cx, cy in pixels of `hw`, or None.
        hw: what they belong to.
        fov_deg: horizontal field of view instead, or None.
    """

    c2w: Float[Tensor, "n 4 4"]
    intrinsics_px: Float[Tensor, "4"] | None
    hw: tuple[int, int] | None
    fov_deg: float | None


def read_pose_json(path: Path, *, convention: PoseReading | None = None) -> PoseFile:
    """`{"convention": "c2w", "poses": [matrix, ...], "fov_deg": 55}`, or a bare list of matrices.

    A matrix has 4 or 3 rows of 4 numbers. `intrinsics_px` with `hw` may stand instead of `fov_deg`.

    Args:
        convention: of a bare list, which does not say; a file that says otherwise is refused.

    Raises:
        CameraError: no such file, not JSON of this shape, no convention or two, a matrix that is no pose.
    """
    data = read_bytes(path)
    try:
        if data.lstrip()[:1] == b"[":
            if convention is None:
                raise CameraError(f"{path.name}: a bare list of poses does not say what they mean",
                                  expected='{"convention": "c2w", "poses": [...]}',
                                  fix="say it in the file, or give the convention beside it")  # fmt: skip
            model = _Poses(convention=convention, poses=TypeAdapter(Matrices).validate_json(data))
        else:
            model = _Poses.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CameraError(f"{path.name}: no poses in a form that is known", got=f"{where}: {first['msg']}",
                          expected='{"convention": "c2w", "poses": [...]}, or a transforms.json') from None  # fmt: skip
    if convention is not None and convention != model.convention:
        raise CameraError(f"{path.name}: the file says another convention", got=convention, expected=model.convention)
    if (model.intrinsics_px is None) != (model.hw is None) or (model.hw is not None and model.fov_deg is not None):
        raise CameraError(f"{path.name}: a lens is intrinsics_px with hw, or fov_deg",
                          got=[k for k in ("intrinsics_px", "hw", "fov_deg") if getattr(model, k) is not None])
    with naming(path.name):
        matrices = [matrix if len(matrix) == 4 else [*matrix, _BOTTOM_ROW] for matrix in model.poses]
        poses = torch.tensor(matrices, dtype=torch.float64)
        check_poses(poses)
    lens = None if model.intrinsics_px is None else torch.tensor(model.intrinsics_px, dtype=torch.float64)
    return PoseFile(to_opencv_c2w(poses, model.convention), lens, model.hw, model.fov_deg)


def is_transforms_json(path: Path) -> bool:
    """Whether a JSON file is of nerfstudio's kind, by its `frames`.

    Raises:
        CameraError: no such file, or not JSON.
    """
    try:
        read = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CameraError(f"{path.name}: not JSON", got=str(error)[:120]) from None
    return isinstance(read, dict) and "frames" in read
