"""Cameras that a source gives with a video: load them in any format, and settle in which direction they point."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from remind.camera_io import (
    CameraTrack,
    read_cameras_npz,
    read_intrinsics_npy,
    read_matrix_npy,
    read_quaternion_npy,
    read_realestate10k,
    read_transforms_json,
)
from remind.curation.camera_check import CameraVerdict
from remind.curation.item import CameraFormat, CameraRef
from remind.errors import CameraError
from remind.geometry import PoseReading

# Formats that do not say which way their poses map: nothing is believed of them until the pictures decide.
UNDECLARED: frozenset[CameraFormat] = frozenset({"quaternion_npy"})


def load_cameras(ref: CameraRef, *, hw: tuple[int, int], fps: int | float, origin_s: float = 0.0) -> CameraTrack:
    """The cameras of a source's item, on the clock of its video, whose first frame is at 0 s.

    Poses of an undeclared direction are taken for c2w until `settle_direction` has looked at the verdict.

    Args:
        ref: where they are and how they are written.
        hw: size of the video's pictures; intrinsics are rescaled to it.
        fps: of the video, > 0, for formats that carry no times.
        origin_s: time on the cameras' own clock at which the video begins (`facts["camera_origin_s"]` of an item).

    Raises:
        CameraError: cameras that are missing, damaged or impossible.
    """
    path = Path(ref.path)
    match ref.format:
        case "store_npz":
            return read_cameras_npz(path, fps=fps).resized(hw)
        case "dl3dv":
            return read_transforms_json(path, fps=fps, hw=hw)
        case "realestate10k":
            return read_realestate10k(path, hw=hw, origin_s=origin_s)
        case "quaternion_npy":
            intrinsics = _intrinsics(ref, hw, normalised=True)
            return read_quaternion_npy(path, intrinsics, hw=hw, fps=fps, stride=ref.stride, reading="c2w")
        case "c2w_npy" | "w2c_npy":
            reading: PoseReading = "c2w" if ref.format == "c2w_npy" else "w2c"
            intrinsics = _intrinsics(ref, hw, normalised=False)
            return read_matrix_npy(path, intrinsics, hw=hw, fps=fps, stride=ref.stride, reading=reading)


def settle_direction(track: CameraTrack, verdict: CameraVerdict, declared: CameraFormat) -> CameraTrack:
    """The track as the pictures say that it must be read.

    Our choice: a declared direction stands unless the pictures contradict it, an undeclared one only if they decide
    it. A declared direction that is wrong is refused and not mended, since then nothing else in the file is sure.

    Raises:
        CameraError: the pictures contradict the cameras, or cannot decide how to read them.
    """
    if verdict.outcome == "contradicted":
        raise CameraError("the cameras do not fit the pictures in any reading", got=verdict.reason,
                          fix="check that poses, intrinsics and times belong to this video")  # fmt: skip
    if declared in UNDECLARED:
        if verdict.reading is None:
            raise CameraError("the pictures do not decide in which direction the poses map", got=verdict.reason,
                              fix="state it, by writing the poses as c2w_npy or w2c_npy")  # fmt: skip
        return track.read_as(verdict.reading)
    if verdict.outcome != "undecided" and "c2w" not in verdict.fits:
        raise CameraError("the cameras fit the pictures only in another convention than declared", got=verdict.reason,
                          expected=f"what {declared} says", fix="declare the right format")  # fmt: skip
    return track


def _intrinsics(ref: CameraRef, hw: tuple[int, int], *, normalised: bool) -> Float[Tensor, "m 4"]:
    if not ref.intrinsics_path:
        raise CameraError(f"{ref.format} needs a file of intrinsics beside the poses", got=ref.path)
    return read_intrinsics_npy(Path(ref.intrinsics_path), hw=hw, normalised=normalised)
