"""What stands between the matrix products: normalisations and gates in float32 whatever the weights are, and GELU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, rms_norm


class QKNorm(nn.Module):
    """RMS norm over the full width, before the split into heads.

    Source: Wan. Order matters in bfloat16: computed in float32, cast, then multiplied with the weight.
    """

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        if x.dtype == torch.float32:
            return rms_norm(x, self.weight.shape, self.weight, self.eps)
        return rms_norm(x.float(), self.weight.shape, None, self.eps).type_as(x) * self.weight.type_as(x)


def modulated(
    x: Float[Tensor, "b t l d"], shift: Float[Tensor, "b t 1 d"], scale: Float[Tensor, "b t 1 d"], eps: float
) -> Float[Tensor, "b t l d"]:
    """Layer norm without weights, then (1 + scale) x + shift, in float32; the result has the dtype of x."""
    return torch.addcmul(shift, layer_norm(x.float(), x.shape[-1:], eps=eps), 1 + scale).type_as(x)


def gated(
    x: Float[Tensor, "b t l d"], update: Float[Tensor, "b t l d"], gate: Float[Tensor, "b t 1 d"]
) -> Float[Tensor, "b t l d"]:
    """x + gate * update in float32; the result has the dtype of x."""
    return torch.addcmul(x.float(), update.float(), gate).type_as(x)


class GELU(nn.Module):
    """GELU by its tanh form, in place where no gradient is taken.

    Source: Wan. In place is our choice: the hidden layer of the feed-forward is the widest tensor of a pass, and a
    second one would be the peak of its memory.
    """

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        if torch.is_grad_enabled():
            return gelu(x, approximate="tanh")
        return torch.ops.aten.gelu_(x, approximate="tanh")
