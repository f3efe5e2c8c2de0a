"""Flow matching (Eq. 4): a straight line from data to noise, its velocity, and the way back."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.flow import add_noise, clean_estimate, euler_step, sampling_sigmas, shift_sigma, velocity_target


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 3, 4, 2, 2, generator=generator) for _ in range(2))  # type: ignore[return-value]


def level(value: float) -> Tensor:
    return torch.full((2, 3), value)


def test_sigma_0_is_the_clip_and_sigma_1_is_pure_noise(pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    assert torch.equal(add_noise(x0, noise, level(0.0)), x0)
    assert torch.equal(add_noise(x0, noise, level(1.0)), noise)
    torch.testing.assert_close(add_noise(x0, noise, level(0.25)), 0.75 * x0 + 0.25 * noise)


def test_each_latent_frame_has_its_own_sigma(pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    x_t = add_noise(x0, noise, torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0]]))
    assert torch.equal(x_t[0, 0], x0[0, 0])
    assert torch.equal(x_t[0, 1], noise[0, 1])
    assert torch.equal(x_t[1, 0], noise[1, 0])
    assert torch.equal(x_t[1, 2], x0[1, 2])


def test_velocity_points_from_data_to_noise_and_is_the_derivative(pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    velocity = velocity_target(x0, noise)
    assert torch.equal(velocity, noise - x0)
    step = add_noise(x0, noise, level(0.7)) - add_noise(x0, noise, level(0.3))
    torch.testing.assert_close(step, 0.4 * velocity)


@given(st.integers(1, 60), st.floats(0.5, 8))
@settings(deadline=None, max_examples=30)
def test_euler_along_the_true_velocity_recovers_the_clip_in_any_number_of_steps(steps: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(steps)
    x0, noise = (torch.randn(1, 3, 4, 2, 2, generator=generator) for _ in range(2))
    sigmas = sampling_sigmas(steps, shift)
    x = noise
    for now, then in itertools.pairwise(sigmas):
        x = euler_step(x, velocity_target(x0, noise), now.expand(1, 3), then.expand(1, 3))
    torch.testing.assert_close(x, x0, atol=1e-5, rtol=0)


def test_a_frame_whose_sigma_stays_is_not_touched(pair: tuple[Tensor, Tensor]) -> None:
    x, velocity = pair
    now, then = torch.tensor([[0.0, 0.8, 0.8]]).expand(2, 3), torch.tensor([[0.0, 0.8, 0.3]]).expand(2, 3)
    moved = euler_step(x, velocity, now, then)
    assert torch.equal(moved[:, :2], x[:, :2])
    torch.testing.assert_close(moved[:, 2], x[:, 2] - 0.5 * velocity[:, 2])


@given(st.floats(0, 1))
@settings(deadline=None, max_examples=30)
def test_the_clean_estimate_undoes_the_noise(sigma: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x0, noise = (torch.randn(2, 3, 4, 2, 2, generator=generator) for _ in range(2))
    x_t = add_noise(x0, noise, level(sigma))
    torch.testing.assert_close(clean_estimate(x_t, velocity_target(x0, noise), level(sigma)), x0, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0, 8.0])
def test_the_shift_keeps_the_ends_the_order_and_pushes_to_noise(shift: float) -> None:
    sigma = torch.linspace(0, 1, 101, dtype=torch.float64)
    shifted = shift_sigma(sigma, shift)
    assert shifted[0] == 0
    assert shifted[-1] == 1
    assert (shifted.diff() > 0).all()
    inner = (shifted - sigma)[1:-1]
    assert (inner.sign() == torch.tensor(shift - 1.0).sign()).all()  # > 1 noisier, < 1 cleaner, 1 the same


@pytest.mark.parametrize("steps", [1, 2, 8, 50])
def test_sampling_levels_go_down_from_1_to_exactly_0(steps: int) -> None:
    sigmas = sampling_sigmas(steps, 3.0)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float32
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
