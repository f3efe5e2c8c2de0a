"""The streaming KV cache: preallocated slots, entries that keep their original positions, eviction without moves.

Source: ReMind Sec. 3.3. By default keys are stored with their own rotary phase applied, which is exact because a phase
depends on the entry alone; the order of slots is irrelevant to attention, so a freed slot is simply reused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.models.attention import attention_with_lse, chunk_lse, take_chunks
from remind.models.config import DiTConfig
from remind.models.pm_rope import position_rotors, rotate

KeyForm = Literal["rotated", "raw"]
Storage = Literal["float", "int8"]


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

    A slot is *open* while its chunk is being denoised: every pass over that chunk overwrites it, the last pass
    (at sigma 0) leaves what later chunks read, and `close` makes it permanent. Several slots may be open: a pass then
    runs over all their chunks, and each chunk sees those that were opened before it, as if they had been written in
    passes of their own. Classifier-free guidance takes two caches, one per branch: they remember different things.

    Args:
        config: shape of the model that reads and writes it.
        batch: sequences in parallel.
        num_slots: chunks that fit, the open one included.
        grid_hw: tokens of one latent frame, height and width.
        keys: `rotated` stores keys with their phases; `raw` without, and turns them on every read by their entry's
            present position, so that `move` can give an entry another one. Exactly equal otherwise, and slower.
        storage: `float`, or `int8` with one scale per token and head: a quarter of float32. Reads go chunk by chunk,
            so that never more than one chunk of one layer exists in full precision.
    """

    def __init__(
        self,
        config: DiTConfig,
        *,
        batch: int,
        num_slots: int,
        grid_hw: tuple[int, int],
        keys: KeyForm = "rotated",
        storage: Storage = "float",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        if num_slots < 1:
            raise InputError("a cache needs at least one slot", got=num_slots)
        self.config, self.grid_hw, self.keys, self.storage, self.dtype = config, grid_hw, keys, storage, dtype
        self._tensors = {
            name: torch.empty(shape, dtype=kind, device=device)  # nothing is read before it is written
            for name, (shape, kind) in _layout(config, batch, num_slots, grid_hw, keys, storage, dtype).items()
        }
        self._slots: list[CacheEntry | None] = [None] * num_slots
        self._open: list[int] = []  # in the order of opening

    @staticmethod
    def predict_nbytes(
        config: DiTConfig,
        *,
        batch: int,
        num_slots: int,
        grid_hw: tuple[int, int],
        keys: KeyForm = "rotated",
        storage: Storage = "float",
        dtype: torch.dtype = torch.float32,
    ) -> int:
        """Bytes that a cache of this shape will hold, exactly, before it is allocated."""
        layout = _layout(config, batch, num_slots, grid_hw, keys, storage, dtype)
        return sum(torch.Size(shape).numel() * kind.itemsize for shape, kind in layout.values())

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors.values())

    @property
    def tokens_per_chunk(self) -> int:
        return LATENTS_PER_CHUNK * self.grid_hw[0] * self.grid_hw[1]

    @property
    def entries(self) -> tuple[CacheEntry, ...]:
        """Remembered chunks in slot order, the open ones included."""
        return tuple(entry for entry in self._slots if entry is not None)

    @property
    def slots(self) -> tuple[CacheEntry | None, ...]:
        """All slots in order; None = free."""
        return tuple(self._slots)

    @property
    def num_open(self) -> int:
        """Chunks that the next pass must run over."""
        return len(self._open)

    @property
    def batch(self) -> int:
        return self._tensors["k"].shape[1]

    @property
    def device(self) -> torch.device:
        return self._tensors["k"].device

    def open(self, chunk: int, position: int, role: Role) -> None:
        """Reserve a free slot for a chunk that is about to be denoised or written.

        Raises:
            InputError: the chunk is already remembered, or all slots are taken.
        """
        if any(entry.chunk == chunk for entry in self.entries):
            raise InputError("this chunk is already in the cache", got=chunk, fix="evict() it first")
        if None not in self._slots:
            raise InputError("the cache is full", got=f"{len(self._slots)} chunks", fix="evict() one first")
        self._open.append(self._slots.index(None))
        self._slots[self._open[-1]] = CacheEntry(chunk, position, role)

    def close(self) -> None:
        """Keep what the last pass wrote of the chunk that was opened first.

        Raises:
            InputError: no chunk is open.
        """
        if not self._open:
            raise InputError("no chunk is open", fix="open() one first")
        del self._open[0]

    def discard_open(self) -> None:
        """Forget the chunks that are open, whatever has been written of them."""
        for slot in self._open:
            self._slots[slot] = None
        self._open.clear()

    def evict(self, chunk: int) -> None:
        """Forget a chunk; its slot is free, nothing moves.

        Raises:
            InputError: no such chunk, or it is open.
        """
        self._slots[self._closed_slot(chunk)] = None

    def move(self, chunk: int, position: int) -> None:
        """Give a remembered chunk another position in time.

        Raises:
            InputError: no such chunk, or keys that are stored with their phases.
        """
        if self.keys != "raw":
            raise InputError("these keys have their phases applied", got=f"keys={self.keys!r}",
                             fix='make the cache with keys="raw"')
        slot = self._closed_slot(chunk)
        entry = self._slots[slot]
        assert entry is not None
        self._slots[slot] = replace(entry, position=position)

    def relabel(self, chunk: int, role: Role) -> None:
        """Give a remembered chunk another role; what it holds stays.

        Raises:
            InputError: no such chunk, or it is open.
        """
        slot = self._closed_slot(chunk)
        entry = self._slots[slot]
        assert entry is not None
        self._slots[slot] = replace(entry, role=role)

    def grow(self, num_slots: int) -> None:
        """Make room for more chunks; entries keep their slots. Old and new tensors exist together for a moment.

        Raises:
            InputError: fewer slots than there are.
        """
        if num_slots < len(self._slots):
            raise InputError("a cache cannot shrink", got=num_slots, expected=f">= {len(self._slots)}")
        for name, (shape, kind) in self.layout(num_slots).items():
            old = self._tensors[name]
            self._tensors[name] = torch.empty(shape, dtype=kind, device=old.device)
            self._tensors[name][tuple(slice(n) for n in old.shape)] = old
        self._slots += [None] * (num_slots - len(self._slots))

    def copy(self) -> StreamingKVCache:
        """Another cache of the same content; the two share nothing."""
        other = copy.copy(self)
        other._tensors = {name: tensor.clone() for name, tensor in self._tensors.items()}
        other._slots, other._open = list(self._slots), list(self._open)
        return other

    def layout(self, num_slots: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shape and type of every tensor of a cache like this one with so many slots."""
        return _layout(self.config, self.batch, num_slots, self.grid_hw, self.keys, self.storage, self.dtype)

    def export_slot(self, slot: int) -> dict[str, Tensor]:
        """What a slot holds, as views of the shapes of `layout(1)`."""
        return {name: self._part(name, slot) for name in self._tensors}

    def import_slot(self, slot: int, entry: CacheEntry, tensors: Mapping[str, Tensor]) -> None:
        """Fill a free slot with what `export_slot` gave of another cache.

        Raises:
            InputError: the slot is taken or does not exist, the chunk is there already, or tensors of another form.
        """
        if not 0 <= slot < len(self._slots) or self._slots[slot] is not None:
            raise InputError("only a free slot can be filled", got=slot,
                             expected=[i for i, held in enumerate(self._slots) if held is None])
        if any(held.chunk == entry.chunk for held in self.entries):
            raise InputError("this chunk is already in the cache", got=entry.chunk)
        expected = self.layout(1)
        got = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if got != expected:
            raise InputError("these are not the tensors of such a cache", got=got, expected=expected)
        for name, tensor in tensors.items():
            self._part(name, slot).copy_(tensor)
        self._slots[slot] = entry

    def _part(self, name: str, slot: int) -> Tensor:
        if name == "offsets":
            return self._tensors[name][:, :, slot : slot + 1]
        return self._tensors[name][:, :, :, self._window(slot)]

    def _closed_slot(self, chunk: int) -> int:
        for slot, entry in enumerate(self._slots):
            if entry is not None and entry.chunk == chunk and slot not in self._open:
                return slot
        raise InputError("no such chunk in the cache", got=chunk, expected=[e.chunk for e in self.entries])

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "b n l d"],
        k: Float[Tensor, "b n l d"],
        v: Float[Tensor, "b n l d"],
        *,
        offsets: Complex[Tensor, "b t 1 m p"] | None = None,
        lse: list[Tensor] | None = None,
    ) -> Float[Tensor, "b n l d"]:
        """Overwrite the open slots, then let each open chunk attend over the entries that are not later than it.

        Args:
            q: with its phases.
            k, v: of the open chunks, in the order of opening; k without its phases where keys are stored raw.
            offsets: camera phases of k's frames; needed where keys are stored raw and the layer has them.
            lse: gets the log-sum-exp of every query against every entry, in slot order; -inf where it may not look.

        Raises:
            InputError: no chunk is open, or these are not the open chunks of this cache.
        """
        if not self._open:
            raise InputError("no chunk is open", fix="open() one first")
        if k.shape[2] != len(self._open) * self.tokens_per_chunk or k.shape[0] != self.batch:
            raise InputError("these are not the open chunks of this cache", got=tuple(k.shape),
                             expected=f"batch {self.batch}, {len(self._open)} x {self.tokens_per_chunk} tokens")
        queries, keys, values = (x.split(self.tokens_per_chunk, 2) for x in (q, k, v))
        turns = [None] * len(keys) if offsets is None else offsets.split(LATENTS_PER_CHUNK, 1)
        for slot, key, value, turn in zip(self._open, keys, values, turns, strict=True):
            self._write(layer, slot, key, value, turn)
        live = [slot for slot, entry in enumerate(self._slots) if entry is not None]
        outputs, scores = [], []
        for i, own in enumerate(zip(keys, values, turns, strict=True)):
            mine = self._open[i]
            seen = [slot for slot in live if slot not in self._open[i + 1 :] and not self._is_later(slot, mine)]
            y, found = self._look(layer, queries[i], seen, mine, own, lse is not None)
            outputs.append(y)
            if found is not None:
                every = found.new_full((*found.shape[:-1], len(live)), -torch.inf)
                every[..., [live.index(slot) for slot in seen]] = found
                scores.append(every)
        if lse is not None:
            lse.append(torch.cat(scores, 2))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)

    def _is_later(self, slot: int, mine: int) -> bool:
        entry, own = self._slots[slot], self._slots[mine]
        assert entry is not None
        assert own is not None
        return entry.position > own.position

    def _look(
        self, layer: int, q: Tensor, seen: list[int], mine: int, own: tuple[Tensor, Tensor, Tensor | None], scored: bool
    ) -> tuple[Float[Tensor, "b n l d"], Float[Tensor, "b n l j"] | None]:
        """Attention of one open chunk over the slots it may see, and its scores where they are asked for."""
        if self.storage == "float" and self.keys == "rotated":
            keys, values = (take_chunks(self._tensors[n][layer], seen, self.tokens_per_chunk) for n in ("k", "v"))
            scores = chunk_lse(q, keys, values, self.tokens_per_chunk) if scored else None
            return scaled_dot_product_attention(q, keys, values), scores
        found = [attention_with_lse(q, *self._read(layer, slot, own if slot == mine else None)) for slot in seen]
        scores = torch.stack([one for _, one in found], -1)
        shares = scores.softmax(-1).unbind(-1)
        parts = [part * share[..., None].type_as(part) for (part, _), share in zip(found, shares, strict=True)]
        return torch.stack(parts).sum(0), scores

    def _window(self, slot: int) -> slice:
        return slice(slot * self.tokens_per_chunk, (slot + 1) * self.tokens_per_chunk)

    def _write(self, layer: int, slot: int, k: Tensor, v: Tensor, offsets: Tensor | None) -> None:
        for name, x in (("k", k), ("v", v)):
            target = self._tensors[name][layer, :, :, self._window(slot)]
            if self.storage == "float":
                target.copy_(x)
                continue
            scale = x.float().abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
            target.copy_((x.float() / scale).round_())
            self._tensors[f"{name}_scale"][layer, :, :, self._window(slot)] = scale
        if "offsets" in self._tensors:  # a slot may hold those of an earlier chunk
            self._tensors["offsets"][layer, :, slot] = 1 if offsets is None else offsets[:, :, 0]

    def _read(
        self, layer: int, slot: int, own: tuple[Tensor, Tensor, Tensor | None] | None
    ) -> tuple[Float[Tensor, "b n l d"], Float[Tensor, "b n l d"]]:
        """Keys, turned, and values of one entry; a chunk's own are taken as they came, before any rounding."""
        if own is not None:
            k, v, offsets = own
        else:
            k, v = (self._tensors[name][layer, :, :, self._window(slot)] for name in ("k", "v"))
            if self.storage == "int8":
                k, v = (x.float() * self._tensors[f"{name}_scale"][layer, :, :, self._window(slot)]
                        for name, x in (("k", k), ("v", v)))  # fmt: skip
                k, v = k.to(self.dtype), v.to(self.dtype)
            offsets = self._tensors["offsets"][layer, :, slot, :, None] if "offsets" in self._tensors else None
        if self.keys == "rotated":
            return k, v
        entry = self._slots[slot]
        assert entry is not None
        times = torch.arange(entry.position, entry.position + LATENTS_PER_CHUNK, dtype=torch.float32, device=k.device)
        rotors = position_rotors(times[None], self.grid_hw, self.config)[:, :, :, None]
        if offsets is not None:
            rotors = rotors * offsets
        heads = self.config.num_heads  # those of a second branch, if there is one, know no time
        tokens = rearrange(k[:, :heads], "b n (t l) d -> b t l n d", t=LATENTS_PER_CHUNK)
        turned = rearrange(rotate(tokens, rotors), "b t l n d -> b n (t l) d")
        return torch.cat([turned, k[:, heads:]], 1), v


def _layout(
    config: DiTConfig, batch: int, num_slots: int, grid_hw: tuple[int, int], keys: KeyForm, storage: Storage,
    dtype: torch.dtype,
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of every tensor of a cache."""
    heads = config.num_heads * (2 if config.camera_mode == "dual" else 1)
    tokens = num_slots * LATENTS_PER_CHUNK * grid_hw[0] * grid_hw[1]
    rows = (config.num_layers, batch, heads, tokens)
    main = ((*rows, config.head_dim), dtype if storage == "float" else torch.int8)
    layout: dict[str, tuple[tuple[int, ...], torch.dtype]] = {"k": main, "v": main}
    if storage == "int8":
        layout["k_scale"] = layout["v_scale"] = ((*rows, 1), torch.float32)
    if keys == "raw" and config.camera_mode in ("qk", "full"):
        groups = config.num_heads if config.phase_per_head else 1
        layout["offsets"] = ((config.num_layers, batch, num_slots, LATENTS_PER_CHUNK, groups, config.head_dim // 2),
                             torch.complex64)  # fmt: skip
    return layout


def grid_of(config: DiTConfig, latent_hw: tuple[int, int]) -> tuple[int, int]:
    """Tokens of one latent frame, height and width."""
    return latent_hw[0] // config.patch_hw[0], latent_hw[1] // config.patch_hw[1]
