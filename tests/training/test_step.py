"""From plans to tensors to a loss: what is gathered, what is noised, what cannot matter, and what the cache sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from remind.data.dataset import MemorySample
from remind.errors import GraphError
from remind.flow import add_noise
from remind.models.kv_cache import StreamingKVCache
from remind.sequence_plan import SequencePlan
from remind.training.losses import adaptive_weight, delta_loss, flow_loss, temporal_variance
from remind.training.regimes import REGIMES, BatchChoices, RegimeOptions, draw_batch_choices
from remind.training.step import StepOptions, TrainingBatch, assemble, losses

from ..make_memory import TINY, filled_model, samples


def make(
    name: str, *, size: int = 3, seed: int = 0, options: StepOptions | None = None, regime: RegimeOptions | None = None
) -> tuple[list[MemorySample], list[SequencePlan], TrainingBatch]:
    rng, clips = np.random.default_rng(seed), samples(size)
    choices = draw_batch_choices([clip.graph for clip in clips], rng)
    plans = [REGIMES[name](clip.graph, rng, regime or RegimeOptions(), choices) for clip in clips]
    batch = assemble(clips, plans, torch.Generator().manual_seed(seed), options or StepOptions())
    return clips, plans, batch


@pytest.mark.parametrize("name", REGIMES)
def test_every_entry_is_gathered_from_the_chunk_and_track_it_names(name: str) -> None:
    clips, plans, batch = make(name, regime=RegimeOptions(clean_prefix_share=0.5))
    for row, (clip, plan) in enumerate(zip(clips, plans, strict=True)):
        for j, entry in enumerate(plan.entries):
            here, there = slice(3 * j, 3 * j + 3), slice(3 * entry.chunk, 3 * entry.chunk + 3)
            assert torch.equal(batch.x0[row, here], getattr(clip, entry.track)[there])
            assert torch.equal(batch.cameras[row, here], getattr(clip, f"{entry.track}_cameras")[there])
            assert torch.equal(batch.camera_valid[row, here], getattr(clip, f"{entry.track}_valid")[there])
            assert batch.positions[row, here].tolist() == [entry.position, entry.position + 1, entry.position + 2]
            assert batch.supervised[row, here].tolist() == list(entry.supervised)
        track = plan.entries[-1].track
        assert torch.equal(batch.text[row], getattr(clip, f"{track}_text"))
    assert batch.text_of_chunk == tuple(entry.chunk for entry in plans[0].entries)
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
        assemble(clips, plans, torch.Generator(), StepOptions())


@torch.no_grad()
@pytest.mark.parametrize("name", REGIMES)
def test_the_loss_is_eqs_4_to_6_of_what_the_model_says(name: str) -> None:
    _, _, batch = make(name)
    model = filled_model()
    sigma = batch.sigmas[..., None, None, None]
    x_t = (1 - sigma) * batch.x0 + sigma * batch.noise
    velocity = model(x_t, batch.sigmas, batch.positions, batch.text, batch.cameras, attention=batch.mask,
                     text_of_chunk=batch.text_of_chunk)  # fmt: skip
    flow = flow_loss(velocity, batch.noise - batch.x0, batch.supervised)
    delta = delta_loss(x_t - sigma * velocity, batch.x0, batch.supervised)
    weight = adaptive_weight(temporal_variance(batch.x0, batch.supervised))
    total, parts = losses(model, batch, StepOptions(use_delta_loss=True))
    torch.testing.assert_close(total, flow + weight * delta)
    torch.testing.assert_close([parts["flow"], parts["delta"], parts["delta_weight"]], [flow, delta, weight])
    gated, _ = losses(model, batch, StepOptions(use_delta_loss=False))
    torch.testing.assert_close(gated, flow)
    assert gated != total


@torch.no_grad()
def test_both_kernels_give_the_same_loss() -> None:
    model = filled_model()
    prefix, dense = (
        losses(model, make("v2v_frontier", options=StepOptions(kernel=kernel))[2], StepOptions())[0]
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
    model, options = filled_model(), StepOptions()
    x0 = batch.x0.clone().requires_grad_()
    total, _ = losses(model, replace(batch, x0=x0), options)
    total.backward()
    assert (x0.grad[idle] == 0).all()
    assert (x0.grad[batch.supervised].abs().amax((1, 2, 3)) > 0).all()
    changed = batch.x0.clone()
    changed[idle] = 100.0
    with torch.no_grad():
        assert torch.equal(losses(model, replace(batch, x0=changed), options)[0], total.detach())


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
        return model(x_t[:, f], batch.sigmas[:, f], batch.positions[:, f], batch.text[:, entries[j].chunk],
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
