"""What a rollout remembers: finished chunks, which of them are in the caches, and which still wait to be written."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from remind.errors import InputError
from remind.flow import add_noise
from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.inference.branch import Branch, guided_velocity
from remind.inference.memory_policy import Coming, MemoryPolicy, Remembered
from remind.inference.noise import purpose_noise
from remind.inference.past import MemoryRow, PastChunk, PlacedChunk
from remind.models.kv_cache import StreamingKVCache


class ChunkMemory:
    """Finished chunks and the caches that they are written to.

    A chunk that was finished waits. Before the next one, the policy chooses among all that is past; what it does not
    keep is evicted, or never written if it still waits; what it asks back is written again from its latents. Then the
    waiting chunk is written, alone or together with the next one's first pass: by `flush`, or by whoever opens it.

    Args:
        branches: one, or two for guidance; their caches hold the same chunks in the same slots.
        guidance: see `guided_velocity`.
        policy: what the next chunk may see.
        budgeted: caches must not grow.
        seeds: of the context noise.
        context_noise: sigma at which chunks are written.
        chunks_per_pass: most chunks that are written by one pass.

    Attributes:
        past: finished chunks by id, in order of time.
        waiting: ids of those that are not written yet, in order of time.
    """

    def __init__(
        self,
        branches: tuple[Branch, ...],
        *,
        guidance: float,
        policy: MemoryPolicy,
        budgeted: bool,
        seeds: tuple[int, ...],
        context_noise: float,
        chunks_per_pass: int,
    ):
        self.branches, self.guidance, self.policy, self.budgeted = branches, guidance, policy, budgeted
        self.seeds, self.context_noise, self.chunks_per_pass = seeds, context_noise, chunks_per_pass
        self.past: dict[int, PastChunk] = {}
        self.waiting: list[int] = []

    @property
    def cache(self) -> StreamingKVCache:
        """Of the conditional branch."""
        return self.branches[0].cache

    @property
    def resident(self) -> set[int]:
        return {entry.chunk for entry in self.cache.entries}

    @property
    def nbytes(self) -> int:
        """Keys and values of all branches, free slots included."""
        return sum(branch.cache.nbytes for branch in self.branches)

    def table(self) -> tuple[MemoryRow, ...]:
        """Entries in slot order, then chunks that wait to be written."""
        one = self.nbytes // len(self.cache.slots)
        rows: list[tuple[int | None, int]] = [
            (slot, entry.chunk) for slot, entry in enumerate(self.cache.slots) if entry is not None
        ]
        return tuple(
            MemoryRow(slot, p.chunk, p.position, p.role, p.protected, p.importance, p.last_importance,
                      0 if slot is None else one)
            for slot, p in ((slot, self.past[chunk]) for slot, chunk in [*rows, *((None, c) for c in self.waiting)])
        )

    def copy(self) -> ChunkMemory:
        """Another memory of the same content; the two share nothing that changes."""
        other = copy.copy(self)
        other.branches = tuple(branch.copy() for branch in self.branches)
        other.past, other.waiting = dict(self.past), list(self.waiting)
        return other

    # --- what happens ----------------------------------------------------------------------------------------------

    def finish(self, placed: PlacedChunk, latents: Float[Tensor, "b 3 c h w"], *, protected: bool = False) -> None:
        """Take in a finished chunk; it waits to be written."""
        kept = latents.detach().to("cpu", torch.float32, copy=True)  # the caller may write to theirs
        self.past[placed.chunk] = PastChunk(placed.chunk, placed.position, placed.conditions, kept, protected)
        self.waiting.append(placed.chunk)

    @torch.no_grad()
    def prepare(self, coming: PlacedChunk) -> None:
        """Let the policy choose what the coming chunk may see, and make memory so.

        Raises:
            InputError: a policy that finds no way, or keeps what is not there.
        """
        past = [p for p in self.past.values() if not p.knocked_out]
        available = self.resident | set(self.waiting)
        room = len(self.cache.slots) - 1 if self.budgeted else len(past)
        kept = self.policy.keep([p.remembered(resident=p.chunk in available) for p in past], coming.coming(), room)
        if len(set(kept)) != len(kept) or not set(kept) <= {p.chunk for p in past} or len(kept) > room:
            raise InputError("the memory policy keeps what it must not", got=f"{self.policy.name}: chunks {list(kept)}",
                             expected=f"at most {room} of {[p.chunk for p in past]}")
        keep = set(kept) if self.policy.recalls else set(kept) & available
        leaving, recalled = available - keep, sorted(keep - available)
        if leaving or recalled:
            # What was kept for an earlier chunk is written against what that chunk could see.
            self.flush(self.waiting[:-1])
        self.waiting = [chunk for chunk in self.waiting if chunk in keep]
        self._evict(leaving & self.resident)
        if not self.budgeted and len(self.cache.slots) <= len(keep):
            for branch in self.branches:
                branch.cache.grow(len(keep) + 1 + len(keep) // 4)  # copying everything again each time would be slow
        self._write(recalled)

    def check_reach(self, to_come: Sequence[Remembered], last: int) -> None:
        """Ask the policy now what it would keep for a chunk after others that are still to come.

        Raises:
            InputError: what the policy raises when its room does not suffice.
        """
        past = [p.remembered(resident=True) for p in self.past.values() if not p.knocked_out] + list(to_come)
        if self.budgeted:
            position = max((p.position for p in past), default=0) + LATENTS_PER_CHUNK
            self.policy.keep(past, Coming(last, position, "clean", None), len(self.cache.slots) - 1)

    def flush(self, chunks: Sequence[int]) -> None:
        """Write the first of the waiting chunks."""
        self._write(chunks)
        del self.waiting[: len(chunks)]

    def seen(self, shares: dict[int, float | None], *, by: int) -> None:
        """Chunk `by` could see these, and gave each so much of its attention; None = not measured."""
        for chunk, share in shares.items():
            self.past[chunk] = self.past[chunk].seen(by, share)

    # --- what is asked ---------------------------------------------------------------------------------------------

    def protect(self, chunk: int, protected: bool) -> None:
        self.past[chunk] = replace(self._known(chunk), protected=protected)

    def set_role(self, chunk: int, role: Role) -> None:
        known = self._known(chunk)
        self.past[chunk] = replace(known, conditions=replace(known.conditions, role=role))
        if chunk in self.resident:
            for branch in self.branches:
                branch.cache.relabel(chunk, role)

    def hide(self, chunk: int) -> None:
        """Never show a chunk again; what waits is written first, and absorbs it."""
        known = self._known(chunk)
        self.flush(list(self.waiting))
        self._forget(known)

    def rebuild_without(self, chunk: int) -> None:
        """Never show a chunk again, and write all later entries again without it, in order."""
        self._forget(self._known(chunk))
        later = sorted(other for other in self.resident if other > chunk)
        self._evict(later)
        self._write(later)

    def _known(self, chunk: int) -> PastChunk:
        known = self.past.get(chunk)
        if known is None or known.knocked_out:
            raise InputError("no such chunk in memory" if known is None else "this chunk was knocked out", got=chunk,
                             expected=f"one of {[p.chunk for p in self.past.values() if not p.knocked_out]}")
        return known

    def _forget(self, known: PastChunk) -> None:
        if known.chunk in self.waiting:
            self.waiting.remove(known.chunk)
        self._evict({known.chunk} & self.resident)
        self.past[known.chunk] = replace(known, knocked_out=True)

    # --- passes ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _write(self, chunks: Sequence[int]) -> None:
        """Run finished chunks once more, in order, which leaves them in the caches; each sees what is before it."""
        for start in range(0, len(chunks), self.chunks_per_pass):
            now = [self.past[chunk] for chunk in chunks[start : start + self.chunks_per_pass]]
            try:
                self.open(now)
                self.velocity(now, torch.cat([self.context(p) for p in now], 1), self.context_sigmas(len(now)))
                self.close(len(now))
            finally:
                self.discard_open()

    def velocity(
        self, chunks: Sequence[PlacedChunk], latents: Tensor, sigmas: Tensor, *, return_lse: bool = False
    ) -> tuple[Float[Tensor, "b t c h w"], list[Float[Tensor, "b n l j"]]]:
        """A pass over the open chunks; see `guided_velocity`."""
        return guided_velocity(self.branches, self.guidance, chunks, latents, sigmas, return_lse=return_lse)

    def context(self, past: PastChunk) -> Float[Tensor, "b 3 c h w"]:
        """A finished chunk as it is written: noised by a function of (seed, chunk)."""
        clean = past.latents.to(self.cache.device)
        if self.context_noise == 0:
            return clean
        noise = purpose_noise(self.seeds, past.chunk, "context", tuple(clean.shape[1:])).to(clean)
        return add_noise(clean, noise, self.context_sigmas(1))

    def context_sigmas(self, num_chunks: int) -> Float[Tensor, "b t"]:
        return torch.full((len(self.seeds), LATENTS_PER_CHUNK * num_chunks), self.context_noise,
                          device=self.cache.device)  # fmt: skip

    def open(self, chunks: Sequence[PlacedChunk]) -> None:
        for branch in self.branches:
            for c in chunks:
                branch.cache.open(c.chunk, c.position, c.role)

    def close(self, count: int) -> None:
        """Keep what the last pass wrote of the chunks that were opened first."""
        for branch in self.branches:
            for _ in range(count):
                branch.cache.close()

    def discard_open(self) -> None:
        for branch in self.branches:
            branch.cache.discard_open()

    def _evict(self, chunks: Sequence[int] | set[int]) -> None:
        for branch in self.branches:
            for chunk in chunks:
                branch.cache.evict(chunk)
