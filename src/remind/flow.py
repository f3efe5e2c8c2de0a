"""Flow matching: noising, velocity, clean estimate, schedules and the Euler sampler.

Source: ReMind Eq. 4. sigma in [0, 1], 1 = pure noise.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def add_noise(
    x0: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"], sigmas: Float[Tensor, "b t"]
) -> Float[Tensor, "b t c h w"]:
    """x_t = (1 - sigma) x0 + sigma eps. Source: ReMind Eq. 4."""
    s = sigmas[..., None, None, None]
    return (1 - s) * x0 + s * noise


def velocity_target(
    x0: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"]
) -> Float[Tensor, "b t c h w"]:
    """u = eps - x0. Source: ReMind Eq. 4."""
    return noise - x0


def clean_estimate(
    x_t: Float[Tensor, "b t c h w"], velocity: Float[Tensor, "b t c h w"], sigmas: Float[Tensor, "b t"]
) -> Float[Tensor, "b t c h w"]:
    """x0_hat = x_t - sigma u_hat, by solving Eq. 4 for x0."""
    return x_t - sigmas[..., None, None, None] * velocity


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Move noise levels towards 1: shift s / (1 + (shift - 1) s), the resolution shift of the Wan family."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sampling_sigmas(num_steps: int, shift: float) -> Float[Tensor, " {num_steps}+1"]:
    """Noise levels from 1 down to 0, `num_steps` steps, shifted."""
    return shift_sigma(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), shift).float()


def euler_step(
    x_t: Float[Tensor, "b t c h w"],
    velocity: Float[Tensor, "b t c h w"],
    sigma_from: Float[Tensor, "b t"],
    sigma_to: Float[Tensor, "b t"],
) -> Float[Tensor, "b t c h w"]:
    """x <- x + (sigma_to - sigma_from) u_hat: one explicit step along dx/dsigma = u. Frames with equal ends stay."""
    return x_t + (sigma_to - sigma_from)[..., None, None, None] * velocity
