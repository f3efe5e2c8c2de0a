"""The streaming KV cache: preallocated slots, entries that keep their original positions, eviction without moves.

Source: ReMind Sec. 3.3. Keys are stored with their own rotary phase applied, which is exact because a phase
depends on the entry alone; the order of slots is irrelevant to attention, so a freed slot is simply reused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.models.attention import take_chunks
from remind.models.config import DiTConfig


@dataclass(frozen=True)
class CacheEntry:
    """What is known of one remembered chunk.

    Args:
        chunk: id of the chunk in the rollout.
        position: original time of its first latent frame.
        role: its role in the frame graph.
    """

    chunk: int
    position: int
    role: Role


class StreamingKVCache:
    """Keys and values of remembered chunks.

    One slot is *open* while a chunk is being denoised: every pass over that chunk overwrites it, the last pass
    (at sigma 0) leaves what later chunks read, and `close` makes it permanent.

    Args:
        config: shape of the model that reads and writes it.
        batch: sequences in parallel.
        num_slots: chunks that fit, the open one included.
        tokens_per_chunk: tokens of one chunk.
    """

    def __init__(
        self,
        config: DiTConfig,
        *,
        batch: int,
        num_slots: int,
        tokens_per_chunk: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        if num_slots < 1:
            raise InputError("a cache needs at least one slot", got=num_slots)
        self.config = config
        self.tokens_per_chunk = tokens_per_chunk
        shape = (config.num_layers, batch, config.num_heads, num_slots * tokens_per_chunk, config.head_dim)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self._slots: list[CacheEntry | None] = [None] * num_slots
        self._open: int | None = None

    @staticmethod
    def predict_nbytes(
        config: DiTConfig, *, batch: int, num_slots: int, tokens_per_chunk: int, dtype: torch.dtype = torch.float32
    ) -> int:
        """Bytes that a cache of this shape will hold, before it is allocated."""
        return 2 * config.num_layers * batch * config.dim * num_slots * tokens_per_chunk * dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    @property
    def entries(self) -> tuple[CacheEntry, ...]:
        """Remembered chunks in slot order, the open one included."""
        return tuple(entry for entry in self._slots if entry is not None)

    @property
    def batch(self) -> int:
        return self._keys.shape[1]

    def open(self, chunk: int, position: int, role: Role) -> None:
        """Reserve a free slot for the chunk that is about to be denoised.

        Raises:
            InputError: another chunk is open, the chunk is already remembered, or all slots are taken.
        """
        if self._open is not None:
            raise InputError("a chunk is already open", got=self._slots[self._open], fix="close() it first")
        if any(entry.chunk == chunk for entry in self.entries):
            raise InputError("this chunk is already in the cache", got=chunk, fix="evict() it first")
        if None not in self._slots:
            raise InputError("the cache is full", got=f"{len(self._slots)} chunks", fix="evict() one first")
        self._open = self._slots.index(None)
        self._slots[self._open] = CacheEntry(chunk, position, role)

    def close(self) -> None:
        """Keep what the last pass wrote."""
        if self._open is None:
            raise InputError("no chunk is open", fix="open() one first")
        self._open = None

    def evict(self, chunk: int) -> None:
        """Forget a chunk; its slot is free, nothing moves.

        Raises:
            InputError: no such chunk.
        """
        for slot, entry in enumerate(self._slots):
            if entry is not None and entry.chunk == chunk and slot != self._open:
                self._slots[slot] = None
                return
        raise InputError("no such chunk in the cache", got=chunk, expected=[e.chunk for e in self.entries])

    def write_and_read(
        self, layer: int, k: Float[Tensor, "b n l d"], v: Float[Tensor, "b n l d"]
    ) -> tuple[Float[Tensor, "b n m d"], Float[Tensor, "b n m d"]]:
        """Overwrite the open slot and return keys and values of all entries, a view where they are contiguous."""
        if self._open is None:
            raise InputError("no chunk is open", fix="open() one first")
        if k.shape[2] != self.tokens_per_chunk or k.shape[0] != self.batch:
            raise InputError("this is not one chunk of this cache", got=tuple(k.shape),
                             expected=f"batch {self.batch}, {self.tokens_per_chunk} tokens")
        window = slice(self._open * self.tokens_per_chunk, (self._open + 1) * self.tokens_per_chunk)
        self._keys[layer, :, :, window] = k
        self._values[layer, :, :, window] = v
        live = [slot for slot, entry in enumerate(self._slots) if entry is not None]
        return (
            take_chunks(self._keys[layer], live, self.tokens_per_chunk),
            take_chunks(self._values[layer], live, self.tokens_per_chunk),
        )


def tokens_per_chunk(config: DiTConfig, latent_hw: tuple[int, int]) -> int:
    """Tokens of one chunk of three latent frames."""
    return LATENTS_PER_CHUNK * (latent_hw[0] // config.patch_hw[0]) * (latent_hw[1] // config.patch_hw[1])
