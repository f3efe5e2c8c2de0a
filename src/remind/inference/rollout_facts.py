"""What the file of a rollout says beside its tensors: strict, so that a file from a stranger cannot surprise."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.inference.samplers import SamplerKind
from remind.models.kv_cache import Storage

FORMAT: Literal["remind-rollout-1"] = "remind-rollout-1"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class SamplerFacts(_Strict):
    """Fields of `Sampler`."""

    steps: int = Field(le=10_000)
    shift: float
    kind: SamplerKind
    levels: tuple[float, ...] | None


class OptionFacts(_Strict):
    """Arguments of `Rollout`; the policy by its name."""

    latent_hw: tuple[int, int]
    seeds: tuple[int, ...] = Field(min_length=1)
    sampler: SamplerFacts
    guidance: float
    policy: str
    budget_bytes: int | None
    storage: Storage
    context_noise: float
    chunks_per_pass: int
    first_position: int
    measure_importance: bool


class ChunkFacts(_Strict):
    """Fields of `PastChunk` that are no tensors.

    Attributes:
        text, negative: number of the prompt among those of the file.
        view: frames, height and width of its cameras as geometry, or None.
    """

    role: Role
    protected: bool
    knocked_out: bool
    importance: float | None
    last_importance: float | None
    looks: int = Field(ge=0)
    last_seen: int | None
    text: int = Field(ge=0)
    negative: int | None
    view: tuple[int, int, int] | None


class RolloutFacts(_Strict):
    """All of it.

    Attributes:
        checkpoint: hash of the weights.
        model: the model's config.
        references: how many of the chunks come before chunk 0.
        chunks: in order of time; ids and positions follow from the order.
        slots: id of the chunk in each slot of the cache, up to the last that is taken.
        waiting: ids of chunks that are not written yet.
        texts: different prompts.
        cameras: whether chunks have any.
        about: what the caller wanted to keep.
    """

    format: Literal["remind-rollout-1"]
    checkpoint: str
    model: dict[str, Any]
    options: OptionFacts
    references: int = Field(ge=0)
    chunks: tuple[ChunkFacts, ...]
    slots: tuple[int | None, ...]
    waiting: tuple[int, ...]
    texts: int = Field(ge=0)
    cameras: bool
    about: dict[str, Any]

    @property
    def ids(self) -> range:
        return range(-self.references, len(self.chunks) - self.references)

    @model_validator(mode="after")
    def _hangs_together(self) -> RolloutFacts:
        there = [chunk for chunk in self.slots if chunk is not None] + list(self.waiting)
        alive = {chunk for chunk, facts in zip(self.ids, self.chunks, strict=True) if not facts.knocked_out}
        if self.references > len(self.chunks) or len(set(there)) != len(there) or not set(there) <= alive:
            raise ValueError("slots and waiting must name different chunks that exist and were not knocked out")
        if self.texts > 2 * len(self.chunks):
            raise ValueError("more prompts than chunks could have")
        if self.references and self.options.first_position < LATENTS_PER_CHUNK * self.references:
            raise ValueError("chunk 0 must come after the references")
        if list(self.waiting) != sorted(self.waiting):
            raise ValueError("waiting chunks must be in order of time")
        guided = self.options.guidance != 1
        for chunk in self.chunks:
            if chunk.text >= self.texts or (chunk.negative is not None) != guided:
                raise ValueError("every chunk needs a prompt of the file, and a negative one exactly if guided")
            if chunk.negative is not None and not 0 <= chunk.negative < self.texts:
                raise ValueError("a negative prompt that is not in the file")
            if {chunk.importance is None, chunk.last_importance is None} != {chunk.looks == 0}:
                raise ValueError("importance without a look, or a look without importance")
            if chunk.view is not None and min(chunk.view) < 0:
                raise ValueError("a view of no size")
        return self
