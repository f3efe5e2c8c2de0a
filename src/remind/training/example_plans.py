"""Plans as a run will draw them, without its data: regimes by their share of the curriculum, on made-up schedules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from remind.data.interrupt import sample_recipe
from remind.data.world_clips import HIDING_KINDS
from remind.frame_graph import FrameGraph
from remind.sequence_plan import SequencePlan
from remind.training.batches import group_size
from remind.training.config import TrainConfig
from remind.training.curriculum import Curriculum
from remind.training.regimes import REGIMES, RegimeName, draw_batch_choices

DRAWS = 16
_LARGEST_GROUP = 16  # what a larger group has in common changes little, and drawing it takes its time


@dataclass(frozen=True)
class PlanShape:
    """All of a plan that decides what it costs.

    Args:
        sees: per entry the entries that it attends, itself included.
        prompts: per entry which of the plan's prompts it reads.
    """

    sees: tuple[tuple[int, ...], ...]
    prompts: tuple[int, ...]

    @staticmethod
    def of(plan: SequencePlan) -> PlanShape:
        return PlanShape(plan.visibility, plan.prompt_of_entry)

    @property
    def entries(self) -> int:
        """Chunks in the sequence."""
        return len(self.sees)

    @property
    def pairs(self) -> int:
        """Pairs of chunks of which one attends the other."""
        return sum(len(seen) for seen in self.sees)

    @property
    def num_prompts(self) -> int:
        return max(self.prompts) + 1


@dataclass(frozen=True)
class RegimePlans:
    """What a regime's plans look like.

    Args:
        regime: its name.
        share: of the groups of the whole run, 0..1.
        plans: some of them.
    """

    regime: RegimeName
    share: float
    plans: tuple[PlanShape, ...]

    @property
    def entries(self) -> float:
        """Chunks in a sequence, mean."""
        return sum(plan.entries for plan in self.plans) / len(self.plans)

    @property
    def seen(self) -> float:
        """Chunks that a chunk attends, mean."""
        return sum(plan.pairs for plan in self.plans) / sum(plan.entries for plan in self.plans)

    @property
    def largest(self) -> PlanShape:
        """The plan that takes most memory: of those with most entries the one that attends most."""
        return max(self.plans, key=lambda plan: (plan.entries, plan.pairs))


def example_plans(config: TrainConfig, *, draws: int = DRAWS, seed: int = 0) -> tuple[RegimePlans, ...]:
    """Plans of every regime of the curriculum, drawn as the trainer draws them.

    Interruptions are of the kinds that world clips have; a store of others changes where degraded chunks lie, not how
    many entries there are.

    Raises:
        InputError: clips too short to be interrupted.
    """
    rng = np.random.default_rng([seed, 9])
    groups = _example_graphs(config.num_frames, min(group_size(config), _LARGEST_GROUP), draws, seed)
    found = []
    for name, share in regime_shares(config.curriculum).items():
        plans = []
        for graphs in groups:
            choices = draw_batch_choices(graphs, rng)
            plans.append(PlanShape.of(REGIMES[name](graphs[0], rng, config.regime, choices)))
        found.append(RegimePlans(name, share, tuple(plans)))
    return tuple(found)


def regime_shares(curriculum: Curriculum, *, points: int = 200) -> dict[RegimeName, float]:
    """Share of every regime that is ever drawn, over the whole run."""
    mixtures = [curriculum.weights_at((i + 0.5) / points) for i in range(points)]
    shares = {name: sum(mixture[name] for mixture in mixtures) / points for name in REGIMES}
    return {name: share for name, share in shares.items() if share > 0}


@lru_cache(maxsize=8)
def _example_graphs(num_frames: int, group: int, draws: int, seed: int) -> list[list[FrameGraph]]:
    """So many groups of graphs."""
    rng = np.random.default_rng([seed, 10])
    kinds = rng.integers(len(HIDING_KINDS), size=(draws, group))
    return [[FrameGraph(sample_recipe(HIDING_KINDS[kind], num_frames, rng).schedule(num_frames)) for kind in row]
            for row in kinds]  # fmt: skip
