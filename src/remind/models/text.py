"""What a text encoder is, and the one of the small models: a deterministic word-hash encoder with no weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class TextEncoder(Protocol):
    """Prompts to embeddings: `text_len` positions of width `dim`, zero after a prompt's end, on any device."""

    dim: int
    text_len: int

    @property
    def digest(self) -> str:
        """Hash of all that decides the embeddings."""
        ...

    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, "b s d"]: ...


@lru_cache(maxsize=65536)
def _word_vector(word: str, dim: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(dim).astype(np.float32)


class WordHashEncoder:
    """Each word becomes a fixed random vector of its hash; a prompt becomes `text_len` of them, zero-padded.

    Our choice: no weights, no vocabulary, the same on every machine; enough for the world's captions, where a
    word is a symbol. Long prompts keep their first and last words (the last words carry the event).
    """

    def __init__(self, dim: int, text_len: int):
        self.dim, self.text_len = dim, text_len

    @property
    def digest(self) -> str:
        """Hash of all that decides the embeddings."""
        return hashlib.sha256(f"word-hash-1 {self.dim} {self.text_len}".encode()).hexdigest()[:16]

    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, "b s d"]:
        out = np.zeros((len(prompts), self.text_len, self.dim), dtype=np.float32)
        rows: dict[str, int] = {}  # most chunks of a clip share a prompt
        for row, prompt in enumerate(prompts):
            if prompt in rows:
                out[row] = out[rows[prompt]]
                continue
            rows[prompt] = row
            words = re.findall(r"[a-z0-9]+", prompt.lower())
            if len(words) > self.text_len:
                head = (self.text_len + 1) // 2
                words = words[:head] + words[len(words) - (self.text_len - head):]
            for i, word in enumerate(words):
                out[row, i] = _word_vector(word, self.dim)
        return torch.from_numpy(out)
