"""A Wan pipeline folder of the real classes at tiny size, with random weights, in the public layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

TEXT_DIM = 32
VAE_CONFIG: dict[str, Any] = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1}
WORDS = ("a", "the", "red", "jug", "fills", "slowly", "lights", "go", "off", "come", "back", "'", "&", "<", "x")


def make_vae(folder: Path, **config: Any) -> Any:
    """An `AutoencoderKLWan`, written to `folder`; its outputs use most of [-1, 1], so that nothing hides near grey."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    module = AutoencoderKLWan(**{**VAE_CONFIG, **config}).eval().requires_grad_(False)
    # Fresh convolutions shrink what passes: without gain, deep features and with them all state would not matter.
    for name, parameter in module.named_parameters():
        if name.endswith("weight") and parameter.dim() > 3:
            parameter *= 1.5
    module.save_pretrained(folder)
    return module


def make_text_encoder(folder: Path, **config: Any) -> Any:
    """A `UMT5EncoderModel` of two layers, written to `folder`."""
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    shape = {"vocab_size": 40, "d_model": TEXT_DIM, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 2,
             "feed_forward_proj": "gated-gelu", "pad_token_id": 0, "eos_token_id": 1, **config}
    model = UMT5EncoderModel(UMT5Config(**shape)).eval().requires_grad_(False)
    model.save_pretrained(folder)
    return model


def make_tokenizer(folder: Path, words: tuple[str, ...] = WORDS, **options: Any) -> Any:
    """A tokenizer of whole words with UMT5's special ids (pad 0, end 1, unknown 2), written to `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(("<pad>", "</s>", "<unk>", *words))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>",
                                        unk_token="<unk>", **options)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_t5_tokenizer(folder: Path) -> None:
    """A tokenizer of word pieces in the files and under the class name that Wan publishes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁the", -2.0), ("▁red", -2.1), ("▁jug", -2.2)]
    letters = [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    backend = Tokenizer(models.Unigram([*words, ("▁", -3.0), *letters], 2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>",
                            unk_token="<unk>").save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "T5Tokenizer", "extra_ids": 3}))


def random_video(frames: int, *, hw: tuple[int, int] = (16, 24), batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, frames, *hw, 3), dtype=torch.uint8, generator=generator)


def random_latents(latents: int, *, hw: tuple[int, int] = (2, 3), batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, latents, 16, *hw, generator=torch.Generator().manual_seed(seed))
