"""Damaged, hostile and ambiguous files are refused in words, and nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from remind.errors import CheckpointError
from remind.models import DiTConfig, load_checkpoint

from .make_checkpoints import State, random_state, write_shards, write_wan

CONFIG = DiTConfig(dim=128, ffn_dim=20, num_heads=1, num_layers=1, freq_dim=6, text_dim=4)


@pytest.fixture(scope="module")
def state() -> State:
    return random_state(CONFIG)


class Hostile:
    """Pickled, it makes a file when it is read."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["bare pickle", "zip", "legacy", "inside generator"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(kind: str, state: State, tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-pickle"
    content = {**state, "head.head.bias": Hostile(target)}
    path = tmp_path / "model.pt"
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Hostile(target)))
    elif kind == "inside generator":
        torch.save({"generator": state, "generator_ema": content}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match=r"could run code.*ask its maker for safetensors"):
        load_checkpoint(path)
    assert not target.exists()
    with path.open("rb") as f:  # the trap does work: whoever reads it carelessly springs it
        torch.load(f, weights_only=False) if kind != "bare pickle" else pickle.load(f)
    assert target.exists()


@pytest.mark.parametrize("keep", [1, 7, 9, 300, -1])
@pytest.mark.parametrize("place", ["file", "folder", "shard"])
def test_truncated_safetensors_are_damaged(place: str, keep: int, state: State, tmp_path: Path) -> None:
    folder = write_wan(tmp_path / "w", CONFIG, state)
    path = file = folder / "diffusion_pytorch_model.safetensors"
    if place == "folder":
        path = folder
    elif place == "shard":
        path = write_shards(tmp_path / "shards", state)
        file = path.parent / "weights-00002-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [1, 4, 100, 5000, -1])
def test_truncated_pytorch_files_are_damaged(keep: int, legacy: bool, state: State, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"generator": state}, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(("content", "says"), [
    (b"", "is empty"),
    (b"hello, world", "no checkpoint"),
    (bytes(64), "no checkpoint"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    (b"{}", "index is damaged"),
    (b'{"weight_map": {"a": 3}}', "index is damaged"),
    (b'{"weight_map": ', "model is damaged"),
])
def test_other_content_is_said(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(tmp_path / "model")


def test_a_zip_that_pytorch_did_not_write_is_damaged(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize(("content", "says"), [
    ([torch.zeros(2)], "no named tensors.*list"),
    ({"generator": [1]}, "no named tensors.*list"),
    ({"generator": {"a": 3, "b": torch.zeros(1)}}, r"other things beside tensors.*\['a'\]"),
    ({"step": 3, "optimizer": {}}, r"other things.*\['optimizer', 'step'\]"),
    ({3: torch.zeros(1)}, r"other things.*\['3'\]"),
])
def test_pytorch_files_of_another_structure_are_said(content: object, says: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(tmp_path / "model.pt")


def test_a_path_with_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such checkpoint.*download it first"):
        load_checkpoint("Wan-AI/Wan2.1-T2V-1.3B")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_checkpoint(tmp_path)
    (tmp_path / "transformer").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no weights.*transformer"):
        load_checkpoint(tmp_path)


def test_a_folder_with_a_choice_is_not_chosen_from(state: State, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file(state, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match=r"more than one.*'a.safetensors', 'b.safetensors'.*name the file"):
        load_checkpoint(tmp_path)
    assert load_checkpoint(tmp_path / "b.safetensors")[0] == CONFIG
    for name in ("transformer", "transformer_2"):
        (tmp_path / "two" / name).mkdir(parents=True)
    with pytest.raises(CheckpointError, match="two transformers"):
        load_checkpoint(tmp_path / "two")


def test_pickles_of_other_models_beside_safetensors_are_not_touched(state: State, tmp_path: Path) -> None:
    """As Wan's own folder has them: its VAE and its text encoder."""
    folder = write_wan(tmp_path / "w", CONFIG, state)
    for name in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"):
        (folder / name).write_bytes(b"not read")
    assert load_checkpoint(folder)[0] == CONFIG


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "..\\x"])
def test_an_index_that_leaves_its_folder_is_refused(shard: str, state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "x.safetensors")  # there to be found
    index = write_shards(tmp_path / "w", state)
    content = json.loads(index.read_text())
    content["weight_map"]["head.head.bias"] = shard
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="outside its folder"):
        load_checkpoint(tmp_path / "w")


def test_missing_shards_and_tensors_are_named(state: State, tmp_path: Path) -> None:
    index = write_shards(tmp_path / "w", state)
    shards = sorted(index.parent.glob("*.safetensors"))
    content = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": {**content["weight_map"], "ghost": shards[0].name}}))
    with pytest.raises(CheckpointError, match=r"other tensors than the index says.*with \['ghost'\]"):
        load_checkpoint(index)
    for shard in shards[1:]:
        shard.unlink()
    with pytest.raises(CheckpointError, match=rf"shards are missing.*{shards[1].name}.*{shards[2].name}"):
        load_checkpoint(index)


def test_shards_may_be_links(state: State, tmp_path: Path) -> None:
    """As hub caches keep them: snapshots/REVISION/NAME -> ../../blobs/HASH."""
    index = write_shards(tmp_path / "blobs", state)
    snapshot = tmp_path / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    for file in index.parent.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert set(load_checkpoint(snapshot)[1]) == set(state)
