"""Cameras of DL3DV, nerfstudio and instant-ngp: `transforms.json`, camera-to-world with OpenGL's axes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from remind.camera_io.files import check_rate, naming, read_bytes, write_whole
from remind.camera_io.track import MAX_POSES, MAX_SIDE_PX, CameraTrack, check_poses
from remind.errors import CameraError
from remind.geometry import to_opencv_c2w

# Radial distortion of a phone's main camera is below this; a fisheye lens is far above.
MAX_DISTORTION = 0.03
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV")

Number = Annotated[float, Field(allow_inf_nan=False)]
Side = Annotated[float, Field(ge=1, le=MAX_SIDE_PX)]
Row = Annotated[list[Number], Field(min_length=4, max_length=4)]


class _Lens(BaseModel):
    """What nerfstudio writes for all frames or for one; a frame's own value counts."""

    model_config = ConfigDict(frozen=True, strict=True)  # these files carry many fields of other programs

    w: Side | None = None
    h: Side | None = None
    fl_x: Number | None = None
    fl_y: Number | None = None
    cx: Number | None = None
    cy: Number | None = None
    camera_angle_x: Number | None = None
    camera_model: str | None = None
    k1: Number | None = None
    k2: Number | None = None
    k3: Number | None = None
    k4: Number | None = None
    p1: Number | None = None
    p2: Number | None = None


class _Frame(_Lens):
    file_path: Annotated[str, Field(min_length=1, max_length=1000)]
    transform_matrix: Annotated[list[Row], Field(min_length=3, max_length=4)]


class _Transforms(_Lens):
    frames: Annotated[list[_Frame], Field(min_length=1, max_length=MAX_POSES)]


def transforms_names(path: Path) -> tuple[str, ...]:
    """The pictures that have poses, as the file names them, in the order of the video: that of their names.

    Raises:
        CameraError: no such file, or not JSON of this shape.
    """
    return tuple(frame.file_path for frame in _load(path).frames)


def read_transforms_json(
    path: Path, *, fps: int | float, hw: tuple[int, int] | None = None, max_distortion: float = MAX_DISTORTION
) -> CameraTrack:
    """OpenGL camera-to-world matrices as an OpenCV track, in the order of `transforms_names`.

    Args:
        fps: of the video that the pictures make, > 0; picture k is shown at k / fps.
        hw: real size of the pictures where they were resized since; the intrinsics follow.
        max_distortion: refuse lenses that shift some pixel by more than this share of the width, >= 0. Less is not
            undone, but said in `CameraTrack.ignored_distortion`.

    Raises:
        CameraError: no such file, not JSON of this shape, a matrix that is no pose, no or impossible intrinsics, a
            lens that is not a pinhole with a little distortion.
    """
    transforms = _load(path)
    with naming(path.name):
        check_rate(fps)
        poses = torch.stack([_pose(frame) for frame in transforms.frames])
        check_poses(poses)
        lenses = [_lens(transforms.model_copy(update=_own(frame))) for frame in transforms.frames]
        intrinsics, sizes, distortions = zip(*lenses, strict=True)
        if len(set(sizes)) > 1:
            raise CameraError("pictures of several sizes make no video", got=sorted(set(sizes))[:4])
        if not max(distortions) <= max_distortion:
            raise CameraError("the lens distorts too much to be taken for a pinhole",
                              got=f"shifts of {max(distortions):.1%} of the width",
                              expected=f"at most {max_distortion:.1%}", fix="undistort the pictures")  # fmt: skip
        times = torch.arange(len(poses), dtype=torch.float64) / fps
        c2w = to_opencv_c2w(poses, "c2w_opengl")
        track = CameraTrack(c2w, torch.stack(intrinsics), sizes[0], times, max(distortions))
        return track if hw is None else track.resized(hw)


def write_transforms_json(path: Path, track: CameraTrack, names: Sequence[str]) -> None:
    """For nerfstudio and its kin; times are lost.

    Args:
        names: of the pictures; they must sort in the order of the poses.

    Raises:
        CameraError: names that do not fit the poses, or a place that cannot be written.
    """
    if len(names) != len(track) or sorted(set(names), key=_natural) != list(names):
        raise CameraError("pictures do not fit the poses", got=f"{len(names)} names",
                          expected=f"{len(track)} different names, in order")  # fmt: skip
    gl_c2w = to_opencv_c2w(track.c2w, "c2w_opengl")  # the change of axes is its own inverse
    frames = [
        {"file_path": name, "transform_matrix": pose, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
        for name, pose, (fx, fy, cx, cy) in zip(names, gl_c2w.tolist(), track.intrinsics_px.tolist(), strict=True)
    ]
    model = {"camera_model": "PINHOLE", "w": track.hw[1], "h": track.hw[0], "frames": frames}
    write_whole(path, json.dumps(model, indent=1).encode())


def _load(path: Path) -> _Transforms:
    try:
        transforms = _Transforms.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CameraError(f"{path.name}: not cameras of nerfstudio's kind", got=f"{where}: {first['msg']}") from None
    frames = sorted(transforms.frames, key=lambda frame: _natural(frame.file_path))
    for one, other in pairwise(frames):
        if one.file_path == other.file_path:
            raise CameraError(f"{path.name}: two poses for one picture", got=one.file_path)
    return transforms.model_copy(update={"frames": frames})


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts `frame_9` before `frame_10`; the name itself settles `1` and `01`."""
    parts = re.split(r"([0-9]{1,18})", name)
    return (*((int(part), "") if part.isdecimal() and part.isascii() else (-1, part) for part in parts), (-1, name))


def _own(frame: _Frame) -> dict[str, object]:
    return {name: value for name in _Lens.model_fields if (value := getattr(frame, name)) is not None}


def _pose(frame: _Frame) -> Float[Tensor, "4 4"]:
    rows = frame.transform_matrix
    return torch.tensor(rows if len(rows) == 4 else [*rows, [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)


def _lens(lens: _Lens) -> tuple[Float[Tensor, "4"], tuple[int, int], float]:
    """Intrinsics, the size that they belong to, and the largest shift by distortion as a share of the width."""
    if lens.camera_model is not None and lens.camera_model not in _PINHOLES:
        raise CameraError("not a pinhole camera", got=lens.camera_model[:40], expected=" or ".join(_PINHOLES))
    if lens.w is None or lens.h is None or (lens.fl_x is None and lens.camera_angle_x is None):
        raise CameraError("intrinsics are missing", expected="w, h and fl_x or camera_angle_x")
    if lens.fl_x is None and not 0 < (lens.camera_angle_x or 0) < math.pi:
        raise CameraError("no such field of view", got=f"{lens.camera_angle_x} rad", expected="0..pi")
    fx = lens.fl_x if lens.fl_x is not None else lens.w / (2 * math.tan((lens.camera_angle_x or 0) / 2))
    fy = fx if lens.fl_y is None else lens.fl_y
    cx, cy = lens.w / 2 if lens.cx is None else lens.cx, lens.h / 2 if lens.cy is None else lens.cy
    if not (fx > 0 and fy > 0):
        raise CameraError("focal lengths must be positive", got=(fx, fy))
    intrinsics = torch.tensor([fx, fy, cx, cy], dtype=torch.float64)
    return intrinsics, (round(lens.h), round(lens.w)), _largest_shift(lens, intrinsics)


def _largest_shift(lens: _Lens, intrinsics: Float[Tensor, "4"]) -> float:
    """OpenCV's polynomial at the corners and the middles of the edges, where it is largest."""
    k1, k2, k3, k4, p1, p2 = (getattr(lens, name) or 0.0 for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if not any((k1, k2, k3, k4, p1, p2)):
        return 0.0
    assert lens.w is not None
    assert lens.h is not None
    fx, fy, cx, cy = intrinsics.tolist()
    largest = 0.0
    for x in ((0 - cx) / fx, 0.0, (lens.w - cx) / fx):
        for y in ((0 - cy) / fy, 0.0, (lens.h - cy) / fy):
            r2 = x * x + y * y
            radial = r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
            shift_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
            shift_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
            largest = max(largest, math.hypot(shift_x * fx, shift_y * fy) / lens.w)
    return largest
