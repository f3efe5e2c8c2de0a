"""Batches of a mixture for any number of ranks and loader processes, always the same ones.

A step's global batch is the samples at the indices `step * batch_size` and on; ranks cut it in order. So the state
that a checkpoint keeps is the number of the next step.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from remind.data.memory_sample import MemorySample
from remind.data.mixture import Mixture
from remind.errors import InputError, RemindError


def rank_indices(step: int, rank: int, world_size: int, batch_size: int) -> range:
    """Global indices that a rank reads in a step; over all ranks in order they are the step's global batch.

    Args:
        step: >= 0.
        rank: 0..world_size - 1.
        world_size: 1..batch_size. Where it does not divide the batch, shares differ by one at most.
        batch_size: samples per step over all ranks.

    Raises:
        InputError: numbers that are out of range: above all, a rank that would have nothing to read.
    """
    if not (step >= 0 and 0 <= rank < world_size <= batch_size):
        raise InputError("no such share of a batch",
                         got=f"step {step}, rank {rank} of {world_size}, batch of {batch_size}",
                         expected="step >= 0, 0 <= rank < ranks <= batch",
                         fix="use fewer ranks or a larger batch")  # fmt: skip
    start = step * batch_size
    return range(start + rank * batch_size // world_size, start + (rank + 1) * batch_size // world_size)


class MixtureDataset(Dataset[MemorySample]):
    """A mixture as torch's map-style dataset. It has no length: a mixture has no end."""

    def __init__(self, mixture: Mixture):
        self.mixture = mixture

    def __getitem__(self, index: int) -> MemorySample:
        return self.mixture[index]


class StepSampler(Sampler[list[int]]):
    """A batch sampler: one rank's indices of the steps `first_step` to `num_steps` - 1.

    Args:
        batch_size: samples per step over all ranks.
        num_steps: of the whole run.
        first_step: the resumed run's next step, the only state there is.
        rank, world_size: see `rank_indices`.
    """

    def __init__(self, batch_size: int, num_steps: int, *, first_step: int = 0, rank: int = 0, world_size: int = 1):
        rank_indices(first_step, rank, world_size, batch_size)
        self.batch_size, self.num_steps, self.first_step = batch_size, num_steps, first_step
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.num_steps):
            yield list(rank_indices(step, self.rank, self.world_size, self.batch_size))

    def __len__(self) -> int:
        return max(0, self.num_steps - self.first_step)


def read_batches(mixture: Mixture, sampler: StepSampler, *, workers: int = 0) -> Iterator[list[MemorySample]]:
    """One rank's samples, step by step; the same for every number of workers.

    Args:
        workers: processes that read ahead, two steps each; 0 = read here.

    Raises:
        RemindError: whatever reading a sample raises.
    """
    loader = DataLoader(_Reading(mixture), batch_sampler=sampler, num_workers=workers, collate_fn=_as_list,
                        worker_init_fn=_one_thread if workers else None)  # fmt: skip
    for batch in loader:
        for item in batch:
            if isinstance(item, RemindError):
                raise item
        yield batch


class _Reading(Dataset[MemorySample | RemindError]):
    """Errors as values: torch would bury a worker's one line in two tracebacks."""

    def __init__(self, mixture: Mixture):
        self.mixture = mixture

    def __getitem__(self, index: int) -> MemorySample | RemindError:
        try:
            return self.mixture[index]
        except RemindError as error:
            return error


def _as_list(samples: list[MemorySample | RemindError]) -> list[MemorySample | RemindError]:
    return samples


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
