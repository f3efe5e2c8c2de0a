"""Checkpoint files of any maker, opened without reading the weights: one file, shards with an index, or a folder."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor

from remind.errors import CheckpointError

logger = logging.getLogger(__name__)

Weights = Literal["ema", "raw"]
# How a folder is searched: an index speaks for its shards, and safetensors for pickles of the same weights (Wan's own
# folder has pickles of its VAE and its text encoder beside them). What a file is, its content says.
_PATTERNS = (("*.index.json",), ("*.safetensors",), ("*.pt", "*.pth", "*.bin"))
_SELF_FORCING = {"ema": "generator_ema", "raw": "generator"}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that lies in a file: its shape, and how to read it."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


@dataclass(frozen=True)
class StoredCheckpoint:
    """Tensors under the names their file has, and the config that lies beside them or in them, as it is."""

    tensors: dict[str, StoredTensor]
    config: dict[str, Any] | None


def open_checkpoint(path: Path, weights: Weights | None) -> StoredCheckpoint:
    """Open a file, an index or a folder; weights stay on disk.

    Args:
        weights: which of two sets, in files that hold both; None = the averaged one where there is one.

    Raises:
        CheckpointError: nothing there, more than one candidate, or a file that is damaged or unsafe.
    """
    if not path.exists():
        raise CheckpointError("no such checkpoint", got=path, expected="a file or a folder",
                              fix="download it first; a hub's name for it is no path")
    file = _weights_in(path) if path.is_dir() else path
    tensors, inside = _open_index(file, weights) if _kind(file) == "index" else _open_file(file, weights)
    beside = file.parent / "config.json"
    config = inside if inside is not None else _read_json(beside) if beside.is_file() else None
    return StoredCheckpoint(tensors, config)


def weight_files(path: Path) -> tuple[Path, ...]:
    """Files that hold a checkpoint's weights: one, or the shards of an index, in order of name.

    Raises:
        CheckpointError: nothing there, more than one candidate, or a damaged index.
    """
    if not path.exists():
        raise CheckpointError("no such checkpoint", got=path, expected="a file or a folder")
    file = _weights_in(path) if path.is_dir() else path
    return (file,) if _kind(file) != "index" else tuple(file.parent / shard for shard in _shards(file)[1])


def _weights_in(folder: Path) -> Path:
    """The one file that stands for a folder's weights."""
    for patterns in _PATTERNS:
        found = sorted(file for pattern in patterns for file in folder.glob(pattern))
        if len(found) > 1:
            raise CheckpointError("this folder holds more than one checkpoint", got=[file.name for file in found],
                                  expected="one file of weights, or shards with an index",
                                  fix="name the file itself")
        if found:
            return found[0]
    if (folder / "transformer_2").is_dir():
        raise CheckpointError("this pipeline has two transformers", got=folder,
                              expected="one", fix="name the transformer's own folder")
    if (folder / "transformer").is_dir():
        return _weights_in(folder / "transformer")
    raise CheckpointError("this folder holds no weights", got=folder,
                          expected=" | ".join(pattern for patterns in _PATTERNS for pattern in patterns))


def _kind(file: Path) -> Literal["safetensors", "index", "zip", "pickle"]:
    """What a file is, from its first bytes: a name may say anything."""
    with file.open("rb") as f:
        head = f.read(32)
    if not head:
        raise CheckpointError("the file is empty", got=file, fix="copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError("the file is a Git LFS pointer, not the weights", got=file, fix="run `git lfs pull`")
    # The length of a JSON header, then the header. Eight letters of a JSON text would make an absurd length.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"
    if head.lstrip().startswith(b"{"):
        return "index"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x80"):
        return "pickle"
    raise CheckpointError("the file is no checkpoint, or it is damaged", got=file,
                          expected="safetensors, an index of shards, or a PyTorch file")


def _shards(index: Path) -> tuple[dict[str, str], list[str]]:
    """Each tensor's shard, and all shards, each of which must be there, in the index's own folder."""
    shard_of = _read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise CheckpointError("the index is damaged", got=index, expected="a weight_map of names to files")
    shards = sorted(set(shard_of.values()))
    # Lexically: hub caches keep shards as links to a folder elsewhere, which the index did not choose.
    outside = [s for s in shards if "\\" in s or PurePosixPath(s).is_absolute() or ".." in PurePosixPath(s).parts]
    if outside:
        raise CheckpointError("the index names files outside its folder", got=f"{index}: {outside}",
                              fix="do not trust this checkpoint")
    absent = [shard for shard in shards if not (index.parent / shard).is_file()]
    if absent:
        raise CheckpointError("shards are missing", got=f"{index}: {absent}", fix="copy or download them")
    return shard_of, shards


def _open_index(index: Path, weights: Weights | None) -> tuple[dict[str, StoredTensor], dict[str, Any] | None]:
    """All shards of an index."""
    shard_of, shards = _shards(index)
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        held, _ = _open_file(index.parent / shard, weights)
        expected = {name for name, its_shard in shard_of.items() if its_shard == shard}
        if set(held) != expected:
            raise CheckpointError("a shard holds other tensors than the index says", got=index.parent / shard,
                                  expected=f"without {sorted(set(held) - expected)}, "
                                           f"with {sorted(expected - set(held))}",
                                  fix="download index and shards again, from one place")
        tensors |= held
    return tensors, None


def _open_file(file: Path, weights: Weights | None) -> tuple[dict[str, StoredTensor], dict[str, Any] | None]:
    """Tensors of one file, and the config of Wan's kind that `export_wan` puts into it."""
    kind = _kind(file)
    if kind == "index":
        raise CheckpointError("a shard is itself an index", got=file)
    if kind != "safetensors":
        return _open_torch(file, weights, mapped=kind == "zip"), None
    if weights == "ema":
        raise _no_such_weights(file, weights)
    try:
        opened = safe_open(str(file), framework="pt")
        tensors = {}
        for name in opened.keys():  # noqa: SIM118 (not a dict)
            shape = tuple(opened.get_slice(name).get_shape())
            tensors[name] = StoredTensor(shape, lambda name=name: opened.get_tensor(name))  # type: ignore[misc]
        inside = (opened.metadata() or {}).get("wan_config")
        return tensors, None if inside is None else json.loads(inside)
    except Exception as error:  # safetensors raises its own type, which is no stable name
        raise CheckpointError("the safetensors file is damaged", got=f"{file}: {error}",
                              fix="copy or download it again") from None


def _open_torch(file: Path, weights: Weights | None, *, mapped: bool) -> dict[str, StoredTensor]:
    """Tensors of a PyTorch file, which may hold nothing else; pages are read when touched if `mapped`."""
    try:
        if mapped and file.suffix != ".safetensors":
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        else:  # torch.load takes a path that ends so for safetensors; an open file has no name, and cannot be mapped
            with file.open("rb") as f:
                content = torch.load(f, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError("the file holds more than tensors, so it could run code, or it is damaged",
                              got=f"{file}: {_first_line(error)}", fix="ask its maker for safetensors") from None
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise CheckpointError("the PyTorch file is damaged", got=f"{file}: {type(error).__name__}: "
                              f"{_first_line(error)}", fix="copy or download it again") from None
    if isinstance(content, dict) and any(key in content for key in _SELF_FORCING.values()):
        chosen = weights or ("ema" if "generator_ema" in content else "raw")
        if _SELF_FORCING[chosen] not in content:
            raise _no_such_weights(file, chosen)
        others = sorted(str(key) for key in content if key != _SELF_FORCING[chosen])
        logger.info("%s: weights from %s; not read: %s", file, _SELF_FORCING[chosen], others)
        content = content[_SELF_FORCING[chosen]]
    elif weights == "ema":
        raise _no_such_weights(file, weights)
    if not isinstance(content, dict):
        raise CheckpointError("the file holds no named tensors", got=f"{file}: {type(content).__name__}")
    strange = sorted(str(name) for name, value in content.items()
                     if not isinstance(name, str) or not isinstance(value, Tensor))
    if strange:
        raise CheckpointError("the file holds other things beside tensors", got=f"{file}: {strange}",
                              expected="named tensors, or `generator` or `generator_ema` that are")
    return {name: StoredTensor(tuple(value.shape), value.detach) for name, value in content.items()}


def _no_such_weights(file: Path, weights: Weights) -> CheckpointError:
    return CheckpointError(f"the file has no {weights} weights", got=file, expected=_SELF_FORCING[weights],
                           fix="leave `weights` out")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file.name} is damaged", got=f"{file}: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file.name} is of another format", got=file, expected="a JSON object")
    return content
