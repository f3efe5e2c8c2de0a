"""Chunk-by-chunk generation through the streaming KV cache, at original positions. Source: ReMind Sec. 3.3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.errors import InputError
from remind.flow import euler_step, sampling_sigmas
from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.inference.samplers import Sampler
from remind.models.cross_attention import PromptContext
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import CacheEntry, StreamingKVCache, grid_of

KnockOut = Literal["direct", "rebuild"]


@dataclass(frozen=True)
class Glance:
    """What a pass over one chunk looked at, for measuring KV importance.

    Args:
        chunk: the chunk being generated.
        step: denoising step, 0-based.
        lse: per layer, log-sum-exp of every query against every cache entry.
        entries: cache entries in the order of the last axis.
    """

    chunk: int
    step: int
    lse: list[Float[Tensor, "b n l j"]]
    entries: tuple[CacheEntry, ...]


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


def chunk_noise(seeds: Sequence[int], chunk: int, shape: tuple[int, ...]) -> Float[Tensor, "b t c h w"]:
    """Starting noise of a chunk, per sample a function of (seed, chunk), whatever the batch."""
    rows = []
    for seed in seeds:
        state = int(np.random.SeedSequence([seed, chunk]).generate_state(1, np.uint64)[0] >> 2)
        rows.append(torch.randn(shape, generator=torch.Generator().manual_seed(state)))
    return torch.stack(rows)


class _Prompts:
    """Encoded prompts of the chunks of a pass; keeps those of the last pass, since a context is large."""

    def __init__(self, model: CausalVideoDiT, text: Float[Tensor, "b k s e"]):
        self.model, self.text = model, text
        self._known: dict[int, PromptContext] = {}

    def __call__(self, chunks: Sequence[int]) -> PromptContext:
        needed: dict[int, PromptContext] = {}
        for chunk in chunks:
            same = [known for other, known in (self._known | needed).items()
                    if torch.equal(self.text[:, chunk], self.text[:, other])]
            needed[chunk] = same[0] if same else self.model.encode_prompt(self.text[:, chunk])
        self._known = needed
        contexts = [needed[chunk] for chunk in chunks]
        return contexts[0] if all(c is contexts[0] for c in contexts) else PromptContext.join(contexts)


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
) -> Float[Tensor, "b t c h w"]:
    """Continue a prefix of whole chunks, or an image, to the end of the prompts.

    Each finished chunk is run once more at sigma 0, which leaves its keys and values in the cache. By default it rides
    in the first denoising pass of the next chunk: the two are one sequence in which the second sees the first, so the
    result is that of separate passes, and matrix products of twice the rows run nearer to the machine's rate.

    Args:
        prefix: clean latents of the given chunks; p may be 0.
        conditions: prompts, cameras, roles and seeds of all chunks.
        first_frame: image-to-video: the clip's first latent frame, given instead of a prefix.
        knocked_out: prefix chunks that must not be remembered.
        knock_out: `rebuild` never writes them, so later entries cannot have absorbed them (a causal test);
            `direct` writes them and hides them before generation starts.
        glance: called in every denoising pass with what the queries looked at.
        chunks_per_pass: most chunks that one pass runs over, >= 1. 1 writes every chunk by a pass of its own and needs
            the least memory; more also join the chunks of a prefix.

    Returns:
        Latents of all chunks, the given ones included unchanged.

    Raises:
        InputError: a prefix that is not whole chunks, both a prefix and a first frame, or no chunk per pass.
    """
    b, p, c, h, w = prefix.shape
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
    if chunks_per_pass < 1:
        raise InputError("a pass runs over at least one chunk", got=chunks_per_pass)
    cache = StreamingKVCache(
        model.config, batch=b, num_slots=num_chunks, grid_hw=grid_of(model.config, (h, w)),
        dtype=prefix.dtype, device=prefix.device,
    )
    prompts = _Prompts(model, conditions.text)
    zero = torch.zeros(b, LATENTS_PER_CHUNK, device=prefix.device)
    chunks = list(prefix.split(LATENTS_PER_CHUNK, 1)) if p else []
    waiting: list[int] = []  # finished chunks that are not written yet

    def forward(numbers: list[int], latents: Tensor, sigmas: Tensor, return_lse: bool = False):  # type: ignore[no-untyped-def]
        frames = [LATENTS_PER_CHUNK * k + i for k in numbers for i in range(LATENTS_PER_CHUNK)]
        positions = torch.tensor(frames, dtype=torch.float32, device=latents.device)
        cameras, valid = conditions.cameras, conditions.camera_valid
        return model(
            latents, sigmas, positions.expand(b, -1), prompts(numbers),
            None if cameras is None else cameras[:, frames],
            camera_valid=None if valid is None else valid[:, frames],
            cache=cache, return_lse=return_lse,
        )

    def open_slots(numbers: Sequence[int]) -> None:
        for k in numbers[cache.num_open :]:  # a chunk that was just generated has its slot
            cache.open(k, LATENTS_PER_CHUNK * k, conditions.roles[k])

    def write_all_but(at_most: int) -> None:
        while len(waiting) > at_most:
            now = waiting[:chunks_per_pass]
            open_slots(now)
            forward(now, torch.cat([chunks[k] for k in now], 1), zero.repeat(1, len(now)))
            settle(len(now))

    def settle(count: int) -> None:
        del waiting[:count]
        for _ in range(count):
            cache.close()

    waiting.extend(k for k in range(given) if k not in knocked_out or knock_out == "direct")
    if knocked_out and knock_out == "direct":
        write_all_but(0)
        for k in knocked_out:
            cache.evict(k)

    levels = sampling_sigmas(sampler.steps, sampler.shift).to(prefix.device)
    for k in range(given, num_chunks):
        x = chunk_noise(conditions.seeds, k, (LATENTS_PER_CHUNK, c, h, w)).to(prefix)
        noisy = torch.ones_like(zero)
        if first_frame is not None and k == 0:
            x[:, :1] = first_frame
            noisy[:, 0] = 0
        write_all_but(chunks_per_pass - 1)
        open_slots((*waiting, k))
        for step in range(sampler.steps):
            now, then = levels[step] * noisy, levels[step + 1] * noisy
            latents = torch.cat([*(chunks[j] for j in waiting), x], 1)
            sigmas = torch.cat([*[zero] * len(waiting), now], 1)
            if glance is None:
                velocity = forward([*waiting, k], latents, sigmas)
            else:
                velocity, lse = forward([*waiting, k], latents, sigmas, return_lse=True)
                mine = [layer[:, :, -cache.tokens_per_chunk :] for layer in lse]
                glance(Glance(k, step, mine, cache.entries))
            x = euler_step(x, velocity[:, -LATENTS_PER_CHUNK:], now, then)
            settle(len(waiting))
        chunks.append(x)
        waiting.append(k)
    return torch.cat(chunks, 1)
