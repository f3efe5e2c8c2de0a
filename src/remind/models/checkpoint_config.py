"""The model's shape as a checkpoint states it: in a config of Wan's, diffusers' or our kind, and in its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from remind.errors import CheckpointError
from remind.models.checkpoint import FORMAT
from remind.models.config import DiTConfig

DIFFUSERS_CLASS = "WanTransformer3DModel"
WAN_HEAD_DIM = 128
_WAN_FIELDS = {"dim": "dim", "ffn_dim": "ffn_dim", "num_heads": "num_heads", "num_layers": "num_layers",
               "in_channels": "in_dim", "out_channels": "out_dim", "freq_dim": "freq_dim", "text_dim": "text_dim",
               "text_len": "text_len", "eps": "eps"}
_DIFFUSERS_FIELDS = {name: name for name in ("ffn_dim", "num_layers", "in_channels", "out_channels", "freq_dim",
                                             "text_dim", "eps")}
# What both kinds can switch and this model cannot: the one value each may have.
_FIXED = {"qk_norm": (True, "rms_norm_across_heads"), "cross_attn_norm": (True,), "window_size": ([-1, -1],)}


def stated_fields(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """Fields of a `DiTConfig` that a checkpoint's `config.json` states, or None if it is of no kind known here.

    Raises:
        CheckpointError: a config of a known kind that asks for what this model does not have, or is damaged.
    """
    if raw.get("format") == FORMAT and isinstance(raw.get("model"), dict):
        return asdict(DiTConfig.from_json(raw["model"]))
    if raw.get("_class_name") == DIFFUSERS_CLASS:
        heads, head_dim = raw.get("num_attention_heads"), raw.get("attention_head_dim")
        if not isinstance(heads, int) or not isinstance(head_dim, int):
            raise CheckpointError("config.json is damaged", got=f"{heads} heads of width {head_dim}",
                                  expected="num_attention_heads and attention_head_dim")
        known = {ours: raw[theirs] for ours, theirs in _DIFFUSERS_FIELDS.items() if raw.get(theirs) is not None}
        fields = known | {"num_heads": heads, "dim": heads * head_dim}
    elif {"dim", "num_heads", "num_layers"} <= set(raw):
        fields = {ours: raw[theirs] for ours, theirs in _WAN_FIELDS.items() if theirs in raw}
    else:
        return None
    wrong = {name: raw[name] for name, allowed in _FIXED.items() if name in raw and raw[name] not in allowed}
    wrong |= {name: value for name, value in fields.items()
              if type(value) not in ((int, float) if name == "eps" else (int,))}
    if "patch_size" in raw:
        patch = raw["patch_size"]
        if isinstance(patch, list) and len(patch) == 3 and patch[0] == 1 and all(type(n) is int for n in patch):
            fields["patch_hw"] = (patch[1], patch[2])
        else:
            wrong["patch_size"] = patch
    if wrong:
        raise CheckpointError("config.json asks for a model that this is not", got=wrong,
                              expected="Wan2.1 text-to-video: both norms, no window, patches of one latent frame")
    return fields


def measured_fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Fields of a `DiTConfig` that can be read off the shapes of its weights, under Wan's names.

    Raises:
        CheckpointError: patches of more than one latent frame.
    """
    fields: dict[str, Any] = {}
    patch = shapes.get("patch_embedding.weight", ())
    if len(patch) == 5:
        fields |= {"dim": patch[0], "in_channels": patch[1], "patch_hw": patch[3:]}
        if patch[2] != 1:
            raise CheckpointError("patches span several latent frames", got=patch[2], expected=1)
    for field, name, axis in (("text_dim", "text_embedding.0.weight", 1), ("freq_dim", "time_embedding.0.weight", 1),
                              ("ffn_dim", "blocks.0.ffn.0.weight", 0)):
        if len(shapes.get(name, ())) == 2:
            fields[field] = shapes[name][axis]
    head = shapes.get("head.head.weight", ())
    if len(head) == 2 and "patch_hw" in fields:
        rows, columns = fields["patch_hw"]
        fields["out_channels"] = head[0] // (rows * columns)
    layers = [int(match[1]) for name in shapes if (match := re.match(r"blocks\.(\d{1,9})\.", name))]
    if layers:
        fields["num_layers"] = 1 + max(layers)
    return fields


def resolve_config(
    given: DiTConfig | None, stated: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]
) -> DiTConfig:
    """The model's config: the given one, or what the checkpoint states, completed from its weights.

    Raises:
        CheckpointError: what is given, stated and stored disagree, or does not suffice.
    """
    if given is not None:
        if stated is not None:
            _must_agree(asdict(given), stated, "the given config")
        return given
    # Fewer or more layers than stated are named key by key by whoever compares keys.
    measured = measured_fields(shapes)
    if stated is not None:
        _must_agree({k: v for k, v in measured.items() if k != "num_layers"}, stated, "the weights")
    fields = {**measured, **(stated or {})}
    if "num_heads" not in fields and fields.get("dim", 1) % WAN_HEAD_DIM == 0:
        fields["num_heads"] = fields["dim"] // WAN_HEAD_DIM
    unknown = sorted({"dim", "ffn_dim", "num_layers", "in_channels", "out_channels", "freq_dim", "text_dim",
                      "num_heads"} - set(fields))
    if unknown:
        raise CheckpointError("the checkpoint does not tell the model's shape", got=f"no way to know {unknown}",
                              expected=f"a config.json beside it, or whole Wan weights with heads of {WAN_HEAD_DIM}",
                              fix="pass config=DiTConfig(...)")
    if not 0 < fields["num_layers"] <= len(shapes):  # before a model of a billion layers is built to compare keys
        raise CheckpointError("the checkpoint has fewer tensors than layers", got=f"{fields['num_layers']} layers, "
                              f"{len(shapes)} tensors", fix="copy or download it again")
    return DiTConfig(**fields)


def _must_agree(fields: Mapping[str, Any], stated: Mapping[str, Any], whose: str) -> None:
    """Compare what both name, but for what may differ: shorter texts, other cameras, more training."""
    free = {"text_len", "max_trained_distance", "camera_mode"}
    if stated.get("camera_mode", "none") == "none":
        free |= {"camera_hidden", "phase_pairs", "phase_per_head", "vo_transform"}
    differ = [f"{name} {fields[name]} != {stated[name]}" for name in sorted(set(fields) & set(stated) - free)
              if fields[name] != stated[name]]
    if differ:
        raise CheckpointError(f"{whose} and the checkpoint's config.json disagree", got="; ".join(differ),
                              fix="load the weights from a folder without that config.json, if it is not theirs")
