"""Components: whatever a checkpoint is, it comes with the codec and the text encoder that it was made for."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from remind.errors import CheckpointError, GraphError, InputError
from remind.inference.components import SHIPPED, Components, checkpoint_hash, load_components
from remind.inference.placement import Placement
from remind.models.checkpoint import save_checkpoint
from remind.models.codec import LinearCodec
from remind.models.export import export_wan
from remind.models.text import WordHashEncoder
from remind.models.umt5 import UMT5Encoder
from remind.models.vae import WanVAE

from ..make_memory import TINY, filled_model
from ..models.make_checkpoints import random_model, write_shards, write_wan
from ..models.make_pipeline import WAN, make_base, make_pipeline

CPU = Placement(device="cpu")


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan") / "pipeline"
    make_pipeline(folder)
    return folder


@pytest.fixture(scope="module")
def vae_digest(wan: Path) -> str:
    return WanVAE.from_pretrained(wan).digest


def load(source: str | Path, **options: Any) -> Components:
    return load_components(source, placement=options.pop("placement", CPU), **options)


def write_run(folder: Path, **about: Any) -> Path:
    """What `remind train` leaves; by default of a run on Wan latents."""
    train = {"hw": [16, 32], "num_frames": 69, "encoders": "wan"}
    save_checkpoint(folder, WAN, random_model(WAN).state_dict(), {"train": train, "licence": "CC0", **about})
    return folder


def generate_a_little(parts: Components) -> torch.Tensor:
    """A pass of the model and a decoded chunk: parts that fit each other."""
    height, width = parts.facts.hw
    z = parts.codec.encode(torch.zeros(1, 9, height, width, 3, dtype=torch.uint8))
    with torch.no_grad():
        velocity = parts.model(z, torch.ones(1, 3), torch.arange(3.0)[None], parts.text(["a red jug"]))
    return parts.codec.stream().push(z - velocity)


# --- what is recognised --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_names_come_with_the_embedded_parts(name: str) -> None:
    parts = load(name)
    assert isinstance(parts.codec, LinearCodec)
    assert isinstance(parts.text, WordHashEncoder)
    assert (parts.facts.hw, parts.facts.num_frames, parts.facts.base) == ((32, 32), 81, None)
    assert parts.facts.licence.startswith("Apache-2.0")
    assert parts.config["train"]["hw"] == [32, 32]
    assert generate_a_little(parts).shape == (1, 9, 32, 32, 3)


def test_cameras_are_folded_and_change_nothing(tmp_path: Path) -> None:
    model = filled_model()
    about = {"train": {"hw": [16, 16]}, "codec": LinearCodec.load().digest}
    save_checkpoint(tmp_path, TINY, model.state_dict(), about)
    folded = load(tmp_path).model
    assert folded.blocks[0].self_attn.camera_value.is_folded
    cameras = torch.zeros(1, 3, 14)
    cameras[..., [0, 4, 8]] = 1
    inputs = (torch.randn(1, 3, 16, 2, 2), torch.ones(1, 3), torch.arange(3.0)[None], torch.randn(1, 16, 8), cameras)
    with torch.no_grad():
        torch.testing.assert_close(folded(*inputs), model(*inputs), atol=1e-4, rtol=1e-4)


def test_a_pipeline_folder_holds_all_parts(wan: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        parts = load(wan, hw=(16, 32), num_frames=33)
    expected = random_model(WAN).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in parts.model.state_dict().items())
    assert isinstance(parts.codec, WanVAE)
    assert isinstance(parts.text, UMT5Encoder)
    assert (parts.facts.base, parts.facts.hw, parts.facts.num_frames) == (wan, (16, 32), 33)
    assert parts.facts.licence == "apache-2.0"
    assert f"{wan}: licence: apache-2.0" in caplog.text
    assert generate_a_little(parts).shape == (1, 9, 16, 32, 3)
    assert not parts.model.training


def test_its_transformer_alone_finds_the_parts_around_it(wan: Path) -> None:
    parts = load(wan / "transformer")
    assert parts.facts.base == wan
    assert (parts.facts.hw, parts.facts.num_frames) == ((480, 832), 81)


@pytest.mark.parametrize("kind", ["wan", "shards", "file", "generator"])
def test_other_layouts_take_a_base(kind: str, wan: Path, tmp_path: Path) -> None:
    model = random_model(WAN, seed=3)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    source = tmp_path / "it"
    if kind == "wan":
        write_wan(source, WAN, state)
    elif kind == "shards":
        write_shards(source, state)
        (source / "config.json").write_text((write_wan(tmp_path / "other", WAN, state) / "config.json").read_text())
    elif kind == "file":
        source = tmp_path / "it.safetensors"
        export_wan(model, source)
    else:
        source.mkdir()
        torch.save({"generator_ema": {f"model.{name}": tensor for name, tensor in state.items()}}, source / "it.pt")
        (source / "config.json").write_text((write_wan(tmp_path / "other", WAN, state) / "config.json").read_text())
    parts = load(source, base=wan)
    assert all(torch.equal(value, state[name]) for name, value in parts.model.state_dict().items())
    assert parts.facts.base == wan
    with pytest.raises(CheckpointError, match=r"needs a Wan VAE and a text encoder.*no base\. Fix: name a local Wan"):
        load(source)


def test_a_run_on_wan_latents_takes_the_base_whose_vae_made_them(wan: Path, vae_digest: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", codec=vae_digest)
    parts = load(run, base=wan)
    assert (parts.facts.hw, parts.facts.num_frames, parts.facts.licence) == ((16, 32), 69, "CC0")
    assert parts.config["train"]["encoders"] == "wan"
    assert generate_a_little(parts).shape == (1, 9, 16, 32, 3)
    with pytest.raises(CheckpointError, match="needs a Wan VAE"):
        load(run)
    with pytest.raises(CheckpointError, match=rf"another codec; got {'0' * 16}; expected {vae_digest}.*name the base"):
        load(write_run(tmp_path / "other", codec="0" * 16), base=wan)


def test_another_size_than_trained_is_said(tmp_path: Path, wan: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = write_run(tmp_path)
    parts = load(run, base=wan, hw=(32, 32))
    assert (parts.facts.hw, parts.facts.num_frames) == ((32, 32), 69)
    assert "trained at another frame size: (16, 32), not (32, 32)" in caplog.text


def test_bf16_weights_are_rounded_after_folding(tmp_path: Path) -> None:
    model = filled_model()
    save_checkpoint(tmp_path, TINY, model.state_dict(), {"train": {"hw": [16, 16]}})
    half = load(tmp_path, placement=Placement(device="cpu", dtype="bf16")).model
    value = load(tmp_path).model.blocks[0].self_attn.v.weight
    assert torch.equal(half.blocks[0].self_attn.v.weight, value.to(torch.bfloat16))


# --- hashes --------------------------------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_file(wan: Path, tmp_path: Path) -> None:
    file = wan / "transformer" / "diffusion_pytorch_model.safetensors"
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert checkpoint_hash(file) == checkpoint_hash(file.parent) == expected
    assert load(wan).facts.checkpoint_hash == expected
    copy = tmp_path / "copy.safetensors"
    shutil.copy(file, copy)
    assert checkpoint_hash(copy) == expected
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert checkpoint_hash(copy) != expected


def test_every_shard_is_in_the_hash(wan: Path, tmp_path: Path) -> None:
    state = load_file(wan / "transformer" / "diffusion_pytorch_model.safetensors")
    index = write_shards(tmp_path, state)
    before = checkpoint_hash(tmp_path)
    assert checkpoint_hash(index) == before
    last = sorted(tmp_path.glob("*.safetensors"))[-1]
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)
    assert checkpoint_hash(tmp_path) != before


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["vae", "text_encoder", "tokenizer"])
def test_a_base_with_a_part_missing_is_named(missing: str, wan: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    shutil.rmtree(base / missing)
    with pytest.raises(CheckpointError, match=r"there is no .*(base|vae|text_encoder|tokenizer)") as error:
        load(wan / "transformer", base=base)
    assert len(str(error.value).splitlines()) == 1
    assert "diffusers layout" in str(error.value)


def test_parts_that_do_not_belong_together_are_refused(wan: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"goes with the embedded codec.*leave the base out"):
        load("nano", base=wan)
    with pytest.raises(CheckpointError, match=r"no such base folder"):
        load(wan / "transformer", base=tmp_path / "nowhere")
    other = replace(WAN, text_dim=20)
    write_wan(tmp_path / "other", other, random_model(other).state_dict())
    with pytest.raises(CheckpointError, match=r"text encoder does not fit.*got embeddings of 32; expected 20"):
        load(tmp_path / "other", base=wan)
    wide = replace(WAN, in_channels=48, out_channels=48)
    write_wan(tmp_path / "wide", wide, random_model(wide).state_dict())
    with pytest.raises(CheckpointError, match=r"another kind.*48 channels in"):
        load(tmp_path / "wide", base=wan)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such checkpoint.*nano-base"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load(tmp_path)


def test_sizes_and_lengths_that_do_not_fit_are_refused(wan: Path) -> None:
    for hw in ((24, 32), (32, 40), (0, 32), (-16, 32)):
        with pytest.raises(InputError, match=r"does not split into patches.*multiples of 16 and 16 px"):
            load(wan, hw=hw)
    for frames in (80, 85):
        with pytest.raises(GraphError, match=r"1 \+ 4k|whole chunks"):
            load(wan, num_frames=frames)


def test_a_run_of_another_embedded_codec_is_refused(tmp_path: Path) -> None:
    train = {"hw": [16, 16], "num_frames": 81}
    save_checkpoint(tmp_path, TINY, filled_model().state_dict(), {"train": train, "codec": "f" * 16})
    with pytest.raises(CheckpointError, match=r"another codec.*version of remind"):
        load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["codec"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert isinstance(load(tmp_path).codec, LinearCodec)
