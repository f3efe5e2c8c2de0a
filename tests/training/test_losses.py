"""The objective: Eq. 4 under a mask, Eq. 5 as an error of velocities, Eq. 6 with the right sign, shares that add up."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.errors import InputError
from remind.flow import add_noise, clean_estimate, velocity_target
from remind.training.losses import (
    ROLES,
    LossOptions,
    LossRecord,
    LossStatistics,
    LossWeights,
    adaptive_weight,
    delta_errors,
    flow_errors,
    gate,
    loss_share,
    supervised_pairs,
    weigh,
)
from remind.training.regimes import REGIMES

SHAPE = (2, 6, 4, 2, 3)
MASK = torch.tensor([[False, True, True, True, True, True], [False, False, False, True, True, True]])
SIGMAS = torch.tensor([[0.0, 0.7, 0.7, 0.2, 0.5, 0.9], [0.3, 0.3, 0.3, 1.0, 0.0, 0.4]])


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Parts:
    """What `loss_share` is given, beside regime and weights."""

    velocity: Tensor
    x0: Tensor
    noise: Tensor
    sigmas: Tensor
    supervised: Tensor
    roles: Tensor

    def clips(self, rows: slice) -> Parts:
        return Parts(*(getattr(self, f.name)[rows] for f in fields(self)))

    def band(self, rows: slice) -> Parts:
        """Some rows of the picture: latents have them, the rest does not."""
        return Parts(*(getattr(self, f.name)[..., rows, :] for f in fields(self)[:3]),
                     self.sigmas, self.supervised, self.roles)  # fmt: skip

    def statistics(self) -> LossStatistics:
        return LossStatistics.of(self.x0, self.supervised)

    def share(self, weights: LossWeights, regime: str = "node_drop") -> tuple[Tensor, LossRecord]:
        given = {f.name: getattr(self, f.name) for f in fields(self)[1:]}
        return loss_share(self.velocity, **given, regime=regime, weights=weights)


def draw_parts(seed: int, clips: int = 4, chunks: int = 3) -> Parts:
    shape, g = (clips, 3 * chunks, 4, 6, 2), torch.Generator().manual_seed(seed)
    supervised = torch.rand(shape[:2], generator=g) < 0.6
    supervised[0, -1] = True
    # Changes small enough that the adaptive weight is far from 0.
    x0 = draw(seed, clips, 1, *shape[2:]) + 0.2 * draw(seed + 1, *shape)
    return Parts(draw(seed + 2, *shape), x0, draw(seed + 3, *shape), torch.rand(shape[:2], generator=g), supervised,
                 torch.randint(0, 5, shape[:2], generator=g))  # fmt: skip


FIXED = Parts(draw(0), draw(1), draw(2), SIGMAS, MASK, torch.zeros(2, 6, dtype=torch.long))
ONES = LossWeights(frames=1.0, pairs=1.0, delta_weight=0.0)


def test_eq_4_is_the_mean_over_supervised_frames_alone() -> None:
    target = FIXED.noise - FIXED.x0
    each = [(FIXED.velocity[b, t] - target[b, t]).square().mean() for b, t in MASK.nonzero().tolist()]
    weights = weigh(FIXED.statistics(), LossOptions("flow_only"), delta_on=False)
    assert weights == LossWeights(8.0, 6.0, 0.0)
    torch.testing.assert_close(FIXED.share(weights)[0], torch.stack(each).mean())
    elsewhere = FIXED.velocity.clone()
    elsewhere[~MASK] = 1e6
    changed = Parts(elsewhere, *(getattr(FIXED, f.name) for f in fields(FIXED)[1:]))
    torch.testing.assert_close(changed.share(weights)[0], torch.stack(each).mean())


def test_eq_4_wants_noise_minus_clean() -> None:
    """A flipped sign of the velocity is four times the target's square; the right one is no error."""
    target = velocity_target(FIXED.x0, FIXED.noise)
    assert target.equal(FIXED.noise - FIXED.x0)
    rest = tuple(getattr(FIXED, f.name) for f in fields(FIXED)[1:])
    assert Parts(target, *rest).share(ONES)[0] == 0
    assert Parts(-target, *rest).share(ONES)[0].item() == pytest.approx(
        4 * float((target.square().mean((2, 3, 4)) * MASK).sum()), rel=1e-5)


def test_no_gradient_reaches_what_is_not_supervised() -> None:
    """Unless it is the clean neighbour's own sigma, which is 0: a frame given clean has no error to learn from."""
    supervised = torch.tensor([[False, True, True, True, True, True]])
    sigmas = torch.tensor([[0.0, 0.7, 0.7, 0.2, 0.2, 0.2]])
    velocity = draw(0, 1, 6, 4, 2, 3).requires_grad_()
    x0, noise, roles = draw(1, 1, 6, 4, 2, 3), draw(2, 1, 6, 4, 2, 3), torch.zeros(1, 6).long()
    parts = Parts(velocity, x0, noise, sigmas, supervised, roles)
    parts.share(LossWeights(5.0, 4.0, 1.0))[0].backward()
    assert velocity.grad is not None
    assert (velocity.grad.abs().amax((2, 3, 4)) > 0).equal(supervised)


def test_every_supervised_frame_of_the_batch_counts_the_same() -> None:
    """Not a mean of per-sample means: a sample with one supervised frame must not outweigh one with five."""
    velocity, zero = torch.zeros(SHAPE), torch.zeros(SHAPE)
    velocity[1] = 1.0
    parts = Parts(velocity, zero, zero, SIGMAS, MASK, torch.zeros(2, 6).long())
    weights = weigh(parts.statistics(), LossOptions("flow_only"), delta_on=False)
    assert parts.share(weights)[0].item() == pytest.approx(3 / 8)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_eq_5_is_the_error_of_the_change_of_the_clean_estimate(seed: int) -> None:
    """With any noise levels: differences of sigma e equal those of x0_hat, straight from the paper's formula."""
    x0, noise, velocity = draw(seed), draw(seed + 1), draw(seed + 2)
    sigmas = torch.rand(2, 6, generator=torch.Generator().manual_seed(seed))
    x0_hat = clean_estimate(add_noise(x0, noise, sigmas), velocity, sigmas)
    mine = delta_errors(velocity, velocity_target(x0, noise), sigmas)
    assert mine.shape == (2, 2, 2)
    for k in range(2):
        for i in (1, 2):
            now, before = 3 * k + i, 3 * k + i - 1
            truth = ((x0_hat[:, now] - x0_hat[:, before]) - (x0[:, now] - x0[:, before])).square().mean((1, 2, 3))
            torch.testing.assert_close(mine[:, k, i - 1], truth, atol=1e-5, rtol=1e-4)


def test_eq_5_with_one_sigma_per_chunk_is_sigma_squared_times_the_velocity_delta() -> None:
    velocity, target = draw(0), draw(1)
    sigma = torch.rand(2, 2, generator=torch.Generator().manual_seed(0))
    error = (velocity - target).unflatten(1, (2, 3)).diff(dim=2).square().mean((3, 4, 5))
    mine = delta_errors(velocity, target, sigma.repeat_interleave(3, 1))
    torch.testing.assert_close(mine, sigma[:, :, None] ** 2 * error)


def test_eq_5_takes_the_difference_of_the_errors_not_their_sum() -> None:
    """A constant error of the clean estimate costs nothing, an alternating one four times its square."""
    target, sigmas = draw(0), torch.full((2, 6), 0.5)
    steady = target + 2.0  # x0_hat is off by -1 everywhere
    assert delta_errors(steady, target, sigmas).abs().max() < 1e-10
    swings = target + 2.0 * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0])[None, :, None, None, None]
    torch.testing.assert_close(delta_errors(swings, target, sigmas), torch.full((2, 2, 2), 4.0))


def test_eq_5_never_looks_across_chunks() -> None:
    target, sigmas = draw(0), torch.ones(2, 6)
    velocity = target.clone()
    velocity[:, :3] += 5.0
    velocity[:, 3:] -= 9.0
    assert delta_errors(velocity, target, sigmas).abs().max() < 1e-10


def test_a_pair_counts_if_its_later_frame_does() -> None:
    pairs = supervised_pairs(torch.tensor([[False, True, True, True, False, True]]))
    assert pairs.tolist() == [[[True, True], [False, True]]]


def test_eq_6_variance_is_over_all_supervised_pairs_of_the_batch() -> None:
    x0 = FIXED.x0
    deltas = torch.cat([(x0[b, i] - x0[b, i - 1]).flatten() for b, i in MASK.nonzero().tolist() if i % 3])
    assert FIXED.statistics().variance == pytest.approx(deltas.double().var(correction=0).item(), rel=1e-6)
    assert LossStatistics.of(torch.ones(SHAPE), MASK).variance == 0
    steady = torch.arange(6.0)[None, :, None, None, None].expand(SHAPE)  # the same change everywhere: no variance
    assert LossStatistics.of(steady.contiguous(), MASK).variance == pytest.approx(0, abs=1e-9)
    nothing = LossStatistics.of(draw(0), torch.zeros(2, 6, dtype=torch.bool))
    assert nothing.variance == 0
    assert weigh(nothing, LossOptions(), delta_on=True) == LossWeights(1.0, 1.0, 0.2)


def test_eq_6_values() -> None:
    assert LossOptions() == LossOptions("dynamic_adaptive", alpha=0.2, gamma=5.0, gate_steps=None)
    assert adaptive_weight(0.0) == pytest.approx(0.2)
    assert adaptive_weight(0.1) == pytest.approx(0.2 * math.exp(-0.5))
    assert adaptive_weight(2.0, alpha=1.0, gamma=1.0) == pytest.approx(math.exp(-2))


def test_eq_6_large_motion_weighs_the_delta_loss_down() -> None:
    still, moving = (LossStatistics.of(scale * FIXED.x0, MASK) for scale in (0.1, 1.0))
    weights = [weigh(s, LossOptions(), delta_on=True).delta_weight for s in (still, moving)]
    assert 0.2 > weights[0] > weights[1] > 0
    assert weights[1] == pytest.approx(0.2 * math.exp(-5 * moving.variance))


def test_the_three_variants_of_table_4() -> None:
    statistics = LossStatistics.of(0.1 * FIXED.x0, MASK)

    def weight(variant: str, *, delta_on: bool = True) -> float:
        return weigh(statistics, LossOptions(variant, alpha=0.3), delta_on=delta_on).delta_weight

    assert weight("flow_only") == 0
    assert weight("dynamic") == 0.3
    assert weight("dynamic_adaptive") == pytest.approx(0.3 * math.exp(-5 * statistics.variance))
    assert [weight(v, delta_on=False) for v in ("flow_only", "dynamic", "dynamic_adaptive")] == [0, 0, 0]


def test_the_total_is_the_flow_mean_plus_the_weighted_delta_mean() -> None:
    target = velocity_target(FIXED.x0, FIXED.noise)
    flow = flow_errors(FIXED.velocity, target)[MASK].mean()
    delta = delta_errors(FIXED.velocity, target, SIGMAS)[supervised_pairs(MASK)].mean()
    weights = weigh(FIXED.statistics(), LossOptions("dynamic", alpha=0.7), delta_on=True)
    loss, record = FIXED.share(weights)
    torch.testing.assert_close(loss, flow + 0.7 * delta)
    assert record.scalars()["flow"] == pytest.approx(flow.item(), rel=1e-6)  # the record does not weigh
    assert record.scalars()["delta"] == pytest.approx(delta.item(), rel=1e-6)


def test_the_gate_opens_after_so_many_steps() -> None:
    def open_at(options: LossOptions, steps: int) -> list[int]:
        return [step for step in range(steps) if gate(options, step, steps)]

    assert open_at(LossOptions(), 20) == list(range(3, 20))  # 15 %
    assert open_at(LossOptions(gate_steps=5), 8) == [5, 6, 7]
    assert open_at(LossOptions("dynamic", gate_steps=0), 3) == [0, 1, 2]
    assert open_at(LossOptions("flow_only", gate_steps=0), 3) == []
    paper = LossOptions(gate_steps=2000)
    assert [gate(paper, step, 20_000) for step in (0, 1999, 2000)] == [False, False, True]


@pytest.mark.parametrize("bad", [{"alpha": -0.1}, {"gamma": math.inf}, {"alpha": math.nan}, {"gate_steps": -1}])
def test_options_that_mean_nothing_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        LossOptions(**bad)


@given(
    seed=st.integers(0, 10_000), cuts=st.sets(st.integers(1, 3)), bands=st.sampled_from([1, 2, 3, 6]),
    variant=st.sampled_from(["flow_only", "dynamic", "dynamic_adaptive"]),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_shares_add_up_to_the_loss_and_gradient_of_the_whole_batch(
    seed: int, cuts: set[int], bands: int, variant: str
) -> None:
    """Any split into micro-batches, and of the picture into equal bands: also when only some ranks have supervision."""
    whole = draw_parts(seed)
    options = LossOptions(variant)
    velocity = whole.velocity.requires_grad_()
    weights = weigh(whole.statistics(), options, delta_on=True)
    loss, record = whole.share(weights)
    (gradient,) = torch.autograd.grad(loss, velocity)

    edges, height = [0, *sorted(cuts), 4], whole.x0.shape[-2] // bands
    parts = [whole.clips(slice(a, b)).band(slice(height * n, height * (n + 1)))
             for a, b in pairwise(edges) for n in range(bands)]  # fmt: skip
    summed = parts[0].statistics()
    for part in parts[1:]:
        summed = summed + part.statistics()
    split = weigh(summed, options, delta_on=True)
    assert split.frames == bands * weights.frames
    assert split.pairs == bands * weights.pairs
    assert split.delta_weight == pytest.approx(weights.delta_weight, rel=1e-9)
    shares = [part.share(split) for part in parts]
    total = torch.stack([share for share, _ in shares]).sum()
    assert total.item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(torch.autograd.grad(total, velocity)[0], gradient, rtol=1e-5, atol=1e-6)
    added = shares[0][1]
    for _, own in shares[1:]:
        added = added + own
    assert added.scalars() == pytest.approx(record.scalars(), rel=1e-5)


@given(seed=st.integers(0, 10_000), regime=st.sampled_from(list(REGIMES)))
@settings(deadline=None, max_examples=20)
def test_the_record_is_what_a_slow_loop_finds(seed: int, regime: str) -> None:
    parts = draw_parts(seed)
    _, record = parts.share(ONES, regime)
    target = velocity_target(parts.x0, parts.noise)
    flow = flow_errors(parts.velocity, target)
    sums = {name: [0.0, 0] for name in LossRecord.names}
    for b in range(flow.shape[0]):
        for t in range(flow.shape[1]):
            if not parts.supervised[b, t]:
                continue
            low = min(int(parts.sigmas[b, t] * 5), 4)
            for name in ("flow", f"flow/regime/{regime}", f"flow/role/{ROLES[parts.roles[b, t]]}",
                         f"flow/sigma/{low / 5:.1f}-{(low + 1) / 5:.1f}"):  # fmt: skip
                sums[name][0] += flow[b, t].item()
                sums[name][1] += 1
            if t % 3:
                sums["delta"][0] += delta_errors(parts.velocity, target, parts.sigmas)[b, t // 3, t % 3 - 1].item()
                sums["delta"][1] += 1
    assert record.table[:, 1].tolist() == [count for _, count in sums.values()]
    assert record.table[:, 0].tolist() == pytest.approx([total for total, _ in sums.values()], rel=1e-4)
    assert record.scalars() == pytest.approx({n: s / c for n, (s, c) in sums.items() if c}, rel=1e-4)


def test_the_record_has_fixed_rows_and_buckets_that_meet_at_their_edges() -> None:
    assert len(LossRecord.names) == len(set(LossRecord.names)) == 2 + len(REGIMES) + 5 + 5
    sigmas = torch.tensor([[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]])
    zero, one = torch.zeros(1, 6, 1, 1, 1), torch.ones(1, 6, dtype=torch.bool)
    _, record = loss_share(zero, x0=zero, noise=zero, sigmas=sigmas, supervised=one, roles=torch.zeros(1, 6).long(),
                           regime="all_history", weights=ONES)  # fmt: skip
    counts = dict(zip(record.names, record.table[:, 1].tolist(), strict=True))
    assert [counts[f"flow/sigma/0.{2 * i}-{(2 * i + 2) / 10:.1f}"] for i in range(5)] == [1, 1, 1, 1, 2]
    assert "flow/role/recovery" not in record.scalars()


def test_a_regime_that_no_record_knows_is_refused() -> None:
    with pytest.raises(InputError, match="by_hand"):
        FIXED.share(ONES, "by_hand")
