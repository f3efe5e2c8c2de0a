"""Teaching the real shape: Wan-1.3B's structure at reduced depth and width, from a Wan checkpoint, with cameras on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from remind.models import CausalVideoDiT, DiTConfig, load_checkpoint
from remind.models.convert import expected_shapes
from remind.training.config import TrainConfig
from remind.training.losses import LossOptions, LossStatistics, loss_share, weigh
from remind.training.optimizers import build_optimizers, set_rates
from remind.training.regimes import REGIMES, RegimeOptions, draw_batch_choices
from remind.training.step import StepOptions, TrainingBatch, assemble, predict

from ..make_memory import random_bank
from ..models.make_checkpoints import random_state, write_wan

SMALL: dict[str, Any] = {"dim": 96, "ffn_dim": 560, "num_layers": 2, "freq_dim": 32, "text_dim": 8, "text_len": 16,
                         "camera_hidden": 16}  # fmt: skip
MODES: dict[str, dict[str, Any]] = {
    "full": {"camera_mode": "full"},
    "full, prope": {"camera_mode": "full", "vo_transform": "prope"},
    "qk": {"camera_mode": "qk"},
    "vo": {"camera_mode": "vo"},
    "vo, prope": {"camera_mode": "vo", "vo_transform": "prope"},
    "dual": {"camera_mode": "dual"},
}
every_mode = pytest.mark.parametrize("mode", MODES)
STEPS = ("all_history", "v2v_frontier")
ROUNDING = 1e-7
"""Gradients below are zero but for rounding: those found here are under 1e-8, or above 1e-6."""


def small(mode: str) -> DiTConfig:
    return DiTConfig.preset("wan-1.3b", **SMALL, **MODES[mode])


@pytest.fixture(scope="module")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, none of them zero, in Wan's own layout."""
    config = DiTConfig.preset("wan-1.3b", **SMALL)
    return write_wan(tmp_path_factory.mktemp("wan") / "checkpoint", config, random_state(config))


def start(mode: str, folder: Path) -> CausalVideoDiT:
    config, state = load_checkpoint(folder, small(mode))
    model = CausalVideoDiT.empty(config)
    model.load_state_dict(state, assign=True)
    return model.train()


def make_batch(step: int, *, some_invalid: bool = True) -> TrainingBatch:
    """What a step trains on: two clips whose cameras move, a few poses of one of them unknown."""
    bank = random_bank(2, hw=(4, 6))
    if some_invalid:
        for track in ("clean", "degraded"):
            bank.tensors[f"{track}_valid"][1, 4:7] = 0
    clips, rng = [bank[i] for i in range(2)], np.random.default_rng(step)
    choices = draw_batch_choices([clip.graph for clip in clips], rng)
    plans = [REGIMES[STEPS[step]](clip.graph, rng, RegimeOptions(), choices) for clip in clips]  # type: ignore[index]
    noise = [torch.Generator().manual_seed(2 * step + i) for i in range(2)]
    batch = assemble(clips, plans, noise, StepOptions())
    assert batch.cameras[:, 1:].sub(batch.cameras[:, :-1]).abs().amax(-1).min() > 0
    return batch


def loss_of(model: CausalVideoDiT, batch: TrainingBatch) -> Tensor:
    """Eqs. 4-6, the delta loss on."""
    weights = weigh(LossStatistics.of(batch.x0, batch.supervised), LossOptions(), delta_on=True)
    assert weights.delta_weight > 0
    share, _ = loss_share(
        predict(model, batch), x0=batch.x0, noise=batch.noise, sigmas=batch.sigmas, supervised=batch.supervised,
        roles=batch.roles, regime=batch.regime, weights=weights,
    )  # fmt: skip
    return share


def gradients(model: CausalVideoDiT, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    return loss.detach(), {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}


def reached(found: dict[str, Tensor]) -> set[str]:
    return {name for name, gradient in found.items() if gradient.abs().max() > ROUNDING}


@every_mode
def test_the_structure_is_that_of_the_real_model(mode: str) -> None:
    whole = expected_shapes(DiTConfig.preset("wan-1.3b", **MODES[mode]))
    kept = {name for name in whole if not name.startswith("blocks.") or int(name.split(".")[1]) < SMALL["num_layers"]}
    assert set(expected_shapes(small(mode))) == kept
    assert small(mode).num_heads == 12


@every_mode
def test_new_camera_parameters_are_listed_and_start_without_effect(
    mode: str, wan_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "remind.models.convert"):
        model = start(mode, wan_folder)
    cameras = {name: p for name, p in model.named_parameters() if ".camera_" in name}
    listed = next(r.getMessage() for r in caplog.records if "at their initial values" in r.getMessage())
    assert cameras
    assert all(repr(name) in listed for name in cameras)
    assert listed.count("blocks.") == len(cameras)
    # Zero, but for the hidden layer of the phase MLP: behind a last layer of zeros it must not be zero too.
    assert {name for name, p in cameras.items() if p.any()} == {name for name in cameras if ".mlp.0." in name}

    plain_config, plain_state = load_checkpoint(wan_folder)
    assert plain_config.camera_mode == "none"
    plain = CausalVideoDiT(plain_config)
    plain.load_state_dict(plain_state)
    batch = make_batch(0)
    limit = 1e-5 if mode == "dual" else 0.0  # twice the heads in one call round otherwise
    with torch.no_grad():
        expected = predict(plain, batch)
        assert expected.std() > 0.1
        assert (predict(model, batch) - expected).abs().max() <= limit
        assert (loss_of(model, batch) - loss_of(plain, batch)).abs() <= limit


@every_mode
def test_two_steps_reach_every_parameter(mode: str, wan_folder: Path) -> None:
    """AdamW at its full rate from the first step on: with a first rate of zero, the second step would reach no more."""
    model = start(mode, wan_folder)
    config = TrainConfig("wan", "remind", small(mode), hw=(32, 48), learning_rate=1e-3, warmup_steps=0, steps=2)
    optimizers = build_optimizers(model, config)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    by_step = []
    for step in range(2):
        _, found = gradients(model, make_batch(step))
        by_step.append(reached(found))
        assert set_rates(optimizers, config, step) > 0
        for optimizer in optimizers:
            optimizer.step()
    names = set(before)
    # At first a phase MLP's last layer lets nothing through to the hidden one. All else is reached at once: residuals
    # are linear in what is there already, and the projection of the second branch in its attention.
    assert names - by_step[0] == {name for name in names if ".camera_phase.mlp.0." in name}
    assert by_step[1] == names
    assert all((p.detach() != before[name]).any() for name, p in model.named_parameters())
    seeing = make_batch(0)
    blind = replace(seeing, camera_valid=torch.zeros_like(seeing.camera_valid))
    with torch.no_grad():
        assert (predict(model, seeing) - predict(model, blind)).abs().max() > 1e-3


def test_the_last_bias_of_a_phase_mlp_learns_only_where_a_pose_is_missing(wan_folder: Path) -> None:
    """It turns queries and keys of all frames that have a pose alike, and only differences of phases count."""
    model = start("qk", wan_folder)
    known, partly = (reached(gradients(model, make_batch(0, some_invalid=some))[1]) for some in (False, True))
    assert partly - known == {f"blocks.{i}.self_attn.camera_phase.mlp.2.bias" for i in range(SMALL["num_layers"])}


@every_mode
def test_recomputing_blocks_changes_no_gradient(mode: str, wan_folder: Path) -> None:
    model, batch = start(mode, wan_folder), make_batch(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".camera_" in name:
                parameter.normal_(std=0.1)
    loss, plain = gradients(model, batch)
    passes: list[int] = []
    model.blocks[0].register_forward_pre_hook(lambda *_: passes.append(1))
    model.checkpoint_blocks = True
    again, recomputed = gradients(model, batch)
    assert len(passes) == 2  # once forward, once again on the way back
    assert torch.equal(again, loss)
    assert reached(plain) == set(plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-6)
