"""Parameter names: Wan's own, which are ours, diffusers', and the wrappers that training leaves around them."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Wan -> diffusers, for what stands outside the blocks. `modulation` is a bare parameter, the rest are modules.
_OUTSIDE = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.modulation": "scale_shift_table",  # [1, 2, dim]
    "head.head": "proj_out",
}
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
# Wan -> diffusers, inside a block. Both number the norms, Wan by kind and diffusers by order: the norm with weights,
# before the cross-attention, is Wan's norm3 and diffusers' norm2. The other two have no weights and no names here.
_IN_BLOCK = {
    **{f"self_attn.{ours}": f"attn1.{theirs}" for ours, theirs in _ATTENTION.items()},
    **{f"cross_attn.{ours}": f"attn2.{theirs}" for ours, theirs in _ATTENTION.items()},
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",  # [1, 6, dim]
}
_OUTSIDE_BACK = {theirs: ours for ours, theirs in _OUTSIDE.items()}
_IN_BLOCK_BACK = {theirs: ours for ours, theirs in _IN_BLOCK.items()}

_BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")
_WRAPPERS = {"_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module"}
_IMAGE_PARTS = {"img_emb", "k_img", "v_img", "norm_k_img",  # Wan
                "image_embedder", "add_k_proj", "add_v_proj", "norm_added_k", "norm_added_q"}  # diffusers


def to_diffusers(name: str) -> str | None:
    """diffusers' name of a parameter, or None where it has none (cameras)."""
    return _translate(name, _OUTSIDE, _IN_BLOCK)


def from_diffusers(name: str) -> str | None:
    """Wan's name of a diffusers parameter, or None where there is none."""
    return _translate(name, _OUTSIDE_BACK, _IN_BLOCK_BACK)


def _translate(name: str, outside: dict[str, str], in_block: dict[str, str]) -> str | None:
    match = _BLOCK.fullmatch(name)
    block, rest = match.groups() if match else ("", name)
    table = in_block if match else outside
    if rest in table:
        return block + table[rest]
    module, _, leaf = rest.rpartition(".")
    return f"{block}{table[module]}.{leaf}" if module in table else None


def is_diffusers(names: Iterable[str]) -> bool:
    """Whether the names are diffusers'. No Wan name starts like this, and every diffusers file has such names."""
    return any(name.startswith("condition_embedder.") for name in names)


def without_wrappers(name: str) -> str:
    """The name as the bare model has it: FSDP, compile and checkpoint wrappers go anywhere, `model.` in front."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while parts[:1] == ["model"]:
        del parts[0]
    return ".".join(parts)


def image_names(names: Iterable[str]) -> list[str]:
    """Those that only image-to-video models have (CLIP features and the keys and values made of them)."""
    return sorted(name for name in names if _IMAGE_PARTS & set(name.split(".")))
