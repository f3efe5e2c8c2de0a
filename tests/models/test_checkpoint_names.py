"""Names in three dialects."""

from __future__ import annotations

import pytest

from remind.models.checkpoint_names import from_diffusers, image_names, to_diffusers, without_wrappers
from remind.models.config import DiTConfig
from remind.models.convert import expected_shapes


@pytest.mark.parametrize(("wan", "diffusers"), [
    ("patch_embedding.weight", "patch_embedding.weight"),
    ("time_projection.1.bias", "condition_embedder.time_proj.bias"),
    ("text_embedding.2.weight", "condition_embedder.text_embedder.linear_2.weight"),
    ("head.modulation", "scale_shift_table"),
    ("head.head.weight", "proj_out.weight"),
    ("blocks.12.modulation", "blocks.12.scale_shift_table"),
    ("blocks.0.self_attn.o.bias", "blocks.0.attn1.to_out.0.bias"),
    ("blocks.0.cross_attn.norm_k.weight", "blocks.0.attn2.norm_k.weight"),
    ("blocks.29.norm3.weight", "blocks.29.norm2.weight"),  # the swap
    ("blocks.1.ffn.0.weight", "blocks.1.ffn.net.0.proj.weight"),
])
def test_names_translate_both_ways(wan: str, diffusers: str) -> None:
    assert to_diffusers(wan) == diffusers
    assert from_diffusers(diffusers) == wan


def test_no_two_names_become_one() -> None:
    ours = list(expected_shapes(DiTConfig.preset("wan-1.3b")))
    theirs = [to_diffusers(name) for name in ours]
    assert None not in theirs
    assert len(set(theirs)) == len(ours) == 825
    assert [from_diffusers(str(name)) for name in theirs] == ours


@pytest.mark.parametrize("name", ["blocks.0.norm3.weight", "blocks.0.attn3.to_q.weight", "head.head.weight", "blocks"])
def test_what_diffusers_does_not_have_is_none(name: str) -> None:
    assert from_diffusers(name) is None


def test_cameras_have_no_name_in_diffusers() -> None:
    assert to_diffusers("blocks.0.self_attn.camera_value.feature") is None


@pytest.mark.parametrize("wrapped", [
    "blocks.3.ffn.0.weight",
    "model.blocks.3.ffn.0.weight",
    "_orig_mod.model.blocks.3.ffn.0.weight",
    "model._fsdp_wrapped_module.blocks.3._fsdp_wrapped_module.ffn.0.weight",
    "_fsdp_wrapped_module.model._orig_mod.blocks.3._checkpoint_wrapped_module._fsdp_wrapped_module.ffn.0.weight",
    "model.model.blocks.3._orig_mod.ffn.0._checkpoint_wrapped_module.weight",
])
def test_wrappers_go_wherever_they_are(wrapped: str) -> None:
    assert without_wrappers(wrapped) == "blocks.3.ffn.0.weight"


def test_names_of_image_models_are_known_in_both_dialects() -> None:
    names = ["img_emb.proj.0.weight", "blocks.0.cross_attn.k_img.weight", "blocks.0.attn2.add_v_proj.bias",
             "condition_embedder.image_embedder.norm1.weight"]
    assert image_names([*names, "blocks.0.cross_attn.k.weight", "patch_embedding.bias"]) == sorted(names)
