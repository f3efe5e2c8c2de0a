"""Batches of a mixture for any number of ranks and loader processes, always the same ones.

A step's global batch is the samples at the indices `step * batch_size` and on; ranks cut it in order. So the state
that a checkpoint keeps is the number of the next step.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
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
    loader = DataLoader(_Reading(mixture), batch_sampler=sampler, num_workers=workers, collate_fn=_pack,
                        worker_init_fn=_start_worker if workers else None)  # fmt: skip
    for packed in loader:
        if isinstance(packed, RemindError):
            raise packed
        yield _unpack(packed)


class _Reading(Dataset[MemorySample | RemindError]):
    """Errors as values: torch would bury a worker's one line in two tracebacks."""

    def __init__(self, mixture: Mixture):
        self.mixture = mixture

    def __getitem__(self, index: int) -> MemorySample | RemindError:
        try:
            return self.mixture[index]
        except RemindError as error:
            return error


@dataclass(frozen=True)
class _Place:
    """What stands in for a tensor that was packed."""

    dtype: torch.dtype
    shape: torch.Size


@dataclass(frozen=True)
class _Packed:
    """A batch as one tensor per type: each tensor that crosses a process border costs a file and a handshake.

    Measured with one worker on two busy cores, clips of 64x64 px: 53 samples/s as they are, 344 packed.

    Args:
        flat: by type, all values in order of samples and fields.
        samples: per sample, its fields.
    """

    flat: dict[torch.dtype, Tensor]
    samples: list[dict[str, Any]]


def _pack(samples: list[MemorySample | RemindError]) -> _Packed | RemindError:
    pieces: dict[torch.dtype, list[Tensor]] = {}
    packed: list[dict[str, Any]] = []
    for sample in samples:
        if isinstance(sample, RemindError):
            return sample
        fields = dict(vars(sample))
        for name, value in fields.items():
            if isinstance(value, Tensor):
                pieces.setdefault(value.dtype, []).append(value.flatten())
                fields[name] = _Place(value.dtype, value.shape)
        packed.append(fields)
    return _Packed({dtype: torch.cat(tensors) for dtype, tensors in pieces.items()}, packed)


def _unpack(packed: _Packed) -> list[MemorySample]:
    taken = dict.fromkeys(packed.flat, 0)
    samples = []
    for fields in packed.samples:
        values = dict(fields)
        for name, value in fields.items():
            if isinstance(value, _Place):
                start, stop = taken[value.dtype], taken[value.dtype] + value.shape.numel()
                taken[value.dtype] = stop
                values[name] = packed.flat[value.dtype][start:stop].view(value.shape)
        samples.append(MemorySample(**values))
    return samples


def _start_worker(_: int) -> None:
    """One thread, and deaf to what asks a whole run to stop.

    A scheduler tells all processes, and the step that is under way still needs its clips. The loader ends its workers
    itself; SIGTERM, which it sends to one that hangs, ends it the second time.
    """
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
