"""Validation by generation: it ranks what is known, says the same again, and its pictures show what they claim."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remind.data.mixture import Mixture
from remind.data.world_clips import TEST_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS
from remind.errors import InputError
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import render_states, run_control
from remind.evaluation.kv_importance import KVImportance
from remind.evaluation.training_pictures import importance_heatmap, recovery_strip
from remind.evaluation.world_benchmark import is_eligible, motion_of
from remind.evaluation.world_validator import FIRST_SEED, WorldValidator, validation_clips
from remind.inference.pipeline import RemindPipeline
from remind.models.dit import CausalVideoDiT
from remind.recipes import recipe
from remind.recipes.validators import held_out_clips, make_validator
from remind.training.config import ValidationOptions
from remind.training.losses import LossRecord
from remind.training.validation import LossValidator
from remind.validation import Validation, Validator

from ..make_memory import random_bank

NUM_CLIPS = 6


@pytest.fixture(scope="module")
def looks() -> WorldValidator:
    return WorldValidator((32, 32), num_clips=NUM_CLIPS, num_strips=2)


@pytest.fixture(scope="module")
def nano() -> CausalVideoDiT:
    return RemindPipeline.from_pretrained("nano").model


@pytest.fixture(scope="module")
def seen(looks: WorldValidator, nano: CausalVideoDiT) -> Validation:
    return looks(nano)


def test_clips_are_of_the_seeds_that_choose_and_tell_progress(looks: WorldValidator) -> None:
    clips = [meter.case for meter in looks.meters]
    seeds = [int(clip.scene.scene_id.rsplit("-", 1)[-1]) for clip in clips]
    assert min(seeds) >= FIRST_SEED
    assert all(s in VALIDATION_SEEDS and s not in TEST_SEEDS and s not in TRAIN_SEEDS for s in seeds)
    assert all(is_eligible(clip) and motion_of(clip) == "ramp" for clip in clips)
    assert len({clip.scene.family for clip in clips}) == NUM_CLIPS
    assert len({clip.recipe.kind for clip in clips}) == 3
    assert torch.equal(validation_clips(1, (32, 32))[0].degraded.rgb, clips[0].degraded.rgb)


def test_a_model_that_remembers_scores_above_one_that_was_never_interrupted(
    looks: WorldValidator, seen: Validation
) -> None:
    """Measured on these clips: nano 0.77, nano-base 0.00."""
    base = looks(RemindPipeline.from_pretrained("nano-base").model)
    assert seen.score > base.score + 0.4
    assert seen.scalars["after_error"] < 0.6 * base.scalars["after_error"]
    assert seen.scalars["shown"] > base.scalars["shown"] + 0.3
    assert seen.scalars["mass_on_anchors"] > base.scalars["mass_on_anchors"]


def test_the_same_weights_score_the_same_and_nothing_is_disturbed(
    looks: WorldValidator, nano: CausalVideoDiT, seen: Validation
) -> None:
    torch.manual_seed(3)
    state, weights = torch.get_rng_state(), {name: value.clone() for name, value in nano.state_dict().items()}
    nano.train()
    nano.blocks[0].eval()
    modes = [module.training for module in nano.modules()]
    again = looks(nano)
    assert [module.training for module in nano.modules()] == modes
    nano.eval()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in nano.state_dict().items())
    assert (again.scalars, again.score) == (seen.scalars, seen.score)
    assert again.pictures.keys() == seen.pictures.keys() == {"clip/0", "clip/1", "kv_importance"}
    assert all(np.array_equal(again.pictures[name], picture) for name, picture in seen.pictures.items())


def test_truth_scores_one_standing_still_nothing_and_too_much_no_better(looks: WorldValidator) -> None:
    def score(make: Callable[[CaseMeter], torch.Tensor]) -> Validation:
        return looks.judge([make(meter) for meter in looks.meters])

    def too_fast(meter: CaseMeter) -> torch.Tensor:
        states = meter.last_seen_state + 1.5 * (meter.true_state - meter.last_seen_state)
        states[: meter.start] = meter.true_state[: meter.start]
        return render_states(meter.case, states.clamp(0, 1))

    assert score(lambda meter: run_control("oracle", meter)).score == pytest.approx(1, abs=0.02)
    assert score(lambda meter: run_control("freeze", meter)).score == pytest.approx(0, abs=0.05)
    assert score(lambda meter: run_control("reset", meter)).score < -0.1
    fast = score(too_fast)
    assert fast.scalars["state_progress"] > 1.1
    assert fast.score < 0.9


def test_sizes_without_shipped_limits_measure_their_own() -> None:
    looks = WorldValidator((16, 16), 69, num_clips=2)
    assert looks.calibration.hw == (16, 16)
    assert looks.calibration.num_cases == 2
    assert len(looks.meters[0].case.clean) == 69


def grey(value: int, num_frames: int = 81) -> torch.Tensor:
    return torch.full((num_frames, 8, 8, 3), value, dtype=torch.uint8)


def test_a_strip_shows_neither_what_was_not_given_nor_what_was_not_generated(looks: WorldValidator) -> None:
    """Each row in a grey of its own: given ends where generated begins."""
    meter = looks.meters[0]
    first = meter.first_generated_v2v
    picture = recovery_strip("title", grey(50), grey(100), grey(150), meter.case.schedule, first,
                             true_state=[0.5] * 81, measured=[None] * 81)  # fmt: skip
    shown = {value: np.argwhere((picture == value).all(-1)) for value in (50, 100, 150)}
    rows = [(shown[v][:, 0].min(), shown[v][:, 0].max()) for v in (50, 100, 150)]
    assert rows[0][1] < rows[1][0]
    assert rows[1][1] < rows[2][0]
    assert shown[100][:, 1].max() < shown[150][:, 1].min()
    assert shown[50][:, 1].min() == shown[100][:, 1].min()
    assert shown[50][:, 1].max() == shown[150][:, 1].max()


def test_a_heatmap_is_darker_where_more_is_read(looks: WorldValidator) -> None:
    graph = looks.meters[0].case.graph
    mass = np.full((7, 7), np.nan)
    mass[6] = [0.8, 0.05, 0.05, 0.0, 0.0, 0.1, 0.3]
    dark_left = importance_heatmap("title", KVImportance(mass, mass, "words"), graph)
    mass = mass.copy()
    mass[6, :6] = mass[6, 5::-1]
    dark_right = importance_heatmap("title", KVImportance(mass, mass, "words"), graph)
    assert dark_left.dtype == np.uint8
    assert dark_left.shape == dark_right.shape
    half = dark_left.shape[1] // 2
    difference = dark_left.astype(int) - dark_right.astype(int)
    assert difference[:, :half].sum() < 0 < difference[:, half:].sum()


def test_options_make_the_validator_they_ask_for() -> None:
    held_out = Mixture([random_bank(5), random_bank(3, seed=1)], [3.0, 1.0], 0)
    config = recipe("nano")
    assert make_validator(config, held_out) is None
    by_loss = replace(config, validation=ValidationOptions(every=10, by="loss", clips=4))
    made = make_validator(by_loss, held_out)
    assert isinstance(made, LossValidator)
    assert len(made.samples) == 4
    assert made.regimes == config.curriculum.regimes
    by_world = replace(config, validation=ValidationOptions(every=10, by="world", clips=3))
    world: Validator | None = make_validator(by_world, None)
    assert isinstance(world, WorldValidator)
    assert (world.hw, world.num_clips) == ((32, 32), 3)
    with pytest.raises(InputError, match="nothing to validate on"):
        make_validator(by_loss, None)
    with pytest.raises(InputError, match="validated on the world"):
        make_validator(replace(by_world, bank_size=0), held_out)
    with pytest.raises(InputError, match="validation needs clips"):
        held_out_clips(held_out, 0)


def test_held_out_clips_are_each_taken_once() -> None:
    banks = [random_bank(5), random_bank(3, seed=1)]
    clips = held_out_clips(Mixture(banks, [3.0, 1.0], 0), 100)
    assert len(clips) == 8
    assert len({clip.clean.sum().item() for clip in clips}) == 8
    few = held_out_clips(Mixture(banks, [3.0, 1.0], 0), 3)
    assert all(torch.equal(a.clean, b.clean) for a, b in zip(few, clips, strict=False))


def test_the_guide_names_every_number(seen: Validation) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "watching_a_run.md").read_text()
    named = set(re.findall(r"`(?:validation/)?([\w/.-]+)`", guide))
    assert set(seen.scalars) <= named
    assert {name for name in LossRecord.names if "/" not in name} <= named
    assert {name.split("/")[1] for name in LossRecord.names if "/" in name} == {"regime", "sigma", "role"}
