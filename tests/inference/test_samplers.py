"""Samplers on models whose exact solution is known, and UniPC beside diffusers' scheduler itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.errors import InputError
from remind.flow import sampling_sigmas, shift_sigma
from remind.inference.samplers import Denoiser, Sampler, SamplerKind

SHAPE = (2, 3, 4, 2, 2)
KINDS = get_args(SamplerKind)
Velocity = Callable[[Tensor, Tensor], Tensor]


def normal(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class GaussianTarget:
    """Data N(mean, spread^2) per element: its velocity E[eps - x0 | x_sigma], and where the flow takes each noise."""

    def __init__(self, spread: float):
        self.mean, self.spread = normal(1), spread

    def velocity(self, x: Tensor, sigmas: Tensor) -> Tensor:
        s = sigmas[..., None, None, None].double()
        centred = x - (1 - s) * self.mean
        clean_share, noise_share = (1 - s) * self.spread**2, s
        variance = (1 - s) * clean_share + s * noise_share
        return (noise_share - clean_share) / variance * centred - self.mean

    def solution(self, noise: Tensor) -> Tensor:
        return self.mean + self.spread * noise


def run(
    denoiser: Denoiser, velocity: Velocity, x: Tensor, *, mask: Tensor | None = None, noise_seed: int = 50
) -> Tensor:
    mask = torch.ones(SHAPE[:2]) if mask is None else mask
    for i, sigma in enumerate(denoiser.sigmas):
        x = denoiser.step(x, velocity(x, sigma * mask), i, mask, lambda i=i: normal(noise_seed + i))
    return x


def unused_noise() -> Tensor:
    raise AssertionError("no noise was to be drawn")


# --- levels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(steps=st.integers(1, 40), shift=st.floats(0.5, 8))
@settings(max_examples=15)
def test_levels_start_at_1_fall_and_stay_above_0(kind: SamplerKind, steps: int, shift: float) -> None:
    sigmas = Sampler(steps=steps, shift=shift, kind=kind).begin("cpu").sigmas
    assert sigmas.dtype == torch.float32
    assert len(sigmas) == steps
    assert sigmas[0] == 1
    assert all(now > then > 0 for now, then in pairwise([*sigmas, sigmas[-1] / 2]))


def test_few_step_levels_under_shift_5_are_those_of_self_forcing() -> None:
    sigmas = Sampler(kind="few_step", shift=5.0).begin("cpu").sigmas
    torch.testing.assert_close(1000 * sigmas, torch.tensor([1000, 937.5, 2500 / 3, 625]))


@pytest.mark.parametrize("kind", ["euler", "few_step"])
def test_levels_of_ones_own_are_shifted_and_count_the_steps(kind: SamplerKind) -> None:
    sampler = Sampler(kind=kind, shift=5.0, levels=(1.0, 0.5))
    assert sampler.steps == 2
    torch.testing.assert_close(sampler.begin("cpu").sigmas, torch.tensor([1.0, 5 / 6]))
    assert Sampler(kind=kind, shift=5.0, steps=2, levels=(1.0, 0.5)) == sampler


def test_levels_of_ones_own_end_at_0() -> None:
    target = GaussianTarget(0.0)
    made = run(Sampler(levels=(1.0, 0.9, 0.2)).begin("cpu"), target.velocity, normal(0))
    torch.testing.assert_close(made, target.mean, atol=1e-6, rtol=0)


# --- against the definition and against diffusers ------------------------------------------------------------------


def test_euler_is_the_explicit_step_along_the_flow_bit_for_bit() -> None:
    mask = torch.tensor([[0.0, 1, 1], [1, 1, 1]])
    x = by_hand = normal(0).float()
    denoiser, levels = Sampler(steps=5, shift=3.0).begin("cpu"), sampling_sigmas(5, 3.0)
    for i, (now, then) in enumerate(pairwise(levels)):
        velocity = normal(10 + i).float()
        x = denoiser.step(x, velocity, i, mask, unused_noise)
        by_hand = by_hand + (then * mask - now * mask)[..., None, None, None] * velocity
        assert torch.equal(x, by_hand)
    assert torch.equal(denoiser.sigmas, levels[:-1])


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
def test_unipc_is_diffusers_scheduler_driven_directly(steps: int) -> None:
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler.set_timesteps(steps)
    denoiser = Sampler(steps=steps, shift=3.0, kind="unipc").begin("cpu")
    torch.testing.assert_close(denoiser.sigmas, scheduler.sigmas[:-1], atol=2e-6, rtol=0)
    assert torch.equal(denoiser.sigmas[1:], scheduler.sigmas[1:-1])
    x = theirs = normal(0).float()
    for i, timestep in enumerate(scheduler.timesteps):
        velocity = normal(10 + i).float()
        theirs = scheduler.step(velocity, timestep, theirs).prev_sample
        x = denoiser.step(x, velocity, i, torch.ones(SHAPE[:2]), unused_noise)
        assert torch.equal(x, theirs)


def test_few_step_predicts_the_clean_chunk_and_adds_fresh_noise_between_passes() -> None:
    target = GaussianTarget(0.5)
    denoiser = Sampler(kind="few_step", shift=5.0).begin("cpu")
    one = torch.ones(SHAPE[:2])
    x = normal(0)
    x = denoiser.step(x, target.velocity(x, one), 0, one, lambda: normal(7))
    next_level = 0.9375
    torch.testing.assert_close(x, (1 - next_level) * target.mean + next_level * normal(7), atol=1e-6, rtol=0)
    clean = denoiser.step(x, normal(8), 3, one, unused_noise)
    torch.testing.assert_close(clean, x - 0.625 * normal(8), atol=1e-6, rtol=0)


# --- where the exact solution is known -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_every_sampler_lands_on_a_point_target(kind: SamplerKind, steps: int) -> None:
    target = GaussianTarget(0.0)
    made = run(Sampler(steps=steps, kind=kind, shift=5.0).begin("cpu"), target.velocity, normal(0))
    torch.testing.assert_close(made, target.mean, atol=2e-5, rtol=0)


def error(kind: SamplerKind, steps: int) -> float:
    target = GaussianTarget(1.0)
    made = run(Sampler(steps=steps, kind=kind, shift=1.0).begin("cpu"), target.velocity, normal(0))
    return (made - target.solution(normal(0))).square().mean().sqrt().item()


def test_both_solvers_converge_to_the_exact_flow_and_unipc_faster() -> None:
    euler, unipc = ([error(kind, steps) for steps in (20, 40, 80)] for kind in ("euler", "unipc"))
    for mine, theirs in zip(unipc, euler, strict=True):
        assert mine < theirs / 10
    for few, many in pairwise(euler):
        assert 1.8 < few / many < 2.2  # first order
    for few, many in pairwise(unipc):
        assert few / many > 3.5  # second order or better


# --- given frames, and what passes share ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_given_frames_stay_as_they_are_and_change_nothing_else(kind: SamplerKind) -> None:
    """Even where the model says nonsense about them."""
    mask = torch.tensor([[0.0, 1, 1], [0, 0, 1]])
    x, target = normal(0), GaussianTarget(0.4)
    is_given = ~mask.bool()

    def velocity(x: Tensor, sigmas: Tensor) -> Tensor:
        v = target.velocity(x, sigmas)
        v[is_given] = 1e4
        return v

    sampler = Sampler(steps=4, kind=kind)
    made = run(sampler.begin("cpu"), velocity, x, mask=mask)
    assert torch.equal(made[is_given], x[is_given])
    alone = run(sampler.begin("cpu"), target.velocity, x)
    torch.testing.assert_close(made[~is_given], alone[~is_given], atol=0, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_that_are_denoised_in_turn_do_not_touch_each_other(kind: SamplerKind) -> None:
    sampler, target, one = Sampler(steps=5, kind=kind), GaussianTarget(0.4), torch.ones(SHAPE[:2])
    alone = [run(sampler.begin("cpu"), target.velocity, normal(seed), noise_seed=100 * seed) for seed in (2, 3)]
    denoisers, x = [sampler.begin("cpu"), sampler.begin("cpu")], [normal(2), normal(3)]
    for i in range(5):
        for n in (1, 0):
            v = target.velocity(x[n], denoisers[n].sigmas[i] * one)
            x[n] = denoisers[n].step(x[n], v, i, one, lambda seed=100 * (n + 2) + i: normal(seed))
    for mine, whole in zip(x, alone, strict=True):
        assert torch.equal(mine, whole)


def test_only_few_step_draws_noise_and_not_after_its_last_pass() -> None:
    one, drawn = torch.ones(SHAPE[:2]), []
    for kind in KINDS:
        denoiser, x = Sampler(steps=3, kind=kind).begin("cpu"), normal(0)
        for i in range(3):
            x = denoiser.step(x, normal(i), i, one, lambda who=(kind, i): drawn.append(who) or normal(9))
    assert drawn == [("few_step", 0), ("few_step", 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_dtype_of_the_latents_is_kept(kind: SamplerKind) -> None:
    x = normal(0).float()
    denoiser = Sampler(steps=3, kind=kind).begin("cpu")
    for i in range(3):
        x = denoiser.step(x, normal(i).float(), i, torch.ones(SHAPE[:2]), lambda: normal(9).float())
        assert x.dtype == torch.float32


def test_shift_moves_levels_towards_1_and_1_leaves_them() -> None:
    torch.testing.assert_close(Sampler(shift=1.0).begin("cpu").sigmas, torch.tensor([1, 0.75, 0.5, 0.25]))
    shifted = Sampler(shift=4.0).begin("cpu").sigmas
    torch.testing.assert_close(shifted, shift_sigma(torch.tensor([1, 0.75, 0.5, 0.25]), 4.0))


# --- bad options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "message"), [
    ({"steps": 0}, "at least one step; got 0"),
    ({"steps": -3, "kind": "unipc"}, "at least one step; got -3"),
    ({"shift": 0.0}, "shift of noise levels must be positive; got 0.0"),
    ({"shift": float("nan")}, "shift of noise levels must be positive; got nan"),
    ({"levels": (1.0, 0.5, 0.6)}, "must fall and stay above 0"),
    ({"levels": (1.0, 0.5, 0.5)}, "must fall and stay above 0"),
    ({"levels": (1.0, 0.5, 0.0)}, "must fall and stay above 0.*leave the last 0 out"),
    ({"levels": (1.0, float("nan"))}, "must fall and stay above 0"),
    ({"levels": (0.9, 0.5)}, "start at 1"),
    ({"levels": ()}, "start at 1"),
    ({"levels": (1000.0, 750.0)}, "start at 1.*divide timesteps by 1000"),
    ({"levels": (1.0, 0.5), "kind": "unipc"}, "unipc chooses its noise levels itself"),
    ({"levels": (1.0, 0.5), "steps": 8}, "contradict each other; got steps=8; expected 2"),
])
def test_bad_options_are_refused_with_a_reason(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampler(**options)  # type: ignore[arg-type]


def test_an_unknown_kind_is_refused_where_types_are_not_checked() -> None:
    """As it comes from a command line; under pytest a type check would come first."""
    code = "from remind.inference.samplers import Sampler; Sampler(kind='heun')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "no such sampler; got heun; expected one of euler, unipc, few_step" in done.stderr


def test_unipc_without_diffusers_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=re.escape("remind-video[wan]")):
        Sampler(kind="unipc").begin("cpu")
    Sampler(kind="euler").begin("cpu")


def test_diffusers_is_imported_only_for_unipc() -> None:
    code = ("import sys; from remind.inference.samplers import Sampler; Sampler(kind='few_step').begin('cpu');"
            "assert not any(m.startswith('diffusers') for m in sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)
