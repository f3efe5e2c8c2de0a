"""Cameras and depth of one window: those that its source gives, checked against the pictures, or estimated ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load, save
from torch import Tensor

from remind.clip import Cameras
from remind.curation.camera_check import check_cameras
from remind.curation.estimators.colmap import Colmap
from remind.curation.estimators.contract import EstimatorError, EstimatorSetupError
from remind.curation.estimators.depth_anything import DepthAnything3
from remind.curation.estimators.estimate import GeometryEstimator
from remind.curation.given_cameras import load_cameras, settle_direction
from remind.curation.item import SourceItem
from remind.curation.options import BuildOptions
from remind.curation.scan import Window
from remind.curation.windows import anchored, frame_times_s, read_window, shown_at
from remind.data.memory_clip import SCALE_KINDS, DepthMap, ScaleKind
from remind.errors import CameraError

_MAX_GAP_S = 1.0  # our choice: a pose at least every second is interpolated
_ESTIMATE_SIDE_PX = 640  # of the pictures that estimators get
_CHECK_SIDE_PX = 480  # of the pictures that cameras are held against


@dataclass(frozen=True)
class CameraRecord:
    """What is known of a window's geometry, and in words how.

    Args:
        cameras: for the clip's own size, anchored; None = nothing is known.
        pose_conf: of the estimator, or None.
        scale_kind: unit of translations and depth.
        verdict: where they come from, or why there are none.
        depth: or None.
    """

    cameras: Cameras | None
    pose_conf: Float[Tensor, " t"] | None
    scale_kind: ScaleKind
    verdict: str
    depth: DepthMap | None = None

    @property
    def scene_depth(self) -> float:
        """How far away the scene is: the median known depth of frame 0; without depth ten times the camera's path, our
        choice, for which turning counts and stepping aside hardly does."""
        if self.depth is not None and bool((self.depth.z[0] > 0).any()):
            return float(self.depth.z[0][self.depth.z[0] > 0].median())
        assert self.cameras is not None
        reach = float(self.cameras.c2w[self.cameras.valid][:, :3, 3].norm(dim=-1).max()) if len(self.cameras) else 0.0
        return 10 * reach or 1.0

    def to_bytes(self) -> bytes:
        """For workers to hand on; `verdict` travels beside it."""
        assert self.cameras is not None
        tensors = {"c2w": self.cameras.c2w.double(), "intrinsics_px": self.cameras.intrinsics_px.double(),
                   "hw": torch.tensor(self.cameras.hw), "valid": self.cameras.valid,
                   "scale_kind": torch.tensor(SCALE_KINDS.index(self.scale_kind))}  # fmt: skip
        if self.pose_conf is not None:
            tensors["pose_conf"] = self.pose_conf.float()
        if self.depth is not None:
            tensors |= {"z": self.depth.z.half(), "depth_intrinsics_px": self.depth.intrinsics_px.double()}
        return save({name: tensor.clone().contiguous() for name, tensor in tensors.items()})  # it refuses shared memory

    @classmethod
    def from_bytes(cls, data: bytes, verdict: str) -> CameraRecord:
        """What `to_bytes` wrote."""
        x = load(data)
        height, width = x["hw"].tolist()
        depth = DepthMap(x["z"].float(), x["depth_intrinsics_px"]) if "z" in x else None
        return cls(Cameras(x["c2w"], x["intrinsics_px"], (height, width), x["valid"]), x.get("pose_conf"),
                   SCALE_KINDS[int(x["scale_kind"])], verdict, depth)  # fmt: skip


def unknown(verdict: str) -> CameraRecord:
    """No geometry, and why."""
    return CameraRecord(None, None, "unknown", verdict)


def estimated_cameras(
    path: Path, window: Window, *, hw: tuple[int, int], options: BuildOptions
) -> CameraRecord:  # fmt: skip
    """Cameras, and depth where the tool gives it, from the pictures alone; a failure is a verdict, not an error.

    Args:
        hw: of the video.

    Raises:
        EstimatorSetupError: the tool is missing, so that no window would work.
    """
    rgb = read_window(path, window, shown_at(options.scan, hw, _ESTIMATE_SIDE_PX))
    try:
        found = _estimator(options.cameras, options.camera_command).estimate(rgb)
    except EstimatorSetupError:
        raise
    except EstimatorError as error:
        return unknown(f"{options.cameras}: {error}")
    at_clip = found.resized(options.hw).cameras
    depth = None if found.depth is None else DepthMap(found.depth.clamp(0, 65504), found.cameras.intrinsics_px)
    facts = ", ".join(f"{name} {value}" for name, value in found.facts.items())
    return CameraRecord(anchored(at_clip), None, found.scale_kind, f"estimated by {options.cameras}: {facts}", depth)


@lru_cache(maxsize=1)
def _estimator(method: str, command: tuple[str, ...]) -> GeometryEstimator:
    """One for the life of this process: loading weights for every window is unaffordable."""
    return Colmap(command or None) if method == "colmap" else DepthAnything3(command)


def given_cameras(
    item: SourceItem, path: Path, window: Window, *, first_pts: int, hw: tuple[int, int], fps: float,
    options: BuildOptions,
) -> CameraRecord:  # fmt: skip
    """The source's cameras at a window's frames; none where the pictures contradict them.

    Args:
        path: the video, for the check.
        first_pts: of the video's first picture.
        hw, fps: of the video.

    Raises:
        CameraError: cameras that are missing, damaged or impossible.
        VideoError: a video that cannot be read again.
    """
    ref = item.cameras
    assert ref is not None
    origin = item.facts.get("camera_origin_s", 0.0)
    track = load_cameras(ref, hw=hw, fps=fps, origin_s=origin if isinstance(origin, float) else 0.0)
    times = frame_times_s(window, first_pts, options.scan)
    verdict = f"given as {ref.format}, not checked"
    if options.check_cameras:
        check = shown_at(options.scan, hw, _CHECK_SIDE_PX)
        seen = track.covering(check.hw).at(times, max_gap_s=_MAX_GAP_S)
        found = check_cameras(read_window(path, window, check), seen)
        try:
            track = settle_direction(track, found, ref.format)
        except CameraError as error:
            return unknown(f"refused: {error}")
        verdict = f"given as {ref.format}, {found.outcome}: {found.reason}"
    cameras = anchored(track.covering(options.hw).at(times, max_gap_s=_MAX_GAP_S))
    if not cameras.valid.any():
        return unknown("given, but for no frame of this window")
    return CameraRecord(cameras, None, "unknown", verdict)
