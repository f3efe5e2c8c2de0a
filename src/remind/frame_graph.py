"""The frame graph: chunk nodes with roles, and memory edges from a recovery back to its anchors.

Source: ReMind Sec. 3.1 and F.2. The graph is derived from the interruption schedule and never stored twice.

Time has three units. A *frame* is a pixel frame. A *latent frame* i covers pixel frame 0 (i = 0) or pixel
frames 4i-3 .. 4i (Wan's causal temporal stride). A *chunk* is three latent frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from remind.errors import GraphError

FRAMES_PER_LATENT = 4
LATENTS_PER_CHUNK = 3

InterruptionKind = Literal[
    "light_toggle", "occluder", "camera_loop", "zoom", "lookaway", "cardboard", "curtain", "flicker", "blink"
]
Role = Literal["clean", "anchor", "degraded", "recovery", "reference"]


def num_latent_frames(num_frames: int) -> int:
    """Latent frames of a clip of 1 + 4k pixel frames (81 -> 21)."""
    if num_frames < 1 or (num_frames - 1) % FRAMES_PER_LATENT:
        raise GraphError("a clip must have 1 + 4k frames", got=num_frames, expected="e.g. 81",
                         fix="cut or pad the clip")
    return 1 + (num_frames - 1) // FRAMES_PER_LATENT


def num_chunks(num_frames: int) -> int:
    """Whole chunks of a clip (81 -> 7)."""
    latents = num_latent_frames(num_frames)
    if latents % LATENTS_PER_CHUNK:
        raise GraphError("a clip must fill whole chunks", got=f"{num_frames} frames = {latents} latent frames",
                         expected="12k - 3 frames, e.g. 81", fix="cut the clip to 12k - 3 frames")
    return latents // LATENTS_PER_CHUNK


def frames_of_chunk(chunk: int) -> range:
    """Pixel frames of a chunk: 0..8 for the first, then 12 each."""
    per_chunk = FRAMES_PER_LATENT * LATENTS_PER_CHUNK
    start = max(0, per_chunk * chunk - FRAMES_PER_LATENT + 1)
    return range(start, per_chunk * (chunk + 1) - FRAMES_PER_LATENT + 1)


def chunk_of_frame(frame: int) -> int:
    """The chunk that a pixel frame belongs to."""
    latent = (frame + FRAMES_PER_LATENT - 1) // FRAMES_PER_LATENT
    return latent // LATENTS_PER_CHUNK


@dataclass(frozen=True)
class Interruption:
    """One stretch in which the view is degraded, in pixel frames; all stops are exclusive.

    Args:
        kind: one of the four families of F.2 or a variant of one; `remind.data.kinds` says which.
        start: first frame that differs from the clean clip.
        hidden_start: first frame in which the state cannot be seen at all.
        hidden_stop: first frame after `hidden_start` in which some of it can be seen again.
        stop: first frame that is clean again.
        also: what else happens on the same clock, e.g. the light goes off while a panel passes.
    """

    kind: InterruptionKind
    start: int
    hidden_start: int
    hidden_stop: int
    stop: int
    also: tuple[InterruptionKind, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.start <= self.hidden_start <= self.hidden_stop <= self.stop:
            raise GraphError(
                "an interruption's times must be ordered",
                got=(self.start, self.hidden_start, self.hidden_stop, self.stop),
                expected="0 < start <= hidden_start <= hidden_stop <= stop",
            )

    @property
    def kinds(self) -> tuple[InterruptionKind, ...]:
        """All that happens on this clock."""
        return (self.kind, *self.also)


@dataclass(frozen=True)
class Schedule:
    """All interruptions of one clip, in order of time and not overlapping."""

    num_frames: int
    interruptions: tuple[Interruption, ...] = ()

    def __post_init__(self) -> None:
        for earlier, later in zip(self.interruptions, self.interruptions[1:], strict=False):
            if later.start < earlier.stop:
                raise GraphError("interruptions overlap", got=(earlier, later), expected="disjoint stretches")
        if self.interruptions and self.interruptions[-1].stop > self.num_frames:
            raise GraphError("an interruption ends after the clip", got=self.interruptions[-1].stop,
                             expected=f"<= {self.num_frames}")

    def degraded_frames(self) -> frozenset[int]:
        return frozenset(f for i in self.interruptions for f in range(i.start, i.stop))

    def hidden_frames(self) -> frozenset[int]:
        return frozenset(f for i in self.interruptions for f in range(i.hidden_start, i.hidden_stop))


@dataclass(frozen=True)
class MemoryEdge:
    """A recovery chunk must read an anchor chunk, `gap_chunks` back in time (the paper's G)."""

    recovery: int
    anchor: int

    @property
    def gap_chunks(self) -> int:
        return self.recovery - self.anchor


@dataclass(frozen=True)
class FrameGraph:
    """Chunk nodes with roles and memory edges, derived from a schedule.

    Roles (our reading of F.2, docs/decisions.md): a chunk is `degraded` if any of its frames is; `anchor` if it
    belongs to the run of all-clean chunks right before a degraded run; `recovery` if it is the first all-clean
    chunk after a degraded run; otherwise `clean`. A chunk that is both recovery and anchor (between two
    interruptions) is named `recovery` and still serves as an anchor: see `anchors_of`.

    Raises:
        GraphError: an interruption without an anchor before it or without a recovery chunk after it.
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        for run in self._degraded_runs:
            if run.start == 0:
                raise GraphError("a degraded interval has no clean anchor before it", got=f"chunks {list(run)}",
                                 expected="at least one all-clean chunk first",
                                 fix=f"start the interruption at frame {frames_of_chunk(1).start} or later")
            if run.stop >= self.num_chunks:
                raise GraphError("a degraded interval has no recovery chunk after it", got=f"chunks {list(run)}",
                                 expected=f"an all-clean chunk before chunk {self.num_chunks}",
                                 fix="end the interruption earlier")

    @cached_property
    def num_chunks(self) -> int:
        return num_chunks(self.schedule.num_frames)

    @cached_property
    def _degraded_runs(self) -> tuple[range, ...]:
        degraded_frames = self.schedule.degraded_frames()
        flags = [any(f in degraded_frames for f in frames_of_chunk(k)) for k in range(self.num_chunks)]
        runs: list[range] = []
        for k, flag in enumerate(flags):
            if flag and runs and runs[-1].stop == k:
                runs[-1] = range(runs[-1].start, k + 1)
            elif flag:
                runs.append(range(k, k + 1))
        return tuple(runs)

    def anchors_of(self, run: range) -> tuple[int, ...]:
        """The all-clean chunks right before a degraded run, back to the previous degraded run."""
        earlier = [r.stop for r in self._degraded_runs if r.stop <= run.start]
        return tuple(range(max(earlier, default=0), run.start))

    @cached_property
    def roles(self) -> tuple[Role, ...]:
        roles: list[Role] = ["clean"] * self.num_chunks
        for run in self._degraded_runs:
            for k in self.anchors_of(run):
                roles[k] = "anchor"
        for run in self._degraded_runs:
            for k in run:
                roles[k] = "degraded"
            roles[run.stop] = "recovery"
        return tuple(roles)

    @cached_property
    def edges(self) -> tuple[MemoryEdge, ...]:
        return tuple(MemoryEdge(run.stop, a) for run in self._degraded_runs for a in self.anchors_of(run))

    @cached_property
    def anchors(self) -> tuple[int, ...]:
        """Every chunk that some recovery reads, in order of time."""
        return tuple(sorted({edge.anchor for edge in self.edges}))

    @cached_property
    def degraded(self) -> tuple[int, ...]:
        return tuple(k for run in self._degraded_runs for k in run)

    @cached_property
    def frontier(self) -> int | None:
        """First chunk of the recovery suffix of the last interruption; None on a clean clip.

        It is the chunk of the first frame that shows anything again, so a prefix that stops before it never
        leaks the recovered state. It may still hold degraded frames (an occluder on its way out).
        """
        if not self.schedule.interruptions:
            return None
        return chunk_of_frame(self.schedule.interruptions[-1].hidden_stop)

    @cached_property
    def witnesses(self) -> tuple[int, ...]:
        """Chunks before the frontier in which anything can be seen: the anchors, and degraded chunks that begin or
        end in view. A causal knock-out removes them all, since a half-dark chunk still shows the state."""
        hidden = self.schedule.hidden_frames()
        return tuple(
            k for k in range(self.frontier or 0) if any(frame not in hidden for frame in frames_of_chunk(k))
        )

    def draw(self) -> str:
        """One line, a letter a chunk: A anchor, x degraded, R recovery, . clean."""
        letters = {"anchor": "A", "degraded": "x", "recovery": "R", "clean": ".", "reference": "r"}
        return "".join(letters[role] for role in self.roles)
