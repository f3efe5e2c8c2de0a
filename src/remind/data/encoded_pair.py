"""Both versions of a clip in latent space; readers of them: live from a store, or from disk (`latent_cache`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from remind.clip import Clip
from remind.data.clip_store import ClipStore
from remind.data.interrupt import InterruptionRecipe, apply_interruption, clean_view, sample_recipe
from remind.errors import InputError
from remind.frame_graph import InterruptionKind
from remind.models.camera_conditions import camera_conditions


@runtime_checkable
class LatentEncoder(Protocol):
    """Turns clips into latents: `LinearCodec` or `WanVAE`."""

    @property
    def digest(self) -> str:
        """Hash of all that decides the latents."""
        ...

    def encode(self, rgb: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b i 16 y x"]: ...


class VariantSpec(BaseModel):
    """How a clip is degraded in several ways: variant 0 by its stored recipe, the others by recipes drawn for it.

    Args:
        variants: degraded versions per clip, 1..64.
        seed: of the drawn recipes, >= 0.
        kinds: interruptions to draw from; those that finished frames allow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    variants: int = Field(default=1, ge=1, le=64)
    seed: int = Field(default=0, ge=0)
    kinds: tuple[InterruptionKind, ...] = Field(default=("light_toggle", "occluder", "zoom"), min_length=1)

    def recipe(self, stored: InterruptionRecipe, clip_id: str, num_frames: int, variant: int) -> InterruptionRecipe:
        """A pure function of (seed, clip_id, variant), but for the stored recipe."""
        if variant == 0:
            return stored
        name = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big")
        generator = np.random.default_rng([self.seed, 5, name, variant])
        return sample_recipe(self.kinds[int(generator.integers(len(self.kinds)))], num_frames, generator)


@dataclass(frozen=True)
class Track:
    """One version of a clip as the model sees it; latent frame i has the camera of pixel frame 4i."""

    latents: Float[Tensor, "t c h w"]
    cameras: Float[Tensor, "t 14"]
    valid: Bool[Tensor, " t"]


@dataclass(frozen=True)
class EncodedPair:
    """Both versions of a clip, and how the one became the other."""

    clean: Track
    degraded: Track
    recipe: InterruptionRecipe
    caption: str
    num_frames: int


@runtime_checkable
class PairReader(Protocol):
    """Encoded pairs by clip and variant. Must be picklable and safe to read from several processes."""

    variants: int

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Ids of the clips, in the store's order."""
        ...

    def read(self, clip: int, variant: int) -> EncodedPair:
        """One pair.

        Raises:
            StoreError, VideoError, GraphError: a damaged clip.
            InputError: settings that do not fit the store.
        """
        ...


def encode_track(clip: Clip, encoder: LatentEncoder) -> Track:
    """One version of a clip in latent space, on the CPU; bit for bit the same whatever is encoded beside it."""
    cameras, valid = camera_conditions(clip.cameras, len(clip))
    return Track(encoder.encode(clip.rgb[None])[0].cpu(), cameras, valid)


class LivePairs:
    """Decodes, degrades and encodes on each access; nothing is kept.

    Latents are the same bits in this process and in those forked from it. In a spawned one the encoder's weights lie
    elsewhere in memory, and matrix products of another alignment may round the last bit otherwise.

    Args:
        hw: size that the model expects, px.
    """

    def __init__(self, store: ClipStore, encoder: LatentEncoder, spec: VariantSpec, *, hw: tuple[int, int]):
        self.store, self.encoder, self.spec, self.hw = store, encoder, spec, hw
        self.variants = spec.variants

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return self.store.clip_ids

    @torch.no_grad()
    def read(self, clip: int, variant: int) -> EncodedPair:
        memory_clip = self.store.read(clip, depth=False)
        stored = memory_clip.clean
        recipe = self.spec.recipe(memory_clip.recipe, stored.clip_id, len(stored), variant)
        clean, degraded = clean_view(stored, recipe), apply_interruption(stored, recipe)
        check_size(clean.hw, self.hw)
        return EncodedPair(encode_track(clean, self.encoder), encode_track(degraded, self.encoder), recipe,
                           clean.caption, len(clean))  # fmt: skip


def check_size(got: tuple[int, int], hw: tuple[int, int]) -> None:
    """Refuse clips of another size than the model's.

    Raises:
        InputError: that.
    """
    if got != hw:
        raise InputError("the store's clips have another size than the recipe's", got=got, expected=hw,
                         fix=f"remind data build ... --hw {hw[0]} {hw[1]}")  # fmt: skip
