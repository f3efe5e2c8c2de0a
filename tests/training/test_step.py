"""From plans to tensors to a loss: what is gathered, what is noised, what cannot matter, and what the cache sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from remind.data.dataset import MemorySample
from remind.errors import GraphError
from remind.flow import add_noise
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import StreamingKVCache
from remind.sequence_plan import SequencePlan
from remind.training.losses import ROLES, LossOptions, LossStatistics, loss_share, weigh
from remind.training.regimes import REGIMES, BatchChoices, RegimeOptions, draw_batch_choices
from remind.training.step import StepOptions, TrainingBatch, assemble, predict

from ..make_memory import TINY, filled_model, samples


def streams(size: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + i) for i in range(size)]


def make(
    name: str, *, size: int = 3, seed: int = 0, options: StepOptions | None = None, regime: RegimeOptions | None = None
) -> tuple[list[MemorySample], list[SequencePlan], TrainingBatch]:
    rng, clips = np.random.default_rng(seed), samples(size)
    choices = draw_batch_choices([clip.graph for clip in clips], rng)
    plans = [REGIMES[name](clip.graph, rng, regime or RegimeOptions(), choices) for clip in clips]
    return clips, plans, assemble(clips, plans, streams(size, seed), options or StepOptions())


def loss_of(model: CausalVideoDiT, batch: TrainingBatch, variant: str = "dynamic") -> torch.Tensor:
    """The loss of a global batch of this one micro-batch."""
    weights = weigh(LossStatistics.of(batch.x0, batch.supervised), LossOptions(variant), delta_on=True)
    return loss_share(
        predict(model, batch), x0=batch.x0, noise=batch.noise, sigmas=batch.sigmas, supervised=batch.supervised,
        roles=batch.roles, regime=batch.regime, weights=weights,
    )[0]  # fmt: skip


@pytest.mark.parametrize("name", REGIMES)
def test_every_entry_is_gathered_from_the_chunk_and_track_it_names(name: str) -> None:
    clips, plans, batch = make(name, regime=RegimeOptions(clean_prefix_share=0.5, clean_target_share=0.5))
    for row, (clip, plan) in enumerate(zip(clips, plans, strict=True)):
        for j, entry in enumerate(plan.entries):
            here, there = slice(3 * j, 3 * j + 3), slice(3 * entry.chunk, 3 * entry.chunk + 3)
            assert torch.equal(batch.x0[row, here], getattr(clip, entry.track)[there])
            assert torch.equal(batch.cameras[row, here], getattr(clip, f"{entry.track}_cameras")[there])
            assert torch.equal(batch.camera_valid[row, here], getattr(clip, f"{entry.track}_valid")[there])
            assert batch.positions[row, here].tolist() == [entry.position, entry.position + 1, entry.position + 2]
            assert batch.supervised[row, here].tolist() == list(entry.supervised)
            assert [ROLES[role] for role in batch.roles[row, here]] == [entry.role] * 3
            text = batch.text[row, batch.text_of_chunk[j]]
            own = clip.clean_prompts if entry.track == "clean" else clip.degraded_prompts
            assert torch.equal(text, clip.prompts[own[entry.chunk]])
    assert batch.regime == name
    assert batch.mask.visibility == plans[0].visibility


@pytest.mark.parametrize("name", REGIMES)
def test_noise_levels_follow_the_rules(name: str) -> None:
    options = StepOptions(memory_sigma=(0.6, 0.7))
    _, plans, batch = make(name, options=options, regime=RegimeOptions(memory_noise_share=0.6))
    for row, plan in enumerate(plans):
        for j, entry in enumerate(plan.entries):
            sigmas = batch.sigmas[row, 3 * j : 3 * j + 3]
            for rule, sigma in zip(entry.sigma, sigmas.tolist(), strict=True):
                low, high = {"zero": (0, 0), "one": (1, 1), "memory": (0.6, 0.7), "sampled": (0, 1)}[rule]
                assert low <= sigma <= high
            noised = [s for rule, s in zip(entry.sigma, sigmas.tolist(), strict=True) if rule != "zero"]
            assert len(set(noised)) <= 1  # one level per chunk
    drawn = batch.sigmas[(batch.sigmas > 0) & (batch.sigmas < 1)].unique()
    assert len(drawn) > 3  # chunks and samples have levels of their own


def test_the_shift_moves_training_noise_towards_1() -> None:
    def mean(shift: float) -> float:
        batch = make("all_history", size=12, options=StepOptions(sigma_shift=shift))[2]
        return batch.sigmas[batch.supervised].mean().item()

    assert mean(1.0) == pytest.approx(0.5, abs=0.1)
    assert mean(1.0) + 0.1 < mean(4.0)


def test_the_noise_of_a_step_does_not_depend_on_the_regimes_rules() -> None:
    plain, dropped = make("all_history")[2], make("node_drop")[2]
    assert torch.equal(plain.noise, dropped.noise)
    both = plain.supervised
    assert torch.equal(plain.sigmas[both], dropped.sigmas[both])
    assert not torch.equal(plain.sigmas, dropped.sigmas)


def test_plans_that_attend_differently_are_refused() -> None:
    clips = samples(2)
    plans = [REGIMES["reference_cache"](clips[i].graph, np.random.default_rng(0), RegimeOptions(),
                                        BatchChoices(3, 1, gap)) for i, gap in ((0, 2), (1, 3))]  # fmt: skip
    with pytest.raises(GraphError, match="attend differently"):
        assemble(clips, plans, streams(2), StepOptions())


@torch.no_grad()
@pytest.mark.parametrize("name", REGIMES)
def test_the_loss_is_eqs_4_to_6_of_what_the_model_says(name: str) -> None:
    """Written out once more from the paper: x0_hat, differences inside chunks, one mean over the batch."""
    _, _, batch = make(name)
    model = filled_model()
    sigma = batch.sigmas[..., None, None, None]
    x_t = (1 - sigma) * batch.x0 + sigma * batch.noise
    velocity = model(x_t, batch.sigmas, batch.positions, batch.text, batch.cameras, attention=batch.mask,
                     text_of_chunk=batch.text_of_chunk)  # fmt: skip
    flow = (velocity - (batch.noise - batch.x0))[batch.supervised].square().mean()
    x0_hat = x_t - sigma * velocity
    pairs = [(b, i) for b, i in batch.supervised.nonzero().tolist() if i % 3]
    changes = torch.stack([batch.x0[b, i] - batch.x0[b, i - 1] for b, i in pairs])
    delta = (torch.stack([x0_hat[b, i] - x0_hat[b, i - 1] for b, i in pairs]) - changes).square().mean()
    weight = 0.2 * torch.exp(-5 * changes.var(correction=0))
    torch.testing.assert_close(loss_of(model, batch, "flow_only"), flow)
    torch.testing.assert_close(loss_of(model, batch, "dynamic"), flow + 0.2 * delta)
    torch.testing.assert_close(loss_of(model, batch, "dynamic_adaptive"), flow + weight * delta)


@torch.no_grad()
def test_both_kernels_give_the_same_loss() -> None:
    model = filled_model()
    prefix, dense = (
        loss_of(model, make("v2v_frontier", options=StepOptions(kernel=kernel))[2])
        for kernel in ("prefix", "dense")
    )
    torch.testing.assert_close(prefix, dense, atol=1e-5, rtol=1e-5)


def mixed_frontiers() -> tuple[list[MemorySample], list[SequencePlan], TrainingBatch]:
    """A V2V batch in which some targets lie before their own clip's frontier."""
    clips, plans, batch = make("v2v_frontier", size=6)
    assert len({clip.graph.frontier for clip in clips}) > 1
    return clips, plans, batch


def test_unsupervised_targets_neither_change_the_loss_nor_get_a_gradient() -> None:
    _, plans, batch = mixed_frontiers()
    idle = torch.tensor([[("sampled" in e.sigma) and not e.is_supervised for e in p.entries for _ in range(3)]
                         for p in plans])  # fmt: skip
    assert idle.any()
    model = filled_model()
    x0 = batch.x0.clone().requires_grad_()
    total = loss_of(model, replace(batch, x0=x0))
    total.backward()
    assert (x0.grad[idle] == 0).all()
    assert (x0.grad[batch.supervised].abs().amax((1, 2, 3)) > 0).all()
    changed = batch.x0.clone()
    changed[idle] = 100.0
    with torch.no_grad():
        assert torch.equal(loss_of(model, replace(batch, x0=changed)), total.detach())


def test_the_recovered_state_does_not_leak_into_the_frontier_chunk() -> None:
    """What the clean history holds from the frontier on cannot reach the frontier's own prediction."""
    _, plans, batch = make("v2v_frontier", size=1)
    (plan,) = plans
    frontier = min(e.chunk for e in plan.entries if e.is_supervised)
    answer = [j for j, e in enumerate(plan.entries) if "sampled" not in e.sigma and e.chunk >= frontier]
    assert answer
    model = filled_model()
    changed = batch.x0.clone()
    for j in answer:
        changed[:, 3 * j : 3 * j + 3] = 50.0
    at = next(j for j, e in enumerate(plan.entries) if e.is_supervised)
    with torch.no_grad():
        before, after = (
            model(add_noise(x0, batch.noise, batch.sigmas), batch.sigmas, batch.positions, batch.text, batch.cameras,
                  attention=batch.mask, text_of_chunk=batch.text_of_chunk)
            for x0 in (batch.x0, changed)
        )  # fmt: skip
    assert torch.equal(before[:, 3 * at : 3 * at + 3], after[:, 3 * at : 3 * at + 3])
    assert not torch.allclose(before, after)


@torch.no_grad()
@pytest.mark.parametrize("name", ["all_history", "v2v_frontier", "reference_cache", "node_drop"])
def test_a_teacher_forced_target_is_the_same_chunk_of_a_cached_rollout(name: str) -> None:
    """What is trained in one pass is what generation does through the cache, chunk by chunk."""
    _, plans, batch = make(name, size=2)
    model = filled_model()
    x_t = add_noise(batch.x0, batch.noise, batch.sigmas)
    at_once = model(x_t, batch.sigmas, batch.positions, batch.text, batch.cameras, attention=batch.mask,
                    text_of_chunk=batch.text_of_chunk)  # fmt: skip
    entries = plans[0].entries
    cache = StreamingKVCache(TINY, batch=2, num_slots=len(entries), grid_hw=(1, 1))

    def through_the_cache(j: int) -> torch.Tensor:
        f = slice(3 * j, 3 * j + 3)
        return model(x_t[:, f], batch.sigmas[:, f], batch.positions[:, f], batch.text[:, batch.text_of_chunk[j]],
                     batch.cameras[:, f], cache=cache)  # fmt: skip

    checked = 0
    for j, entry in sorted(enumerate(entries), key=lambda pair: (pair[1].chunk, not pair[1].is_supervised, -pair[0])):
        cache.open(j, entry.position, entry.role)  # a chunk is generated first, then written clean
        torch.testing.assert_close(through_the_cache(j), at_once[:, 3 * j : 3 * j + 3], atol=1e-5, rtol=1e-5)
        cache.close()
        if "sampled" in entry.sigma:
            cache.evict(j)
            checked += 1
    assert checked >= 2 or name == "reference_cache"


@torch.no_grad()
def test_in_the_shared_pass_a_chunk_sees_the_noisy_chunks_before_it_and_nothing_after() -> None:
    _, plans, batch = make("all_history", size=2, regime=RegimeOptions(history="shared"))
    assert batch.x0.shape[1] == 3 * len(plans[0].entries) == 21
    model = filled_model()
    before = predict(model, batch)
    changed = batch.noise.clone()
    changed[:, 9:12] += 1.0
    after = predict(model, replace(batch, noise=changed))
    assert torch.equal(before[:, :9], after[:, :9])
    for chunk in (3, 4, 5, 6):
        assert not torch.allclose(before[:, 3 * chunk : 3 * chunk + 3], after[:, 3 * chunk : 3 * chunk + 3])
    assert torch.isfinite(loss_of(model, batch))
