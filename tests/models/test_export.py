"""Exports come back bit for bit, whole or not at all, and drop nothing that does something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from remind.errors import CheckpointError
from remind.models import CausalVideoDiT, DiTConfig, export, export_diffusers, export_wan, load_checkpoint
from remind.models.checkpoint_names import from_diffusers

from .make_checkpoints import random_model

CONFIGS = [
    DiTConfig(dim=48, ffn_dim=20, num_heads=2, num_layers=3, freq_dim=6, text_dim=4),
    DiTConfig(dim=128, ffn_dim=36, num_heads=8, num_layers=1, freq_dim=10, text_dim=6, in_channels=36),
    DiTConfig(dim=30, ffn_dim=21, num_heads=3, num_layers=2, freq_dim=8, text_dim=5, patch_hw=(1, 3), eps=1e-5),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["diffusers", "wan"])
@pytest.mark.parametrize("config", CONFIGS, ids=["heads of 24", "36 channels", "patch 1x3"])
def test_a_round_trip_is_bitwise(config: DiTConfig, kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_model(config).to(dtype)
    path = tmp_path / "new" / "place"
    export_diffusers(model, path) if kind == "diffusers" else export_wan(model, path)
    found, state = load_checkpoint(path, keep_extra_channels=True)
    assert found == config
    own = model.state_dict()
    assert set(state) == set(own)
    assert all(state[name].dtype == dtype and torch.equal(state[name], own[name]) for name in own)


def test_the_files_are_what_others_look_for(tmp_path: Path) -> None:
    model = random_model(CONFIGS[0])
    export_diffusers(model, tmp_path / "d")
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    config = json.loads((tmp_path / "d/config.json").read_text())
    assert config["_class_name"] == "WanTransformer3DModel"
    assert (config["num_attention_heads"], config["attention_head_dim"]) == (2, 24)
    export_wan(model, tmp_path / "w.safetensors")
    names = []
    for path in (tmp_path / "d/diffusion_pytorch_model.safetensors", tmp_path / "w.safetensors"):
        with safe_open(path, framework="pt") as f:
            assert f.metadata()["format"] == "pt"
            names.append(set(f.keys()))
    assert names[1] == set(model.state_dict())
    assert {from_diffusers(name) for name in names[0]} == names[1]


def test_silent_cameras_are_dropped_and_others_refused(tmp_path: Path) -> None:
    config = DiTConfig(**{**vars(CONFIGS[0]), "camera_mode": "full", "camera_hidden": 8})
    torch.manual_seed(0)
    model = CausalVideoDiT(config)  # the hidden layer of the phase MLP is not zero, but nothing comes through
    export_diffusers(model, tmp_path / "d")
    export_wan(model, tmp_path / "w")
    for path in (tmp_path / "d", tmp_path / "w"):
        found, state = load_checkpoint(path)
        assert found == CONFIGS[0]
        assert set(state) == {name for name in model.state_dict() if ".camera_" not in name}

    for name in ("camera_phase.mlp.2.bias", "camera_value.camera", "camera_output.feature"):
        model = CausalVideoDiT(config)
        with torch.no_grad():
            model.get_parameter(f"blocks.2.self_attn.{name}").view(-1)[-1] = 1e-8
        for write in (export_diffusers, export_wan):
            with pytest.raises(CheckpointError, match=rf"not zero.*blocks.2.self_attn.{name}.*save_checkpoint"):
                write(model, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("change", [{"rope_theta": 100.0}, {"rope_grid_scale": 4.0}], ids=str)
def test_rotary_phases_that_others_cannot_be_told_of_are_refused(change: dict[str, float], tmp_path: Path) -> None:
    model = CausalVideoDiT(DiTConfig(**{**vars(CONFIGS[0]), **change}))
    for write in (export_diffusers, export_wan):
        with pytest.raises(CheckpointError, match=f"{next(iter(change))}.*save_checkpoint"):
            write(model, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_an_export_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = random_model(CONFIGS[0], seed=1)
    export_wan(old, tmp_path / "w.safetensors")

    def full_disk(state: object, file: str, metadata: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(export, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        export_wan(random_model(CONFIGS[0], seed=2), tmp_path / "w.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    assert torch.equal(load_checkpoint(tmp_path)[1]["head.head.bias"], old.state_dict()["head.head.bias"])


def test_an_export_replaces_its_like_but_joins_no_other_weights(tmp_path: Path) -> None:
    for seed in (1, 2):
        export_diffusers(random_model(CONFIGS[0], seed), tmp_path)
    expected = random_model(CONFIGS[0], 2).state_dict()["head.head.bias"]
    assert torch.equal(load_checkpoint(tmp_path)[1]["head.head.bias"], expected)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds other weights"):
        export_diffusers(random_model(CONFIGS[0], 3), tmp_path)
