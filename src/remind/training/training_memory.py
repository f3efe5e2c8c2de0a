"""Memory of one rank while it trains: what it holds all the time, and what comes and goes within a step.

A step has *moments* at which memory may be fullest, and each is added up by itself:

    forward          the end of the forward pass: activations of all blocks are kept
    backward starts  the same, and the working set of the last block's backward pass
    backward ends    all gradients are there, activations of one block are left
    optimiser        gradients and what the optimiser works with
    validation       the averaged weights in the place of the trained ones, and a KV cache if videos are generated

Weights are sharded over `world_size / replicate` ranks (FSDP2, HSDP); a block is gathered when it is needed, and the
next one is on its way meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.kv_cache import StreamingKVCache
from remind.models.sequence_parallel import band_axis
from remind.training.activation_trace import PassShape, trace_activations
from remind.training.config import TrainConfig
from remind.training.example_plans import PlanShape
from remind.training.parameter_count import Parameters

Moment = Literal["forward", "backward starts", "backward ends", "optimiser", "validation"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
_FLOAT = 4  # bytes; weights, gradients, optimiser states and the average are float32 whatever the precision


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank.

    Args:
        parts: by moment, what there is and how much.
        clips: of a micro-batch.
        passes: micro-batches of a step.
        slack: share of the rest that the allocator holds and nobody uses.
    """

    parts: dict[Moment, dict[str, float]]
    clips: int
    passes: int
    slack: float

    @property
    def peak_moment(self) -> Moment:
        return max(MOMENTS, key=self.live)

    def live(self, moment: Moment) -> float:
        """Bytes in use at a moment."""
        return sum(self.parts[moment].values())

    @property
    def peak(self) -> float:
        """Most bytes in use at any time."""
        return self.live(self.peak_moment)

    @property
    def total(self) -> float:
        """What the device must have: the peak and the allocator's slack."""
        return self.peak * (1 + self.slack)


def clips_per_pass(config: TrainConfig, world_size: int) -> tuple[int, int]:
    """Clips of a rank's largest micro-batch, and how many micro-batches a step has."""
    share = config.batch_size // (world_size // config.execution.sequence_parallel)
    group = config.group_size or config.batch_size
    clips = min(share, group, config.execution.micro_batch or share)
    in_group = min(share, group)
    return clips, (share // in_group) * -(-in_group // clips)


def band_hw(config: TrainConfig) -> tuple[int, int]:
    """Latent pixels of a rank's share of a frame.

    Raises:
        InputError: rows, columns or heads that do not divide.
    """
    ranks, (height, width) = config.execution.sequence_parallel, config.latent_hw
    if ranks == 1:
        return height, width
    rows = band_axis(config.model, config.latent_hw, ranks) == "rows"
    return (height // ranks, width) if rows else (height, width // ranks)


def training_memory(
    config: TrainConfig, parameters: Parameters, plan: PlanShape, *, world_size: int, slack: float, on_host: bool
) -> Memory:
    """Memory of a rank.

    Args:
        plan: the largest one that the run will have.
        slack: see `Memory`.
        on_host: the device is the processor, where the batches of all passes of a step wait.
    """
    clips, passes = clips_per_pass(config, world_size)
    activations = trace_activations(PassShape(
        config.model, config.lora, config.precision, config.execution.recompute,
        "dense" if config.step.kernel == "dense" else "prefix", plan, clips, band_hw(config),
    ))  # fmt: skip
    layers, shards = config.model.num_layers, world_size // config.execution.replicate
    held, one_left = activations.at(layers), activations.at(1)
    whole = parameters.whole
    always = {
        "weights": _FLOAT * whole.total / shards,
        "optimiser states": _FLOAT * (2 * whole.trainable - whole.muon) / shards,
        "averaged weights": _FLOAT * whole.trainable / shards,
    }
    gradients = _FLOAT * whole.trainable / shards
    last_block = _FLOAT * parameters.block.trainable / shards
    before = gradients if passes > 1 else last_block  # the head's are small beside it
    batches = {"batch": held.batch * (passes if on_host else 1)}
    exchange = _exchange(config, plan, clips)
    forward, backward = _gathered(parameters, world_size)
    parts: dict[Moment, dict[str, float]] = {
        "forward": {**always, "gradients": gradients if passes > 1 else 0.0, "gathered blocks": forward, **batches,
                    "activations kept": held.kept - held.batch, "working set": held.forward - held.kept,
                    "exchange of tokens": exchange},
        "backward starts": {**always, "gradients": before, "gathered blocks": backward, **batches,
                            "activations kept": held.kept - held.batch, "working set": held.backward - held.kept,
                            "exchange of tokens": exchange},
        "backward ends": {**always, "gradients": gradients, "gathered blocks": backward, **batches,
                          "activations kept": one_left.kept - held.batch,
                          "working set": one_left.backward - one_left.kept, "exchange of tokens": exchange},
        "optimiser": {**always, "gradients": gradients, **batches,
                      "working set": muon_working_bytes(parameters, shards)},
        "validation": {**always, **batches, **_validation(config, parameters, world_size)},
    }  # fmt: skip
    return Memory(parts, clips, passes, slack)


def muon_working_bytes(parameters: Parameters, shards: int) -> float:
    """Muon orthogonalises all matrices of one shape at once: the gathered stack, two more of its size (before and after
    an iteration), and two of small squares; where it is sharded, this rank's part beside the gathered one."""
    most = 0.0
    for rows, columns in set(parameters.muon_shapes):
        number = parameters.layers * parameters.muon_shapes.count((rows, columns))
        small = min(rows, columns)
        stack = number * rows * columns
        own = stack / shards if shards > 1 else 0.0
        most = max(most, own + 3 * stack + 2 * number * small**2)
    return float(_FLOAT * most)


def _gathered(parameters: Parameters, world_size: int) -> tuple[float, float]:
    """What FSDP2 holds beside shards, in the forward and in the backward pass. Source: torch's implementation.

    Forward: the weights outside of blocks, which stay; a block at work, the next one, and the buffer it arrives in.
    Backward: the same, and the gradients of a block twice, as they are and as they are sent.
    """
    if world_size == 1:
        return 0.0, 0.0
    forward = float(_FLOAT * (parameters.rest.total + 3 * parameters.block.total))
    return forward, forward + _FLOAT * 2 * parameters.block.trainable


def _exchange(config: TrainConfig, plan: PlanShape, clips: int) -> float:
    """Sequence parallelism sends queries, keys and values at once: packed, as they arrive, and unpacked."""
    if config.execution.sequence_parallel == 1:
        return 0.0
    height, width = (size // patch for size, patch in zip(band_hw(config), config.model.patch_hw, strict=True))
    tokens = clips * LATENTS_PER_CHUNK * plan.entries * height * width
    size = 2 if config.precision == "bf16" else _FLOAT
    return 9.0 * tokens * config.model.dim * size


def _validation(config: TrainConfig, parameters: Parameters, world_size: int) -> dict[str, float]:
    """The trained weights set aside; or, to generate, a whole model on rank 0 and its cache."""
    if not config.validation.every:
        return {}
    aside = float(_FLOAT * parameters.whole.trainable)
    if config.validation.by == "loss":
        return {"weights set aside": aside / (world_size // config.execution.replicate)}
    height, width = (size // patch for size, patch in zip(config.latent_hw, config.model.patch_hw, strict=True))
    cache = StreamingKVCache.predict_nbytes(
        config.model, batch=config.validation.clips, num_slots=config.num_latents // LATENTS_PER_CHUNK,
        grid_hw=(height, width), dtype=torch.float32,
    )  # fmt: skip
    held = {"a whole model": float(_FLOAT * parameters.whole.total)} if world_size > 1 else {"weights set aside": aside}
    return {**held, "KV cache": float(cache)}

