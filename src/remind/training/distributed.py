"""The processes of a run: one alone, or the ranks that torchrun started; they fail together and say so once.

A plain process starts nothing. Under torchrun, ranks shard the model (FSDP2), or shard it in every group of ranks and
replicate the groups (HSDP); neighbouring ranks may share the tokens of a clip (sequence parallelism).

Source: our choice: what ranks must agree on in every step (schedules, sums, errors, a wish to stop) is a few hundred
bytes and travels over gloo in one kind of message, an answer or an error of each rank. So an error of one rank ends all
ranks at the same place in the program, with its own words.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from remind import errors
from remind.errors import InputError, RemindError
from remind.models.dit import CausalVideoDiT
from remind.training.config import Execution

T = TypeVar("T")

# Ranks wait for rank 0 while it validates and writes; a rank that died is noticed at once, by its closed connection.
_CONTROL_TIMEOUT = timedelta(hours=4)


class RankLostError(RemindError):
    """Another rank ended without a word: it was killed, or the network is down."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    Args:
        device: where this rank computes.
        rank: 0..world_size - 1; rank 0 alone prints and writes what is written once.
        world_size: processes of the run.
        mesh: over what weights are sharded (`shard`) and replicated (`replicate`); None in a plain process.
        control: gloo group of all ranks; None in a plain process.
        sequence: group of the neighbouring ranks that share the tokens of each clip; None = no sharing.
        sequence_size: how many those are.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    mesh: DeviceMesh | None = None
    control: dist.ProcessGroup | None = None
    sequence: dist.ProcessGroup | None = None
    sequence_size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        """Which share of the batch this rank reads; the ranks of a sequence group read the same one."""
        return self.rank // self.sequence_size

    @property
    def data_ranks(self) -> int:
        """Number of shares of the batch."""
        return self.world_size // self.sequence_size

    def agree(self, work: Callable[[], T]) -> list[T]:
        """Do `work` here and get the answers of all ranks, in order; every rank must call this.

        Raises:
            RemindError: on all ranks the error of the first rank that had one, of its class.
            Exception: any other error, on the rank that had it; the others get its name.
            RankLostError: a rank that did not answer.
        """
        if self.control is None:
            return [work()]
        own: Exception | None = None
        answer: tuple[T | None, tuple[str, str] | None]
        try:
            answer = (work(), None)
        except Exception as error:  # whatever it is, the others must not wait for this rank
            own = error
            answer = (None, _as_words(error))
        answers: list[tuple[T, tuple[str, str] | None]] = [None] * self.world_size  # type: ignore[list-item]
        try:
            dist.all_gather_object(answers, answer, group=self.control)
        except (RuntimeError, dist.DistError) as error:
            raise rank_lost(error) from None
        failed = [(rank, words) for rank, (_, words) in enumerate(answers) if words is not None]
        if own is not None and not isinstance(own, RemindError):
            raise own
        if failed:
            rank, (kind, line) = failed[0]
            more = f" (rank {rank}{f' and {len(failed) - 1} more' if len(failed) > 1 else ''})"
            raise getattr(errors, kind, RemindError)(line + more)
        return [value for value, _ in answers]

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` here and on all other ranks; an error of one is an error of all, as in `agree`."""
        done: list[T] = []
        self.agree(lambda: done.append(work()))
        return done[0]

    def shard(self, model: CausalVideoDiT) -> CausalVideoDiT:
        """Shard every block, then the rest, in place; nothing in a plain process."""
        if self.mesh is not None:
            # The velocity is a view of the head's output, which FSDP warns of; nothing writes into it.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            for block in model.blocks:
                fully_shard(block, mesh=self.mesh)
            fully_shard(model, mesh=self.mesh)
        return model


def rank_lost(error: BaseException) -> RankLostError:
    """What to raise where a collective failed."""
    return RankLostError("another rank of the run is gone", got=_last_line(error),
                         expected="all ranks until the end",
                         fix="see what that rank said; then --resume goes on from the last checkpoint")  # fmt: skip


def is_collective_failure(error: BaseException) -> bool:
    """Whether an error that any call raised says that other ranks cannot be reached."""
    said = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError | CheckpointException)
        and any(words in said for words in ("gloo/", "Connection closed by peer", "Connection reset by peer"))
    )


def choose_device(name: str) -> torch.device:
    """The device of this process.

    Raises:
        InputError: one that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[name]:
        raise InputError("this device is not there", got=name, expected=" | ".join(k for k, v in there.items() if v),
                         fix="leave --execution.device at auto")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)


@contextmanager
def started_ranks(execution: Execution) -> Iterator[Ranks]:
    """This process's place in the run; under torchrun its process groups, which end with the context.

    Raises:
        InputError: numbers of ranks that do not divide, or a device that is not there.
    """
    device = choose_device(execution.device)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    check_world(execution, world_size)
    if world_size == 1:
        yield Ranks(device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo",
                            device_id=device if device.type == "cuda" else None)  # fmt: skip
    yield _join(execution, device)
    dist.destroy_process_group()  # not after an error: where a rank is gone, taking leave of it can wait for ever


def check_world(execution: Execution, world_size: int) -> None:
    """Whether ranks split into replicas and sequence groups.

    Raises:
        InputError: they do not.
    """
    for name, value in (("replicate", execution.replicate), ("sequence_parallel", execution.sequence_parallel)):
        if value < 1 or world_size % value:
            raise InputError(f"the ranks do not split by --execution.{name}", got=f"{value} of {world_size} ranks",
                             expected=f"a divisor of {world_size}",
                             fix="change it, or start another number of ranks with torchrun")  # fmt: skip


def _join(execution: Execution, device: torch.device) -> Ranks:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh(device.type, (execution.replicate, world_size // execution.replicate),
                            mesh_dim_names=("replicate", "shard"))  # fmt: skip
    sequence = None
    size = execution.sequence_parallel
    if size > 1:
        sequence = init_device_mesh(device.type, (world_size // size, size),
                                    mesh_dim_names=("data", "sequence")).get_group("sequence")  # fmt: skip
    control = dist.new_group(backend="gloo", timeout=_CONTROL_TIMEOUT)
    return Ranks(device, rank, world_size, mesh["shard"] if execution.replicate == 1 else mesh, control, sequence,
                 size)  # fmt: skip


def _as_words(error: Exception) -> tuple[str, str]:
    if isinstance(error, RemindError):
        return type(error).__name__, str(error)
    return "RemindError", f"{type(error).__name__}: {_last_line(error)}"


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
