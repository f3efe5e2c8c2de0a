"""What two real ranks find out for test_sequence_parallel.py: each check says how far it is from one process."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from remind.errors import InputError
from remind.models.attention import ChunkMask
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import StreamingKVCache
from remind.models.sequence_parallel import SequenceParallel, band

from .conftest import make_inputs, trained
from .test_camera_modes import BASE, MODES

# [history 0 1 2 | targets 0 1 2]: a first target that sees itself alone, and one that skips chunk 1.
TEACHER_FORCED = ((0,), (0, 1), (0, 1, 2), (3,), (0, 4), (0, 2, 5))


def teacher_forced(config: DiTConfig, hw: tuple[int, int], kernel: str = "prefix", batch: int = 1) -> dict[str, Any]:
    x = make_inputs(config, batch=batch, chunks=6, hw=hw)
    return {**x, "text": x["text"][:, :3], "text_of_chunk": (0, 1, 2, 0, 1, 2),
            "attention": ChunkMask(TEACHER_FORCED, kernel=kernel)}  # type: ignore[arg-type]


def loss_share(velocity: Tensor, target: Tensor, bands: int) -> Tensor:
    """Summed over bands, the mean over the whole."""
    return (velocity - target).square().mean() / bands


def gradients(model: CausalVideoDiT) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def alone(model: CausalVideoDiT, x: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    model.sequence_parallel = None
    model.zero_grad()
    out = model(**x)
    loss_share(out, x["latents"].roll(1, 1), 1).backward()
    return out.detach(), gradients(model)


def shared(model: CausalVideoDiT, x: dict[str, Any], sharing: SequenceParallel) -> tuple[Tensor, dict[str, Tensor]]:
    """The bands of all ranks joined, and the sum of their gradients."""
    model.sequence_parallel = sharing
    model.zero_grad()
    out = model(**{**x, "latents": band(x["latents"], sharing)})
    loss_share(out, band(x["latents"].roll(1, 1), sharing), sharing.size).backward()
    found = gradients(model)
    for gradient in found.values():
        dist.all_reduce(gradient, group=sharing.group)
    return joined(out.detach(), sharing), found


def joined(out: Tensor, sharing: SequenceParallel) -> Tensor:
    bands = [torch.empty_like(out) for _ in range(sharing.size)]
    dist.all_gather(bands, out.contiguous(), group=sharing.group)
    return torch.cat(bands, 3 if sharing.axis == "rows" else 4)


def distance(a: Tensor, b: Tensor, floor: float = 0.0) -> float:
    """Largest difference as a share of the largest value, or of `floor` if that is larger."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(max(floor, 1e-12)))


def gradient_distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """That of the worst parameter; the floor is for those whose gradient is zero but for rounding.

    The last bias of a phase MLP is one: it turns queries and keys of all frames alike.
    """
    assert a.keys() == b.keys()
    floor = 1e-3 * float(max(gradient.abs().max() for gradient in b.values()))
    return max(distance(a[name], b[name], floor) for name in b)


def compare(model: CausalVideoDiT, x: dict[str, Any], sharing: SequenceParallel) -> list[float]:
    (out, grads), (shared_out, shared_grads) = alone(model, x), shared(model, x, sharing)
    return [distance(shared_out, out), gradient_distance(shared_grads, grads)]


def equality(sharing: SequenceParallel) -> dict[str, list[float]]:
    """Per case the distance of outputs and of gradients."""
    columns = SequenceParallel(sharing.group, "columns")
    found = {f"causal, {mode}": compare(trained(config), make_inputs(config), sharing)
             for mode, config in MODES.items()}
    for mode in ("full", "dual"):
        model = trained(MODES[mode])
        found[f"teacher-forced, {mode}"] = compare(model, teacher_forced(BASE, (12, 10)), sharing)
        found[f"dense, {mode}"] = compare(model, teacher_forced(BASE, (12, 10), "dense"), sharing)
        found[f"columns, {mode}"] = compare(model, teacher_forced(BASE, (6, 8), batch=2), columns)
    model, x = trained(MODES["full"]), teacher_forced(BASE, (4, 6))
    found["bidirectional"] = compare(model, {**x, "attention": "bidirectional"}, sharing)
    found["without cameras"] = compare(model, {**x, "cameras": None}, sharing)
    copied = copy.deepcopy(model)  # as an average of weights is made, while the model holds the group
    assert copied.sequence_parallel is model.sequence_parallel is sharing
    found["a copy"] = compare(copied, x, sharing)
    model.checkpoint_blocks = True
    found["recomputed"] = compare(model, x, sharing)
    model.checkpoint_blocks = False
    with torch.autocast("cpu", torch.bfloat16):
        found["bfloat16"] = compare(model, x, sharing)
    with torch.no_grad():  # flex attention has no backward on CPUs
        model.sequence_parallel = None
        x = teacher_forced(BASE, (12, 10), "flex")
        out = model(**x)
        model.sequence_parallel = sharing
        found["flex"] = [distance(joined(model(**{**x, "latents": band(x["latents"], sharing)}), sharing), out), 0.0]
    return found


def sharded_step(sharing: SequenceParallel, shape: tuple[int, int], *, recompute: bool) -> list[float]:
    """Distance of the gradient norm, and of the weights after one AdamW step, under FSDP over the flattened mesh."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data", "sequence"))
    group = mesh["sequence"].get_group()
    x = teacher_forced(BASE, (4, 6), batch=2)
    reference, model = trained(MODES["full"]), trained(MODES["full"])
    model.checkpoint_blocks = recompute
    every_rank = mesh["data", "sequence"]._flatten("shard")
    for module in (*model.blocks, model):
        fully_shard(module, mesh=every_rank)
    if shape[1] > 1:
        model.sequence_parallel = SequenceParallel(group)
        own = slice(0, 2)
    else:
        own = slice(dist.get_rank(), dist.get_rank() + 1)

    alone(reference, x)
    own_x = {name: v[own] if isinstance(v, Tensor) else v for name, v in x.items()}
    target = band(own_x["latents"].roll(1, 1), model.sequence_parallel)
    out = model(**{**own_x, "latents": band(own_x["latents"], model.sequence_parallel)})
    # The loss of a rank is its share of the mean; FSDP averages over ranks what has to be summed.
    (loss_share(out, target, dist.get_world_size()) * dist.get_world_size()).backward()
    norms = []
    for network in (reference, model):
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        torch.optim.AdamW(network.parameters(), lr=1e-3, eps=1e-6).step()
    weights = {name: p.detach().full_tensor() for name, p in model.named_parameters()}  # type: ignore[union-attr]
    wrong = max(float((weights[name] - p.detach()).abs().max()) for name, p in reference.named_parameters())
    before = dict(trained(MODES["full"]).named_parameters())
    moved = min(float((weights[name] - p.detach()).abs().max()) for name, p in before.items()
                if not name.endswith("mlp.2.bias"))  # see gradient_distance
    return [distance(norms[1], norms[0]), wrong, moved]


def refusals(sharing: SequenceParallel) -> dict[str, str]:
    """Messages of what cannot be shared."""
    model, x = trained(BASE), make_inputs(BASE)
    odd = trained(replace(BASE, dim=36, num_heads=3))
    cache = StreamingKVCache(BASE, batch=2, num_slots=4, grid_hw=(1, 3))
    cache.open(0, 0, "clean")
    for each in (model, odd):
        each.sequence_parallel = sharing
    x["latents"] = band(x["latents"], sharing)
    chunk = {**{name: v[:, :3] for name, v in x.items() if name != "text"}, "text": x["text"][:, 0]}
    attempts: dict[str, Any] = {
        "heads": lambda: odd(**x),
        "rows": lambda: band(torch.zeros(1, 3, 4), sharing),
        "columns": lambda: band(torch.zeros(1, 4, 3), SequenceParallel(sharing.group, "columns")),
        "patches": lambda: model(**{**x, "latents": x["latents"][..., :1, :]}),
        "cache": lambda: model(**chunk, cache=cache),
        "lse": lambda: model(**x, return_lse=True),
    }
    messages = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except InputError as error:
            messages[name] = str(error)
    return messages


def main(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2,
                            timeout=timedelta(seconds=120))
    try:
        sharing = SequenceParallel(dist.group.WORLD)
        found: dict[str, Any] = {
            "equality": equality(sharing),
            "sharded": {f"{shape[0]}x{shape[1]}{', recomputed' if recompute else ''}":
                        sharded_step(sharing, shape, recompute=recompute)
                        for shape in ((1, 2), (2, 1)) for recompute in (False, True)},
            "refusals": refusals(sharing),
        }
        Path(folder, f"rank{rank}.json").write_text(json.dumps(found))
    finally:
        dist.destroy_process_group()
