"""What a step trains on, as pure functions of (config, step): clips, groups, regimes, plans, noise.

Nothing here knows a clip's content, and nothing depends on how many ranks and passes share a step.

    global batch       mixture indices step * batch_size ...            data/mixture.py says which clips these are
    group              `group_size` neighbours: one regime, one visibility pattern
    share              a rank's contiguous part of the batch            data/loader.py
    micro-batch        what one forward pass holds: neighbours of one share and one group

Random streams are seeded by lists that start with the config's seed and a number: 1, 2 the mixture's order, 3 a group's
regime and choices, 4 a clip's noise and noise levels, 5 a clip's plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from remind.data.loader import rank_indices
from remind.data.memory_sample import MemorySample
from remind.data.mixture import Mixture
from remind.errors import InputError
from remind.frame_graph import FrameGraph, Schedule
from remind.sequence_plan import SequencePlan
from remind.training.config import TrainConfig
from remind.training.regimes import REGIMES, BatchChoices, RegimeName, draw_batch_choices


@dataclass(frozen=True)
class MicroBatch:
    """Clips of one forward pass, by their global indices; all of one group of the step."""

    group: int
    indices: range


@dataclass(frozen=True)
class GroupPlan:
    """What all clips of a group share."""

    regime: RegimeName
    choices: BatchChoices


def group_size(config: TrainConfig) -> int:
    """Clips of a group; `group_size` 0 stands for the whole batch."""
    return config.group_size or config.batch_size


def check_split(config: TrainConfig, data_ranks: int) -> None:
    """Whether all ranks get equally many passes of equally many clips, as sharded models need.

    Raises:
        InputError: numbers that do not divide.
    """
    group = group_size(config)
    if config.batch_size % data_ranks:
        raise InputError("the batch does not split into equal shares",
                         got=f"batch of {config.batch_size}, {data_ranks} ranks that read",
                         expected=f"a multiple of {data_ranks}", fix="change --batch-size or the number of ranks")
    share = config.batch_size // data_ranks
    if share % group and group % share:
        raise InputError("groups and the shares of ranks cut each other", got=f"groups of {group}, shares of {share}",
                         expected="one a multiple of the other", fix="change --group-size or the number of ranks")


def micro_batches(config: TrainConfig, step: int, *, rank: int = 0, ranks: int = 1) -> list[MicroBatch]:
    """A rank's passes of a step, in order.

    Args:
        rank, ranks: of the ranks that read different clips.
    """
    group, start = group_size(config), step * config.batch_size
    share = rank_indices(step, rank, ranks, config.batch_size)
    most = config.execution.micro_batch or config.batch_size
    found: list[MicroBatch] = []
    first = share.start
    while first < share.stop:
        number = (first - start) // group
        stop = min(first + most, share.stop, start + (number + 1) * group)
        found.append(MicroBatch(number, range(first, stop)))
        first = stop
    return found


def plan_group(config: TrainConfig, step: int, group: int, graphs: Sequence[FrameGraph]) -> GroupPlan:
    """Regime and choices of a group.

    Args:
        graphs: of all its clips, in order, whoever reads them.
    """
    rng = np.random.default_rng([config.seed, 3, step, group])
    regime = config.curriculum.pick(rng, step / config.steps)
    return GroupPlan(regime, draw_batch_choices(graphs, rng))


def plan_clip(config: TrainConfig, index: int, graph: FrameGraph, group: GroupPlan) -> SequencePlan:
    """The plan of the clip at a global index.

    Raises:
        GraphError: a graph that the regime cannot use.
    """
    rng = np.random.default_rng([config.seed, 5, index])
    return REGIMES[group.regime](graph, rng, config.regime, group.choices)


def noise_of(config: TrainConfig, index: int) -> torch.Generator:
    """The stream of noise and noise levels of the clip at a global index."""
    return torch.Generator().manual_seed(int(np.random.default_rng([config.seed, 4, index]).integers(2**62)))


def plan_groups(config: TrainConfig, step: int, graphs: Sequence[FrameGraph]) -> list[GroupPlan]:
    """The groups of a step, in order.

    Args:
        graphs: of the whole global batch, in order.
    """
    size = group_size(config)
    return [plan_group(config, step, first // size, graphs[first : first + size])
            for first in range(0, len(graphs), size)]  # fmt: skip


def schedules_of(samples: Sequence[MemorySample]) -> list[Schedule]:
    """What the others need to know of clips that one rank has read."""
    return [sample.recipe.schedule(sample.num_frames) for sample in samples]


def plans_of_step(config: TrainConfig, mixture: Mixture, step: int) -> tuple[list[MemorySample], list[SequencePlan]]:
    """All clips and plans of a step, for one who looks at it."""
    samples = [mixture[index] for index in rank_indices(step, 0, 1, config.batch_size)]
    graphs = [FrameGraph(schedule) for schedule in schedules_of(samples)]
    groups, size = plan_groups(config, step, graphs), group_size(config)
    start = step * config.batch_size
    return samples, [plan_clip(config, start + i, graph, groups[i // size]) for i, graph in enumerate(graphs)]
