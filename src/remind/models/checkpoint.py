"""ReMind's own checkpoint: a folder with `model.safetensors` and `config.json`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from remind.errors import CheckpointError
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.licence import checkpoint_licence
from remind.whole_file import whole_file

logger = logging.getLogger(__name__)

FORMAT = "remind-checkpoint-1"


def save_checkpoint(
    folder: Path, model_config: DiTConfig, state: dict[str, Tensor], about: dict[str, Any]
) -> None:
    """Write weights and config; each file appears whole or not at all.

    Args:
        about: what made it (training config, command, commit, seed, steps, data, licences), JSON values.
    """
    config = {"format": FORMAT, "model": model_config.to_json(), **about}
    with whole_file(folder / "model.safetensors") as file:
        save_file({k: v.detach().contiguous() for k, v in state.items()}, str(file),
                  {"format": FORMAT, "about": json.dumps(about)})
    with whole_file(folder / "config.json") as file:
        file.write_text(json.dumps(config, indent=1) + "\n")


def load_run(folder: Path) -> tuple[CausalVideoDiT, dict[str, Any]]:
    """The model and its whole `config.json`.

    Raises:
        CheckpointError: a missing or damaged file, or keys and shapes that are not this model's, all named.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError("this is no checkpoint folder", got=folder, expected=f"{name} in it",
                                  fix="name the --out folder of `remind train`")
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise CheckpointError("config.json is damaged", got=f"{folder}: {error}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT or not isinstance(config.get("model"), dict):
        raise CheckpointError("config.json is of another format", got=folder, expected=FORMAT)
    model = CausalVideoDiT(DiTConfig.from_json(config["model"]))
    try:
        with safe_open(str(folder / "model.safetensors"), framework="pt") as f:
            state = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # safetensors raises its own type, which is no stable name
        raise CheckpointError("model.safetensors is damaged", got=f"{folder}: {error}",
                              fix="copy the checkpoint again") from None
    load_strictly(model, state)
    logger.info("%s: licence: %s", folder, checkpoint_licence(folder))
    return model.eval(), config


def load_strictly(model: CausalVideoDiT, state: dict[str, Tensor]) -> None:
    """Load weights; every missing, unexpected or wrongly shaped key is named.

    Raises:
        CheckpointError: any such key.
    """
    check_fit({k: tuple(v.shape) for k, v in model.state_dict().items()}, {k: tuple(v.shape) for k, v in state.items()},
              fix="use the config.json that was written with these weights")
    model.load_state_dict(state)


def check_fit(expected: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]], *, fix: str) -> None:
    """Compare the names and shapes of weights with those of a model.

    Args:
        fix: what to tell whoever meets the error.

    Raises:
        CheckpointError: any key that is missing, unexpected or of another shape; all are named.
    """
    missing = sorted(set(expected) - set(got))
    unexpected = sorted(set(got) - set(expected))
    shapes = [f"{k} {got[k]} != {expected[k]}" for k in sorted(set(expected) & set(got)) if got[k] != expected[k]]
    if missing or unexpected or shapes:
        raise CheckpointError("the weights do not fit the model",
                              got=f"missing {missing}; unexpected {unexpected}; other shapes {shapes}", fix=fix)
