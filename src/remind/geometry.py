"""Rigid motion, the camera gauge, the pose descriptor (Eq. 1) and camera trajectories.

All poses are OpenCV camera-to-world, float64. Angles are degrees in arguments, radians inside.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.clip import Cameras
from remind.errors import CameraError, InputError

POSE_DESCRIPTOR_DIM = 14

PoseReading = Literal["c2w", "w2c", "c2w_opengl", "w2c_opengl"]
"""What a 4x4 from outside may mean: which way it maps, and whether the camera's axes are OpenCV's or OpenGL's."""


def rotation_yaw(yaw_deg: Float[Tensor, " t"]) -> Float[Tensor, "t 3 3"]:
    """Camera-to-world rotation that turns a camera to its right by `yaw_deg` (about +y, which points down)."""
    a = torch.deg2rad(yaw_deg.double())
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = [torch.cos(a), zero, torch.sin(a), zero, one, zero, -torch.sin(a), zero, torch.cos(a)]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def rotation_pitch(pitch_deg: Float[Tensor, " t"]) -> Float[Tensor, "t 3 3"]:
    """Camera-to-world rotation that turns a camera upwards by `pitch_deg` (about +x)."""
    a = torch.deg2rad(pitch_deg.double())
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = [one, zero, zero, zero, torch.cos(a), -torch.sin(a), zero, torch.sin(a), torch.cos(a)]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def rotation_roll(roll_deg: Float[Tensor, " t"]) -> Float[Tensor, "t 3 3"]:
    """Camera-to-world rotation about +z: the camera turns clockwise, what it sees turns counterclockwise."""
    a = torch.deg2rad(roll_deg.double())
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = [torch.cos(a), -torch.sin(a), zero, torch.sin(a), torch.cos(a), zero, zero, zero, one]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def rigid(rotation: Float[Tensor, "t 3 3"], translation: Float[Tensor, "t 3"]) -> Float[Tensor, "t 4 4"]:
    """Stack a rotation and a translation into 4x4 transforms, float64."""
    c2w = torch.eye(4, dtype=torch.float64).repeat(rotation.shape[0], 1, 1)
    c2w[:, :3, :3] = rotation
    c2w[:, :3, 3] = translation
    return c2w


def invert_rigid(c2w: Float[Tensor, "*t 4 4"]) -> Float[Tensor, "*t 4 4"]:
    """Exact inverse of rigid transforms: [R^T | -R^T t]."""
    rotation_t = c2w[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(c2w)
    inverse[..., :3, :3] = rotation_t
    inverse[..., :3, 3] = -(rotation_t @ c2w[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def anchor(c2w: Float[Tensor, "t 4 4"]) -> Float[Tensor, "t 4 4"]:
    """Express poses relative to the first one, so that frame 0 is the identity (F.2)."""
    return invert_rigid(c2w[0]) @ c2w


def to_opencv_c2w(poses: Float[Tensor, "t 4 4"], reading: PoseReading) -> Float[Tensor, "t 4 4"]:
    """Poses of a declared convention as OpenCV camera-to-world; OpenGL cameras look along -z with y up."""
    c2w = invert_rigid(poses) if reading.startswith("w2c") else poses.clone()
    if reading.endswith("opengl"):
        c2w[:, :3, 1:3] *= -1
    return c2w


def check_rotations(c2w: Float[Tensor, "t 4 4"], *, tolerance: float = 1e-3) -> None:
    """Refuse what is not a rigid motion.

    Raises:
        CameraError: a rotation that is not orthonormal or that mirrors.
    """
    rotation = c2w[:, :3, :3]
    error = (rotation @ rotation.transpose(1, 2) - torch.eye(3, dtype=c2w.dtype)).abs().amax().item()
    determinant = torch.linalg.det(rotation)
    if not error <= tolerance or not (determinant > 0).all():
        raise CameraError(
            "camera rotations are not rotations",
            got=f"max |R R^T - I| = {error:.2g}, min det = {determinant.min().item():.2g}",
            expected="orthonormal, det +1",
            fix="check the axes and the scale of the poses",
        )


def context_scale(c2w: Float[Tensor, "t 4 4"]) -> float:
    """The length that translations are divided by: the largest distance from the origin within the context.

    Our choice: fixed from the context alone, so that later cameras change no earlier output.
    A context that does not move has scale 1.
    """
    largest = c2w[:, :3, 3].norm(dim=-1).max().item()
    return largest if largest > 1e-6 else 1.0


def pose_descriptor(cameras: Cameras, *, scale: float) -> tuple[Float[Tensor, "t 14"], Bool[Tensor, " t"]]:
    """[vec(R), t / scale, log(fx / width), log(fy / width)] per frame. Source: ReMind Eq. 1, F.2.

    Args:
        cameras: OpenCV c2w, frame 0 the origin.
        scale: unit of translation in world units, > 0, from `context_scale`.

    Returns:
        Descriptors (float32; zeros where the pose is unknown) and their validity.

    Raises:
        CameraError: intrinsics that are not positive on a valid frame.
    """
    if not scale > 0:
        raise InputError("the scale of translations must be positive", got=scale)
    focal = cameras.intrinsics_px[:, :2]
    if not (focal[cameras.valid] > 0).all():
        raise CameraError("focal lengths must be positive", got=focal.min().item(), fix="give intrinsics in pixels")
    rotation = cameras.c2w[:, :3, :3].reshape(-1, 9)
    translation = cameras.c2w[:, :3, 3] / scale
    log_focal = torch.log(focal.clamp_min(1e-9) / cameras.hw[1])
    descriptor = torch.cat([rotation, translation, log_focal], -1).float()
    return torch.where(cameras.valid[:, None], descriptor, torch.zeros_like(descriptor)), cameras.valid


def smoothstep(x: Tensor) -> Tensor:
    """3x^2 - 2x^3 on [0, 1], clamped outside: a start and a stop without a jerk."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def away_and_back(
    num_frames: int, *, start: int, hidden_start: int, hidden_stop: int, stop: int
) -> Float[Tensor, " t"]:
    """How far gone each frame is: 0 before `start`, 1 on [hidden_start, hidden_stop), 0 again from `stop`.

    Used for every interruption that moves (camera, occluder, dimmer, zoom): one clock for all of them.
    """
    t = torch.arange(num_frames, dtype=torch.float64)
    leave = smoothstep((t - start + 1) / (hidden_start - start + 1))
    come_back = smoothstep((stop - t) / (stop - hidden_stop + 1))
    return torch.minimum(leave, come_back)


def yaw_trajectory(yaw_deg: Float[Tensor, " t"]) -> Float[Tensor, "t 4 4"]:
    """Poses that turn on the spot by `yaw_deg` to the right."""
    return rigid(rotation_yaw(yaw_deg), torch.zeros(len(yaw_deg), 3, dtype=torch.float64))


def intrinsics_from_fov(fov_deg: int | float, hw: tuple[int, int], num_frames: int) -> Float[Tensor, "t 4"]:
    """Square pixels, centred principal point, horizontal field of view `fov_deg`."""
    height, width = hw
    focal = width / (2 * math.tan(math.radians(fov_deg) / 2))
    return torch.tensor([focal, focal, width / 2, height / 2], dtype=torch.float64).repeat(num_frames, 1)


def rescale_intrinsics(
    intrinsics_px: Float[Tensor, "t 4"], *, from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> Float[Tensor, "t 4"]:
    """Intrinsics after a resize; with pixel centres at +0.5 every entry scales by the size ratio."""
    ry, rx = to_hw[0] / from_hw[0], to_hw[1] / from_hw[1]
    return intrinsics_px * torch.tensor([rx, ry, rx, ry], dtype=intrinsics_px.dtype)


def crop_intrinsics(intrinsics_px: Float[Tensor, "t 4"], *, left_px: Tensor, top_px: Tensor) -> Float[Tensor, "t 4"]:
    """Intrinsics after a crop: the principal point moves by the crop's corner."""
    shift = torch.zeros_like(intrinsics_px)
    shift[:, 2], shift[:, 3] = left_px, top_px
    return intrinsics_px - shift


def cover_crop(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """How a picture comes to another shape: the size it is scaled to so that it covers `to_hw`, and the top left corner
    of its middle, which is kept.

    Our choice: corners are even. H.264 keeps one colour for two by two pixels, and such a crop leaves them whole.
    """
    scale = max(to_hw[0] / from_hw[0], to_hw[1] / from_hw[1])
    height, width = (max(to, round(side * scale)) for to, side in zip(to_hw, from_hw, strict=True))
    return (height, width), ((height - to_hw[0]) // 4 * 2, (width - to_hw[1]) // 4 * 2)


def cover_intrinsics(
    intrinsics_px: Float[Tensor, "t 4"], *, from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> Float[Tensor, "t 4"]:
    """Intrinsics after a picture is scaled to cover `to_hw` and its middle kept, as `cover_crop` says."""
    covering, corner = cover_crop(from_hw, to_hw)
    scaled = rescale_intrinsics(intrinsics_px, from_hw=from_hw, to_hw=covering)
    top, left = torch.tensor(corner, dtype=intrinsics_px.dtype).expand(len(intrinsics_px), 2).unbind(-1)
    return crop_intrinsics(scaled, left_px=left, top_px=top)


# Trajectories. Each begins with the identity, starts and stops without a jerk, and takes angles in degrees: positive
# yaw is to the right, positive pitch up. Lengths are in the world's own unit.


def pan_trajectory(num_frames: int, *, yaw_deg: float = 0.0, pitch_deg: float = 0.0) -> Float[Tensor, "t 4 4"]:
    """Turn on the spot, yaw about the world's vertical."""
    return _turned(_progress(num_frames), yaw_deg, pitch_deg)


def dolly_trajectory(
    num_frames: int, *, right: float = 0.0, down: float = 0.0, forward: float = 0.0
) -> Float[Tensor, "t 4 4"]:
    """Move along a straight line without turning."""
    c2w = torch.eye(4, dtype=torch.float64).repeat(num_frames, 1, 1)
    c2w[:, :3, 3] = _progress(num_frames)[:, None] * torch.tensor([right, down, forward], dtype=torch.float64)
    return c2w


def orbit_trajectory(num_frames: int, *, angle_deg: int | float, distance: int | float) -> Float[Tensor, "t 4 4"]:
    """Circle about the point straight ahead at `distance`, looking at it; positive goes to the camera's right.

    Raises:
        InputError: a distance that is not positive.
    """
    if not distance > 0:
        raise InputError("an orbit needs a point in front of the camera", got=distance, expected="a distance > 0")
    rotation = rotation_yaw(-angle_deg * _progress(num_frames))
    look_at = torch.tensor([0.0, 0.0, distance], dtype=torch.float64)
    return rigid(rotation, look_at - rotation @ look_at)


def there_and_back(c2w: Float[Tensor, "t 4 4"]) -> Float[Tensor, "s 4 4"]:
    """Go a trajectory and come back the same way: 2t - 1 poses, the last one equal to the first."""
    return torch.cat([c2w, c2w[:-1].flip(0)])


def lookaway_trajectory(
    num_frames: int,
    *,
    start: int,
    hidden_start: int,
    hidden_stop: int,
    stop: int,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
) -> Float[Tensor, "t 4 4"]:
    """Turn away, hold, and turn back, on the clock of `away_and_back`."""
    away = away_and_back(num_frames, start=start, hidden_start=hidden_start, hidden_stop=hidden_stop, stop=stop)
    return _turned(away, yaw_deg, pitch_deg)


def _progress(num_frames: int) -> Float[Tensor, " t"]:
    if num_frames < 2:
        raise InputError("a trajectory needs a start and an end", got=num_frames, expected="at least 2 frames")
    return smoothstep(torch.linspace(0, 1, num_frames, dtype=torch.float64))


def _turned(progress: Float[Tensor, " t"], yaw_deg: float, pitch_deg: float) -> Float[Tensor, "t 4 4"]:
    rotation = rotation_yaw(progress * yaw_deg) @ rotation_pitch(progress * pitch_deg)
    return rigid(rotation, torch.zeros(len(progress), 3, dtype=torch.float64))
