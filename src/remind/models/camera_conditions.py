"""From the cameras of a clip to what the model is conditioned on: pose descriptors, and what layers make of them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.clip import Cameras
from remind.frame_graph import FRAMES_PER_LATENT, num_latent_frames
from remind.geometry import context_scale, invert_rigid, pose_descriptor
from remind.models.config import DiTConfig
from remind.models.float64 import float64_device


def camera_conditions(cameras: Cameras | None, num_frames: int) -> tuple[Float[Tensor, "t 14"], Bool[Tensor, " t"]]:
    """Pose descriptors of latent frames and their validity; all invalid where a clip has no cameras.

    The translation unit is fixed by the first chunk, the shortest context there is (the camera gauge).
    """
    latents = num_latent_frames(num_frames)
    if cameras is None:
        return torch.zeros(latents, 14), torch.zeros(latents, dtype=torch.bool)
    return pose_descriptor(cameras[torch.arange(0, num_frames, FRAMES_PER_LATENT)], scale=gauge_scale(cameras))


def gauge_scale(cameras: Cameras) -> float:
    """The unit of translation of a rollout: from the frames 0..8 of its cameras, 1 where none of them is known."""
    context = cameras[slice(0, 2 * FRAMES_PER_LATENT + 1)]
    return context_scale(context.c2w[context.valid]) if context.valid.any() else 1.0


def further_camera_conditions(
    cameras: Cameras, *, first_frame: int, scale: float
) -> tuple[Float[Tensor, "t 14"], Bool[Tensor, " t"]]:
    """Pose descriptors of the latent frames that a stretch of a longer video ends, and their validity.

    Bit for bit those that `camera_conditions` gives for the whole, since the gauge does not depend on what comes later.

    Args:
        cameras: of the stretch's frames, in the axes of the whole video's first frame.
        first_frame: which frame of the video the stretch begins at, >= 0.
        scale: of the whole, from `gauge_scale`.
    """
    start = -first_frame % FRAMES_PER_LATENT  # latent frame i has the camera of frame 4i
    return pose_descriptor(cameras[torch.arange(start, len(cameras), FRAMES_PER_LATENT)], scale=scale)


class CameraConditions:
    """What the layers of a camera mode need of the cameras, computed once per forward pass.

    Args:
        descriptor: pose descriptors (Eq. 1).
        valid: which of them may be used.
        config: whose camera mode; what another mode would need is not there.
    """

    def __init__(self, descriptor: Float[Tensor, "b t 14"], valid: Bool[Tensor, "b t"], config: DiTConfig):
        # An identity pose stands in where there is none, so that no derivative meets an all-zero "rotation".
        identity = torch.zeros_like(descriptor[0, 0])
        identity[[0, 4, 8]] = 1
        self.descriptor = torch.where(valid[..., None], descriptor, identity)
        self.valid = valid
        if config.camera_mode in ("vo", "full"):
            if config.vo_transform == "concat":
                self.pose_6dof = camera_6dof(self.descriptor, inverse=False)
                self.inverse_6dof = camera_6dof(self.descriptor, inverse=True)
            else:
                self.c2w = bounded_c2w(self.descriptor, valid)
                self.w2c = invert_rigid(self.c2w)
        if config.camera_mode == "dual":
            self.projection = projection_matrices(self.descriptor, valid)
            self.inverse_projection = torch.linalg.inv(self.projection)


def rotation_log(rotation: Float[Tensor, "*t 3 3"]) -> Float[Tensor, "*t 3"]:
    """Axis-angle vector of rotations, by way of the unit quaternion with the largest component kept first.

    Smooth at angle 0 and defined at angle pi, where the plain trace formula is neither.
    """
    m = rotation.to(float64_device(rotation.device)).double()
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four ways to build the same quaternion (up to scale); the one with the largest norm is well conditioned.
    candidates = torch.stack([
        torch.stack([1 + m00 + m11 + m22, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0],
                     m[..., 1, 0] - m[..., 0, 1]], -1),
        torch.stack([m[..., 2, 1] - m[..., 1, 2], 1 + m00 - m11 - m22, m[..., 1, 0] + m[..., 0, 1],
                     m[..., 0, 2] + m[..., 2, 0]], -1),
        torch.stack([m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] + m[..., 0, 1], 1 - m00 + m11 - m22,
                     m[..., 2, 1] + m[..., 1, 2]], -1),
        torch.stack([m[..., 1, 0] - m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2],
                     1 - m00 - m11 + m22], -1),
    ], -2)
    best = candidates.norm(dim=-1).argmax(-1)
    quaternion = torch.take_along_dim(candidates, best[..., None, None], -2)[..., 0, :]
    quaternion = torch.nn.functional.normalize(quaternion, dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    vector = quaternion[..., 1:]
    sine = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    turned = torch.where(sine > 1e-9, vector * angle / sine.clamp_min(1e-9), 2 * vector)
    return turned.to(rotation.dtype).to(rotation.device)


def camera_6dof(descriptor: Float[Tensor, "b t 14"], *, inverse: bool) -> Float[Tensor, "b t 6"]:
    """Axis-angle and translation of the pose, or of its inverse, from the pose descriptor (Eq. 1).

    Source: the 6-DoF camera embedding of Sec. 3.2; its form is our choice: the minimal, unbounded-free chart.
    """
    c2w = torch.zeros(*descriptor.shape[:-1], 4, 4, dtype=descriptor.dtype, device=descriptor.device)
    c2w[..., :3, :3] = descriptor[..., :9].unflatten(-1, (3, 3))
    c2w[..., :3, 3] = descriptor[..., 9:12]
    c2w[..., 3, 3] = 1
    transform = invert_rigid(c2w) if inverse else c2w
    return torch.cat([rotation_log(transform[..., :3, :3]), transform[..., :3, 3]], -1)


def bounded_c2w(descriptor: Float[Tensor, "b t 14"], valid: Bool[Tensor, "b t"]) -> Float[Tensor, "b t 4 4"]:
    """Poses of frames in float32 with translations sign(t) log(1 + |t|); identity where the pose is not valid.

    Our choice of bound: a multiplicative path explodes on raw metric translations, and log1p is the identity near 0.
    """
    c2w = torch.eye(4, device=descriptor.device).repeat(*descriptor.shape[:-1], 1, 1)
    translation = descriptor[..., 9:12].float()
    c2w[..., :3, :3] = descriptor[..., :9].float().unflatten(-1, (3, 3))
    c2w[..., :3, 3] = translation.sign() * translation.abs().log1p()
    return torch.where(valid[..., None, None], c2w, torch.eye(4, device=descriptor.device))


def projection_matrices(
    descriptor: Float[Tensor, "b t 14"], valid: Bool[Tensor, "b t"]
) -> Float[Tensor, "b t 4 4"]:
    """World to image, K [R|t]^-1 lifted to 4x4, with the focal lengths of Eq. 1 (shares of the width)."""
    focal = torch.ones(*descriptor.shape[:-1], 4, device=descriptor.device)
    focal[..., :2] = torch.where(valid[..., None], descriptor[..., 12:].float().exp(), 1.0)
    return focal[..., None] * invert_rigid(bounded_c2w(descriptor, valid))
