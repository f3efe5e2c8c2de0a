"""What a rank holds of a tensor; of a plain tensor that is all of it."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


def local(tensor: Tensor) -> Tensor:
    """This rank's part; the same memory. Under `no_grad` only, for a weight that is trained."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of it, on every rank; all ranks of a sharded one must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(like: Tensor) -> tuple[slice, ...]:
    """Where this rank's part of a tensor lies in the whole."""
    if not isinstance(like, DTensor):
        return tuple(slice(0, size) for size in like.shape)
    shape, offset = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
    return tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))
