"""How much memory a pass over one chunk takes, before it is run."""

from __future__ import annotations

import torch

from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.config import DiTConfig


def chunk_pass_nbytes(
    config: DiTConfig, *, batch: int, grid_hw: tuple[int, int], dtype: torch.dtype = torch.float32
) -> int:
    """Largest size of all activations of a pass over one chunk without gradients, beside weights and cache.

    Source: our choice, counted from what lives at once at the two widest places of a block. In the feed-forward:
    residual stream, its normalised copy, and the hidden layer before and after its activation. In self-attention:
    stream, normalised copy, q, k, v, and while k is turned its float32 copy and product. Attention itself holds no
    matrix of scores. The embedded text and the stream's rotors live throughout. Right for eager torch, where nothing
    is fused; measured by `benchmarks/model.py`.

    Args:
        batch: sequences in parallel.
        grid_hw: tokens of one latent frame.
        dtype: of weights and stream.
    """
    tokens = batch * LATENTS_PER_CHUNK * grid_hw[0] * grid_hw[1]
    size = dtype.itemsize
    # adaLN runs in float32: the normalised copy is made there and cast.
    feed_forward = tokens * (2 * config.dim * size + 2 * config.ffn_dim * size)
    attention = tokens * config.dim * (5 * size + 2 * 4)
    rotors = LATENTS_PER_CHUNK * grid_hw[0] * grid_hw[1] * (config.head_dim // 2) * 8
    text = batch * config.text_len * (config.text_dim + 3 * config.dim) * size
    return max(feed_forward, attention) + rotors + text
