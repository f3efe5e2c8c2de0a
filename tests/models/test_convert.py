"""Any checkpoint of the Wan family comes in bit for bit, and what does not fit is named."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from remind.errors import CheckpointError
from remind.models import CausalVideoDiT, DiTConfig, export_wan, load_checkpoint
from remind.models.checkpoint import save_checkpoint
from remind.models.convert import expected_shapes, new_parameters

from .conftest import make_inputs
from .make_checkpoints import (
    WRAPS,
    State,
    diffusers_names,
    random_model,
    random_state,
    wan_config,
    wrapped,
    write_shards,
    write_wan,
)

# Odd widths, depths, patches and channels; the first has heads of 128, which Wan's weights alone tell.
CONFIGS = [
    DiTConfig(dim=128, ffn_dim=36, num_heads=1, num_layers=2, freq_dim=10, text_dim=6),
    DiTConfig(dim=40, ffn_dim=56, num_heads=5, num_layers=3, freq_dim=16, text_dim=20, text_len=7, patch_hw=(1, 2)),
    DiTConfig(dim=18, ffn_dim=50, num_heads=1, num_layers=1, freq_dim=4, text_dim=3, in_channels=48, out_channels=48,
              eps=1e-5),
]
CONFIG = CONFIGS[0]


def assert_same(state: State, expected: State) -> None:
    assert set(state) == set(expected)
    assert [name for name in expected if not torch.equal(state[name], expected[name])] == []


@pytest.mark.parametrize("config", CONFIGS, ids=["heads of 128", "patch 1x2", "48 channels"])
def test_wan_folders_come_in_bit_for_bit(config: DiTConfig, tmp_path: Path) -> None:
    state = random_state(config)
    found, loaded = load_checkpoint(write_wan(tmp_path / "wan", config, state))
    if config.patch_hw == (2, 2):  # and here it is read off the weights
        assert wan_config(config).get("patch_size") is None
    assert found == config
    assert_same(loaded, state)
    write_shards(tmp_path / "sharded", state)
    (tmp_path / "sharded/config.json").write_text(json.dumps(wan_config(config)))
    found, loaded = load_checkpoint(str(tmp_path / "sharded"))
    assert found == config
    assert_same(loaded, state)


def test_wan_files_alone_suffice_with_heads_of_128(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    save_file(state, tmp_path / "anything.bin")  # the content counts
    index = write_shards(tmp_path / "shards", state)
    for path in (tmp_path / "anything.bin", index, index.parent):
        config, loaded = load_checkpoint(path)
        assert config == CONFIG
        assert_same(loaded, state)


def test_other_heads_must_be_told(tmp_path: Path) -> None:
    config = CONFIGS[1]
    state = random_state(config)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"no way to know \['num_heads'\].*pass config"):
        load_checkpoint(tmp_path / "w.safetensors")
    found, loaded = load_checkpoint(tmp_path / "w.safetensors", config)
    assert found is config
    assert_same(loaded, state)


@pytest.mark.parametrize("place", ["file", "folder", "pipeline"])
def test_diffusers_comes_in_bit_for_bit(place: str, tmp_path: Path) -> None:
    state = random_state(CONFIG)
    folder = tmp_path / "transformer" if place == "pipeline" else tmp_path
    write_shards(folder, diffusers_names(state), count=2)
    (folder / "config.json").write_text(json.dumps({
        "_class_name": "WanTransformer3DModel", "num_attention_heads": 4, "attention_head_dim": 32, "in_channels": 16,
        "ffn_dim": 36, "num_layers": 2, "freq_dim": 10, "text_dim": 6, "out_channels": None, "patch_size": [1, 2, 2]}))
    path = folder / "weights.safetensors.index.json" if place == "file" else tmp_path
    config, loaded = load_checkpoint(path)
    assert config == DiTConfig(**{**vars(CONFIG), "num_heads": 4})  # the config's word, not 128
    assert_same(loaded, state)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_self_forcing_comes_in_bit_for_bit(wrap: str, legacy: bool, tmp_path: Path) -> None:
    raw, averaged = random_state(CONFIG, 1), random_state(CONFIG, 2)
    names = WRAPS[wrap]
    path = tmp_path / "model.safetensors"  # a name proves nothing
    torch.save({"generator": wrapped(raw, names), "generator_ema": wrapped(averaged, names),
                "critic": {"w": torch.zeros(1)}, "step": 600}, path, _use_new_zipfile_serialization=not legacy)
    for weights, expected in ((None, averaged), ("ema", averaged), ("raw", raw)):
        config, loaded = load_checkpoint(path, weights=weights)
        assert config == CONFIG
        assert_same(loaded, expected)


def test_weights_that_are_not_there_are_said(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    torch.save({"generator": state}, tmp_path / "raw.pt")
    torch.save({"generator_ema": state}, tmp_path / "ema.pt")
    torch.save(state, tmp_path / "plain.pt")
    save_file(state, tmp_path / "plain.safetensors")
    index = write_shards(tmp_path / "shards", state)
    for name in ("raw.pt", "ema.pt", "plain.pt"):
        assert_same(load_checkpoint(tmp_path / name)[1], state)
    for path, weights in (("raw.pt", "ema"), ("ema.pt", "raw"), ("plain.pt", "ema"), ("plain.safetensors", "ema"),
                          (index, "ema")):
        with pytest.raises(CheckpointError, match=f"no {weights} weights"):
            load_checkpoint(tmp_path / path, weights=weights)


@torch.no_grad()
def test_inspatio_is_cut_to_sixteen_channels_exactly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wide = DiTConfig(**{**vars(CONFIG), "in_channels": 36})
    model = random_model(wide)
    folder = write_wan(tmp_path / "w", wide, dict(model.state_dict()))
    config, state = load_checkpoint(folder)
    assert config == CONFIG
    assert "cut from 36 to 16" in caplog.text
    narrow = CausalVideoDiT(config).eval()
    narrow.load_state_dict(state)
    x = make_inputs(CONFIG, chunks=2)
    del x["cameras"]
    x["text"] = x["text"][:, :, :9]
    padded = {**x, "latents": torch.cat([x["latents"], torch.zeros(2, 6, 20, 4, 6)], 2)}
    assert (narrow(**x) - model(**padded)).abs().max() < 1e-5
    assert load_checkpoint(folder, CONFIG)[0] == CONFIG

    for config, state in (load_checkpoint(folder, keep_extra_channels=True), load_checkpoint(folder, wide)):
        assert config == wide
        assert_same(state, dict(model.state_dict()))
    with pytest.raises(CheckpointError, match="in_channels 16 != 36"):
        load_checkpoint(folder, CONFIG, keep_extra_channels=True)


def test_our_own_folder_comes_in_with_its_config(model: CausalVideoDiT, config: DiTConfig, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run", config, model.state_dict(), {"steps_done": 3})
    (tmp_path / "run/state.pt").write_bytes(b"a trainer's state is none of our business")
    for path in (tmp_path / "run", tmp_path / "run/model.safetensors"):
        found, state = load_checkpoint(path)
        assert found == config
        assert_same(state, dict(model.state_dict()))


@pytest.mark.parametrize("diffusers", [False, True], ids=["wan", "diffusers"])
def test_every_key_that_does_not_fit_is_named(diffusers: bool, tmp_path: Path) -> None:
    state = random_state(CONFIG)
    del state["blocks.1.norm3.weight"], state["head.head.bias"]
    state |= {"vace_blocks.0.weight": torch.zeros(2), "patch_embedding.bias": torch.zeros(3)}
    extra = state.pop("vace_blocks.0.weight")
    save_file({**(diffusers_names(state) if diffusers else state), "vace_blocks.0.weight": extra}, tmp_path / "w")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path / "w")
    for part in ("missing ['blocks.1.norm3.weight', 'head.head.bias']", "unexpected ['vace_blocks.0.weight']",
                 "other shapes ['patch_embedding.bias (3,) != (128,)']"):
        assert part in str(error.value)


def test_a_lost_last_block_is_missed_where_a_config_tells_of_it(tmp_path: Path) -> None:
    state = {name: t for name, t in random_state(CONFIG).items() if not name.startswith("blocks.1.")}
    with pytest.raises(CheckpointError, match=r"missing \['blocks.1.cross_attn.k.bias'"):
        load_checkpoint(write_wan(tmp_path / "w", CONFIG, state))


@pytest.mark.parametrize("name", ["img_emb.proj.1.weight", "blocks.0.cross_attn.k_img.weight",
                                  "blocks.1.attn2.add_k_proj.weight"])
def test_image_models_are_named_as_such(name: str, tmp_path: Path) -> None:
    save_file({**random_state(CONFIG), name: torch.zeros(2)}, tmp_path / "w")
    with pytest.raises(CheckpointError, match=rf"image-to-video \(CLIP\).*{name}"):
        load_checkpoint(tmp_path / "w")


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    save_file({**state, "model.head.head.bias": state["head.head.bias"].clone()}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="one name"):
        load_checkpoint(tmp_path / "w")


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    state["blocks.0.ffn.0.weight"] = torch.zeros_like(state["blocks.0.ffn.0.weight"], dtype=torch.int8)
    save_file(state, tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"quantised.*blocks.0.ffn.0.weight: torch.int8"):
        load_checkpoint(tmp_path / "w")


@torch.no_grad()
def test_cameras_that_a_file_lacks_start_at_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = random_model(CONFIG)
    with_cameras = DiTConfig(**{**vars(CONFIG), "camera_mode": "full", "camera_hidden": 12})
    folder = write_wan(tmp_path / "w", CONFIG, dict(plain.state_dict()))
    global_state = torch.get_rng_state()
    with caplog.at_level(logging.INFO, "remind.models.convert"):
        found, state = load_checkpoint(folder, with_cameras)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert found is with_cameras
    new = set(expected_shapes(with_cameras)) - set(expected_shapes(CONFIG))
    assert len(new) == 2 * 8
    assert all(name in caplog.text for name in new)
    assert_same(load_checkpoint(folder, with_cameras)[1], state)  # the same every time

    model = CausalVideoDiT(with_cameras).eval()
    model.load_state_dict(state)
    x = make_inputs(CONFIG, chunks=2)
    x["text"] = x["text"][:, :, :9]
    without = {k: v for k, v in x.items() if k != "cameras"}
    assert torch.equal(model(**x), plain(**without))
    # The phase MLP can learn: only its last layer is zero, and no two layers start alike.
    hidden = [state[f"blocks.{n}.self_attn.camera_phase.mlp.0.weight"] for n in (0, 1)]
    assert all(w.abs().max() > 0 for w in hidden)
    assert not torch.equal(*hidden)
    assert all(not state[name].any() for name in new if ".mlp.0." not in name)


@pytest.mark.parametrize(
    "mode", [{"camera_mode": "qk"}, {"camera_mode": "vo"}, {"camera_mode": "vo", "vo_transform": "prope"},
             {"camera_mode": "full", "vo_transform": "prope"}, {"camera_mode": "dual"}],
)  # fmt: skip
@torch.no_grad()
def test_weights_without_cameras_load_into_every_camera_mode(mode: dict, tmp_path: Path) -> None:
    plain = random_model(CONFIG)
    with_cameras = DiTConfig(**{**vars(CONFIG), **mode, "camera_hidden": 12})
    folder = write_wan(tmp_path / "w", CONFIG, dict(plain.state_dict()))
    model = CausalVideoDiT(with_cameras).eval()
    model.load_state_dict(load_checkpoint(folder, with_cameras)[1])
    x = make_inputs(CONFIG, chunks=2)
    x["text"] = x["text"][:, :, :9]
    without = plain(**{k: v for k, v in x.items() if k != "cameras"})
    assert (model(**x) - without).abs().max() < 1e-5
    export_wan(model, tmp_path / "again.safetensors")  # cameras that do nothing are left out
    assert_same(load_checkpoint(tmp_path / "again.safetensors")[1], dict(plain.state_dict()))


def test_new_parameters_do_not_depend_on_what_else_is_there(model: CausalVideoDiT, config: DiTConfig) -> None:
    whole = {name: t.half() for name, t in model.state_dict().items()}
    assert new_parameters(config, whole) == {}
    trunk = {name: t for name, t in whole.items() if ".camera_" not in name}
    fresh = new_parameters(config, trunk)
    assert set(trunk) | set(fresh) == set(whole)
    assert {t.dtype for t in fresh.values()} == {torch.float16}
    one_gone = {name: t for name, t in whole.items() if "blocks.2.self_attn.camera_phase" not in name}
    again = new_parameters(config, one_gone)
    assert set(again) == set(whole) - set(one_gone)
    assert all(torch.equal(again[name], fresh[name]) for name in again)
    other = new_parameters(config, trunk, seed=1)
    assert not torch.equal(other["blocks.0.self_attn.camera_phase.mlp.0.weight"],
                           fresh["blocks.0.self_attn.camera_phase.mlp.0.weight"])
    with pytest.raises(CheckpointError, match="no trunk"):
        new_parameters(config, {})


def test_half_a_camera_module_is_damage(model: CausalVideoDiT, config: DiTConfig, tmp_path: Path) -> None:
    state = dict(model.state_dict())
    del state["blocks.0.self_attn.camera_value.camera"]
    save_file(state, tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"missing \['blocks.0.self_attn.camera_value.camera'\]"):
        load_checkpoint(tmp_path / "w", config)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_dtype_is_kept_or_converted(kind: str, tmp_path: Path) -> None:
    state = {name: t.bfloat16() for name, t in random_state(CONFIG).items()}
    path = tmp_path / "w"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    assert_same(load_checkpoint(path)[1], state)
    assert_same(load_checkpoint(path, dtype=torch.float32)[1], {name: t.float() for name, t in state.items()})


@pytest.mark.parametrize("kind", ["safetensors", "zip"])
def test_training_on_loaded_weights_does_not_reach_the_file(kind: str, tmp_path: Path) -> None:
    state = random_state(CONFIG)
    path = tmp_path / "w"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    before = path.read_bytes()
    for tensor in load_checkpoint(path)[1].values():
        tensor.add_(1)
    assert path.read_bytes() == before
    assert_same(load_checkpoint(path)[1], state)
