"""Wan's text encoder: UMT5 from transformers, 512 tokens, zeros after a prompt's end.

Source: Wan (arXiv 2503.20314), Sec. 4.2. The family pads the *embeddings* with zeros and lets cross-attention see all
512 positions, unmasked; what the encoder itself makes of padding tokens is thrown away.
"""

from __future__ import annotations

import hashlib
import html
import importlib.util
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from remind.errors import CheckpointError, InputError
from remind.models.pretrained import first_line, library_class, load_network

logger = logging.getLogger(__name__)

TEXT_LEN = 512
# What decides how weights are used, beside their shapes.
_CONFIG_FIELDS = ("num_heads", "relative_attention_num_buckets", "relative_attention_max_distance",
                  "feed_forward_proj", "layer_norm_epsilon")


def clean_prompt(prompt: str) -> str:
    """HTML entities (also doubly escaped ones) as characters, each run of whitespace as one space.

    Our choice: the family also runs ftfy, where it is installed, which mends wrongly decoded text and straightens
    curly quotes. Here it is never run: an embedding must not depend on what else is installed. A prompt in printable
    ASCII without entities comes out the same either way.
    """
    return " ".join(html.unescape(html.unescape(prompt)).split())


class UMT5Encoder:
    """Each prompt becomes `text_len` embeddings, those after its end-of-sequence token zero.

    Prompts that are too long lose their end, as in the family, and a warning is logged: their events may be lost.

    Args:
        model: a `UMT5EncoderModel`, frozen.
        tokenizer: its tokenizer; must pad on the right.
        text_len: number of positions, 512 in the family.

    Raises:
        CheckpointError: a tokenizer that is not the model's, or token embeddings that were not loaded.
    """

    def __init__(self, model: Any, tokenizer: Any, *, text_len: int = TEXT_LEN):
        # Files hold one copy of the token embeddings. Early releases of transformers 5 leave the layer that is used
        # empty where the config says `tie_word_embeddings: false`, as Wan's does (transformers pull request 43880).
        if model.shared.weight is not model.encoder.embed_tokens.weight:
            raise CheckpointError("the token embeddings of UMT5EncoderModel are not tied", fix="update transformers")
        got = {"pad id": tokenizer.pad_token_id, "end id": tokenizer.eos_token_id, "pads": tokenizer.padding_side}
        expected = {"pad id": model.config.pad_token_id, "end id": model.config.eos_token_id, "pads": "right"}
        if got != expected or len(tokenizer) > model.config.vocab_size:
            raise CheckpointError("the tokenizer is not this model's", got=f"{got}, {len(tokenizer)} tokens",
                                  expected=f"{expected}, at most {model.config.vocab_size} tokens",
                                  fix="copy text_encoder/ and tokenizer/ of one pipeline")
        self.model, self.tokenizer = model, tokenizer
        self.dim, self.text_len = int(model.config.d_model), text_len

    @staticmethod
    def from_pretrained(folder: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu",
                        text_len: int = TEXT_LEN) -> UMT5Encoder:
        """The encoder of a Wan pipeline in the diffusers layout: `text_encoder/` and `tokenizer/` in its folder.

        Args:
            dtype: of the weights; the family runs bfloat16, half of 23 GB.

        Raises:
            CheckpointError: missing or damaged files, another network, weights or a tokenizer that do not fit.
            InputError: transformers is not installed, or sentencepiece where a tokenizer needs it.
        """
        folder = Path(folder)
        model = load_network(library_class("transformers", "UMT5EncoderModel"), folder / "text_encoder",
                             kind=("model_type", "umt5"), dtype=dtype)
        return UMT5Encoder(model.to(device), _load_tokenizer(folder / "tokenizer"), text_len=text_len)

    def to(self, device: torch.device | str) -> UMT5Encoder:
        """Move the weights, in place."""
        self.model.to(device)
        return self

    @cached_property
    def digest(self) -> str:
        """Hash of weights, their dtype, the sizes, the tokenizer and the length: of all that decides the embeddings."""
        config = {name: getattr(self.model.config, name, None) for name in _CONFIG_FIELDS}
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        h = hashlib.sha256(json.dumps([config, vocabulary, self.text_len], sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            h.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            h.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return h.hexdigest()[:16]

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, "b s d"]:
        """Embeddings in float32 on the model's device; equal prompts are encoded once."""
        cleaned = [clean_prompt(prompt) for prompt in prompts]
        distinct = list(dict.fromkeys(cleaned))
        if not distinct:
            return torch.zeros(0, self.text_len, self.dim, device=self.model.device)
        self._warn_of_long(distinct)
        tokens = self.tokenizer(distinct, padding="max_length", truncation=True, max_length=self.text_len,
                                return_attention_mask=True, return_tensors="pt").to(self.model.device)
        out = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        out = out.float().masked_fill(tokens.attention_mask[..., None] == 0, 0.0)
        return out[[distinct.index(prompt) for prompt in cleaned]]

    def _warn_of_long(self, prompts: list[str]) -> None:
        for prompt, ids in zip(prompts, self.tokenizer(prompts, verbose=False).input_ids, strict=True):
            if len(ids) > self.text_len:
                logger.warning("a prompt has %d tokens, of which %d are kept: %.60s...",
                               len(ids), self.text_len, prompt)


def _load_tokenizer(folder: Path) -> Any:
    # transformers makes an empty tokenizer of a folder without these files: every word would be unknown.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise CheckpointError("there is no tokenizer", got=folder, expected="tokenizer.json or spiece.model in it",
                              fix="name a local copy of a Wan pipeline in the diffusers layout")
    if not (folder / "tokenizer.json").is_file() and importlib.util.find_spec("sentencepiece") is None:
        raise InputError("a tokenizer that is only a spiece.model needs sentencepiece, which is not installed",
                         got=folder, fix="copy its tokenizer.json too, or pip install sentencepiece protobuf")
    try:
        return library_class("transformers", "AutoTokenizer").from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many types, some of them plain Exception
        raise CheckpointError("the tokenizer cannot be read", got=f"{folder}: {first_line(error)}",
                              fix="copy the folder again") from None
