"""Cross-attention to the text, with keys and values that are computed once per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from remind.models.config import DiTConfig
from remind.models.norms import QKNorm

KeysValues = tuple[Float[Tensor, "b k n s e"], Float[Tensor, "b k n s e"]]  # e = width of a head


@dataclass(frozen=True)
class PromptContext:
    """A prompt as the model reads it: per layer the keys and values of its tokens, from `encode_prompt`.

    Giving another one to the next chunk is a prompt switch; what the KV cache remembers stays as it was written.
    """

    layers: tuple[KeysValues, ...]

    @property
    def num_texts(self) -> int:
        return self.layers[0][0].shape[1]

    @staticmethod
    def join(contexts: Sequence[PromptContext]) -> PromptContext:
        """Prompts that were encoded one by one, for a pass over several chunks."""
        if len(contexts) == 1:
            return contexts[0]
        layers = zip(*(context.layers for context in contexts), strict=True)
        return PromptContext(tuple(
            (torch.cat([k for k, _ in layer], 1), torch.cat([v for _, v in layer], 1)) for layer in layers
        ))

    @property
    def nbytes(self) -> int:
        return sum(k.nbytes + v.nbytes for k, v in self.layers)


class CrossAttention(nn.Module):
    """Attention to the text; one text for the whole sequence or one per chunk. Source: Wan, ungated."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = QKNorm(dim, config.eps), QKNorm(dim, config.eps)

    def keys_values(self, text: Float[Tensor, "b k s d"]) -> KeysValues:
        """What the queries read of the texts."""
        k, v = (rearrange(y, "b k s (n d) -> b k n s d", n=self.num_heads)
                for y in (self.norm_k(self.k(text)), self.v(text)))  # fmt: skip
        return k, v

    def forward(
        self, x: Float[Tensor, "b t l d"], text: KeysValues, text_of_chunk: tuple[int, ...]
    ) -> Float[Tensor, "b t l d"]:
        num_chunks = len(text_of_chunk)
        q = rearrange(self.norm_q(self.q(x)), "b (k f) l (n d) -> b k n (f l) d", k=num_chunks, n=self.num_heads)
        k, v = text
        outputs = []
        for chunks, first_text in text_runs(text_of_chunk):
            texts = slice(first_text, first_text + len(chunks))
            part = q[:, chunks.start : chunks.stop]
            y = scaled_dot_product_attention(
                part.flatten(0, 1), k[:, texts].flatten(0, 1), v[:, texts].flatten(0, 1)
            )
            outputs.append(y.unflatten(0, part.shape[:2]))
        y = rearrange(
            torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0],
            "b k n (f l) d -> b (k f) l (n d)", f=x.shape[1] // num_chunks,
        )
        return self.o(y)


def text_runs(text_of_chunk: tuple[int, ...]) -> list[tuple[range, int]]:
    """Neighbouring chunks that read neighbouring texts, so that texts are sliced and never copied.

    (0, 1, 2, 0, 1) -> chunks 0-2 from text 0 on, chunks 3-4 from text 0 on.
    """
    result: list[tuple[range, int]] = []
    for chunk, text in enumerate(text_of_chunk):
        if result and text == result[-1][1] + len(result[-1][0]):
            result[-1] = (range(result[-1][0].start, chunk + 1), result[-1][1])
        else:
            result.append((range(chunk, chunk + 1), text))
    return result
