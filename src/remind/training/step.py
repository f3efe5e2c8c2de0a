"""One training step: assemble tensors as the plans say, run the model, add up the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.data.dataset import MemorySample
from remind.flow import add_noise, clean_estimate, shift_sigma, velocity_target
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.attention import ChunkMask
from remind.models.dit import CausalVideoDiT
from remind.sequence_plan import SequencePlan, shared_visibility
from remind.training.losses import adaptive_weight, delta_loss, flow_loss, temporal_variance


@dataclass(frozen=True)
class StepOptions:
    """How noise is drawn and losses are weighed.

    Args:
        sigma_shift: moves uniformly drawn training noise levels towards 1; 1 = uniform.
        memory_sigma: range of the noise put on noisy memory, within 0..1.
        use_delta_loss: whether Eq. 5 counts (the trainer turns it on after its gate).
        kernel: how attention is computed, see `ChunkMask`.
    """

    sigma_shift: float = 2.0
    memory_sigma: tuple[float, float] = (0.4, 0.95)
    use_delta_loss: bool = True
    kernel: str = "prefix"


@dataclass(frozen=True)
class TrainingBatch:
    """What the model executes; t counts latent frames of all entries of the plan."""

    x0: Float[Tensor, "b t c h w"]
    sigmas: Float[Tensor, "b t"]
    noise: Float[Tensor, "b t c h w"]
    positions: Float[Tensor, "b t"]
    supervised: Bool[Tensor, "b t"]
    cameras: Float[Tensor, "b t 14"]
    camera_valid: Bool[Tensor, "b t"]
    text: Float[Tensor, "b k s e"]
    text_of_chunk: tuple[int, ...]
    mask: ChunkMask


def assemble(
    samples: Sequence[MemorySample], plans: Sequence[SequencePlan], generator: torch.Generator, options: StepOptions
) -> TrainingBatch:
    """Gather what the plans name and draw the noise.

    Raises:
        GraphError: plans that attend differently.
    """
    visibility = shared_visibility(plans)
    x0, cameras, valid, text = [], [], [], []
    for sample, plan in zip(samples, plans, strict=True):
        frames = [slice(LATENTS_PER_CHUNK * e.chunk, LATENTS_PER_CHUNK * (e.chunk + 1)) for e in plan.entries]
        tracks = [e.track for e in plan.entries]
        x0.append(torch.cat([(sample.clean if t == "clean" else sample.degraded)[f]
                             for t, f in zip(tracks, frames, strict=True)]))
        cameras.append(torch.cat([(sample.clean_cameras if t == "clean" else sample.degraded_cameras)[f]
                                  for t, f in zip(tracks, frames, strict=True)]))
        valid.append(torch.cat([(sample.clean_valid if t == "clean" else sample.degraded_valid)[f]
                                for t, f in zip(tracks, frames, strict=True)]))
        text.append(sample.clean_text if tracks[-1] == "clean" else sample.degraded_text)
    latents = torch.stack(x0)
    b, t = latents.shape[:2]
    num_entries = t // LATENTS_PER_CHUNK

    # One draw of every kind per entry, whatever the rules, so that the stream does not depend on the plan.
    sampled = shift_sigma(torch.rand(b, num_entries, generator=generator), options.sigma_shift)
    low, high = options.memory_sigma
    memory = low + (high - low) * torch.rand(b, num_entries, generator=generator)
    draws = {"sampled": sampled, "memory": memory,
             "zero": torch.zeros_like(sampled), "one": torch.ones_like(sampled)}
    sigmas = torch.stack([
        torch.stack([draws[rule][i, j] for j, entry in enumerate(plan.entries) for rule in entry.sigma])
        for i, plan in enumerate(plans)
    ])
    offsets = range(LATENTS_PER_CHUNK)
    return TrainingBatch(
        latents,
        sigmas,
        torch.randn(latents.shape, generator=generator),
        torch.tensor([[float(e.position + o) for e in p.entries for o in offsets] for p in plans]),
        torch.tensor([[s for e in p.entries for s in e.supervised] for p in plans]),
        torch.stack(cameras),
        torch.stack(valid),
        torch.stack(text),
        tuple(e.chunk for e in plans[0].entries),
        ChunkMask(visibility, kernel="dense" if options.kernel == "dense" else "prefix"),
    )


def losses(
    model: CausalVideoDiT, batch: TrainingBatch, options: StepOptions
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Total loss and its parts (Eqs. 4-6)."""
    x_t = add_noise(batch.x0, batch.noise, batch.sigmas)
    velocity = model(
        x_t, batch.sigmas, batch.positions, batch.text, batch.cameras, camera_valid=batch.camera_valid,
        attention=batch.mask, text_of_chunk=batch.text_of_chunk,
    )
    flow = flow_loss(velocity, velocity_target(batch.x0, batch.noise), batch.supervised)
    x0_hat = clean_estimate(x_t, velocity, batch.sigmas)
    delta = delta_loss(x0_hat, batch.x0, batch.supervised)
    weight = adaptive_weight(temporal_variance(batch.x0, batch.supervised))
    total = flow + weight * delta if options.use_delta_loss else flow
    return total, {"flow": flow.detach(), "delta": delta.detach(), "delta_weight": weight.detach()}
