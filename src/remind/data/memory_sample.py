"""One clip as training sees it: both versions in latent space, their cameras, their prompts and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from remind.data.interrupt import InterruptionRecipe
from remind.frame_graph import FrameGraph, Schedule
from remind.models.text import TextEncoder
from remind.prompt_schedule import chunk_prompts
from remind.sequence_plan import Track

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class MemorySample:
    """One clip as training sees it. Latent frame i has the camera of pixel frame 4i.

    Args:
        clean, degraded: latents of both versions.
        clean_cameras, degraded_cameras: pose descriptors (Eq. 1), in the gauge of the clip's own context.
        clean_valid, degraded_valid: where they may be used.
        prompts: embeddings of the prompts of both versions, each once: at Wan size one takes 8 MB.
        clean_prompts, degraded_prompts: which of them is each chunk's.
        recipe: the interruption; the frame graph is derived from it.
        num_frames: pixel frames of the clip.
    """

    clean: Float[Tensor, "t c h w"]
    degraded: Float[Tensor, "t c h w"]
    clean_cameras: Float[Tensor, "t 14"]
    degraded_cameras: Float[Tensor, "t 14"]
    clean_valid: Bool[Tensor, " t"]
    degraded_valid: Bool[Tensor, " t"]
    prompts: Float[Tensor, "p s e"]
    clean_prompts: tuple[int, ...]
    degraded_prompts: tuple[int, ...]
    recipe: InterruptionRecipe
    num_frames: int

    @property
    def graph(self) -> FrameGraph:
        return FrameGraph(self.recipe.schedule(self.num_frames))

    def prompt(self, track: Track, chunk: int) -> Float[Tensor, "s e"]:
        """What a chunk of either version is told."""
        return self.prompts[(self.clean_prompts if track == "clean" else self.degraded_prompts)[chunk]]


@runtime_checkable
class Samples(Protocol):
    """Samples at random access: a bank in memory or a data set on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> MemorySample: ...



def make_sample(
    row: Mapping[str, Tensor], recipe: InterruptionRecipe, caption: str, num_frames: int, encoder: TextEncoder
) -> MemorySample:
    """A sample of the six tensors of a row (see `MemorySample`), with the prompts embedded.

    Args:
        row: `clean`, `degraded`, and for both `_cameras` and `_valid` (of any type that has a truth value).
    """
    clean, degraded = (chunk_prompts(caption, s) for s in (Schedule(num_frames), recipe.schedule(num_frames)))
    distinct = list(dict.fromkeys((*clean, *degraded)))
    return MemorySample(
        row["clean"], row["degraded"], row["clean_cameras"], row["degraded_cameras"],
        row["clean_valid"].bool(), row["degraded_valid"].bool(),
        encoder(distinct), tuple(map(distinct.index, clean)), tuple(map(distinct.index, degraded)),
        recipe, num_frames,
    )  # fmt: skip
