"""How much memory a pass over one chunk takes: said before it is run, and counted while it runs."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.config import DiTConfig


def chunk_pass_nbytes(
    config: DiTConfig, *, batch: int, grid_hw: tuple[int, int], dtype: torch.dtype = torch.float32
) -> int:
    """Largest size of all activations of a pass over one chunk without gradients, beside weights and cache.

    Source: our choice, counted from what lives at once at the two widest places of a block. In the feed-forward: the
    block's input, the residual stream, its normalised copy, the hidden layer, which is activated in place, and the
    output. In self-attention: stream, normalised copy, q, k, v, and while k is turned its float32 copy and product.
    Attention itself holds no matrix of scores. The patches, the embedded text and the stream's rotors live throughout.
    Right for eager torch, where nothing is fused; measured by `benchmarks/model.py`.

    Args:
        batch: sequences in parallel.
        grid_hw: tokens of one latent frame.
        dtype: of weights and stream.
    """
    tokens = batch * LATENTS_PER_CHUNK * grid_hw[0] * grid_hw[1]
    size = dtype.itemsize
    # adaLN runs in float32: the normalised copy is made there and cast.
    feed_forward = tokens * (4 * config.dim * size + config.ffn_dim * size)
    attention = tokens * config.dim * (5 * size + 2 * 4)
    rotors = LATENTS_PER_CHUNK * grid_hw[0] * grid_hw[1] * (config.head_dim // 2) * 8
    text = batch * config.text_len * (config.text_dim + 3 * config.dim) * size
    patches = tokens * config.in_channels * config.patch_hw[0] * config.patch_hw[1] * size
    return max(feed_forward, attention) + rotors + text + patches


class LiveBytes(TorchDispatchMode):
    """Largest sum of the storages that operators made and somebody still held: what a GPU allocator would report.

    Source: our choice; resident memory would count what the C library keeps of freed blocks too.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {s._cdata for s in _storages((args, kwargs))}  # a view of a weight is not made here
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage._cdata not in given:
                self._hold(storage)
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return
        self._held[key] = weakref.ref(storage, partial(self._forget, key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int, _: object) -> None:
        del self._held[key]
        self.now -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    leaves = tree_leaves(tree)
    return [leaf.untyped_storage() for leaf in leaves if isinstance(leaf, torch.Tensor)]
