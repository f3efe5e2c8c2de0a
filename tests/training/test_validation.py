"""Validation by loss: the weights alone decide it, whatever the passes, ranks and whatever was drawn before."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from remind.data.memory_bank import MemoryBank
from remind.data.world_clips import VALIDATION_SEEDS, make_world_clip
from remind.errors import InputError
from remind.flow import add_noise, velocity_target
from remind.inference.pipeline import RemindPipeline
from remind.models.codec import LinearCodec
from remind.models.dit import CausalVideoDiT
from remind.models.text import WordHashEncoder
from remind.training.regimes import REGIMES, RegimeOptions
from remind.training.validation import LossValidator, Validation

from ..make_memory import filled_model, samples
from .validation_ranks import one_rank, validator

REGIME_NAMES = tuple(REGIMES)


def assert_close(found: Validation, expected: Validation) -> None:
    assert found.scalars.keys() == expected.scalars.keys()
    for name, value in expected.scalars.items():
        assert found.scalars[name] == pytest.approx(value, rel=1e-6), name


def test_the_same_weights_have_the_same_loss_and_others_another() -> None:
    model, looks = filled_model(), validator()
    first = looks(model)
    torch.manual_seed(99)
    torch.rand(7)
    assert looks(model) == first == validator()(model)
    assert first.score == -first.scalars["flow"]
    assert set(first.scalars) == {"flow", "flow/sigma/0.2", "flow/sigma/0.8", *(f"flow/regime/{r}" for r in REGIMES)}
    assert all(math.isfinite(value) for value in first.scalars.values())
    with torch.no_grad():
        model.blocks[1].ffn[0].weight[0, 0] += 0.1
    assert looks(model).scalars["flow"] != first.scalars["flow"]
    assert validator(seed=1)(filled_model()).scalars["flow"] != first.scalars["flow"]


def test_model_and_generator_are_left_as_they_were() -> None:
    model = filled_model().train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    validator()(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_any_micro_batch_gives_the_same(micro_batch: int) -> None:
    model = filled_model()
    assert_close(validator(micro_batch=micro_batch)(model), validator()(model))


def test_the_loss_is_that_of_equation_4_on_what_the_plan_supervises() -> None:
    """By hand, one clip and one regime: mean over supervised latent frames of the squared velocity error."""
    looks = LossValidator(samples(1), ["v2v_frontier"], sigmas=(0.4,))
    (plan,), model = looks.plans("v2v_frontier"), filled_model()
    batch = looks._batch([0], [plan], "v2v_frontier")
    levels = {"zero": 0.0, "sampled": 0.4}
    sigmas = torch.tensor([[levels[rule] for entry in plan.entries for rule in entry.sigma]])
    with torch.no_grad():
        velocity = model(add_noise(batch.x0, batch.noise, sigmas), sigmas, batch.positions, batch.text, batch.cameras,
                         camera_valid=batch.camera_valid, attention=batch.mask, text_of_chunk=batch.text_of_chunk)
    error = (velocity - velocity_target(batch.x0, batch.noise))[batch.supervised].square().mean()
    assert looks(model).scalars["flow"] == pytest.approx(float(error), rel=1e-5)


def test_all_regimes_are_looked_at_on_equal_terms() -> None:
    found = validator()(filled_model()).scalars
    assert found["flow"] == pytest.approx(sum(found[f"flow/regime/{r}"] for r in REGIMES) / len(REGIMES))
    assert found["flow"] == pytest.approx((found["flow/sigma/0.2"] + found["flow/sigma/0.8"]) / 2)


def test_two_ranks_share_the_clips_and_agree(tmp_path: Path) -> None:
    """Five clips: one rank has a clip fewer, and makes as many passes all the same."""
    mp.spawn(one_rank, args=(str(tmp_path), 5), nprocs=2)
    (first, passes), (second, others) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first == second
    assert passes == others == 2 * len(REGIMES) * 2
    assert_close(Validation(first, 0.0), validator()(filled_model()))


def test_training_lowers_it_on_real_clips() -> None:
    """The shipped nano against its own shape with random weights, on world clips that it never saw."""
    pipeline = RemindPipeline.from_pretrained("nano")
    config = pipeline.model.config
    clips = [make_world_clip(VALIDATION_SEEDS.start + 800_000 + i, hw=(32, 32)) for i in range(2)]
    bank = MemoryBank.from_clips(((clip.clean, clip.degraded, clip.recipe) for clip in clips), LinearCodec.load(),
                                 WordHashEncoder(config.text_dim, config.text_len))
    looks = LossValidator([bank[0], bank[1]], REGIME_NAMES, sigmas=(0.5,))
    torch.manual_seed(0)
    trained, fresh = looks(pipeline.model).scalars, looks(CausalVideoDiT(config)).scalars
    for name in trained:
        assert trained[name] < 0.5 * fresh[name], name


def test_what_cannot_be_looked_at_is_said() -> None:
    with pytest.raises(InputError, match="no clips to validate on"):
        LossValidator([], REGIME_NAMES)
    for regimes in ((), ("node_drop", "node_drop")):
        with pytest.raises(InputError, match="regimes that exist"):
            LossValidator(samples(1), regimes)
    for sigmas in ((), (0.0,), (1.5,)):
        with pytest.raises(InputError, match="noise levels"):
            LossValidator(samples(1), REGIME_NAMES, sigmas=sigmas)


def test_options_of_the_run_reach_the_plans() -> None:
    looks = validator(regime_options=RegimeOptions(track="clean"))
    assert {entry.track for plan in looks.plans("all_history") for entry in plan.entries} == {"clean"}
