"""Samplers: how the noise of one chunk becomes a chunk, pass by pass.

A `Sampler` is what a user chooses. A `Denoiser` is that choice at work on one chunk; it knows nothing of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from remind.errors import InputError
from remind.flow import add_noise, clean_estimate, euler_step, sampling_sigmas, shift_sigma
from remind.models.pretrained import library_class

SamplerKind = Literal["euler", "unipc", "few_step"]
DEFAULT_STEPS = 4


@runtime_checkable
class Denoiser(Protocol):
    """Takes one chunk from pure noise to clean latents. Never shared by two chunks: it may remember earlier passes."""

    sigmas: Float[Tensor, " s"]
    """Noise level of each pass, float32: the first is 1, all are above 0, and the length is the number of passes."""

    def step(
        self,
        x: Float[Tensor, "b t c h w"],
        velocity: Float[Tensor, "b t c h w"],
        i: int,
        frame_mask: Float[Tensor, "b t"],
        fresh_noise: Callable[[], Float[Tensor, "b t c h w"]],
    ) -> Float[Tensor, "b t c h w"]:
        """From `sigmas[i]` to the next level, or to 0 after the last pass. Called for i = 0, 1, 2, ... in order.

        Args:
            x: latents at `sigmas[i]`; where `frame_mask` is 0, clean.
            velocity: what the model says of x at `sigmas[i] * frame_mask`.
            frame_mask: 1, or 0 where a latent frame is given and must stay exactly as it is.
            fresh_noise: unit Gaussian noise of x's shape; called at most once, and only by samplers that add noise.
        """
        ...


@dataclass(frozen=True)
class Sampler:
    """How a chunk is denoised.

    `euler` takes explicit steps along the flow. `unipc` is the multistep solver of Wan's pipelines (Zhao et al.,
    arXiv:2302.04867), from diffusers: of second order, about Euler's equal at four steps and far better from twenty on.
    `few_step` is for weights that were distilled to predict the clean chunk: predict it, add fresh noise of the next
    level, predict again (Self-Forcing, arXiv:2506.08009).

    Args:
        steps: model passes per chunk, >= 1, before the one that writes the cache.
        shift: moves the noise levels towards 1, > 0; see `flow.shift_sigma`.
        kind: which of the three.
        levels: noise level of each pass before the shift, from 1 falling, above 0; None = evenly spaced, which for
            four steps is the usual 1000, 750, 500, 250 of 1000. Not for `unipc`, which has levels of its own. Given,
            they say how many steps there are, and `steps` may be left out.

    Raises:
        InputError: an option out of its range, or levels that do not fall, do not start at 1 or contradict `steps`.
    """

    steps: int = DEFAULT_STEPS
    shift: float = 4.0
    kind: SamplerKind = "euler"
    levels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(SamplerKind):
            raise InputError("no such sampler", got=self.kind, expected=f"one of {', '.join(get_args(SamplerKind))}")
        if self.steps < 1:
            raise InputError("a sampler takes at least one step", got=self.steps, expected="steps >= 1")
        if not 0 < self.shift < float("inf"):
            raise InputError("the shift of noise levels must be positive", got=self.shift, expected="e.g. 5.0")
        if self.levels is not None:
            self._check_levels(self.levels)
            object.__setattr__(self, "steps", len(self.levels))

    def _check_levels(self, levels: tuple[float, ...]) -> None:
        if self.kind == "unipc":
            raise InputError("unipc chooses its noise levels itself", got=f"levels={levels}",
                             fix="leave levels out, or take kind='euler'")
        if not levels or levels[0] != 1:
            fix = "divide timesteps by 1000" if levels and max(levels) > 1 else None
            raise InputError("noise levels start at 1, pure noise", got=levels, expected="e.g. (1.0, 0.75, 0.5, 0.25)",
                             fix=fix)
        if not all(now > then > 0 for now, then in pairwise(levels)):
            raise InputError("noise levels must fall and stay above 0", got=levels,
                             expected="e.g. (1.0, 0.75, 0.5, 0.25)", fix="leave the last 0 out: it is implied")
        if self.steps not in (DEFAULT_STEPS, len(levels)):
            raise InputError("steps and levels contradict each other", got=f"steps={self.steps}",
                             expected=f"{len(levels)}, the number of levels", fix="leave steps out")

    def begin(self, device: torch.device | str) -> Denoiser:
        """A denoiser for one chunk.

        Raises:
            InputError: `unipc` without diffusers.
        """
        if self.kind == "unipc":
            return _UniPC(self, torch.device(device))
        if self.levels is None:
            ends = sampling_sigmas(self.steps, self.shift)
        else:
            ends = shift_sigma(torch.tensor([*self.levels, 0.0], dtype=torch.float64), self.shift).float()
        return (_Euler if self.kind == "euler" else _FewStep)(ends.to(device))


class _Euler:
    """x <- x + (next level - level) velocity. Source: `flow.euler_step`."""

    def __init__(self, ends: Float[Tensor, " levels"]):
        self._ends, self.sigmas = ends, ends[:-1]

    def step(
        self, x: Tensor, velocity: Tensor, i: int, frame_mask: Tensor, fresh_noise: Callable[[], Tensor]
    ) -> Tensor:
        return euler_step(x, velocity, self._ends[i] * frame_mask, self._ends[i + 1] * frame_mask)


class _FewStep:
    """Predict the clean chunk, then noise it again to the next level. Source: Self-Forcing, arXiv:2506.08009."""

    def __init__(self, ends: Float[Tensor, " levels"]):
        self._ends, self.sigmas = ends, ends[:-1]

    def step(
        self, x: Tensor, velocity: Tensor, i: int, frame_mask: Tensor, fresh_noise: Callable[[], Tensor]
    ) -> Tensor:
        clean = clean_estimate(x, velocity, self._ends[i] * frame_mask)
        if i + 1 == len(self.sigmas):
            return clean
        return add_noise(clean, fresh_noise(), self._ends[i + 1] * frame_mask)


class _UniPC:
    """diffusers' UniPC of order 2 on flow levels, as Wan's pipeline sets it up, one scheduler per chunk.

    The scheduler's own first level is 1 - 1e-6, to keep a logarithm finite; the model is told 1. Its integer timesteps
    are not used: the model gets the exact levels. The solver treats every element alone, so that given frames can
    simply be put back.
    """

    def __init__(self, sampler: Sampler, device: torch.device):
        scheduler_class: Any = library_class("diffusers", "UniPCMultistepScheduler")
        self._scheduler = scheduler_class(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=sampler.shift
        )
        self._scheduler.set_timesteps(sampler.steps)
        self._scheduler.set_begin_index(0)
        self.sigmas = self._scheduler.sigmas[:-1].clone().to(device)
        self.sigmas[0] = 1

    def step(
        self, x: Tensor, velocity: Tensor, i: int, frame_mask: Tensor, fresh_noise: Callable[[], Tensor]
    ) -> Tensor:
        assert i == (self._scheduler.step_index or 0), "a denoiser serves one chunk, pass after pass"
        moved = self._scheduler.step(velocity, self._scheduler.timesteps[i], x, return_dict=False)[0]
        return torch.where(frame_mask.bool()[..., None, None, None], moved, x)
