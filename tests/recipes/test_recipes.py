"""Recipes are whole configurations; twins and ablations differ from their base in one thing."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from remind.errors import InputError
from remind.models.dit import CausalVideoDiT
from remind.recipes import ABLATED, RECIPES, recipe
from remind.recipes.ablations import TABLE_6
from remind.training.config import TrainConfig
from remind.training.curriculum import BALANCED, I2V_ALIGNED, V2V_HEAVY
from remind.world import FAMILIES


def differing(a: TrainConfig, b: TrainConfig) -> set[str]:
    return {field.name for field in fields(TrainConfig) if getattr(a, field.name) != getattr(b, field.name)}


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_is_whole_and_splits_over_its_processes(name: str) -> None:
    config = recipe(name)
    json.dumps(config.to_json())
    assert config.bank_size or config.data
    assert config.batch_size % RECIPES[name].world_size == 0
    if config.encoders == "wan":
        assert all(part.latents is not None for part in config.data)
        assert (config.bank_size, config.hw, config.num_frames) == (0, (480, 832), 81)
        assert sum(part.weight for part in recipe("wan_full").data) == pytest.approx(1)


@pytest.mark.parametrize("size", ["nano", "tiny"])
def test_twins_differ_in_what_the_comparison_is_about(size: str) -> None:
    base, matched, remind = recipe(f"{size}-base"), recipe(f"{size}-matched"), recipe(size)
    assert differing(remind, matched) == {"arm", "curriculum"}
    assert differing(matched, base) == {"arm", "model", "regime"}
    assert replace(matched.model, camera_mode="none") == base.model


def test_the_production_mixes_are_the_papers() -> None:
    i2v, v2v, full = recipe("wan_i2v"), recipe("wan_v2v"), recipe("wan_full")
    assert (i2v.curriculum, v2v.curriculum, full.curriculum) == (I2V_ALIGNED, V2V_HEAVY, BALANCED)
    assert differing(i2v, v2v) == {"recipe", "curriculum"}
    assert differing(v2v, full) == {"recipe", "curriculum", "steps", "batch_size"}
    assert [RECIPES[name].world_size for name in ("wan_i2v", "wan_v2v", "wan_full")] == [32, 32, 64]
    for config in (i2v, v2v, full):
        assert (config.precision, config.optimizer, config.execution.recompute) == ("bf16", "adamw", True)
        assert (config.loss.alpha, config.loss.gamma, config.loss.gate_steps) == (0.2, 5.0, 2000)


@pytest.mark.parametrize("name", ["wan_i2v", "wan_v2v", "wan_full"])
def test_one_gpu_trains_adapters_on_the_same_thing(name: str) -> None:
    large, small = recipe(name), recipe(f"{name}_lora")
    assert small.lora is not None
    assert RECIPES[f"{name}_lora"].world_size == 1
    assert {"model", "hw", "data", "curriculum", "init_from", "encoders"}.isdisjoint(differing(large, small))


@pytest.mark.parametrize("size", ABLATED)
def test_an_ablation_changes_one_thing(size: str) -> None:
    base = recipe(size)
    for mode in ("none", "qk", "vo", "full", "dual"):
        row = recipe(f"{size}-table3-{mode}")
        assert row.recipe == f"{size}-table3-{mode}"
        assert row == replace(base, recipe=row.recipe, model=replace(base.model, camera_mode=mode))
        CausalVideoDiT.empty(row.model)
    for variant in ("flow_only", "dynamic", "dynamic_adaptive"):
        row = recipe(f"{size}-table4-{variant}")
        assert row == replace(base, recipe=row.recipe, loss=replace(base.loss, variant=variant))
    rows = [recipe(f"{size}-table6-{row}") for row in TABLE_6]
    for row in rows:
        assert differing(row, base) <= {"recipe", "data", "world_families", "world_kinds"}
    assert differing(rows[-1], base) == {"recipe"}


def test_rows_of_table_6_add_data_and_take_none_away() -> None:
    worlds = [recipe(f"nano-table6-{row}") for row in TABLE_6]
    families = [set(config.world_families or FAMILIES) for config in worlds]
    kinds = [set(config.world_kinds) for config in worlds]
    assert families[0] < families[1] < families[2] == set(FAMILIES)
    assert kinds[0] < kinds[1] == kinds[2]
    stores = [[part.store.name for part in recipe(f"wan_v2v-table6-{row}").data] for row in TABLE_6]
    assert stores == [["openvid", "dl3dv"], ["openvid", "dl3dv", "pexels", "loops"],
                      ["openvid", "dl3dv", "pexels", "loops", "generated"]]  # fmt: skip


def test_an_unknown_recipe_is_answered_with_those_that_are_near() -> None:
    with pytest.raises(InputError, match=r"unknown recipe; got wan_v2; expected .*wan_v2v.*--help"):
        recipe("wan_v2")
    with pytest.raises(InputError, match=r"expected nano \| tiny \| wan_i2v"):
        recipe("zzz")
