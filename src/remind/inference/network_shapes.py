"""What a checkpoint and its base are made of, as shapes: read from configs, never from weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remind.errors import CheckpointError
from remind.frame_graph import num_chunks
from remind.inference.components import WAN_HW, WAN_NUM_FRAMES, check_shape, find_source
from remind.models.config import DiTConfig
from remind.models.convert import checkpoint_config

WITHOUT_FILES = {"wan-1.3b": (WAN_HW, WAN_NUM_FRAMES)}
# UMT5-XXL's encoder, which Wan uses. Source: its published config.json.
UMT5_XXL: Mapping[str, Any] = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
                               "num_heads": 64, "feed_forward_proj": "gated-gelu"}  # fmt: skip


@dataclass(frozen=True)
class Networks:
    """What will generate, as shapes.

    Args:
        model: the transformer's.
        vae: config of an `AutoencoderKLWan`; None = the embedded codec.
        umt5: config of the text encoder; None = the word hash.
        hw: frame size, px.
        num_chunks: of a usual clip.
        copies: times the model is in main memory while it is read.
    """

    model: DiTConfig
    vae: Mapping[str, Any] | None
    umt5: Mapping[str, Any] | None
    hw: tuple[int, int]
    num_chunks: int
    copies: int


def find_networks(source: str | Path, *, base: str | Path | None, hw: tuple[int, int] | None) -> Networks:
    """Shapes of what `load_components` would load; or of the published networks, for `wan-1.3b`, without any files.

    Raises:
        CheckpointError, InputError: as `load_components`.
    """
    if not Path(source).exists() and str(source) in WITHOUT_FILES:
        usual_hw, frames = WITHOUT_FILES[str(source)]
        folder = None if base is None else Path(base)
        model = DiTConfig.preset(str(source))
        networks = Networks(model, _config_of(folder, "vae"), _config_of(folder, "text_encoder") or UMT5_XXL,
                            hw or usual_hw, num_chunks(frames), copies=1)
    else:
        found = find_source(source, base=base, hw=hw, num_frames=None)
        frames, folder = found.num_frames, found.base
        model = checkpoint_config(found.path) if found.config is None else DiTConfig.from_json(found.config["model"])
        embedded = folder is None
        networks = Networks(model, None if embedded else _config_of(folder, "vae"),
                            None if embedded else _config_of(folder, "text_encoder"), found.hw, num_chunks(frames),
                            copies=1 if found.config is None else 2)
    check_shape(networks.model, networks.hw)
    return networks


def _config_of(base: Path | None, part: str) -> dict[str, Any]:
    """`config.json` of a part of a Wan pipeline; empty without one: the published network."""
    if base is None:
        return {}
    path = base / part / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError("a part of the base cannot be read", got=f"{path}: {error}",
                              fix="name a local copy of a Wan pipeline in the diffusers layout") from None
    return dict(config)
