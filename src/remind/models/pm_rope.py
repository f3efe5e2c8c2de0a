"""PM-RoPE: rotary phases from original positions, camera phase offsets, and V/O camera residuals.

Source: ReMind Eqs. 1-3, Sec. 3.2. A rotary phase is kept as a unit complex number, a *rotor*; adding phases is
multiplying rotors, and adding a zero offset multiplies by exactly 1.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn.functional import linear

from remind.errors import InputError
from remind.geometry import POSE_DESCRIPTOR_DIM
from remind.models.camera_conditions import CameraConditions
from remind.models.config import DiTConfig
from remind.models.float64 import float64_device


def position_rotors(
    positions: Float[Tensor, "b t"],
    grid_hw: tuple[int, int],
    config: DiTConfig,
    grid_start: tuple[int, int] = (0, 0),
) -> Complex[Tensor, "b t l p"]:
    """exp(i phase) of every token, phases computed in float64 from original positions (no table, no limit).

    Args:
        positions: original time of each latent frame.
        grid_hw: tokens per latent frame, height and width.
        grid_start: row and column of the first of them, where they are a part of the frame.
    """
    device = float64_device(positions.device)

    def phases(coordinate: Tensor, pairs: int) -> Tensor:
        frequency = config.rope_theta ** (-torch.arange(pairs, dtype=torch.float64, device=device) / pairs)
        return coordinate.double()[..., None] * frequency

    pairs_t, pairs_h, pairs_w = config.rotary_pairs_thw
    b, t = positions.shape
    rows, columns = grid_hw
    time = phases(positions.to(device), pairs_t)[:, :, None, None].expand(b, t, rows, columns, pairs_t)
    row, column = (
        config.rope_grid_scale * torch.arange(start, start + size, dtype=torch.float64, device=device)
        for start, size in zip(grid_start, grid_hw, strict=True)
    )
    height = phases(row, pairs_h)[None, None, :, None].expand(b, t, rows, columns, -1)
    width = phases(column, pairs_w)[None, None, None].expand(b, t, rows, columns, -1)
    angle = torch.cat([time, height, width], -1).flatten(2, 3)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64).to(positions.device)


def rotate(x: Float[Tensor, "b t l n d"], rotors: Complex[Tensor, "#b t l #n p"]) -> Float[Tensor, "b t l n d"]:
    """Rotate interleaved feature pairs (2p = d) in float32. Source: ReMind Eq. 7."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotors).flatten(-2).type_as(x)


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
        delta = self.mlp(descriptor.to(next(self.mlp.parameters()).dtype)).float() * valid[..., None]
        delta = delta.unflatten(-1, (self.heads, self.pairs))
        delta = nn.functional.pad(delta, (0, self.all_pairs - self.pairs))  # temporal pairs come first
        return torch.polar(torch.ones_like(delta), delta)[:, :, None]


@runtime_checkable
class Projection(Protocol):
    """What a residual needs of the layer beside it: an `nn.Linear`, or one with adapters whose weight includes them."""

    @property
    def weight(self) -> Tensor: ...

    @property
    def bias(self) -> Tensor: ...

    def __call__(self, x: Tensor, /) -> Tensor: ...


class CameraResidual(nn.Module):
    """W_Delta on [feature, camera embedding], folded into the projection before or beside attention.

    Source: ReMind Eq. 3 as its authors implement it, a linear map on the concatenation. It is linear in the
    feature, W_Delta [v; e] = A v + B e, hence (I + A) W_V x + (I + A) b_V + B e for the value and
    (W_O + A') y + b_O + B' e for the output: no extra pass over the tokens.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.feature = nn.Parameter(torch.zeros(dim, dim))
        self.camera = nn.Parameter(torch.zeros(dim, 6))
        self.is_folded = False

    def folded_value(self, value: Projection) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
        """(I + A) W_V and (I + A) b_V."""
        weight, bias = value.weight, value.bias  # with adapters it is computed anew each time
        return weight + self.feature @ weight, bias + self.feature @ bias

    def folded_output(self, output: Projection) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
        """W_O + A' and b_O."""
        return output.weight + self.feature, output.bias

    def value(
        self, projection: Projection, x: Float[Tensor, "b t l d"], cameras: CameraConditions | None
    ) -> Float[Tensor, "b t l d"]:
        """v + W_Delta [v; e of the inverse camera], by the cheaper order: one matrix product, or a second pass."""
        if self.is_folded:
            v = projection(x)
        elif x.shape[:-1].numel() > x.shape[-1]:
            v = linear(x, *self.folded_value(projection))
        else:
            v = projection(x)
            v = v + linear(v, self.feature)
        return v if cameras is None else v + self.frame_bias(cameras.inverse_6dof, cameras.valid)

    def output(
        self, projection: Projection, y: Float[Tensor, "b t l d"], cameras: CameraConditions | None
    ) -> Float[Tensor, "b t l d"]:
        """W_O y + W_Delta [y; e of the camera]."""
        out = projection(y) if self.is_folded else linear(y, *self.folded_output(projection))
        return out if cameras is None else out + self.frame_bias(cameras.pose_6dof, cameras.valid)

    @torch.no_grad()
    def fold_into_value(self, value: Projection) -> None:
        """Let the projection carry A for good; for inference."""
        _refuse_adapters(value)
        weight, bias = self.folded_value(value)
        value.weight.copy_(weight)
        value.bias.copy_(bias)
        self._forget_feature()

    @torch.no_grad()
    def fold_into_output(self, output: Projection) -> None:
        """Let the projection carry A' for good; for inference."""
        _refuse_adapters(output)
        output.weight.copy_(self.folded_output(output)[0])
        self._forget_feature()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Weights that are loaded into a folded model bring features of their own."""
        self.is_folded = False
        super()._load_from_state_dict(*args, **kwargs)

    def _forget_feature(self) -> None:
        self.feature.zero_()  # so that saved weights still mean the same model
        self.is_folded = True

    def frame_bias(self, embedding: Float[Tensor, "b t 6"], valid: Bool[Tensor, "b t"]) -> Float[Tensor, "b t 1 d"]:
        """B e per latent frame, zero where the pose is not valid."""
        return (linear(embedding.to(self.camera.dtype), self.camera) * valid[..., None])[:, :, None]


def _refuse_adapters(projection: Projection) -> None:
    """The weight of a layer with adapters is computed anew each time: what is written into it is lost."""
    if not isinstance(projection, nn.Linear):
        raise InputError("adapters must be merged before cameras are folded", got=type(projection).__name__,
                         fix="load training.lora.merged_state(model) into a model without adapters")
