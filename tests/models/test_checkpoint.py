"""Checkpoints come back bit for bit, and whatever does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from remind.errors import CheckpointError, RemindError
from remind.models.checkpoint import load_run, load_strictly, save_checkpoint
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT

from .conftest import make_inputs


@pytest.fixture
def folder(model: CausalVideoDiT, config: DiTConfig, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "run", config, model.state_dict(), {"steps_done": 7, "train": {"hw": [32, 48]}})
    return tmp_path / "run"


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@torch.no_grad()
def test_a_round_trip_is_bitwise(model: CausalVideoDiT, config: DiTConfig, folder: Path) -> None:
    again, about = load_run(folder)
    assert again.config == config
    assert not again.training
    assert about["steps_done"] == 7
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    x = make_inputs(config)
    assert torch.equal(again(**x), model(**x))


def test_nothing_is_left_lying_beside_the_two_files(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_every_key_that_does_not_fit_is_named(model: CausalVideoDiT) -> None:
    state = dict(model.state_dict())
    before = {k: v.clone() for k, v in state.items()}
    for key in ("head.head.bias", "blocks.1.norm3.weight"):
        del state[key]
    state |= {"extra.one": torch.zeros(1), "extra.two": torch.zeros(1)}
    state["patch_embedding.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as error:
        load_strictly(model, state)
    for name in ("head.head.bias", "blocks.1.norm3.weight", "extra.one", "extra.two",
                 r"patch_embedding.bias (3,) != (48,)"):
        assert name in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())  # nothing was loaded halfway


def test_a_checkpoint_of_another_size_is_refused_by_name(folder: Path, config: DiTConfig) -> None:
    edit_config(folder, model={**config.to_json(), "num_layers": 4})
    with pytest.raises(CheckpointError, match=r"missing \['blocks.3"):
        load_run(folder)


@pytest.mark.parametrize("size", [0, 5, 200, 5000])
def test_a_truncated_file_is_damaged(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged"):
        load_run(folder)


@pytest.mark.parametrize("text", ["", "{", '{"format": '])
def test_a_damaged_config_is_said(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load_run(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "remind-checkpoint-1"}', '{"format": "other", "model": {}}'])
def test_another_format_is_said(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="another format"):
        load_run(folder)


def test_unknown_and_missing_config_fields_are_named(folder: Path, config: DiTConfig) -> None:
    edit_config(folder, model={**config.to_json(), "sparkle": 1})
    with pytest.raises(CheckpointError, match=r"unknown fields.*sparkle"):
        load_run(folder)
    edit_config(folder, model={k: v for k, v in config.to_json().items() if k != "ffn_dim"})
    with pytest.raises(CheckpointError, match=r"incomplete.*ffn_dim"):
        load_run(folder)


def test_impossible_config_values_are_errors_of_ours(folder: Path, config: DiTConfig) -> None:
    for change in ({"num_heads": 7}, {"num_heads": 0}, {"dim": "wide"}):
        edit_config(folder, model={**config.to_json(), **change})
        with pytest.raises(RemindError):
            load_run(folder)


def test_what_is_no_checkpoint_folder_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint folder.*config.json"):
        load_run(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint folder.*model.safetensors"):
        load_run(folder)


def test_a_config_survives_json() -> None:
    config = DiTConfig.preset("nano", patch_hw=(1, 2), max_trained_distance=20, camera_mode="full")
    assert DiTConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
