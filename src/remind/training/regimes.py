"""Training regimes: pure functions from a frame graph to a sequence plan.

Source: ReMind Sec. 3.4. All regimes use the teacher-forced pass: a history of entries that later ones may read, then
noised target entries, each of which sees earlier history and itself, never another target. All-history also knows the
shared pass: one sequence of noised chunks, each with a noise level of its own, each sees the noisy ones before it.

Choices that must be equal in a whole micro-batch (they change who sees whom) come in `BatchChoices`; all else is
drawn per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from remind.errors import GraphError, InputError
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
    """What a recipe fixes for all plans. All shares are our choice: the paper gives none.

    Args:
        track: which version of the clip the I2V-aligned regimes learn.
        history: what all-history chunks see of the chunks before them: `teacher_forced`, their clean copies, as in
            generation; `shared`, the same noised entries that are trained, in half the tokens. The other regimes are
            about which memories can be trusted, so their plans decide that alone: always teacher-forced.
        memory_noise_share: how likely each past chunk is noised in noisy memory, 0..1.
        anchor_drop_share: how likely node drop also takes each anchor beyond the one that survives, 0..1.
        clean_prefix_share: how often the V2V prefix is clean instead of degraded, 0..1.
        clean_target_share: how often the target after a reference cache is clean instead of degraded, 0..1.

    Raises:
        InputError: a share outside 0..1.
    """

    track: Track = "degraded"
    history: Literal["teacher_forced", "shared"] = "teacher_forced"
    memory_noise_share: float = 0.5
    anchor_drop_share: float = 0.25
    clean_prefix_share: float = 0.15
    clean_target_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("memory_noise_share", "anchor_drop_share", "clean_prefix_share", "clean_target_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError("a share must lie within 0..1", got=f"{name} = {getattr(self, name)}")


Regime = Callable[[FrameGraph, np.random.Generator, RegimeOptions, BatchChoices], SequencePlan]


def draw_batch_choices(graphs: Sequence[FrameGraph], rng: np.random.Generator) -> BatchChoices:
    """Choices that suit every graph of a micro-batch: references stop before the earliest degraded chunk."""
    frontiers = [g.frontier for g in graphs if g.frontier is not None]
    first_degraded = min((g.degraded[0] for g in graphs if g.degraded), default=2)
    shortest = min(g.num_chunks for g in graphs)
    most = max(1, min(first_degraded, shortest - 1))
    num_references = int(rng.integers(1, most + 1))
    gap = int(rng.integers(num_references, max(shortest, num_references + 1)))
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


def _roles(graph: FrameGraph, track: Track) -> tuple[Role, ...]:
    """Roles of a version's chunks when nothing is corrupted: in the clean one nothing is lost, so all are clean."""
    return graph.roles if track == "degraded" else tuple("clean" for _ in graph.roles)


def all_history(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """Every chunk is generated from all chunks before it; chunk 0 from its first frame."""
    roles = _roles(graph, options.track)
    if options.history == "teacher_forced":
        return _teacher_forced("all_history", options.track, roles)
    shared = [_target(k, options.track, role, range(k), seeded=k == 0) for k, role in enumerate(roles)]
    return SequencePlan("all_history", tuple(shared))


def _teacher_forced(name: str, track: Track, roles: tuple[Role, ...]) -> SequencePlan:
    """[clean history | noised targets]; the last chunk is nobody's history. An entry's index in the history is its
    chunk."""
    history = [_history(k, track, role, range(k)) for k, role in enumerate(roles[:-1])]
    targets = [_target(k, track, role, range(k), seeded=k == 0) for k, role in enumerate(roles)]
    return SequencePlan(name, (*history, *targets))


def _corrupt(plan: SequencePlan, rules: dict[int, SigmaRule]) -> SequencePlan:
    """The same plan with other sigma rules on the history entries of some chunks."""
    entries = tuple(
        replace(entry, sigma=(rules[i],) * LATENTS_PER_CHUNK) if i in rules else entry
        for i, entry in enumerate(plan.entries)
    )
    return replace(plan, entries=entries)


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
    return _corrupt(_teacher_forced("noisy_memory", options.track, graph.roles), dict.fromkeys(noised, "memory"))


def node_drop(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """Interruption nodes become pure noise, and sometimes anchors too, but never the last one of a recovery.

    What is noise is the memory of a node; as a target each is still learned, the darkness included.
    """
    drop = set(graph.degraded)
    spare = list(graph.anchors)
    rng.shuffle(spare)
    drop = _spare_anchors(graph, drop | {k for k in spare[1:] if rng.random() < options.anchor_drop_share})
    return _corrupt(_teacher_forced("node_drop", options.track, graph.roles), dict.fromkeys(drop, "one"))


def v2v_frontier(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """A clean or degraded prefix is given; only the recovery suffix of the same version is supervised."""
    num = graph.num_chunks
    frontier = graph.frontier if graph.frontier is not None else choices.first_target
    track: Track = "clean" if rng.random() < options.clean_prefix_share else "degraded"
    roles = _roles(graph, track)
    history = [_history(k, track, roles[k], range(k)) for k in range(num - 1)]
    targets = [_target(k, track, roles[k], range(k), supervised=k >= frontier)
               for k in range(choices.first_target, num)]
    return SequencePlan("v2v_frontier", (*history, *targets))


def reference_cache(
    graph: FrameGraph, rng: np.random.Generator, options: RegimeOptions, choices: BatchChoices
) -> SequencePlan:
    """R clean chunks at positions 0..Rm-1, then the target video from G m on, with nothing in between.

    References are chunks of the undegraded clip before the first degraded one. Our reading of the target: the same clip
    from its own chunk G on, at its original positions, so that a position says how much time has really passed. The
    model must bridge the gap from the references; where the target is the degraded version, also the interruption.
    """
    track: Track = "clean" if rng.random() < options.clean_target_share else "degraded"
    roles = _roles(graph, track)
    references = [_history(k, "clean", "reference", range(k)) for k in range(choices.num_references)]
    r = len(references)
    chunks = range(choices.gap_chunks, graph.num_chunks)
    history = [_history(k, track, roles[k], range(r + i)) for i, k in enumerate(chunks[:-1])]
    targets = [_target(k, track, roles[k], range(r + i)) for i, k in enumerate(chunks)]
    return SequencePlan("reference_cache", (*references, *history, *targets))


REGIMES: dict[RegimeName, Regime] = {
    "all_history": all_history,
    "noisy_memory": noisy_memory,
    "node_drop": node_drop,
    "v2v_frontier": v2v_frontier,
    "reference_cache": reference_cache,
}

_NEEDS: dict[RegimeName, tuple[str, Callable[[FrameGraph], bool]]] = {
    "noisy_memory": ("a chunk that has a past", lambda graph: graph.num_chunks > 1),
    "node_drop": ("an interruption, whose chunks it drops", lambda graph: bool(graph.degraded)),
    "v2v_frontier": ("a recovery node after an interruption, from which it generates", lambda graph: bool(graph.edges)),
    "reference_cache": ("a chunk after the references", lambda graph: graph.num_chunks > 1),
}


def check_supports(regime: RegimeName, graphs: Iterable[FrameGraph]) -> None:
    """Refuse data of which no clip has what a regime is about; a mixture of clips with and without is fine.

    Raises:
        GraphError: what the regime needs, and that none has it.
    """
    need, has = _NEEDS.get(regime, ("any clip", lambda graph: True))
    seen = 0
    for graph in graphs:
        if has(graph):
            return
        seen += 1
    raise GraphError(f"the regime {regime} has nothing to train on", got=f"none of {seen} clips with {need}",
                     expected="one at least",
                     fix="add clips with interruptions, or give the regime no weight in the curriculum")
