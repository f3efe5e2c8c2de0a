"""One micro-batch: assemble tensors as the plans say, and run the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from remind.data.memory_sample import MemorySample
from remind.flow import add_noise, shift_sigma
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.attention import ChunkMask
from remind.models.dit import CausalVideoDiT
from remind.sequence_plan import SequencePlan, shared_prompt_layout, shared_visibility
from remind.training.losses import ROLES


@dataclass(frozen=True)
class StepOptions:
    """How noise is drawn and attention is computed.

    Args:
        sigma_shift: moves uniformly drawn training noise levels towards 1; 1 = uniform.
        memory_sigma: range of the noise put on noisy memory, within 0..1.
        kernel: how attention is computed, see `ChunkMask`.
    """

    sigma_shift: float = 2.0
    memory_sigma: tuple[float, float] = (0.4, 0.95)
    kernel: str = "prefix"


@dataclass(frozen=True)
class TrainingBatch:
    """What the model executes; t counts latent frames of all entries of the plan.

    Args:
        roles: of each latent frame's chunk, as its place in `ROLES`.
        regime: of all clips.
    """

    x0: Float[Tensor, "b t c h w"]
    sigmas: Float[Tensor, "b t"]
    noise: Float[Tensor, "b t c h w"]
    positions: Float[Tensor, "b t"]
    supervised: Bool[Tensor, "b t"]
    roles: Int[Tensor, "b t"]
    cameras: Float[Tensor, "b t 14"]
    camera_valid: Bool[Tensor, "b t"]
    text: Float[Tensor, "b k s e"]
    text_of_chunk: tuple[int, ...]
    mask: ChunkMask
    regime: str

    def to(self, device: torch.device) -> TrainingBatch:
        """The same on a device; copies to CUDA do not wait for it."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            name: (value.pin_memory() if device.type == "cuda" else value).to(device, non_blocking=True)
            for name, value in vars(self).items() if isinstance(value, Tensor)
        }  # fmt: skip
        return replace(self, **moved)


def assemble(
    samples: Sequence[MemorySample],
    plans: Sequence[SequencePlan],
    generators: Sequence[torch.Generator],
    options: StepOptions,
) -> TrainingBatch:
    """Gather what the plans name and draw the noise, each clip from its own generator.

    Raises:
        GraphError: plans that attend differently.
    """
    visibility = shared_visibility(plans)
    x0, cameras, valid, text, sigmas, noise = [], [], [], [], [], []
    for sample, plan, generator in zip(samples, plans, generators, strict=True):
        frames = [slice(LATENTS_PER_CHUNK * e.chunk, LATENTS_PER_CHUNK * (e.chunk + 1)) for e in plan.entries]
        tracks = [e.track for e in plan.entries]
        x0.append(torch.cat([(sample.clean if t == "clean" else sample.degraded)[f]
                             for t, f in zip(tracks, frames, strict=True)]))
        cameras.append(torch.cat([(sample.clean_cameras if t == "clean" else sample.degraded_cameras)[f]
                                  for t, f in zip(tracks, frames, strict=True)]))
        valid.append(torch.cat([(sample.clean_valid if t == "clean" else sample.degraded_valid)[f]
                                for t, f in zip(tracks, frames, strict=True)]))
        text.append(torch.stack([sample.prompt(track, chunk) for track, chunk in plan.prompts]))
        sigmas.append(_draw_sigmas(plan, generator, options))
        noise.append(torch.randn(x0[-1].shape, generator=generator))
    offsets = range(LATENTS_PER_CHUNK)
    return TrainingBatch(
        torch.stack(x0),
        torch.stack(sigmas),
        torch.stack(noise),
        torch.tensor([[float(e.position + o) for e in p.entries for o in offsets] for p in plans]),
        torch.tensor([[s for e in p.entries for s in e.supervised] for p in plans]),
        torch.tensor([[ROLES.index(e.role) for e in p.entries for _ in offsets] for p in plans]),
        torch.stack(cameras),
        torch.stack(valid),
        torch.stack(text),
        shared_prompt_layout(plans),
        ChunkMask(visibility, kernel="dense" if options.kernel == "dense" else "prefix"),
        plans[0].regime,
    )


def _draw_sigmas(plan: SequencePlan, generator: torch.Generator, options: StepOptions) -> Float[Tensor, " t"]:
    """Noise levels of a plan. One draw of every kind per entry, whatever the rules, so that the stream does not depend
    on the plan."""
    sampled = shift_sigma(torch.rand(len(plan.entries), generator=generator), options.sigma_shift)
    low, high = options.memory_sigma
    memory = low + (high - low) * torch.rand(len(plan.entries), generator=generator)
    draws = {"sampled": sampled.tolist(), "memory": memory.tolist(),
             "zero": [0.0] * len(plan.entries), "one": [1.0] * len(plan.entries)}  # fmt: skip
    return torch.tensor([draws[rule][j] for j, entry in enumerate(plan.entries) for rule in entry.sigma])


def predict(model: CausalVideoDiT, batch: TrainingBatch) -> Float[Tensor, "b t c h w"]:
    """The model's velocity for a batch."""
    return model(
        add_noise(batch.x0, batch.noise, batch.sigmas), batch.sigmas, batch.positions, batch.text, batch.cameras,
        camera_valid=batch.camera_valid, attention=batch.mask, text_of_chunk=batch.text_of_chunk,
    )  # fmt: skip
