"""Every number of ranks and of loader processes reads the same samples, from any step on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch.utils.data import DataLoader

from remind.data.loader import MixtureDataset, StepSampler, rank_indices, read_batches
from remind.data.memory_sample import MemorySample
from remind.data.mixture import Mixture, WeightSchedule
from remind.errors import InputError, StoreError

from ..make_memory import random_bank

BATCH, STEPS = 6, 4


@pytest.fixture
def mixture() -> Mixture:
    weights = WeightSchedule(((0, (1.0, 0.0)), (20, (1.0, 2.0))))
    return Mixture([random_bank(5, seed=0), random_bank(3, seed=1)], weights, seed=4)


def prints(batches: Sequence[list[MemorySample]]) -> list[list[tuple[float, float, str]]]:
    """What tells samples apart, bit for bit."""
    return [[(s.clean.sum().item(), s.degraded.sum().item(), s.recipe.to_json()) for s in batch] for batch in batches]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6])
def test_ranks_cut_each_global_batch_in_order(world_size: int) -> None:
    for step in range(3):
        shares = [rank_indices(step, rank, world_size, BATCH) for rank in range(world_size)]
        assert [i for share in shares for i in share] == list(range(step * BATCH, (step + 1) * BATCH))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("step", "rank", "world_size"), [(-1, 0, 1), (0, 2, 2), (0, -1, 2), (0, 0, 0), (0, 0, 7)])
def test_shares_that_do_not_exist_are_refused(step: int, rank: int, world_size: int) -> None:
    with pytest.raises(InputError, match="no such share"):
        rank_indices(step, rank, world_size, BATCH)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_workers_ranks_or_where_a_run_was_resumed(mixture: Mixture, workers: int) -> None:
    expected = prints([[mixture[step * BATCH + i] for i in range(BATCH)] for step in range(STEPS)])
    assert prints(list(read_batches(mixture, StepSampler(BATCH, STEPS), workers=workers))) == expected
    for world_size in (2, 4):
        ranks = [prints(list(read_batches(
            mixture, StepSampler(BATCH, STEPS, rank=rank, world_size=world_size), workers=workers)))
            for rank in range(world_size)]  # fmt: skip
        assert [[s for rank in ranks for s in rank[step]] for step in range(STEPS)] == expected
    resumed = StepSampler(BATCH, STEPS, first_step=2)
    assert len(resumed) == 2
    assert prints(list(read_batches(mixture, resumed, workers=workers))) == expected[2:]


def test_the_dataset_works_in_a_loader_of_ones_own(mixture: Mixture) -> None:
    loader = DataLoader(MixtureDataset(mixture), batch_sampler=StepSampler(BATCH, 2), collate_fn=lambda s: s)
    assert prints(list(loader)) == prints([[mixture[i] for i in range(6)], [mixture[i] for i in range(6, 12)]])


class OneDamaged(Sequence[MemorySample]):
    """A bank whose third sample is damaged."""

    def __init__(self) -> None:
        self.bank = random_bank(4)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> MemorySample:  # type: ignore[override]
        if index == 2:
            raise StoreError("clip c is damaged", got="nonsense", fix="mend it")
        return self.bank[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_arrives_as_its_one_line(workers: int) -> None:
    with pytest.raises(StoreError) as caught:
        list(read_batches(Mixture([OneDamaged()], [1.0], seed=0), StepSampler(2, 2), workers=workers))
    assert str(caught.value) == "clip c is damaged; got nonsense. Fix: mend it"


def test_mixtures_cross_process_borders_by_pickling_too(mixture: Mixture) -> None:
    loader = DataLoader(MixtureDataset(mixture), batch_sampler=StepSampler(BATCH, 2), collate_fn=list,
                        num_workers=1, multiprocessing_context=torch.multiprocessing.get_context("spawn"))  # fmt: skip
    assert prints(list(loader)) == prints([[mixture[i] for i in range(6)], [mixture[i] for i in range(6, 12)]])
