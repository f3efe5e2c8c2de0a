"""One branch of a guided rollout: a model, the prompts that it reads, and a cache of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from remind.frame_graph import LATENTS_PER_CHUNK
from remind.inference.past import PlacedChunk
from remind.models.cross_attention import PromptContext
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import StreamingKVCache


class Branch:
    """Runs passes under the prompts of chunks (the conditional branch) or under their negative prompts.

    Attributes:
        cache: what this branch remembers; both branches of a rollout remember the same chunks, seen differently.
    """

    def __init__(self, model: CausalVideoDiT, cache: StreamingKVCache, *, negative: bool = False):
        self.model, self.cache, self.negative = model, cache, negative
        self._known: list[tuple[Tensor, PromptContext]] = []

    def copy(self) -> Branch:
        other = Branch(self.model, self.cache.copy(), negative=self.negative)
        other._known = list(self._known)
        return other

    def run(
        self,
        chunks: Sequence[PlacedChunk],
        latents: Float[Tensor, "b t c h w"],
        sigmas: Float[Tensor, "b t"],
        *,
        return_lse: bool = False,
    ) -> tuple[Float[Tensor, "b t c h w"], list[Float[Tensor, "b n l j"]]]:
        """Velocity of the open chunks, float32, and what their queries looked at, if that is asked for."""
        frames = [c.position + i for c in chunks for i in range(LATENTS_PER_CHUNK)]
        positions = torch.tensor(frames, dtype=torch.float32, device=latents.device)
        out = self.model(
            latents, sigmas, positions.expand(latents.shape[0], -1), self._prompts(chunks), _cameras(chunks, latents),
            camera_valid=_camera_valid(chunks, latents), cache=self.cache, return_lse=return_lse,
        )
        velocity, lse = out if return_lse else (out, [])
        return velocity.float(), lse

    def _prompts(self, chunks: Sequence[PlacedChunk]) -> PromptContext:
        """Encoded prompts of the chunks of a pass; those of the last pass are kept, since a context is large."""
        needed: list[tuple[Tensor, PromptContext]] = []
        for c in chunks:
            text = c.conditions.negative if self.negative else c.conditions.text
            assert text is not None
            same = [context for other, context in self._known + needed if other is text or torch.equal(other, text)]
            device = self.cache.device
            needed.append((text, same[0] if same else self.model.encode_prompt(text.to(device))))
        self._known = needed
        contexts = [context for _, context in needed]
        return contexts[0] if all(c is contexts[0] for c in contexts) else PromptContext.join(contexts)


def guided_velocity(
    branches: Sequence[Branch],
    guidance: float,
    chunks: Sequence[PlacedChunk],
    latents: Float[Tensor, "b t c h w"],
    sigmas: Float[Tensor, "b t"],
    *,
    return_lse: bool = False,
) -> tuple[Float[Tensor, "b t c h w"], list[Float[Tensor, "b n l j"]]]:
    """A pass of every branch: v = v_uncond + g (v_cond - v_uncond), and what the conditional branch looked at.

    Source: classifier-free guidance (Ho and Salimans, arXiv:2207.12598), on velocities.

    Args:
        branches: the conditional one, and the unconditional one if there is guidance.
        guidance: g.
    """
    velocity, lse = branches[0].run(chunks, latents, sigmas, return_lse=return_lse)
    for branch in branches[1:]:
        without, _ = branch.run(chunks, latents, sigmas)
        velocity = without + guidance * (velocity - without)
    return velocity, lse


def _cameras(chunks: Sequence[PlacedChunk], like: Tensor) -> Float[Tensor, "b t 14"] | None:
    given = [c.conditions.cameras for c in chunks]
    return None if given[0] is None else torch.cat([x for x in given if x is not None], 1).to(like.device)


def _camera_valid(chunks: Sequence[PlacedChunk], like: Tensor) -> Tensor | None:
    given = [c.conditions.camera_valid for c in chunks]
    if all(valid is None for valid in given):
        return None
    every = torch.ones(like.shape[0], LATENTS_PER_CHUNK, dtype=torch.bool)
    return torch.cat([every if valid is None else valid for valid in given], 1).to(like.device)
