"""Chunk-by-chunk generation through the streaming KV cache, at original positions. Source: ReMind Sec. 3.3.

`Rollout` is an engine that is asked for one chunk after another; `rollout` runs it to the end of a list of prompts.

Before a chunk is made, a policy says which finished chunks it may see; the others are evicted. A finished chunk is run
once more at sigma 0 (or at the chosen context noise), which leaves its keys and values in the cache. By default it
rides in the first denoising pass of the next chunk: the two are one sequence in which the second sees the first, so the
result is that of separate passes, and matrix products of twice the rows run nearer to the machine's rate.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.inference.branch import Branch
from remind.inference.chunk_memory import ChunkMemory
from remind.inference.glance import Glance
from remind.inference.memory_budget import FEWEST_SLOTS, slots_within
from remind.inference.memory_policy import Full, MemoryPolicy, Remembered
from remind.inference.noise import chunk_noise, purpose_noise
from remind.inference.past import ChunkConditions, MemoryRow, PastChunk, PlacedChunk
from remind.inference.samplers import Sampler
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import Storage, StreamingKVCache, grid_of

KnockOut = Literal["direct", "rebuild"]

POOLED_TEXTS = 8  # how many of the last prompts a new one is compared with, so that equal ones are kept once


@dataclass(frozen=True)
class Conditions:
    """What a rollout is asked for; T = 3 * number of chunks latent frames.

    Args:
        text: embedding of each chunk's prompt.
        cameras: pose descriptors (Eq. 1), or None.
        camera_valid: which of them may be used, or None = all.
        roles: role of each chunk; from the schedule, never guessed.
        seeds: one per sample; noise depends on (seed, chunk) alone.
    """

    text: Float[Tensor, "b k s e"]
    cameras: Float[Tensor, "b t 14"] | None
    camera_valid: Bool[Tensor, "b t"] | None
    roles: tuple[Role, ...]
    seeds: tuple[int, ...]

    def of_chunk(self, chunk: int) -> ChunkConditions:
        frames = slice(LATENTS_PER_CHUNK * chunk, LATENTS_PER_CHUNK * (chunk + 1))
        return ChunkConditions(
            self.text[:, chunk],
            cameras=None if self.cameras is None else self.cameras[:, frames],
            camera_valid=None if self.camera_valid is None else self.camera_valid[:, frames],
            role=self.roles[chunk],
        )


class Rollout:
    """A video in the making and all that is remembered of it.

    What it makes is a function of what it was given and asked for, chunk by chunk, and of the seeds; not of how calls
    are cut. Latents and conditions of all chunks are kept on the CPU, so that any of them can be written again.

    Args:
        model: in eval mode; the caches take its dtype and device.
        batch: sequences in parallel; they share what is remembered and what is forgotten.
        latent_hw: height and width of the latents.
        seeds: one per sample, >= 0.
        sampler: how a chunk is denoised.
        guidance: g of classifier-free guidance, v = v_uncond + g (v_cond - v_uncond); 1 = none. Otherwise a second
            branch remembers the same chunks under their negative prompts, in a cache of its own.
        policy: which chunks the next one may see.
        budget_bytes: most bytes that the caches of all branches may take, at any moment, the chunk that is being made
            included. The caches then are allocated once, whole. None = they grow as the policy needs.
        storage: see `StreamingKVCache`.
        context_noise: sigma in [0, 1) at which chunks are written to memory, with noise that is a function of (seed,
            chunk). ReMind Table 3's noisy memory.
        chunks_per_pass: most chunks that one pass runs over, >= 1. 1 writes every chunk by a pass of its own and needs
            the least memory; more also join the chunks of a prefix. Equal results, up to rounding.
        first_position: time of chunk 0's first latent frame; beyond references, if there are any.
        horizon: chunks that are expected: what a cache without a budget is allocated for at first.
        most_chunks: chunks that there will be at most, references included; None = unknown. With a budget no more than
            these are allocated.
        measure_importance: also measure how much each entry is looked at if the policy does not need it. It changes
            nothing of the video.

    Raises:
        InputError: a value out of its range, or a budget that does not hold one chunk and an anchor.
    """

    def __init__(
        self,
        model: CausalVideoDiT,
        *,
        batch: int,
        latent_hw: tuple[int, int],
        seeds: Sequence[int],
        sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        guidance: float = 1.0,
        policy: MemoryPolicy = Full(),  # noqa: B008 (frozen)
        budget_bytes: int | None = None,
        storage: Storage = "float",
        context_noise: float = 0.0,
        chunks_per_pass: int = 2,
        first_position: int = 0,
        horizon: int = 7,
        most_chunks: int | None = None,
        measure_importance: bool = False,
    ):
        if len(seeds) != batch or min(seeds, default=-1) < 0:
            raise InputError("every sample needs a seed", got=list(seeds), expected=f"{batch} numbers >= 0")
        if chunks_per_pass < 1:
            raise InputError("a pass runs over at least one chunk", got=chunks_per_pass)
        if not 0 <= context_noise < 1:
            raise InputError("noise on memory is a noise level", got=context_noise, expected="0 <= sigma < 1")
        if not math.isfinite(guidance):
            raise InputError("guidance is a finite number", got=guidance, expected="e.g. 5.0; 1 = none")
        rows, columns = model.config.patch_hw
        if min(latent_hw) < 1 or latent_hw[0] % rows or latent_hw[1] % columns:
            raise InputError("latent size does not split into patches", got=tuple(latent_hw),
                             expected=f"multiples of {model.config.patch_hw}")
        if first_position < 0 or horizon < 1:
            raise InputError("a rollout starts at a time >= 0 and expects at least one chunk",
                             got=f"first_position={first_position}, horizon={horizon}")
        self.model, self.latent_hw, self.seeds, self.sampler = model, latent_hw, tuple(map(int, seeds)), sampler
        self.guidance, self.policy, self.budget_bytes, self.storage = guidance, policy, budget_bytes, storage
        self.context_noise, self.chunks_per_pass, self.first_position = context_noise, chunks_per_pass, first_position
        self.measure_importance = measure_importance
        num_branches = 1 if guidance == 1 else 2
        grid_hw = grid_of(model.config, latent_hw)
        device = next(model.parameters()).device
        slots = horizon
        if budget_bytes is not None:
            slots = slots_within(budget_bytes, model.config, batch=batch, branches=num_branches, grid_hw=grid_hw,
                                 storage=storage, dtype=model.dtype)  # fmt: skip
            slots = slots if most_chunks is None else min(slots, max(most_chunks, FEWEST_SLOTS))
        branches = tuple(
            Branch(model, StreamingKVCache(model.config, batch=batch, num_slots=slots, grid_hw=grid_hw,
                                           storage=storage, dtype=model.dtype, device=device), negative=i > 0)
            for i in range(num_branches)
        )
        self.memory = ChunkMemory(branches, guidance=guidance, policy=policy, budgeted=budget_bytes is not None,
                                   seeds=self.seeds, context_noise=context_noise, chunks_per_pass=chunks_per_pass)

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        return len(self.seeds)

    @property
    def num_chunks(self) -> int:
        """Finished chunks, given or generated; references are not counted. Also the id of the next one."""
        return next(reversed(self.memory.past), -1) + 1

    def position_of(self, chunk: int, num_references: int) -> int:
        """Time of a chunk's first latent frame: references stand before everything, one after another."""
        start = self.first_position if chunk >= 0 else LATENTS_PER_CHUNK * num_references
        return start + LATENTS_PER_CHUNK * chunk

    @property
    def past(self) -> tuple[PastChunk, ...]:
        """All finished chunks in order of time, references first."""
        return tuple(self.memory.past.values())

    @property
    def cache_nbytes(self) -> int:
        """Keys and values of all branches, free slots included."""
        return self.memory.nbytes

    @property
    def latents_nbytes(self) -> int:
        """Latents of all chunks, which are kept on the CPU and in no budget."""
        return sum(past.latents.nbytes for past in self.past)

    def table(self) -> tuple[MemoryRow, ...]:
        """What is remembered: entries in slot order, then chunks that wait to be written."""
        return self.memory.table()

    def check_reach(self, num_chunks: int) -> None:
        """Refuse now a rollout whose memory would be used up before it has so many chunks.

        Raises:
            InputError: a policy that forgets nothing, and a budget that does not hold it all.
        """
        last = num_chunks - 1
        positions = {k: self.position_of(k, 0) for k in range(self.num_chunks, num_chunks)}
        self.memory.check_reach([Remembered(k, positions[k], "clean", False, True, None, None, None)
                                 for k in positions if k < last], last)  # fmt: skip

    def fork(self) -> Rollout:
        """Another rollout with the same past; from here on the two share nothing that changes. Each has its own
        caches, and so its own budget."""
        other = copy.copy(self)
        other.memory = self.memory.copy()
        return other

    # --- what goes in and out --------------------------------------------------------------------------------------

    def reference(
        self, latents: Float[Tensor, "b t c h w"], conditions: Sequence[ChunkConditions]
    ) -> tuple[int, ...]:
        """Put R clean chunks before everything, at positions 0 .. 3R-1, protected, under the ids -R .. -1.

        Raises:
            InputError: something is there already, or chunk 0 would not come after them.
        """
        parts = self._whole_chunks(latents, conditions)
        if self.past:
            raise InputError("references come before everything else, in one call", got=f"{len(self.past)} chunks")
        if self.first_position < LATENTS_PER_CHUNK * len(parts):
            raise InputError("chunk 0 must come after the references", got=f"first_position={self.first_position}",
                             expected=f">= {LATENTS_PER_CHUNK * len(parts)}")
        ids = tuple(range(-len(parts), 0))
        for chunk, part, asked in zip(ids, parts, conditions, strict=True):
            placed = self._placed(chunk, self.position_of(chunk, len(ids)), replace(asked, role="reference"))
            self.memory.prepare(placed)
            self.memory.finish(placed, part, protected=True)
        return ids

    def give(self, latents: Float[Tensor, "b t c h w"], conditions: Sequence[ChunkConditions]) -> tuple[int, ...]:
        """Continue with chunks that are known: a video's prefix. They are written when the next ones need them.

        Args:
            latents: clean, whole chunks.
            conditions: of each chunk.

        Returns:
            Their ids.

        Raises:
            InputError: latents that are not whole chunks or of another size, or conditions that do not fit.
        """
        first = self.num_chunks
        for part, asked in zip(self._whole_chunks(latents, conditions), conditions, strict=True):
            placed = self._next(asked)
            self.memory.prepare(placed)
            self.memory.finish(placed, part)
        return tuple(range(first, self.num_chunks))

    @torch.no_grad()
    def generate(
        self,
        conditions: ChunkConditions,
        *,
        first_frame: Float[Tensor, "b 1 c h w"] | None = None,
        glance: Callable[[Glance], None] | None = None,
    ) -> Float[Tensor, "b 3 c h w"]:
        """Make the next chunk.

        If this raises, the chunk does not exist and can be asked for again, with equal results up to rounding.

        Args:
            first_frame: image-to-video: the first latent frame of chunk 0, kept exactly as it is.
            glance: called in every denoising pass with what the queries of the conditional branch looked at.

        Returns:
            Clean latents, float32, on the model's device.

        Raises:
            InputError: conditions that do not fit, a first frame of a later chunk, or a policy that finds no way.
        """
        placed = self._next(conditions)
        shape = (LATENTS_PER_CHUNK, self.model.config.in_channels, *self.latent_hw)
        if first_frame is not None and placed.chunk != 0:
            raise InputError("only the first chunk starts with a given frame", got=f"chunk {placed.chunk}")
        if first_frame is not None and first_frame.shape != (self.batch, 1, *shape[1:]):
            raise InputError("the first frame has another size", got=tuple(first_frame.shape),
                             expected=(self.batch, 1, *shape[1:]))
        self.memory.prepare(placed)
        device = self.memory.cache.device
        x = chunk_noise(self.seeds, placed.chunk, shape).to(device)
        frame_mask = torch.ones(self.batch, LATENTS_PER_CHUNK, device=device)
        if first_frame is not None:
            x[:, :1] = first_frame.to(x)
            frame_mask[:, 0] = 0
        memory = self.memory
        while len(memory.waiting) >= self.chunks_per_pass:
            memory.flush(memory.waiting[: self.chunks_per_pass])
        riders = [memory.past[chunk] for chunk in memory.waiting]
        denoiser = self.sampler.begin(device)
        last = len(denoiser.sigmas) - 1
        try:
            memory.open([*riders, placed])
            for i, sigma in enumerate(denoiser.sigmas):
                measured = i == last and self._measures_importance
                velocity, lse = memory.velocity(
                    [*riders, placed], torch.cat([*map(memory.context, riders), x], 1),
                    torch.cat([memory.context_sigmas(len(riders)), sigma * frame_mask], 1),
                    return_lse=measured or glance is not None,
                )
                own = [layer[:, :, -memory.cache.tokens_per_chunk :] for layer in lse]
                looked = Glance(placed.chunk, i, own, memory.cache.entries)
                if glance is not None:
                    glance(looked)
                fresh = self._fresh(placed.chunk, i, shape)
                x = denoiser.step(x, velocity[:, -LATENTS_PER_CHUNK:], i, frame_mask, fresh)
                memory.close(len(riders))
                del memory.waiting[: len(riders)]
                riders = []
        finally:
            memory.discard_open()  # what the last pass left of this chunk was still noisy
        mass = looked.attention_mass() if measured else {}
        # Times their number: early chunks were measured when few shared the attention.
        shares = {chunk: mass[chunk] * len(mass) if measured else None for chunk in memory.resident}
        memory.seen(shares, by=placed.chunk)
        self.memory.finish(placed, x)
        return x

    # --- what is remembered ----------------------------------------------------------------------------------------

    def protect(self, chunk: int, protected: bool = True) -> None:
        """Ask policies to keep a chunk before others, or no longer."""
        self.memory.protect(chunk, protected)

    def set_role(self, chunk: int, role: Role) -> None:
        """Say what a chunk is, in hindsight. What it left in memory stays as it was written."""
        self.memory.set_role(chunk, role)

    def knock_out(self, chunk: int, how: KnockOut = "rebuild") -> None:
        """Remove a memory, for good. The video so far stays as it is.

        Args:
            how: `direct` hides the entry. Later entries have absorbed it; those that still waited are written first.
                `rebuild` also writes every later entry again without it, in order, as if it had never been written: a
                causal test. Exact unless other chunks have been evicted, which today's cache cannot show them again.

        Raises:
            InputError: no such chunk.
        """
        if how == "direct":
            self.memory.hide(chunk)
        else:
            self.memory.rebuild_without(chunk)

    # --- how -------------------------------------------------------------------------------------------------------

    @property
    def _measures_importance(self) -> bool:
        return self.measure_importance or getattr(self.policy, "needs_importance", False)

    def _fresh(self, chunk: int, index: int, shape: tuple[int, ...]) -> Callable[[], Tensor]:
        device = self.memory.cache.device
        return lambda: purpose_noise(self.seeds, chunk, "fresh", shape, index=index).to(device)

    def _whole_chunks(self, latents: Tensor, conditions: Sequence[ChunkConditions]) -> tuple[Tensor, ...]:
        expected = (self.batch, LATENTS_PER_CHUNK * len(conditions), self.model.config.in_channels, *self.latent_hw)
        if tuple(latents.shape) != expected:
            raise InputError("latents must be whole chunks, as many as conditions", got=tuple(latents.shape),
                             expected=expected)
        return latents.split(LATENTS_PER_CHUNK, 1) if conditions else ()

    def _next(self, asked: ChunkConditions) -> PlacedChunk:
        return self._placed(self.num_chunks, self.position_of(self.num_chunks, 0), asked)

    def _placed(self, chunk: int, position: int, asked: ChunkConditions) -> PlacedChunk:
        """A chunk with its time and its conditions on the CPU, after a look whether they belong to this rollout."""
        if (asked.negative is None) != (self.guidance == 1):
            raise InputError("a negative prompt goes with guidance, and only with it",
                             got=f"guidance {self.guidance}, {'no' if asked.negative is None else 'a'} negative prompt",
                             fix="give every chunk of a guided rollout a negative prompt, be it that of no words")
        some = self.past[0].conditions if self.memory.past else asked
        like = {"text": some.text.shape, "negative": some.text.shape, "cameras": (self.batch, LATENTS_PER_CHUNK, 14),
                "camera_valid": (self.batch, LATENTS_PER_CHUNK)}
        for name, shape in like.items():
            tensor: Tensor | None = getattr(asked, name)
            if tensor is not None and (tensor.shape != shape or tensor.shape[0] != self.batch):
                raise InputError(f"a chunk's {name} does not fit", got=tuple(tensor.shape), expected=tuple(shape))
        if (asked.cameras is None) != (some.cameras is None):
            raise InputError("all chunks of a rollout have cameras, or none has",
                             fix="where a camera is unknown, give any and set camera_valid to False")
        conditions = replace(
            asked, text=self._pooled(asked.text),
            negative=None if asked.negative is None else self._pooled(asked.negative),
            cameras=None if asked.cameras is None else asked.cameras.to("cpu", torch.float32, copy=True),
            camera_valid=None if asked.camera_valid is None else asked.camera_valid.to("cpu", copy=True),
        )
        return PlacedChunk(chunk, position, conditions)

    def _pooled(self, text: Tensor) -> Tensor:
        """A prompt's embedding on the CPU, one tensor for neighbours that are equal: it is large."""
        text = text.cpu()
        recent = self.past[-POOLED_TEXTS:]
        known = [t for p in recent for t in (p.conditions.text, p.conditions.negative) if t is not None]
        return next((t for t in known if torch.equal(t, text)), text.clone())


@torch.no_grad()
def rollout(
    model: CausalVideoDiT,
    prefix: Float[Tensor, "b p c h w"],
    conditions: Conditions,
    *,
    sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
    first_frame: Float[Tensor, "b 1 c h w"] | None = None,
    knocked_out: Sequence[int] = (),
    knock_out: KnockOut = "rebuild",
    glance: Callable[[Glance], None] | None = None,
    chunks_per_pass: int = 2,
    context_noise: float = 0.0,
) -> Float[Tensor, "b t c h w"]:
    """Continue a prefix of whole chunks, or an image, to the end of the prompts, with everything remembered.

    Args:
        prefix: clean latents of the given chunks; p may be 0.
        conditions: prompts, cameras, roles and seeds of all chunks.
        first_frame: image-to-video: the clip's first latent frame, given instead of a prefix.
        knocked_out: prefix chunks that must not be remembered.
        knock_out: `rebuild` never writes them, so later entries cannot have absorbed them (a causal test);
            `direct` writes them and hides them before generation starts.
        glance: called in every denoising pass with what the queries looked at.
        chunks_per_pass, context_noise: see `Rollout`.

    Returns:
        Latents of all chunks, the given ones included unchanged.

    Raises:
        InputError: a prefix that is not whole chunks, both a prefix and a first frame, or what `Rollout` refuses.
    """
    b, p, _, h, w = prefix.shape
    num_chunks = conditions.text.shape[1]
    given = p // LATENTS_PER_CHUNK
    if p % LATENTS_PER_CHUNK or given >= num_chunks:
        raise InputError("the prefix must be whole chunks and leave something to generate",
                         got=f"{p} latent frames", expected=f"a multiple of 3 below {3 * num_chunks}")
    if first_frame is not None and p:
        raise InputError("give a prefix or a first frame, not both")
    if not set(knocked_out) <= set(range(given)):
        raise InputError("only chunks of the prefix can be knocked out", got=list(knocked_out),
                         expected=f"chunks below {given}")
    engine = Rollout(model, batch=b, latent_hw=(h, w), seeds=conditions.seeds, sampler=sampler,
                     chunks_per_pass=chunks_per_pass, context_noise=context_noise, horizon=num_chunks)
    engine.give(prefix, [conditions.of_chunk(k) for k in range(given)])
    for chunk in knocked_out:
        engine.knock_out(chunk, knock_out)
    made = [
        engine.generate(conditions.of_chunk(k), first_frame=first_frame if k == 0 else None, glance=glance)
        for k in range(given, num_chunks)
    ]
    return torch.cat([prefix, *made], 1)
