"""What two gloo ranks do in one pair of processes, so that no check costs a start of its own; results go to files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from remind.data.dataset import MemorySample, Mixture
from remind.errors import RemindError, StoreError
from remind.models.dit import CausalVideoDiT
from remind.training import run_checkpoint
from remind.training.config import Execution
from remind.training.distributed import Ranks, started_ranks
from remind.training.losses import LossOptions
from remind.training.muon import Muon
from remind.training.shards import local, own_part, whole
from remind.training.trainer import Trainer

from ..make_memory import random_bank
from .make_run import CONFIG, numbers, room_for, take, trainer

GROUPED = replace(CONFIG, group_size=2, loss=LossOptions(gate_steps=1))
STEPS = 3
VARIANTS = {
    "fsdp": GROUPED,
    "muon, one group": replace(GROUPED, optimizer="muon", group_size=0),
    "hsdp, small passes, recomputed": replace(GROUPED, execution=Execution(1, recompute=True, replicate=2)),
    "sequence": replace(GROUPED, hw=(32, 32), execution=Execution(sequence_parallel=2)),
}


def data_of(config: Any) -> Mixture:
    return Mixture([random_bank(5, hw=config.latent_hw)], [1.0], config.seed)


def summary(run: Trainer, steps: int) -> dict[str, Any]:
    """Records, weights, average and optimiser state, gathered."""
    found = take(run, steps)
    return {"records": found, "tensors": {name: whole(tensor).clone() for name, tensor in run.tensors().items()}}


def with_mesh(ranks: Ranks, execution: Execution) -> Ranks:
    """The same processes as another execution would arrange them."""
    if execution.replicate > 1:
        return replace(ranks, mesh=init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard")))
    if execution.sequence_parallel > 1:
        return replace(ranks, sequence=dist.group.WORLD, sequence_size=2)
    return ranks


def error_of(work: Callable[[], Any]) -> str:
    try:
        work()
    except (RemindError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


class DamagedBank(Sequence[MemorySample]):
    """A bank of which one clip cannot be read."""

    def __init__(self, bad: int):
        self.bank, self.bad = random_bank(5), bad

    def __len__(self) -> int:
        return len(self.bank)

    def __getitem__(self, index: int) -> MemorySample:  # type: ignore[override]
        if index == self.bad:
            raise StoreError(f"clip {index} is damaged", got="a truncated file")
        return self.bank[index]


def variants(ranks: Ranks) -> dict[str, Any]:
    found = {}
    for name, config in VARIANTS.items():
        run = trainer(config, with_mesh(ranks, config.execution), data_of(config))
        found[name] = summary(run, STEPS)
        found[name]["sharded"] = sum(local(t).numel() for t in run.average.tensors.values())
        found[name]["shipped"] = run.averaged_weights()
    return found


def resharded(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Two ranks go on from one process's checkpoint, and write one for it."""
    run = trainer(GROUPED, ranks)
    said = run.resume(run_checkpoint.step_folder(folder / "by-one", 2))
    first = take(run, 2)
    run.save(folder / "by-two")
    return {"said": said, "records": first}


def failures(ranks: Ranks, folder: Path) -> dict[str, str]:
    bank = DamagedBank(2)
    bad = next(i for i in range(100) if Mixture([bank], [1.0], CONFIG.seed).locate(i)[1] == 2)
    spoilt = random_bank(5)
    for name in ("clean", "degraded"):
        spoilt.tensors[name][2] = float("nan")
    found = {"index": str(bad)}
    found["damaged"] = error_of(lambda: take(trainer(data=Mixture([bank], [1.0], 5), ranks=ranks), 5))
    found["not finite"] = error_of(lambda: take(trainer(data=Mixture([spoilt], [1.0], 5), ranks=ranks), 5))
    found["batch"] = error_of(lambda: trainer(replace(CONFIG, batch_size=5), ranks))
    found["here alone"] = error_of(lambda: ranks.agree(lambda: 1 / ranks.rank))
    run = trainer(GROUPED, ranks)
    take(run, 1)
    run.save(folder / "full")
    take(run, 1)
    with room_for(2000) if ranks.rank == 1 else nullcontext():
        found["full disk"] = error_of(lambda: run.save(folder / "full"))
    return found


def muon(ranks: Ranks) -> dict[str, float]:
    """Largest difference to the same steps of one process, also where rows do not divide among ranks."""
    worst = 0.0
    assert ranks.mesh is not None
    shapes = [(5, 7), (5, 7), (8, 3), (1, 4)]
    model = torch.nn.Module()
    plain: list[torch.nn.Parameter] = []
    generator = torch.Generator().manual_seed(0)
    for number, shape in enumerate(shapes):
        value = torch.randn(shape, generator=generator)
        model.register_parameter(f"w{number}", torch.nn.Parameter(value.clone()))
        plain.append(torch.nn.Parameter(value.clone()))
    from torch.distributed.fsdp import fully_shard

    fully_shard(model, mesh=ranks.mesh)
    sharded = list(model.parameters())
    ours, theirs = Muon(sharded, 0.1, weight_decay=0.1), Muon(plain, 0.1, weight_decay=0.1)
    for _ in range(4):
        for mine, other in zip(sharded, plain, strict=True):
            other.grad = torch.randn(other.shape, generator=generator)
            mine.grad = torch.zeros_like(mine)
            with torch.no_grad():
                local(mine.grad).copy_(other.grad[own_part(mine)])
        ours.step()
        theirs.step()
    for mine, other in zip(sharded, plain, strict=True):
        worst = max(worst, float((whole(mine.detach()) - other.detach()).abs().max()))
    return {"worst": worst}


def looks(ranks: Ranks) -> dict[str, Any]:
    """What validators get, and that a look changes nothing."""
    run, other = trainer(GROUPED, ranks), trainer(GROUPED, ranks)
    take(run, 1)
    take(other, 1)

    def output(model: CausalVideoDiT | None) -> torch.Tensor | None:
        if model is None:
            return None
        t = torch.zeros(1, 6)
        with torch.no_grad():
            return model(torch.ones(1, 6, 16, 2, 2), t + 0.5, torch.arange(6.0)[None], torch.ones(1, 4, 8),
                         torch.zeros(1, 6, 14))  # fmt: skip

    with run.averaged_model(sharded=True) as model:
        shared = output(model)
    with run.averaged_model(sharded=False) as model:
        alone = output(model)
    same = [numbers(a) == numbers(b) for a, b in zip(take(run, 2), take(other, 2), strict=True)]
    return {"shared": shared, "alone": alone, "same": all(same)}


def stopped(ranks: Ranks) -> dict[str, int]:
    """A signal that only one rank got, in the middle of a run."""
    run = trainer(GROUPED, ranks)
    done = sum(1 for _ in run.steps(lambda: 15 if ranks.rank == 1 and run.step == 2 else 0))
    return {"done": done, "step": run.step, "by": run.stop_asked}


def main(rank: int, port: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))  # fmt: skip
    torch.set_num_threads(1)
    with started_ranks(CONFIG.execution) as ranks:
        found: dict[str, Any] = {
            "variants": variants(ranks), "resharded": resharded(ranks, folder), "muon": muon(ranks),
            "looks": looks(ranks), "stopped": stopped(ranks), "failures": failures(ranks, folder),
        }  # fmt: skip
    torch.save(found, folder / f"found-{rank}.pt")
