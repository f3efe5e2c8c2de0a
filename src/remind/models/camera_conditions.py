"""From the cameras of a clip to what the model is conditioned on: one pose descriptor per latent frame."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.clip import Cameras
from remind.frame_graph import FRAMES_PER_LATENT, num_latent_frames
from remind.geometry import context_scale, pose_descriptor


def camera_conditions(cameras: Cameras | None, num_frames: int) -> tuple[Float[Tensor, "t 14"], Bool[Tensor, " t"]]:
    """Pose descriptors of latent frames and their validity; all invalid where a clip has no cameras.

    The translation unit is fixed by the first chunk, the shortest context there is (the camera gauge).
    """
    latents = num_latent_frames(num_frames)
    if cameras is None:
        return torch.zeros(latents, 14), torch.zeros(latents, dtype=torch.bool)
    context = cameras[slice(0, 2 * FRAMES_PER_LATENT + 1)]
    scale = context_scale(context.c2w[context.valid]) if context.valid.any() else 1.0
    return pose_descriptor(cameras[torch.arange(0, num_frames, FRAMES_PER_LATENT)], scale=scale)
