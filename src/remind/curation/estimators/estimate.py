"""What an estimator of cameras and depth answers, in ReMind's conventions, and how it is compared with the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from remind.clip import Cameras
from remind.curation.estimators.contract import EstimatorError, ResultInfo
from remind.errors import CameraError, InputError
from remind.geometry import check_rotations, invert_rigid, rescale_intrinsics, rigid

ScaleKind = Literal["relative", "metric"]
Facts = Mapping[str, str | float]
ROTATION_TOLERANCE = 1e-2  # tools work in half precision; what is off by more is no rotation
_MAX_COORDINATE = 1e6


@dataclass(frozen=True)
class EstimatedGeometry:
    """Estimated cameras, and depth where the tool gives it.

    Args:
        cameras: OpenCV c2w; the first valid frame is the identity; `cameras.hw` is the resolution of the intrinsics,
            the tool's own.
        depth: z-depth at `cameras.hw`, in the unit of the translations, 0 = unknown; or None.
        confidence: the tool's own, at `cameras.hw`, larger is surer, comparable within one clip only; or None.
        scale_kind: `relative` if the unit of length is arbitrary and differs from clip to clip.
        facts: tool, version, weights, licence and the tool's own measures, for provenance.
    """

    cameras: Cameras
    depth: Float[Tensor, "t h w"] | None
    confidence: Float[Tensor, "t h w"] | None
    scale_kind: ScaleKind
    facts: Facts = field(default_factory=dict)

    def resized(self, hw: tuple[int, int]) -> EstimatedGeometry:
        """The same geometry at another size of the same picture (no crop).

        Our choice: depth and confidence from the nearest pixel, since a blend of near and far lies on no surface;
        nothing in the pipeline resizes by itself, so a clip keeps depth at the tool's resolution.
        """
        cameras = self.cameras
        intrinsics = rescale_intrinsics(cameras.intrinsics_px, from_hw=cameras.hw, to_hw=hw)

        def nearest(values: Tensor | None) -> Tensor | None:
            return None if values is None else interpolate(values[:, None], hw, mode="nearest-exact")[:, 0]

        resized = Cameras(cameras.c2w, intrinsics, hw, cameras.valid)
        return replace(self, cameras=resized, depth=nearest(self.depth), confidence=nearest(self.confidence))


@runtime_checkable
class GeometryEstimator(Protocol):
    """Estimates cameras, and perhaps depth, from pictures alone."""

    def estimate(self, rgb: UInt8[Tensor, "t h w 3"]) -> EstimatedGeometry:
        """Estimate; see the implementations.

        Raises:
            EstimatorSetupError: no clip will work.
            EstimatorError: this clip did not, with the reason.
        """
        ...


def cameras_from_w2c(
    w2c: Float64[np.ndarray, "t 3 4"],
    intrinsics_px: Float64[np.ndarray, "t 4"],
    hw: tuple[int, int],
    valid: Bool[np.ndarray, " t"],
) -> Cameras:
    """OpenCV world-to-camera poses of a tool as our cameras: inverted, made exact, anchored at the first valid frame.

    Raises:
        EstimatorError: no valid frame, NaN, mirrored or skewed rotations, absurd translations or focal lengths.
    """
    if not valid.any():
        raise EstimatorError("the tool knows no pose", got=0, expected="at least one valid frame")
    poses, focal = w2c[valid], intrinsics_px[valid]
    if not np.isfinite(poses).all() or np.abs(poses[:, :, 3]).max() > _MAX_COORDINATE:
        raise EstimatorError("the tool's poses hold NaN, infinity or absurd translations",
                             expected=f"finite, at most {_MAX_COORDINATE:g}")  # fmt: skip
    if not np.isfinite(focal).all() or not (focal > 0).all() or (focal > 100 * max(hw)).any():
        raise EstimatorError("the tool's intrinsics are not a camera's", got=focal.min(0).round(3).tolist(),
                             expected="fx, fy, cx, cy in pixels, > 0")  # fmt: skip
    rotation = torch.from_numpy(poses[:, :, :3])
    try:
        check_rotations(rigid(rotation, torch.zeros(len(rotation), 3)), tolerance=ROTATION_TOLERANCE)
    except CameraError as error:
        raise EstimatorError(f"the tool's {error.what}", got=error.got, expected=error.expected) from None
    u, _, vh = torch.linalg.svd(rotation)  # the nearest exact rotation, so that inverses are exact
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(w2c), 1, 1)
    seen = torch.from_numpy(valid)
    known = invert_rigid(rigid(u @ vh, torch.from_numpy(poses[:, :, 3])))
    c2w[seen] = invert_rigid(known[0]) @ known
    c2w[int(valid.argmax())] = torch.eye(4, dtype=torch.float64)  # exactly, not up to rounding
    intrinsics = torch.from_numpy(np.where(valid[:, None], intrinsics_px, focal[0]))
    return Cameras(c2w, intrinsics, hw, seen)


def depth_of(values: np.ndarray, *, what: str) -> Float[Tensor, "t h w"]:
    """A tool's depth or confidence as a tensor.

    Raises:
        EstimatorError: NaN, infinity or negative values.
    """
    if not np.isfinite(values).all() or values.min() < 0:
        raise EstimatorError(f"the tool's {what} holds NaN, infinity or negative values",
                             got=f"{int((~np.isfinite(values)).sum())} not finite", expected=">= 0")  # fmt: skip
    return torch.from_numpy(values)


def tool_facts(info: ResultInfo) -> dict[str, str | float]:
    """The tool's facts together with what made them."""
    made_by = {"tool": info.tool, "tool_version": info.tool_version}
    weights = {"weights": info.weights, "weights_licence": info.weights_licence} if info.weights else {}
    own = {name: value if isinstance(value, str) else float(value) for name, value in info.facts.items()}
    return {**own, **made_by, **weights}


@dataclass(frozen=True)
class TrajectoryError:
    """How far an estimated trajectory is from the true one, once the best similarity has been taken off.

    Args:
        ate_ratio: root mean square distance of the camera centres over the length of the true path.
        rotation_deg: mean angle between true and estimated orientations.
        max_rotation_deg: the largest of them.
        scale: true length per estimated length.
        num_frames: how many frames have both poses.
    """

    ate_ratio: float
    rotation_deg: float
    max_rotation_deg: float
    scale: float
    num_frames: int


def trajectory_error(estimated: Cameras, true: Cameras) -> TrajectoryError:
    """Compare trajectories over the frames that both know.

    Our choice of alignment: the rotation from the orientations (chordal mean), then scale and translation by least
    squares. Umeyama's alignment of positions alone leaves the roll about a straight path undetermined.

    Raises:
        InputError: lengths that differ, or fewer than three common frames.
    """
    if len(estimated) != len(true):
        raise InputError("trajectories differ in length", got=len(estimated), expected=len(true))
    both = estimated.valid & true.valid
    if int(both.sum()) < 3:
        raise InputError("too few common frames to compare", got=int(both.sum()), expected=">= 3")
    ours, theirs = estimated.c2w[both], true.c2w[both]
    u, _, vh = torch.linalg.svd((theirs[:, :3, :3] @ ours[:, :3, :3].transpose(1, 2)).sum(0))
    sign = torch.diag(torch.tensor([1.0, 1.0, torch.linalg.det(u @ vh).sign().item()], dtype=torch.float64))
    turn = u @ sign @ vh
    centred = (ours[:, :3, 3] - ours[:, :3, 3].mean(0)) @ turn.T
    target = theirs[:, :3, 3] - theirs[:, :3, 3].mean(0)
    scale = ((centred * target).sum() / (centred**2).sum().clamp_min(1e-12)).clamp_min(0)  # never a mirror image
    distance = (scale * centred - target).norm(dim=1)
    length = theirs[1:, :3, 3].sub(theirs[:-1, :3, 3]).norm(dim=1).sum().clamp_min(1e-12)
    angles = rotation_angle_deg(turn @ ours[:, :3, :3], theirs[:, :3, :3])
    return TrajectoryError(
        ate_ratio=(distance.square().mean().sqrt() / length).item(),
        rotation_deg=angles.mean().item(),
        max_rotation_deg=angles.max().item(),
        scale=scale.item(),
        num_frames=len(ours),
    )


def rotation_angle_deg(a: Float[Tensor, "*#t 3 3"], b: Float[Tensor, "*#t 3 3"]) -> Float[Tensor, " t"]:
    """Angle of the rotation between two orientations, degrees; exact for small angles too."""
    chord = (a - b).flatten(-2).norm(dim=-1) / (2 * 2**0.5)  # = |sin(angle / 2)|
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))
