"""CausalVideoDiT: the chunk-causal video diffusion transformer, with Wan-native parameter names.

Architecture: Wan2.1 (adaLN per latent frame, QK-norm over the full width, cross-attention to text), chunk-causal
attention, per-latent-frame noise levels and positions, and PM-RoPE (ReMind Sec. 3.2).
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.attention import ChunkMask, chunk_attention, chunk_lse
from remind.models.config import DiTConfig
from remind.models.kv_cache import StreamingKVCache
from remind.models.pm_rope import CameraPhase, CameraResidual, camera_6dof, position_rotors, rotate


class CameraConditions:
    """What a layer needs of the cameras, computed once per forward pass."""

    def __init__(self, descriptor: Float[Tensor, "b t 14"], valid: Bool[Tensor, "b t"]):
        # An identity pose stands in where there is none, so that no derivative meets an all-zero "rotation".
        identity = torch.zeros_like(descriptor[0, 0])
        identity[[0, 4, 8]] = 1
        self.descriptor = torch.where(valid[..., None], descriptor, identity)
        self.valid = valid
        self.pose_6dof = camera_6dof(self.descriptor, inverse=False)
        self.inverse_6dof = camera_6dof(self.descriptor, inverse=True)


class SelfAttention(nn.Module):
    """Self-attention with QK-norm, rotary phases and, with cameras, PM-RoPE. Source: ReMind Eqs. 2-3."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q = nn.RMSNorm(dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(dim, eps=config.eps)
        if config.camera_mode == "full":
            self.camera_phase = CameraPhase(config)
            self.camera_value = CameraResidual(dim)
            self.camera_output = CameraResidual(dim)

    def forward(
        self,
        x: Float[Tensor, "b t l d"],
        rotors: Tensor,
        cameras: CameraConditions | None,
        mask: ChunkMask | None,
        cache: tuple[StreamingKVCache, int] | None,
        lse: list[Tensor] | None,
    ) -> Float[Tensor, "b t l d"]:
        """Attend within the sequence (`mask`), or over the cache of layer `cache[1]`."""
        has_camera_weights = hasattr(self, "camera_phase")
        q = self.norm_q(self.q(x)).unflatten(-1, (self.num_heads, -1))
        k = self.norm_k(self.k(x)).unflatten(-1, (self.num_heads, -1))
        v = linear(x, *self.camera_value.folded_value(self.v)) if has_camera_weights else self.v(x)
        if has_camera_weights and cameras is not None:
            rotors = rotors * self.camera_phase(cameras.descriptor, cameras.valid)
            v = v + self.camera_value.frame_bias(cameras.inverse_6dof, cameras.valid)
        q, k = rotate(q, rotors), rotate(k, rotors)
        v = v.unflatten(-1, (self.num_heads, -1))
        q, k, v = (rearrange(y, "b t l n d -> b n (t l) d") for y in (q, k, v))

        if cache is not None:
            k, v = cache[0].write_and_read(cache[1], k, v)
        if lse is not None:
            lse.append(chunk_lse(q, k, LATENTS_PER_CHUNK * x.shape[2]))
        y = scaled_dot_product_attention(q, k, v) if mask is None else chunk_attention(q, k, v, mask)
        y = rearrange(y, "b n (t l) d -> b t l (n d)", t=x.shape[1])

        if not has_camera_weights:
            return self.o(y)
        out = linear(y, *self.camera_output.folded_output(self.o))
        if cameras is not None:
            out = out + self.camera_output.frame_bias(cameras.pose_6dof, cameras.valid)
        return out


class CrossAttention(nn.Module):
    """Attention to the text; one text for the whole sequence or one per chunk."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q = nn.RMSNorm(dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(dim, eps=config.eps)

    def forward(
        self, x: Float[Tensor, "b t l d"], text: Float[Tensor, "b k s d"], text_of_chunk: tuple[int, ...]
    ) -> Float[Tensor, "b t l d"]:
        num_chunks = len(text_of_chunk)
        heads = {"n": self.num_heads}
        q = rearrange(self.norm_q(self.q(x)), "b (k f) l (n d) -> b k n (f l) d", k=num_chunks, **heads)
        k, v = self.norm_k(self.k(text)), self.v(text)
        k, v = (rearrange(y, "b k s (n d) -> b k n s d", **heads) for y in (k, v))
        outputs = []
        for chunks, first_text in _text_runs(text_of_chunk):
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


def _text_runs(text_of_chunk: tuple[int, ...]) -> list[tuple[range, int]]:
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


class Block(nn.Module):
    """adaLN self-attention, ungated cross-attention, adaLN feed-forward."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.eps = config.eps
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.norm3 = nn.LayerNorm(config.dim, eps=config.eps)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, config.dim)
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)

    def forward(
        self,
        x: Float[Tensor, "b t l d"],
        time_modulation: Float[Tensor, "b t 6 d"],
        rotors: Tensor,
        cameras: CameraConditions | None,
        text: Float[Tensor, "b k s d"],
        text_of_chunk: tuple[int, ...],
        mask: ChunkMask | None,
        cache: tuple[StreamingKVCache, int] | None,
        lse: list[Tensor] | None,
    ) -> Float[Tensor, "b t l d"]:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.modulation + time_modulation)[
            :, :, None
        ].unbind(3)
        normed = torch.addcmul(shift, layer_norm(x, x.shape[-1:], eps=self.eps), 1 + scale)
        x = torch.addcmul(x, self.self_attn(normed, rotors, cameras, mask, cache, lse), gate)
        x = x + self.cross_attn(self.norm3(x), text, text_of_chunk)
        normed = torch.addcmul(ffn_shift, layer_norm(x, x.shape[-1:], eps=self.eps), 1 + ffn_scale)
        return torch.addcmul(x, self.ffn(normed), ffn_gate)


class Head(nn.Module):
    """Final adaLN and projection of tokens to patches."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.eps = config.eps
        rows, columns = config.patch_hw
        self.head = nn.Linear(config.dim, rows * columns * config.out_channels)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Float[Tensor, "b t l d"], time: Float[Tensor, "b t d"]) -> Float[Tensor, "b t l o"]:
        shift, scale = (self.modulation + time[:, :, None])[:, :, None].unbind(3)
        return self.head(torch.addcmul(shift, layer_norm(x, x.shape[-1:], eps=self.eps), 1 + scale))


class CausalVideoDiT(nn.Module):
    """Predicts the flow velocity of video latents, chunk by chunk, remembering earlier chunks in a KV cache."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        rows, columns = config.patch_hw
        self.patch_embedding = nn.Conv3d(
            config.in_channels, config.dim, kernel_size=(1, rows, columns), stride=(1, rows, columns)
        )
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, config.dim), nn.GELU(approximate="tanh"), nn.Linear(config.dim, config.dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(config.dim, 6 * config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for linear layers, small text and time embeddings, a head that starts at zero (as DiT)."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and "camera_phase" not in name:  # which starts at zero by itself
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        for layer in (*self.text_embedding, *self.time_embedding):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.head.head.weight)

    def forward(
        self,
        latents: Float[Tensor, "b t c h w"],
        sigmas: Float[Tensor, "b t"],
        positions: Float[Tensor, "b t"],
        text: Float[Tensor, "b s e"] | Float[Tensor, "b k s e"],
        cameras: Float[Tensor, "b t 14"] | None = None,
        *,
        camera_valid: Bool[Tensor, "b t"] | None = None,
        attention: Literal["causal", "bidirectional"] | ChunkMask = "causal",
        cache: StreamingKVCache | None = None,
        text_of_chunk: tuple[int, ...] | None = None,
        return_lse: bool = False,
    ) -> Float[Tensor, "b t o h w"] | tuple[Float[Tensor, "b t o h w"], list[Tensor]]:
        """Velocity of every latent frame.

        Args:
            latents: noised latents; t a whole number of chunks.
            sigmas: noise level per latent frame, in [0, 1].
            positions: original time of each latent frame.
            text: one embedding for all, or one per chunk (a prompt schedule).
            cameras: pose descriptors (Eq. 1), or None to run without.
            camera_valid: which of them may be used; None = all.
            attention: ignored when `cache` is given.
            cache: attend over its entries, with the open slot holding this one chunk.
            text_of_chunk: which text each chunk reads, when several chunks share texts.
            return_lse: also return, per layer, the log-sum-exp of each query against each chunk of keys
                (`b n l j`); j counts the sequence's chunks, or the cache's entries in slot order.

        Raises:
            InputError: shapes that do not belong together, or noise levels outside [0, 1].
        """
        config = self.config
        _, t, _, h, w = latents.shape
        rows, columns = config.patch_hw
        self._check(latents, sigmas, positions, text, cameras, cache)
        num_chunks = t // LATENTS_PER_CHUNK
        grid_hw = (h // rows, w // columns)

        patches = rearrange(latents, "b t c (y p) (x q) -> b t (y x) (c p q)", p=rows, q=columns)
        x = linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        rotors = position_rotors(positions, grid_hw, config)[:, :, :, None]
        time = self.time_embedding(sinusoid(1000 * sigmas, config.freq_dim).to(x.dtype))
        time_modulation = self.time_projection(time).unflatten(-1, (6, -1))
        if text.ndim == 3:
            text, text_of_chunk = text[:, None], (0,)  # one text for all: the whole sequence is one "chunk" of it
        text_of_chunk = text_of_chunk or tuple(range(num_chunks))
        context = self.text_embedding(text)
        conditions = None
        if cameras is not None and config.camera_mode != "none":
            valid = torch.ones_like(sigmas, dtype=torch.bool) if camera_valid is None else camera_valid
            conditions = CameraConditions(cameras, valid)

        mask: ChunkMask | None = None
        if cache is None and attention != "bidirectional":
            mask = ChunkMask.causal(num_chunks) if isinstance(attention, str) else attention
        lse: list[Tensor] | None = [] if return_lse else None
        for layer, block in enumerate(self.blocks):
            x = block(
                x, time_modulation, rotors, conditions, context, text_of_chunk, mask,
                None if cache is None else (cache, layer), lse,
            )
        out = self.head(x, time)
        velocity = rearrange(
            out, "b t (y x) (p q c) -> b t c (y p) (x q)", y=grid_hw[0], p=rows, q=columns
        )
        return velocity if lse is None else (velocity, lse)

    def _check(
        self,
        latents: Tensor,
        sigmas: Tensor,
        positions: Tensor,
        text: Tensor,
        cameras: Tensor | None,
        cache: StreamingKVCache | None,
    ) -> None:
        config = self.config
        b, t, c, h, w = latents.shape
        if c != config.in_channels:
            raise InputError("wrong number of latent channels", got=c, expected=config.in_channels)
        if t % LATENTS_PER_CHUNK:
            raise InputError("latents must fill whole chunks", got=f"{t} latent frames",
                             expected=f"a multiple of {LATENTS_PER_CHUNK}")
        if h % config.patch_hw[0] or w % config.patch_hw[1]:
            raise InputError("latent size does not split into patches", got=(h, w),
                             expected=f"multiples of {config.patch_hw}")
        if sigmas.shape != (b, t) or positions.shape != (b, t):
            raise InputError("sigmas and positions need one value per latent frame",
                             got=(tuple(sigmas.shape), tuple(positions.shape)), expected=(b, t))
        if text.shape[-1] != config.text_dim or text.shape[-2] > config.text_len:
            raise InputError("the text does not fit the model", got=tuple(text.shape[-2:]),
                             expected=f"at most {config.text_len} tokens of {config.text_dim}")
        if cameras is not None and cameras.shape != (b, t, 14):
            raise InputError("cameras need one pose descriptor per latent frame", got=tuple(cameras.shape),
                             expected=(b, t, 14))
        if cache is not None and (cache.config != config or t != LATENTS_PER_CHUNK):
            raise InputError("the cache belongs to another model, or this is not one chunk", got=f"{t} latent frames")
        if not torch.compiler.is_compiling() and not ((sigmas >= 0) & (sigmas <= 1)).all():
            raise InputError("noise levels must lie in [0, 1]", got=(sigmas.min().item(), sigmas.max().item()))


def sinusoid(timesteps: Float[Tensor, "b t"], dim: int) -> Float[Tensor, "b t e"]:
    """[cos, sin] of timesteps at `dim / 2` frequencies, computed in float64 (bf16 has 294 distinct timesteps)."""
    half = dim // 2
    frequency = 10_000.0 ** (-torch.arange(half, dtype=torch.float64, device=timesteps.device) / half)
    angle = timesteps.double()[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)
