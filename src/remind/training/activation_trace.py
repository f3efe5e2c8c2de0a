"""What a forward and backward pass holds, found by running the real model on tensors that have shapes and no content.

Source: our choice. A formula for activations has to repeat what every layer keeps for its backward pass and goes stale
with the first change of a layer; torch's fake tensors go through the same operators, and nothing is computed. All
blocks but the first hold the same, so two depths tell what any depth holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.attention import AttentionKernel, ChunkMask
from remind.models.config import DiTConfig
from remind.models.memory import LiveBytes
from remind.training.example_plans import PlanShape
from remind.training.lora import LoraOptions
from remind.training.losses import LossWeights, loss_share
from remind.training.parameter_count import shape_model
from remind.training.step import TrainingBatch, predict


@dataclass(frozen=True)
class PassShape:
    """All that decides what a pass holds.

    Args:
        model, lora, precision, recompute, kernel: of the run.
        plan: of all clips of the micro-batch.
        clips: in the micro-batch.
        band_hw: latent pixels of a rank's share of a frame.
    """

    model: DiTConfig
    lora: LoraOptions | None
    precision: str
    recompute: bool
    kernel: AttentionKernel
    plan: PlanShape
    clips: int
    band_hw: tuple[int, int]


@dataclass(frozen=True)
class Held:
    """Bytes at one depth of the model.

    Args:
        batch: tensors of the micro-batch.
        forward: most at any time of the forward pass.
        kept: between the passes.
        backward: most at any time of the backward pass, without gradients of weights.
    """

    batch: float
    forward: float
    kept: float
    backward: float


@dataclass(frozen=True)
class Activations:
    """Bytes of a pass at any depth: `base` without blocks, `block` more for every block."""

    base: Held
    block: Held

    def at(self, layers: int) -> Held:
        pairs = zip(vars(self.base).values(), vars(self.block).values(), strict=True)
        return Held(*(base + layers * block for base, block in pairs))


@lru_cache(maxsize=64)
def trace_activations(shape: PassShape) -> Activations:
    """Trace a pass with one block and with two."""
    one, two = (tuple(vars(_trace(shape, layers)).values()) for layers in (1, 2))
    block = [b - a for a, b in zip(one, two, strict=True)]
    return Activations(Held(*(a - b for a, b in zip(one, block, strict=True))), Held(*block))


def _trace(shape: PassShape, layers: int) -> Held:
    model = shape_model(shape.model, shape.lora, layers)
    model.checkpoint_blocks = shape.recompute
    model.__dict__["_check"] = lambda *_: None  # it asks for values, and there are none
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
        model.to_empty(device="cpu")
        weights = live.now
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_forget_gradient)
        batch = fake_batch(shape)
        given = live.now
        live.peak = live.now
        with torch.autocast("cpu", torch.bfloat16, enabled=shape.precision == "bf16"):
            velocity = predict(model, batch)
        share, record = loss_share(
            velocity.float(), x0=batch.x0, noise=batch.noise, sigmas=batch.sigmas, supervised=batch.supervised,
            roles=batch.roles, regime=batch.regime, weights=LossWeights(1.0, 1.0, 1.0),
        )  # fmt: skip
        forward, kept = live.peak, live.now
        live.peak = live.now
        share.backward()
        del record
        return Held(*(float(at - weights) for at in (given, forward, kept, live.peak)))


def fake_batch(shape: PassShape) -> TrainingBatch:
    """A micro-batch of the shapes that `assemble` gives it."""
    clips, frames, model = shape.clips, LATENTS_PER_CHUNK * shape.plan.entries, shape.model
    latents = (clips, frames, model.in_channels, *shape.band_hw)
    return TrainingBatch(
        x0=torch.zeros(latents),
        sigmas=torch.zeros(clips, frames),
        noise=torch.zeros(latents),
        positions=torch.zeros(clips, frames),
        supervised=torch.zeros(clips, frames, dtype=torch.bool),
        roles=torch.zeros(clips, frames, dtype=torch.int64),
        cameras=torch.zeros(clips, frames, 14),
        camera_valid=torch.zeros(clips, frames, dtype=torch.bool),
        text=torch.zeros(clips, shape.plan.num_prompts, model.text_len, model.text_dim),
        text_of_chunk=shape.plan.prompts,
        mask=ChunkMask(shape.plan.sees, kernel=shape.kernel),
        regime="all_history",
    )


def _forget_gradient(parameter: Tensor) -> None:
    """As sharded training does it at once; gradients are counted apart."""
    parameter.grad = None
