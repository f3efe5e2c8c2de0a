"""Sequence (context) parallelism: the ranks of a group share the tokens of every latent frame.

Each rank holds a *band* of the latents, a share of their rows (or columns). All that is said per latent frame (noise
levels, modulation, positions, cameras, prompts) and the loss stay where they are; only self-attention needs all tokens.
Around it the ranks exchange tokens for heads: every rank then attends over the whole sequence with its share of the
heads, by whichever kernel and under whichever visibility, and gives the results back.

Source: Jacobs et al. 2023 (DeepSpeed-Ulysses), with bands instead of spans of time, which is our choice: spans would
split chunks, and under a causal mask they would share the work unevenly. Within a chunk all tokens see the same, so
their order, rank after rank, does not matter.

torch's `context_parallel` does not serve here. It is ring attention around one attention call over a whole sequence
that is causal per token or sees everything; ours makes one call per chunk over the chunks it may see, so a ring would
turn once per chunk. It replaces `scaled_dot_product_attention` for the whole process and knows CUDA kernels alone. The
exchange is torch's functional all-to-all, to which `torch.distributed.nn` points too: it has a gradient, runs under
gloo and NCCL, and passes through activation checkpointing and `torch.compile`.

Gradients. A rank's backward gives the gradient of its own tokens' loss for every path through the group: the sum over
the group is the gradient of the whole loss. A mean over latents must therefore be counted over all bands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributed._functional_collectives import all_to_all_single_autograd

from remind.errors import InputError
from remind.models.config import DiTConfig

Axis = Literal["rows", "columns"]


@dataclass(frozen=True)
class SequenceParallel:
    """The group of ranks that share tokens, as `CausalVideoDiT.sequence_parallel` takes it.

    Args:
        group: the ranks, in the order of their bands.
        axis: whether bands are shares of the rows or of the columns; `band_axis` says which divide.
    """

    group: dist.ProcessGroup
    axis: Axis = "rows"
    rank: int = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        # Asked once: compiled blocks then see plain numbers.
        object.__setattr__(self, "rank", dist.get_rank(self.group))
        object.__setattr__(self, "size", dist.get_world_size(self.group))

    def __deepcopy__(self, memo: dict[int, Any]) -> SequenceParallel:
        """A copy of a model belongs to the same ranks; a process group cannot be copied."""
        return self

    def grid_start(self, band_grid_hw: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the band's first token in the whole grid."""
        rows, columns = band_grid_hw
        return (self.rank * rows, 0) if self.axis == "rows" else (0, self.rank * columns)

    def check(self, config: DiTConfig, band_hw: tuple[int, int], *, remembers: bool) -> None:
        """Whether a model of this config can run over this band.

        Args:
            band_hw: latent pixels of the band.
            remembers: whether a cache, or attention's log-sum-exp, was asked for.

        Raises:
            InputError: heads or patches that do not divide, or a pass that is not for training.
        """
        if remembers:
            raise InputError("a KV cache and attention maps are not sequence parallel", got=f"{self.size} ranks",
                             fix="set model.sequence_parallel = None and give every rank the whole latents")
        _check_heads(config, self.size)
        if band_hw[0] % config.patch_hw[0] or band_hw[1] % config.patch_hw[1]:
            raise InputError(f"the band of a sequence-parallel rank ({self.axis}) does not split into patches",
                             got=band_hw, expected=f"multiples of {config.patch_hw}",
                             fix="choose size and axis by band_axis()")


def band_axis(config: DiTConfig, latent_hw: tuple[int, int], size: int) -> Axis:
    """The axis along which `size` ranks can share latents: rows, else columns. Needs no process group.

    480x832 has 30 x 52 tokens a latent frame and Wan 12 heads: 2, 3 and 6 ranks share rows, 4 share columns.

    Raises:
        InputError: neither divides, or the heads do not; the sizes that would do are named.
    """
    heads = _check_heads(config, size)
    rows, columns = (n // p for n, p in zip(latent_hw, config.patch_hw, strict=True))
    if rows % size == 0:
        return "rows"
    if columns % size == 0:
        return "columns"
    good = [n for n in range(1, heads + 1) if heads % n == 0 and (rows % n == 0 or columns % n == 0)]
    raise InputError("neither rows nor columns of tokens divide among the sequence-parallel ranks",
                     got=f"{rows} x {columns} tokens, {size} ranks", expected=f"one of {good} ranks",
                     fix="change --execution.sequence-parallel")


def band(x: Shaped[Tensor, "*b h w"], sequence_parallel: SequenceParallel | None) -> Shaped[Tensor, "*b y x"]:
    """This rank's share of latents or of anything else laid out by rows and columns; all of it without a group.

    Raises:
        InputError: it does not divide.
    """
    if sequence_parallel is None:
        return x
    dim = -2 if sequence_parallel.axis == "rows" else -1
    if x.shape[dim] % sequence_parallel.size:
        raise InputError(f"{sequence_parallel.axis} do not divide among the sequence-parallel ranks",
                         got=x.shape[dim], expected=f"a multiple of {sequence_parallel.size}",
                         fix="choose size and axis by band_axis()")
    return x.chunk(sequence_parallel.size, dim)[sequence_parallel.rank]


def tokens_for_heads(
    sequence_parallel: SequenceParallel, *tensors: Float[Tensor, "b t l n d"]
) -> tuple[Float[Tensor, "b t L m d"], ...]:
    """All tokens (L = ranks x l) of this rank's share of the heads (m = n / ranks), for queries, keys, values at once.

    Collective: all ranks of the group must call it, in the same order, with equal shapes and dtypes.
    """
    ranks = sequence_parallel.size
    outgoing = torch.stack([rearrange(x, "b t l (p m) d -> p b t l m d", p=ranks) for x in tensors], 1)
    incoming = _exchange(outgoing, sequence_parallel)
    return tuple(rearrange(x, "p b t l m d -> b t (p l) m d") for x in incoming.unbind(1))


def heads_for_tokens(
    sequence_parallel: SequenceParallel, y: Float[Tensor, "b t L m d"]
) -> Float[Tensor, "b t l n d"]:
    """All heads of this rank's own tokens: the way back. Collective, as `tokens_for_heads`."""
    outgoing = rearrange(y, "b t (p l) m d -> p b t l m d", p=sequence_parallel.size)
    return rearrange(_exchange(outgoing, sequence_parallel), "p b t l m d -> b t l (p m) d")


def _exchange(x: Shaped[Tensor, "p ..."], sequence_parallel: SequenceParallel) -> Shaped[Tensor, "p ..."]:
    """Part i goes to rank i, and part i of the result comes from it."""
    ones = [1] * sequence_parallel.size
    return all_to_all_single_autograd(x.contiguous(), ones, ones, sequence_parallel.group)


def _check_heads(config: DiTConfig, size: int) -> int:
    """How many heads attend, the branch of `dual` included."""
    heads = config.num_heads * (2 if config.camera_mode == "dual" else 1)
    if heads % size:
        good = [n for n in range(1, heads + 1) if heads % n == 0]
        raise InputError("attention heads do not divide among the sequence-parallel ranks",
                         got=f"{heads} heads, {size} ranks", expected=f"one of {good} ranks",
                         fix="change --execution.sequence-parallel")
    return heads
