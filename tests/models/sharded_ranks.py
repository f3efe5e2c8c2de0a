"""What two real ranks find out for test_sharded.py: the model under FSDP2, against one process."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from remind.models.dit import CausalVideoDiT
from remind.models.sequence_parallel import SequenceParallel

from .conftest import trained
from .sequence_ranks import BASE, MODES, alone, band, distance, gradient_distance, loss_share, teacher_forced

CONFIG = replace(MODES["full"], num_layers=2)
Result = tuple[Tensor, dict[str, Tensor]]


def shard(model: CausalVideoDiT, mesh: DeviceMesh) -> CausalVideoDiT:
    for module in (*model.blocks, model):
        fully_shard(module, mesh=mesh)
    return model


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def sharded(model: CausalVideoDiT, x: dict[str, Any], *, passes: int = 1) -> Result:
    """Every rank sees the same clips, so that the average over ranks is the gradient of one process."""
    model.zero_grad()
    for _ in range(passes):
        out = model(**x)
        loss_share(out, x["latents"].roll(1, 1), passes).backward()
    return out.detach(), {name: whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}


def equality(mesh: DeviceMesh) -> dict[str, list[float]]:
    x = teacher_forced(BASE, (4, 6), batch=2)
    reference = alone(trained(CONFIG), x)

    def compare(found: Result, expected: Result = reference) -> list[float]:
        return [distance(found[0], expected[0]), gradient_distance(found[1], expected[1])]

    replicas = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
    found = {
        "sharded": compare(sharded(shard(trained(CONFIG), mesh), x)),
        "replicated": compare(sharded(shard(trained(CONFIG), replicas), x)),
        "accumulated": compare(sharded(shard(trained(CONFIG), mesh), x, passes=2)),
    }
    with torch.autocast("cpu", torch.bfloat16):
        found["bfloat16"] = compare(sharded(shard(trained(CONFIG), mesh), x), alone(trained(CONFIG), x))

    model = shard(CausalVideoDiT.empty(CONFIG), mesh)
    model.to_empty(device="cpu")
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    state = trained(CONFIG).state_dict() if dist.get_rank() == 0 else {}
    set_model_state_dict(model, state, options=options)
    found["from the meta device"] = compare(sharded(model, x))

    model = trained(CONFIG).compile_blocks(backend="aot_eager")
    model.checkpoint_blocks = True
    shard(model, mesh).sequence_parallel = SequenceParallel(dist.group.WORLD)
    out = model(**{**x, "latents": band(x["latents"], model.sequence_parallel)})
    target = band(x["latents"].roll(1, 1), model.sequence_parallel)
    loss_share(out, target, 1).backward()  # mean over the band; the average over ranks makes it that of the whole
    found["compiled, recomputed, bands"] = compare((
        torch.cat([reference[0].chunk(2, 3)[i] if i != dist.get_rank() else out.detach() for i in range(2)], 3),
        {name: whole(p.grad) for name, p in model.named_parameters() if p.grad is not None},
    ))  # fmt: skip
    return found


def full_weights(mesh: DeviceMesh) -> dict[str, Any]:
    """Names of what a sharded model gives back, whether they are the weights, and what is said of a missing one."""
    model = shard(trained(CONFIG), mesh)
    given = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    expected = trained(CONFIG).state_dict()
    state = {name: value for name, value in expected.items() if name != "blocks.1.self_attn.camera_value.feature"}
    try:
        set_model_state_dict(model, state if dist.get_rank() == 0 else {},
                             options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))  # fmt: skip
        message = "nothing"
    except RuntimeError as error:
        message = str(error)
    here = dist.get_rank() == 0  # only rank 0 is given whole tensors
    return {"names": list(given) == list(expected) if here else given == {}, "message": message,
            "equal": all(torch.equal(given[name], expected[name]) for name in given)}  # fmt: skip


def main(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2,
                            timeout=timedelta(seconds=120))  # fmt: skip
    try:
        mesh = init_device_mesh("cpu", (2,))
        found = {"equality": equality(mesh), "full": full_weights(mesh)}
        Path(folder, f"rank{rank}.json").write_text(json.dumps(found))
    finally:
        dist.destroy_process_group()
