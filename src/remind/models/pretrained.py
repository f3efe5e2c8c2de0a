"""Loading a network of diffusers or transformers from a folder: offline, no pickle, every weight accounted for.

Both libraries take seconds to import, so that happens at the first call and not with this package.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch

from remind.errors import CheckpointError, InputError


def library_class(library: str, name: str) -> Any:
    """A class of diffusers or transformers, imported now.

    Raises:
        InputError: the library is not there, does not work, or is too old to have the class.
    """
    try:
        return getattr(importlib.import_module(library), name)
    except (ImportError, AttributeError, RuntimeError) as error:  # their lazy modules wrap a failed import in either
        raise InputError(f"{name} comes with {library}, which cannot be imported", got=first_line(error),
                         fix="pip install 'remind-video[wan]'") from None


def load_network(network: Any, folder: Path, *, kind: tuple[str, str], dtype: torch.dtype, **options: Any) -> Any:
    """A frozen network in eval mode, on the CPU.

    Args:
        network: its class.
        folder: holds `config.json` and safetensors files, as the library writes them.
        kind: a key of `config.json` and the value it must have, so that another network is refused before it is read.
        dtype: of the weights; a library may keep layers that need more precision in float32.
        options: for the library's `from_pretrained`.

    Raises:
        CheckpointError: a missing or damaged file, another network, or weights that do not fit, all named. Weights in
            pickle files count as missing.
    """
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise CheckpointError(f"there is no {network.__name__} in this folder", got=folder,
                              expected="config.json in it",
                              fix="name a local copy of a Wan pipeline in the diffusers layout")
    try:
        config = json.loads(config_path.read_text())
    except ValueError as error:
        raise CheckpointError("config.json is damaged", got=f"{config_path}: {error}") from None
    key, value = kind
    if not isinstance(config, dict) or config.get(key) != value:
        raise CheckpointError(f"this folder holds no {network.__name__}",
                              got=f"{config_path}: {key} = {config.get(key) if isinstance(config, dict) else config}",
                              expected=value)
    try:
        module, info = network.from_pretrained(str(folder), torch_dtype=dtype, local_files_only=True,
                                               use_safetensors=True, output_loading_info=True, **options)
    except Exception as error:  # the libraries and safetensors raise many types, none of them a stable name
        raise CheckpointError(f"the weights of {network.__name__} are missing or damaged",
                              got=f"{folder}: {first_line(error)}", expected="whole .safetensors files",
                              fix="copy the folder again") from None
    # The libraries fill missing weights with random numbers and only log it.
    wrong = {name: sorted(map(str, info[name])) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")
             if info[name]}
    if wrong:
        raise CheckpointError(f"the weights do not fit {network.__name__}", got=f"{folder}: {wrong}",
                              fix="use the config.json that was written with these weights")
    return module.eval().requires_grad_(False)


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
