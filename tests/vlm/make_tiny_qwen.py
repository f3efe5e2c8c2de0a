"""A Qwen3-VL checkpoint of a few thousand parameters: the real classes, and a real tokenizer of single bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import torch

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
         "<|video_pad|>")


def save_tiny_qwen(folder: Path, *, answer: str | None = None, seed: int = 0) -> Path:
    """Write config, weights, tokenizer and image processor.

    Args:
        answer: a text that becomes one token, which the weights are then made to say after any question, followed by
            the end mark: blocks that add nothing leave a table of "after this token comes that one". None leaves the
            weights random.
    """
    from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    vocabulary = _vocabulary(answer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_byte_tokenizer(vocabulary), eos_token="<|im_end|>",
                                        pad_token="<|endoftext|>", additional_special_tokens=list(MARKS))
    config = Qwen3VLConfig(
        text_config={"vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                     "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
                     "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3],
                                         "mrope_interleaved": True}},
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
                       "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        **{f"{name}_token_id": vocabulary[f"<|{mark}|>"] for name, mark in (
            ("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"),
            ("vision_end", "vision_end"))},
    )
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = vocabulary["<|im_end|>"]
    model.generation_config.pad_token_id = vocabulary["<|endoftext|>"]
    if answer is not None:
        _teach(model, [vocabulary["Ċ"], vocabulary[answer], vocabulary["<|im_end|>"]])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # As in the published checkpoints, which name the class of the other backend.
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 16, "temporal_patch_size": 2,
        "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "size": {"shortest_edge": 65536, "longest_edge": 16777216}}))
    return folder


def _vocabulary(answer: str | None) -> dict[str, int]:
    from tokenizers import pre_tokenizers

    words = [*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *([answer] if answer else [])]
    return {word: index for index, word in enumerate(words)}


def _byte_tokenizer(vocabulary: dict[str, int]) -> object:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(word) for word in vocabulary if len(word) > 1 and word not in MARKS])
    return tokenizer


def _teach(model: torch.nn.Module, chain: list[int]) -> None:
    """Make each token of a chain be followed by the next."""
    language, embedding = model.model.language_model, model.model.language_model.embed_tokens.weight
    with torch.no_grad():
        for block in language.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        torch.nn.init.normal_(embedding)
        model.lm_head.weight.zero_()
        for now, following in pairwise(chain):
            model.lm_head.weight[following] = embedding[now] * 10
