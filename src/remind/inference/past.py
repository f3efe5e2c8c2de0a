"""Chunks of a rollout: what each was asked for, where it stands, and what is known of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from remind.clip import Cameras
from remind.frame_graph import Role
from remind.inference.memory_policy import Coming, Remembered


@dataclass(frozen=True)
class ChunkConditions:
    """What one chunk is asked for.

    Args:
        text: embedding of its prompt.
        negative: embedding of what guidance leads away from; needed exactly if the rollout is guided.
        cameras: pose descriptors of its latent frames (Eq. 1), or None; all chunks of a rollout have some, or none has.
        camera_valid: which of them may be used, or None = all.
        role: its role in the frame graph; from the schedule or the caller, never guessed.
        view: its cameras as geometry, for policies that compare views; not seen by the model.
    """

    text: Float[Tensor, "b s e"]
    negative: Float[Tensor, "b s e"] | None = None
    cameras: Float[Tensor, "b 3 14"] | None = None
    camera_valid: Bool[Tensor, "b 3"] | None = None
    role: Role = "clean"
    view: Cameras | None = None


@dataclass(frozen=True)
class PlacedChunk:
    """A chunk as a pass needs it.

    Args:
        chunk: its id, from 0; references count from -R to -1.
        position: time of its first latent frame.
        conditions: on the CPU.
    """

    chunk: int
    position: int
    conditions: ChunkConditions

    @property
    def role(self) -> Role:
        return self.conditions.role

    def coming(self) -> Coming:
        return Coming(self.chunk, self.position, self.role, self.conditions.view)


@dataclass(frozen=True)
class PastChunk(PlacedChunk):
    """A finished chunk.

    Args:
        latents: clean, float32, on the CPU; never written to.
        protected: policies keep it before others.
        knocked_out: it must never be seen again.
        importance: share of attention that later chunks gave it, times the number of entries that shared it, so that
            1 is as much as if it were spread evenly; the plain mean over the chunks that were measured while they
            could see it; None = never measured. See `Glance.attention_mass`.
        last_importance: what the last chunk that was measured gave it.
        looks: over how many chunks that mean goes.
        last_seen: the last chunk that could see it.
    """

    latents: Float[Tensor, "b 3 c h w"]
    protected: bool = False
    knocked_out: bool = False
    importance: float | None = None
    last_importance: float | None = None
    looks: int = 0
    last_seen: int | None = None

    def seen(self, by: int, mass: float | None) -> PastChunk:
        """After chunk `by` could see it and gave it this share of its attention; None = not measured."""
        if mass is None:
            return replace(self, last_seen=by)
        mean = self.importance or 0.0
        return replace(self, last_seen=by, looks=self.looks + 1, last_importance=mass,
                       importance=mean + (mass - mean) / (self.looks + 1))  # fmt: skip

    def remembered(self, *, resident: bool) -> Remembered:
        return Remembered(self.chunk, self.position, self.role, self.protected, resident, self.importance,
                          self.last_seen, self.conditions.view)


@dataclass(frozen=True)
class MemoryRow:
    """One remembered chunk, as a policy or a user sees it.

    Args:
        slot: where it lies, which means nothing; None = it waits to be written in the next pass.
        chunk: its id.
        position: time of its first latent frame.
        role: its role.
        protected: policies keep it before others.
        importance, last_importance: see `PastChunk`.
        nbytes: keys and values of all branches; 0 while it waits.
    """

    slot: int | None
    chunk: int
    position: int
    role: Role
    protected: bool
    importance: float | None
    last_importance: float | None
    nbytes: int
