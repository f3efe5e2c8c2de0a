"""Who moves which weights, and how fast."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from remind.models.dit import CausalVideoDiT
from remind.training.config import TrainConfig
from remind.training.muon import Muon
from remind.training.optimizers import build_optimizers, rate_share, set_rates

from ..make_memory import TINY

CONFIG = TrainConfig(recipe="by_hand", arm="remind", model=TINY, hw=(16, 16), steps=110, warmup_steps=10,
                     learning_rate=2.0, muon_learning_rate=0.5)  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_weight_is_moved_by_exactly_one_optimizer(optimizer: str) -> None:
    model = CausalVideoDiT(replace(TINY, camera_mode="full"))
    optimizers = build_optimizers(model, replace(CONFIG, optimizer=optimizer))
    moved = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    assert len(moved) == len({id(p) for p in moved}) == len(list(model.parameters()))
    decayed = {id(p) for o in optimizers for g in o.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(p) for p in model.parameters() if p.ndim >= 2}


def test_muon_gets_the_blocks_matrices_and_nothing_else() -> None:
    model = CausalVideoDiT(replace(TINY, camera_mode="full"))
    muon = build_optimizers(model, replace(CONFIG, optimizer="muon"))[1]
    assert isinstance(muon, Muon)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    layers = [f"self_attn.{x}" for x in "qkvo"] + [f"cross_attn.{x}" for x in "qkvo"] + ["ffn.0", "ffn.2"]
    assert found == {f"blocks.{i}.{layer}.weight" for i in range(TINY.num_layers) for layer in layers}


def test_rates_warm_up_then_follow_a_cosine_to_a_twentieth() -> None:
    shares = [rate_share(CONFIG, step) for step in range(110)]
    assert shares[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(shares) == shares[9] == shares[10] == 1.0
    assert all(a > b for a, b in itertools.pairwise(shares[10:]))
    assert shares[60] == pytest.approx(0.05 + 0.95 / 2)
    assert rate_share(CONFIG, 110) == pytest.approx(0.05)
    assert math.isfinite(rate_share(replace(CONFIG, steps=5), 4))
    optimizers = build_optimizers(CausalVideoDiT(TINY), replace(CONFIG, optimizer="muon"))
    assert set_rates(optimizers, CONFIG, 4) == pytest.approx(1.0)
    assert [g["lr"] for o in optimizers for g in o.param_groups] == pytest.approx([1.0, 1.0, 0.25])
