"""PM-RoPE: rotary phases from original positions, camera phase offsets, and V/O camera residuals.

Source: ReMind Eqs. 1-3, Sec. 3.2. A rotary phase is kept as a unit complex number, a *rotor*; adding phases is
multiplying rotors, and adding a zero offset multiplies by exactly 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from remind.geometry import POSE_DESCRIPTOR_DIM, invert_rigid
from remind.models.config import DiTConfig


def position_rotors(
    positions: Float[Tensor, "b t"], grid_hw: tuple[int, int], config: DiTConfig
) -> Complex[Tensor, "b t l p"]:
    """exp(i phase) of every token, phases computed in float64 from original positions (no table, no limit).

    Args:
        positions: original time of each latent frame.
        grid_hw: tokens per latent frame, height and width.
    """
    device = positions.device

    def phases(coordinate: Tensor, pairs: int) -> Tensor:
        frequency = config.rope_theta ** (-torch.arange(pairs, dtype=torch.float64, device=device) / pairs)
        return coordinate.double()[..., None] * frequency

    pairs_t, pairs_h, pairs_w = config.rotary_pairs_thw
    b, t = positions.shape
    rows, columns = grid_hw
    time = phases(positions, pairs_t)[:, :, None, None].expand(b, t, rows, columns, pairs_t)
    row = config.rope_grid_scale * torch.arange(rows, dtype=torch.float64, device=device)
    column = config.rope_grid_scale * torch.arange(columns, dtype=torch.float64, device=device)
    height = phases(row, pairs_h)[None, None, :, None].expand(b, t, rows, columns, -1)
    width = phases(column, pairs_w)[None, None, None].expand(b, t, rows, columns, -1)
    angle = torch.cat([time, height, width], -1).flatten(2, 3)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def rotate(x: Float[Tensor, "b t l n d"], rotors: Complex[Tensor, "b t l #n p"]) -> Float[Tensor, "b t l n d"]:
    """Rotate interleaved feature pairs (2p = d) in float32. Source: ReMind Eq. 7."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotors).flatten(-2).type_as(x)


def rotation_log(rotation: Float[Tensor, "*t 3 3"]) -> Float[Tensor, "*t 3"]:
    """Axis-angle vector of rotations, by way of the unit quaternion with the largest component kept first.

    Smooth at angle 0 and defined at angle pi, where the plain trace formula is neither.
    """
    m = rotation.double()
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
    return torch.where(sine > 1e-9, vector * angle / sine.clamp_min(1e-9), 2 * vector).to(rotation.dtype)


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


class CameraPhase(nn.Module):
    """h(c): pose descriptor -> rotary phase offsets. Source: ReMind Eq. 2.

    Only the last layer starts at zero: zeroing all of it would block its own gradients.
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.heads = config.num_heads if config.phase_per_head else 1
        self.all_pairs = config.head_dim // 2
        self.pairs = self.all_pairs if config.phase_pairs == "all" else config.rotary_pairs_thw[0]
        first = nn.Linear(POSE_DESCRIPTOR_DIM, config.camera_hidden)
        last = nn.Linear(config.camera_hidden, self.heads * self.pairs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(first, nn.SiLU(), last)

    def forward(
        self, descriptor: Float[Tensor, "b t 14"], valid: Bool[Tensor, "b t"]
    ) -> Complex[Tensor, "b t 1 n p"]:
        """exp(i delta) per latent frame; exactly 1 where the pose is not valid."""
        delta = self.mlp(descriptor).float() * valid[..., None]
        delta = delta.unflatten(-1, (self.heads, self.pairs))
        delta = nn.functional.pad(delta, (0, self.all_pairs - self.pairs))  # temporal pairs come first
        return torch.polar(torch.ones_like(delta), delta)[:, :, None]


class CameraResidual(nn.Module):
    """W_Delta on [feature, camera embedding], folded into the projection before or after attention.

    Source: ReMind Eq. 3 as its authors implement it, a linear map on the concatenation. It is linear in the
    feature, W_Delta [v; e] = A v + B e, hence (I + A) W_V x + (I + A) b_V + B e for the value and
    (W_O + A') y + b_O + B' e for the output: no extra pass over the tokens.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.feature = nn.Parameter(torch.zeros(dim, dim))
        self.camera = nn.Parameter(torch.zeros(dim, 6))

    def folded_value(self, value: nn.Linear) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
        """(I + A) W_V and (I + A) b_V."""
        return value.weight + self.feature @ value.weight, value.bias + self.feature @ value.bias

    def folded_output(self, output: nn.Linear) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
        """W_O + A' and b_O."""
        return output.weight + self.feature, output.bias

    def frame_bias(self, embedding: Float[Tensor, "b t 6"], valid: Bool[Tensor, "b t"]) -> Float[Tensor, "b t 1 d"]:
        """B e per latent frame, zero where the pose is not valid."""
        return (nn.functional.linear(embedding, self.camera) * valid[..., None])[:, :, None]
