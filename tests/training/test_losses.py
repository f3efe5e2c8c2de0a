"""The objective: Eq. 4 under a mask, Eq. 5 as an error of velocities, Eq. 6 with the right sign."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.flow import add_noise, clean_estimate, velocity_target
from remind.training.losses import ALPHA, GAMMA, adaptive_weight, delta_loss, flow_loss, temporal_variance

SHAPE = (2, 6, 4, 2, 3)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


MASK = torch.tensor([[False, True, True, True, True, True], [False, False, False, True, True, True]])


def test_eq_4_is_the_mean_over_supervised_frames_alone() -> None:
    velocity, target = draw(0), draw(1)
    truth = torch.stack([(velocity[b, t] - target[b, t]).square().mean() for b, t in MASK.nonzero().tolist()]).mean()
    torch.testing.assert_close(flow_loss(velocity, target, MASK), truth)
    elsewhere = velocity.clone()
    elsewhere[~MASK] = 1e6
    torch.testing.assert_close(flow_loss(elsewhere, target, MASK), truth)
    assert flow_loss(target, target, MASK) == 0


def test_eq_4_sends_no_gradient_outside_the_mask() -> None:
    velocity = draw(0).requires_grad_()
    flow_loss(velocity, draw(1), MASK).backward()
    assert (velocity.grad.abs().amax((2, 3, 4)) > 0).equal(MASK)


def test_every_supervised_frame_of_the_batch_counts_the_same() -> None:
    """Not a mean of per-sample means: a sample with one supervised frame must not outweigh one with five."""
    velocity, target = torch.zeros(SHAPE), torch.zeros(SHAPE)
    target[1] = 1.0
    assert flow_loss(velocity, target, MASK).item() == pytest.approx(3 / 8)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_eq_5_with_one_sigma_per_chunk_is_sigma_squared_times_the_velocity_delta(seed: int) -> None:
    x0, noise, velocity = draw(seed), draw(seed + 1), draw(seed + 2)
    sigma = torch.rand(2, 2, generator=torch.Generator().manual_seed(seed))
    sigmas = sigma.repeat_interleave(3, 1)
    on = torch.ones(2, 6, dtype=torch.bool)
    x0_hat = clean_estimate(add_noise(x0, noise, sigmas), velocity, sigmas)
    error = (velocity - velocity_target(x0, noise)).unflatten(1, (2, 3)).diff(dim=2)
    truth = (sigma[:, :, None, None, None, None] ** 2 * error.square()).mean()
    torch.testing.assert_close(delta_loss(x0_hat, x0, on), truth, atol=1e-5, rtol=1e-4)


def test_eq_5_with_sigmas_that_differ_inside_a_chunk() -> None:
    """|sigma_i e_i - sigma_{i-1} e_{i-1}|^2, e = u_hat - u: a seeded first frame has sigma 0 and no error."""
    x0, noise, velocity = draw(0), draw(1), draw(2)
    sigmas = torch.tensor([[0.0, 0.7, 0.7, 0.2, 0.5, 0.9], [0.3, 0.3, 0.3, 1.0, 0.0, 0.4]])
    x0_hat = clean_estimate(add_noise(x0, noise, sigmas), velocity, sigmas)
    weighted = sigmas[..., None, None, None] * (velocity - velocity_target(x0, noise))
    pairs = [(b, i) for b, i in MASK.nonzero().tolist() if i % 3]
    truth = torch.stack([(weighted[b, i] - weighted[b, i - 1]).square().mean() for b, i in pairs]).mean()
    torch.testing.assert_close(delta_loss(x0_hat, x0, MASK), truth, atol=1e-5, rtol=1e-4)


def test_eq_5_looks_at_change_alone_and_never_across_chunks() -> None:
    x0, on = draw(0), torch.ones(2, 6, dtype=torch.bool)
    offset = x0.clone()
    offset[:, :3] += 5.0  # a constant error, another one in each chunk
    offset[:, 3:] -= 9.0
    assert delta_loss(offset, x0, on) < 1e-10
    assert delta_loss(-x0, x0, on) == pytest.approx(4 * delta_loss(0 * x0, x0, on).item(), rel=1e-4)


def test_eq_6_variance_is_over_all_supervised_pairs_of_the_batch() -> None:
    x0 = draw(0)
    deltas = torch.cat([(x0[b, i] - x0[b, i - 1]).flatten() for b, i in MASK.nonzero().tolist() if i % 3])
    torch.testing.assert_close(temporal_variance(x0, MASK), deltas.var(correction=0))
    assert temporal_variance(torch.ones(SHAPE), MASK) == 0
    steady = torch.arange(6.0)[None, :, None, None, None].expand(SHAPE)  # the same change everywhere: no variance
    assert temporal_variance(steady.contiguous(), MASK) == pytest.approx(0, abs=1e-9)


def test_eq_6_values() -> None:
    assert (ALPHA, GAMMA) == (0.2, 5.0)
    assert adaptive_weight(torch.tensor(0.0)).item() == pytest.approx(0.2)
    assert adaptive_weight(torch.tensor(0.1)).item() == pytest.approx(0.2 * math.exp(-0.5))
    assert adaptive_weight(torch.tensor(2.0), alpha=1.0, gamma=1.0).item() == pytest.approx(math.exp(-2))


def test_eq_6_large_motion_weighs_the_delta_loss_down() -> None:
    weights = adaptive_weight(torch.tensor(0.05)), adaptive_weight(torch.tensor(1.0))
    assert 0.2 > weights[0] > weights[1] > 0
