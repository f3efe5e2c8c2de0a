"""What a checkpoint's config states must be known, possible and true of its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from remind.errors import CheckpointError, RemindError
from remind.models import DiTConfig, load_checkpoint
from remind.models.checkpoint import save_checkpoint

from .make_checkpoints import State, random_state, wan_config

CONFIG = DiTConfig(dim=48, ffn_dim=20, num_heads=4, num_layers=2, freq_dim=6, text_dim=4, text_len=9)
DIFFUSERS = {"_class_name": "WanTransformer3DModel", "num_attention_heads": 4, "attention_head_dim": 12}


@pytest.fixture(scope="module")
def state() -> State:
    return random_state(CONFIG)


def write(folder: Path, state: State, config: object) -> Path:
    save_file(state, folder / "w.safetensors")
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_a_file_is_told_by_the_config_beside_it(state: State, tmp_path: Path) -> None:
    assert load_checkpoint(write(tmp_path, state, wan_config(CONFIG)) / "w.safetensors")[0] == CONFIG


@pytest.mark.parametrize("change", [{"dim": 96}, {"ffn_dim": 21}, {"in_dim": 20}, {"out_dim": 20}, {"freq_dim": 8},
                                    {"patch_size": [1, 1, 2]}], ids=str)
def test_a_config_of_other_weights_is_found_out(change: dict[str, Any], state: State, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the weights and the checkpoint's config.json disagree; got"):
        load_checkpoint(write(tmp_path, state, wan_config(CONFIG) | change))


@pytest.mark.parametrize("change", [{"qk_norm": False}, {"cross_attn_norm": False}, {"window_size": [4, 4]},
                                    {"patch_size": [2, 2, 2]}, {"patch_size": 2}, {"dim": "48"}, {"num_layers": True},
                                    {"eps": None}], ids=str)
def test_what_this_model_cannot_be_is_said(change: dict[str, Any], state: State, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"asks for a model that this is not.*{next(iter(change))}"):
        load_checkpoint(write(tmp_path, state, wan_config(CONFIG) | change))


@pytest.mark.parametrize("change", [{"num_heads": 7}, {"num_heads": 0}, {"num_layers": 0}, {"num_layers": 10**12}],
                         ids=str)
def test_impossible_numbers_are_errors_of_ours(change: dict[str, Any], state: State, tmp_path: Path) -> None:
    with pytest.raises(RemindError):
        load_checkpoint(write(tmp_path, state, wan_config(CONFIG) | change))


def test_a_block_number_without_bound_builds_no_model(state: State, tmp_path: Path) -> None:
    save_file({**state, "blocks.999999999.modulation": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"fewer tensors than layers|no way to know"):
        load_checkpoint(tmp_path / "w")
    (tmp_path / "config.json").write_text(json.dumps(DIFFUSERS))
    with pytest.raises(CheckpointError, match="fewer tensors than layers"):
        load_checkpoint(tmp_path / "w")


@pytest.mark.parametrize("config", [{"_class_name": "SkyReelsV2Transformer3DModel"}, {}, {"format": "other"}], ids=str)
def test_a_folder_of_another_family_is_said_and_its_file_can_be_named(
    config: dict[str, Any], state: State, tmp_path: Path
) -> None:
    folder = write(tmp_path, state, config)
    with pytest.raises(CheckpointError, match="no model of the Wan family"):
        load_checkpoint(folder)
    assert set(load_checkpoint(folder / "w.safetensors", CONFIG)[1]) == set(state)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_config_is_said(text: str, state: State, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is (damaged|of another format)"):
        load_checkpoint(write(tmp_path, state, text))


def test_diffusers_must_tell_heads(state: State, tmp_path: Path) -> None:
    assert load_checkpoint(write(tmp_path, state, DIFFUSERS))[0].num_heads == 4
    with pytest.raises(CheckpointError, match="attention_head_dim"):
        load_checkpoint(write(tmp_path, state, {"_class_name": "WanTransformer3DModel"}))


def test_a_given_config_may_differ_where_weights_do_not_care(state: State, tmp_path: Path) -> None:
    folder = write(tmp_path, state, wan_config(CONFIG))
    given = DiTConfig(**{**vars(CONFIG), "text_len": 4, "max_trained_distance": 20})
    assert load_checkpoint(folder, given)[0] == given
    for change in ({"num_heads": 2}, {"eps": 1e-5}):  # shapes would not tell
        with pytest.raises(CheckpointError, match=f"given config.*disagree.*{next(iter(change))}"):
            load_checkpoint(folder, DiTConfig(**{**vars(CONFIG), **change}))


def test_a_run_without_cameras_may_be_given_cameras_but_no_other_rotary_base(state: State, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, CONFIG, state, {})
    cameras = DiTConfig(**{**vars(CONFIG), "camera_mode": "full", "camera_hidden": 8, "phase_pairs": "temporal"})
    assert set(load_checkpoint(tmp_path, cameras)[1]) > set(state)
    with pytest.raises(CheckpointError, match="rope_theta"):
        load_checkpoint(tmp_path, DiTConfig(**{**vars(CONFIG), "rope_theta": 100.0}))


def test_weights_without_the_tensors_that_tell_are_said(state: State, tmp_path: Path) -> None:
    save_file({"head.head.bias": state["head.head.bias"]}, tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"does not tell.*'dim', 'ffn_dim'.*'text_dim'"):
        load_checkpoint(tmp_path / "w")
    save_file({"patch_embedding.weight": torch.zeros(128, 16, 2, 2, 2)}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="patches span several latent frames"):
        load_checkpoint(tmp_path / "w")
