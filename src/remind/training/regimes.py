"""Training regimes: pure functions from a frame graph to a sequence plan.

Source: ReMind Sec. 3.4. All regimes here use the teacher-forced pass: a history of entries that later ones may
read, then noised target entries, each of which sees earlier history and itself, never another target.

Choices that must be equal in a whole micro-batch (they change who sees whom) come in `BatchChoices`; all else is
drawn per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from remind.frame_graph import LATENTS_PER_CHUNK, FrameGraph, Role
from remind.sequence_plan import PlanEntry, SequencePlan, SigmaRule, Track

RegimeName = Literal["all_history", "noisy_memory", "node_drop", "v2v_frontier", "reference_cache"]


@dataclass(frozen=True)
class BatchChoices:
    """What all plans of a micro-batch share.

    Args:
        first_target: first chunk that is generated in V2V; the earliest frontier of the batch.
        num_references: clean chunks in the reference cache, R.
        gap_chunks: where the target starts in the reference regime, G >= R; G = R is contiguous.
    """

    first_target: int
    num_references: int
    gap_chunks: int


@dataclass(frozen=True)
class RegimeOptions:
    """What a recipe fixes for all plans.

    Args:
        track: which version of the clip the I2V-aligned regimes learn.
        memory_noise_share: how likely each past chunk is noised in noisy memory, 0..1.
        clean_prefix_share: how often the V2V prefix is clean instead of degraded, 0..1.
    """

    track: Track = "degraded"
    memory_noise_share: float = 0.5
    clean_prefix_share: float = 0.15


Regime = Callable[[FrameGraph, np.random.Generator, RegimeOptions, BatchChoices], SequencePlan]


def draw_batch_choices(graphs: Sequence[FrameGraph], rng: np.random.Generator) -> BatchChoices:
    """Choices that suit every graph of a micro-batch: references stop before the earliest degraded chunk."""
    frontiers = [g.frontier for g in graphs if g.frontier is not None]
    first_degraded = min((g.degraded[0] for g in graphs if g.degraded), default=2)
    num_references = int(rng.integers(1, first_degraded + 1)) if first_degraded > 1 else 1
    gap = int(rng.integers(num_references, min(g.num_chunks for g in graphs)))
    return BatchChoices(min(frontiers, default=1), num_references, gap)


def _history(chunk: int, track: Track, role: Role, sees: range, rule: SigmaRule = "zero") -> PlanEntry:
    return PlanEntry(chunk, track, LATENTS_PER_CHUNK * chunk, role, (rule,) * LATENTS_PER_CHUNK,
                     (False,) * LATENTS_PER_CHUNK, tuple(sees))


def _target(
    chunk: int, track: Track, role: Role, sees: range, *, supervised: bool = True, seeded: bool = False
) -> PlanEntry:
    """A noised chunk; `seeded` = its first latent frame is given clean and is out of the loss (I2V)."""
    rules: tuple[SigmaRule, ...] = ("zero" if seeded else "sampled", "sampled", "sampled")
    on = (supervised and not seeded, supervised, supervised)
    return PlanEntry(chunk, track, LATENTS_PER_CHUNK * chunk, role, rules, on, tuple(sees))


def all_history(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """Every chunk is generated from all chunks before it; chunk 0 from its first frame."""
    num = graph.num_chunks
    history = [_history(k, options.track, graph.roles[k], range(k)) for k in range(num - 1)]
    targets = [_target(k, options.track, graph.roles[k], range(k), seeded=k == 0) for k in range(num)]
    return SequencePlan("all_history", (*history, *targets))


def _corrupt(plan: SequencePlan, name: str, rules: dict[int, SigmaRule]) -> SequencePlan:
    """The same plan with other sigma rules on some history entries (an entry's index there is its chunk)."""
    entries = tuple(
        replace(entry, sigma=(rules[i],) * LATENTS_PER_CHUNK) if i in rules else entry
        for i, entry in enumerate(plan.entries)
    )
    return SequencePlan(name, entries)


def _spare_anchors(graph: FrameGraph, corrupted: set[int]) -> set[int]:
    """Without the latest anchor of each recovery that would have none left (ReMind Sec. 3.4: one survives)."""
    anchors = [[e.anchor for e in graph.edges if e.recovery == r] for r in {e.recovery for e in graph.edges}]
    return corrupted - {max(group) for group in anchors if corrupted.issuperset(group)}


def noisy_memory(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """Past chunks get high noise at random; one anchor of every recovery stays clean."""
    survivor = int(rng.choice(graph.anchors or (0,)))
    noised = _spare_anchors(graph, {k for k in range(graph.num_chunks - 1)
                                    if k != survivor and rng.random() < options.memory_noise_share})
    return _corrupt(all_history(graph, rng, options, choices), "noisy_memory", dict.fromkeys(noised, "memory"))


def node_drop(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """Interruption nodes become pure noise, and sometimes anchors too, but never the last one of a recovery."""
    drop = set(graph.degraded)
    spare = list(graph.anchors)
    rng.shuffle(spare)
    drop = _spare_anchors(graph, drop | {k for k in spare[1:] if rng.random() < 0.25})
    plan = all_history(graph, rng, options, choices)
    return _corrupt(plan, "node_drop", {k: "one" for k in drop if k < graph.num_chunks - 1})


def v2v_frontier(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """A clean or degraded prefix is given; only the recovery suffix of the same version is supervised."""
    num = graph.num_chunks
    frontier = graph.frontier if graph.frontier is not None else choices.first_target
    track: Track = "clean" if rng.random() < options.clean_prefix_share else "degraded"
    history = [_history(k, track, graph.roles[k], range(k)) for k in range(num - 1)]
    targets = [_target(k, track, graph.roles[k], range(k), supervised=k >= frontier)
               for k in range(choices.first_target, num)]
    return SequencePlan("v2v_frontier", (*history, *targets))


def reference_cache(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """R clean chunks at positions 0..Rm-1, then the target video from G m on, with nothing in between.

    Our reading: the target is the same undegraded clip from its own chunk G on, at its original positions, so
    that a position says how much time has really passed. The model must bridge the gap from the references.
    """
    references = [replace(_history(k, "clean", "reference", range(k))) for k in range(choices.num_references)]
    r = len(references)
    chunks = range(choices.gap_chunks, graph.num_chunks)
    history = [_history(k, "clean", graph.roles[k], range(r + i)) for i, k in enumerate(chunks[:-1])]
    targets = [_target(k, "clean", graph.roles[k], range(r + i)) for i, k in enumerate(chunks)]
    return SequencePlan("reference_cache", (*references, *history, *targets))


REGIMES: dict[RegimeName, Regime] = {
    "all_history": all_history,
    "noisy_memory": noisy_memory,
    "node_drop": node_drop,
    "v2v_frontier": v2v_frontier,
    "reference_cache": reference_cache,
}
