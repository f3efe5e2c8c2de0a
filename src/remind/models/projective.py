"""Cameras as 4x4 maps on groups of four features: the projective reading of Eq. 3, and the branch of dual attention.

Source: Li et al. 2025 (PRoPE), which ReMind Eq. 3 takes up: features of frame j are carried to the world by P_j^-1 and
into frame i by P_i, so that only relative cameras count. P therefore maps the world to the camera here: with camera to
world the product P_i P_j^-1 would depend on where the world's origin lies.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from remind.models.camera_conditions import CameraConditions
from remind.models.pm_rope import Projection


def transform_groups(x: Float[Tensor, "b t l *n d"], matrices: Float[Tensor, "b t 4 4"]) -> Float[Tensor, "b t l *n d"]:
    """Apply a frame's matrix to every group of four neighbouring features of its tokens."""
    groups = x.unflatten(-1, (-1, 4)).flatten(2, -2)  # b t (l n g) 4
    return torch.matmul(groups, matrices.mT.type_as(x)).reshape(x.shape)


class ProjectiveResidual(nn.Module):
    """W_Delta (P x) with P on groups of four features. Source: ReMind Eq. 3 in its projective reading.

    The matrix depends on the frame, so unlike the additive reading it cannot be folded into a projection.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.feature = nn.Parameter(torch.zeros(dim, dim))

    def value(
        self, projection: Projection, x: Float[Tensor, "b t l d"], cameras: CameraConditions | None
    ) -> Float[Tensor, "b t l d"]:
        """v + W_Delta P^-1 v: from the camera to the world."""
        v = projection(x)
        return v + linear(v if cameras is None else transform_groups(v, cameras.c2w), self.feature)

    def output(
        self, projection: Projection, y: Float[Tensor, "b t l d"], cameras: CameraConditions | None
    ) -> Float[Tensor, "b t l d"]:
        """W_O y + W_Delta P y: from the world to the camera."""
        return projection(y) + linear(y if cameras is None else transform_groups(y, cameras.w2c), self.feature)
