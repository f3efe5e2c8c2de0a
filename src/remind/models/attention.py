"""Prefix attention: chunk-causal attention without a mask.

Each chunk's queries attend exactly the keys they may see, one scaled_dot_product_attention call per chunk, so no
work is spent on masked pairs, no mask tensor exists, and it runs wherever torch runs.
Source: our choice, exact (tests compare it with a dense mask).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from remind.errors import InputError

AttentionKernel = Literal["prefix", "dense", "flex"]


@dataclass(frozen=True)
class ChunkMask:
    """Which chunks of a sequence each chunk attends.

    Args:
        visibility: `visibility[i]` lists the chunks that chunk i attends, ascending, itself included.
        kernel: `prefix` runs one call per chunk and spends nothing on masked pairs; `dense` runs one call with a
            boolean mask, which wins only where chunks are so small that the calls themselves cost more than the
            masked pairs (12 tokens a chunk at nano: measured 2.5 times faster on CPU); `flex` runs torch's flex
            attention with a block mask, for compiled CUDA training. Equal results.
    """

    visibility: tuple[tuple[int, ...], ...]
    kernel: AttentionKernel = "prefix"

    def __post_init__(self) -> None:
        for i, seen in enumerate(self.visibility):
            if not seen or list(seen) != sorted(set(seen)) or seen[0] < 0 or seen[-1] >= len(self.visibility):
                raise InputError("a chunk mask row must list chunks of the sequence, ascending", got=(i, seen))

    @staticmethod
    def causal(num_chunks: int) -> ChunkMask:
        """Every chunk attends itself and all before it."""
        return ChunkMask(tuple(tuple(range(i + 1)) for i in range(num_chunks)))

    @staticmethod
    def bidirectional(num_chunks: int) -> ChunkMask:
        """Every chunk attends every chunk."""
        return ChunkMask((tuple(range(num_chunks)),) * num_chunks)

    def prepare(self, tokens_per_chunk: int, device: torch.device) -> ChunkMask | BlockMask:
        """What attention takes: for `flex` a block mask, made once for all layers and outside whatever is compiled."""
        if self.kernel != "flex":
            return self
        return _block_mask(self.visibility, tokens_per_chunk, device)

    def dense(self, tokens_per_chunk: int) -> Bool[Tensor, "l l"]:
        """The same as a boolean matrix, True = attend. For tests and pictures."""
        chunks = torch.zeros(len(self.visibility), len(self.visibility), dtype=torch.bool)
        for i, seen in enumerate(self.visibility):
            chunks[i, list(seen)] = True
        return chunks.repeat_interleave(tokens_per_chunk, 0).repeat_interleave(tokens_per_chunk, 1)


def runs(indices: Sequence[int]) -> list[range]:
    """Ascending indices as contiguous ranges: (0, 1, 2, 5) -> [0..3), [5..6)."""
    result: list[range] = []
    for i in indices:
        if result and result[-1].stop == i:
            result[-1] = range(result[-1].start, i + 1)
        else:
            result.append(range(i, i + 1))
    return result


def take_chunks(x: Float[Tensor, "b n l d"], chunks: Sequence[int], tokens: int) -> Float[Tensor, "b n m d"]:
    """Tokens of the named chunks: a view where they are contiguous, one copy otherwise."""
    parts = [x[:, :, r.start * tokens : r.stop * tokens] for r in runs(chunks)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _sight_groups(mask: ChunkMask) -> list[tuple[range, tuple[int, ...]]]:
    """Neighbouring chunks with equal sight, which one call can serve."""
    groups: list[tuple[range, tuple[int, ...]]] = []
    for i, seen in enumerate(mask.visibility):
        if groups and groups[-1][1] == seen:
            groups[-1] = (range(groups[-1][0].start, i + 1), seen)
        else:
            groups.append((range(i, i + 1), seen))
    return groups


def prefix_attention(
    q: Float[Tensor, "b n l d"], k: Float[Tensor, "b n l d"], v: Float[Tensor, "b n l d"], mask: ChunkMask
) -> Float[Tensor, "b n l d"]:
    """Attention of every chunk over the chunks it may see, rows with equal sight in one call."""
    num_chunks = len(mask.visibility)
    if q.shape[2] % num_chunks:
        raise InputError("the sequence does not split into the chunks of the mask", got=q.shape[2],
                         expected=f"a multiple of {num_chunks}")
    tokens = q.shape[2] // num_chunks
    groups = _sight_groups(mask)
    queries = q.split([len(rows) * tokens for rows, _ in groups], 2)
    if not torch.is_grad_enabled():
        return torch.cat([
            scaled_dot_product_attention(part, take_chunks(k, seen, tokens), take_chunks(v, seen, tokens))
            for part, (_, seen) in zip(queries, groups, strict=True)
        ], 2)
    # With gradients: the backward of a slice fills a full-size tensor with zeros for every chunk, that of
    # split + cat does not (measured 12 % of a nano step).
    keys, values = k.split(tokens, 2), v.split(tokens, 2)
    return torch.cat([
        scaled_dot_product_attention(
            part, torch.cat([keys[j] for j in seen], 2), torch.cat([values[j] for j in seen], 2)
        )
        for part, (_, seen) in zip(queries, groups, strict=True)
    ], 2)


def dense_attention(
    q: Float[Tensor, "b n l d"], k: Float[Tensor, "b n l d"], v: Float[Tensor, "b n l d"], mask: ChunkMask
) -> Float[Tensor, "b n l d"]:
    """The same through one masked call."""
    dense = mask.dense(q.shape[2] // len(mask.visibility)).to(q.device)
    return scaled_dot_product_attention(q, k, v, attn_mask=dense)


@lru_cache(maxsize=32)
def _block_mask(visibility: tuple[tuple[int, ...], ...], tokens: int, device: torch.device) -> BlockMask:
    chunks = ChunkMask(visibility).dense(1).to(device)
    length = tokens * len(visibility)
    return create_block_mask(
        lambda batch, head, q, k: chunks[q // tokens, k // tokens],
        B=None, H=None, Q_LEN=length, KV_LEN=length, device=device,
    )


def flex_attention_by_chunk(
    q: Float[Tensor, "b n l d"], k: Float[Tensor, "b n l d"], v: Float[Tensor, "b n l d"], mask: BlockMask
) -> Float[Tensor, "b n l d"]:
    """The same through flex attention; fused only inside `torch.compile`, and without a backward on CPUs."""
    out = flex_attention(q, k, v, block_mask=mask)
    assert isinstance(out, Tensor)
    return out


def chunk_attention(
    q: Float[Tensor, "b n l d"],
    k: Float[Tensor, "b n l d"],
    v: Float[Tensor, "b n l d"],
    mask: ChunkMask | BlockMask,
) -> Float[Tensor, "b n l d"]:
    """Attention under a chunk mask that `prepare` made ready, by the kernel that it names."""
    if isinstance(mask, BlockMask):
        return flex_attention_by_chunk(q, k, v, mask)
    return (prefix_attention if mask.kernel == "prefix" else dense_attention)(q, k, v, mask)


def attention_with_lse(
    q: Float[Tensor, "b n l d"], k: Float[Tensor, "b n m d"], v: Float[Tensor, "b n m d"]
) -> tuple[Float[Tensor, "b n l d"], Float[Tensor, "b n l"]]:
    """Attention and the log-sum-exp (float32) of each query's scores, without a matrix of scores where torch can."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    if q.is_cuda:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)
        return out, lse[..., : q.shape[2]]  # the kernel pads queries to a multiple of 32
    scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
    return (scores.softmax(-1) @ v.float()).type_as(q), scores.logsumexp(-1)


def chunk_lse(
    q: Float[Tensor, "b n l d"], k: Float[Tensor, "b n m d"], v: Float[Tensor, "b n m d"], tokens_per_chunk: int
) -> Float[Tensor, "b n l j"]:
    """Log-sum-exp of every query against every chunk of keys, in memory of queries x chunks.

    exp(lse_j - logsumexp(lse)) is the exact attention mass on chunk j. Source: our choice, the exact measure
    behind ReMind Fig. 5.
    """
    chunks = zip(k.split(tokens_per_chunk, 2), v.split(tokens_per_chunk, 2), strict=True)
    return torch.stack([attention_with_lse(q, key, value)[1] for key, value in chunks], -1)
