"""What a step trains on: a function of (config, step), however ranks and passes share it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from remind.data.loader import rank_indices
from remind.errors import InputError
from remind.frame_graph import FrameGraph
from remind.training.batches import (
    check_split,
    micro_batches,
    noise_of,
    plan_clip,
    plan_groups,
    plans_of_step,
    schedules_of,
)
from remind.training.config import Execution, TrainConfig

from .make_run import CONFIG, mixture

GROUPED = replace(CONFIG, batch_size=12, group_size=4)


def divides(group_size: int, ranks: int, micro_batch: int) -> bool:
    group, share = group_size or 12, 12 // ranks
    return (group % share == 0 or share % group == 0) and micro_batch <= group


SPLITS = [split for split in product((0, 2, 4, 12), (1, 2, 3, 6), (0, 1, 3)) if divides(*split)]


@pytest.mark.parametrize(("group_size", "ranks", "micro_batch"), SPLITS)
def test_passes_cover_the_batch_in_order_and_cross_no_group(group_size: int, ranks: int, micro_batch: int) -> None:
    config = replace(CONFIG, batch_size=12, group_size=group_size, execution=Execution(micro_batch=micro_batch))
    check_split(config, ranks)
    passes = [micro_batches(config, 7, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert [i for share in passes for p in share for i in p.indices] == list(range(84, 96))
    size = group_size or 12
    assert all({(i - 84) // size for i in p.indices} == {p.group} for share in passes for p in share)
    assert len({tuple(len(p.indices) for p in share) for share in passes}) == 1  # as sharded models need
    assert all(len(p.indices) <= micro_batch for share in passes for p in share if micro_batch)


@pytest.mark.parametrize(
    ("change", "ranks", "message"),
    [({}, 5, "equal shares"), ({"group_size": 6}, 3, "cut each other")],
)
def test_numbers_that_do_not_divide_are_refused(change: dict, ranks: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_split(replace(GROUPED, **change), ranks)


def test_a_step_is_a_function_of_seed_and_number() -> None:
    samples, plans = plans_of_step(GROUPED, mixture(), 17)
    plans_of_step(GROUPED, mixture(), 3)
    again_samples, again_plans = plans_of_step(GROUPED, mixture(), 17)
    assert plans == again_plans
    assert all(torch.equal(a.clean, b.clean) for a, b in zip(samples, again_samples, strict=True))
    other = replace(GROUPED, seed=6)
    assert plans != plans_of_step(other, mixture(other), 17)[1]


def test_groups_differ_and_their_clips_share_regime_and_visibility() -> None:
    seen = set()
    for step in range(6):
        plans = plans_of_step(GROUPED, mixture(), step)[1]
        for group in range(3):
            own = plans[4 * group : 4 * group + 4]
            assert len({(plan.regime, plan.visibility) for plan in own}) == 1
        seen.add(tuple(plan.regime for plan in plans[::4]))
    assert any(len(set(regimes)) > 1 for regimes in seen)


def test_a_clip_has_the_same_plan_and_noise_whoever_reads_it() -> None:
    """A rank knows the schedules of all clips and the content of its own."""
    step = 2
    data = mixture()
    whole = plans_of_step(GROUPED, data, step)[1]
    graphs = [FrameGraph(s) for s in schedules_of([data[i] for i in rank_indices(step, 0, 1, 12)])]
    for ranks in (2, 3, 6):
        for rank in range(ranks):
            groups = plan_groups(GROUPED, step, graphs)
            for micro in micro_batches(GROUPED, step, rank=rank, ranks=ranks):
                for i in micro.indices:
                    plan = plan_clip(GROUPED, i, graphs[i - 24], groups[micro.group])
                    assert plan == whole[i - 24]


def test_noise_is_a_function_of_seed_and_index() -> None:
    def draw(config: TrainConfig, index: int) -> torch.Tensor:
        return torch.randn(8, generator=noise_of(config, index))

    assert torch.equal(draw(CONFIG, 3), draw(replace(CONFIG, batch_size=2), 3))
    drawn = [draw(CONFIG, i) for i in range(4)] + [draw(replace(CONFIG, seed=6), 3)]
    assert all(not torch.equal(a, b) for n, a in enumerate(drawn) for b in drawn[:n])


def test_every_regime_of_the_curriculum_comes_up() -> None:
    single = replace(CONFIG, batch_size=1)
    seen = {plans_of_step(single, mixture(), step)[1][0].regime for step in range(150)}
    assert seen == set(CONFIG.curriculum.regimes)
