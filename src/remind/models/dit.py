"""CausalVideoDiT: the chunk-causal video diffusion transformer, with Wan-native parameter names.

Architecture: Wan2.1 (adaLN per latent frame, QK-norm over the full width, cross-attention to text), chunk-causal
attention, per-latent-frame noise levels and positions, and PM-RoPE (ReMind Sec. 3.2).

Dtypes. Norms, modulation, gates, noise levels and rotary phases are float32 (or float64) whatever the weights are.
Under `torch.autocast` with float32 weights the residual stream is float32 and the matrix products are bfloat16: for
training. With `model.to(torch.bfloat16)` the residual stream is bfloat16 too, as Self-Forcing runs it: for generating
with its checkpoints. The time embedding is computed in the weights' dtype from float64 sinusoids, never from bfloat16
timesteps, of which only 294 of 1000 are distinct.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.attention import ChunkMask
from remind.models.camera_conditions import CameraConditions
from remind.models.config import DiTConfig
from remind.models.cross_attention import CrossAttention, KeysValues, PromptContext
from remind.models.float64 import float64_device
from remind.models.kv_cache import StreamingKVCache
from remind.models.norms import GELU, gated, modulated
from remind.models.pm_rope import position_rotors
from remind.models.self_attention import SelfAttention
from remind.models.sequence_parallel import SequenceParallel


class Block(nn.Module):
    """adaLN self-attention, ungated cross-attention, adaLN feed-forward."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.eps = config.eps
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.norm3 = nn.LayerNorm(config.dim, eps=config.eps)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim), GELU(), nn.Linear(config.ffn_dim, config.dim)
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)

    def forward(
        self,
        x: Float[Tensor, "b t l d"],
        time_modulation: Float[Tensor, "b t 6 d"],
        rotors: Tensor,
        cameras: CameraConditions | None,
        text: Float[Tensor, "b k s d"] | KeysValues,
        text_of_chunk: tuple[int, ...],
        mask: ChunkMask | BlockMask | None,
        cache: tuple[StreamingKVCache, int] | None,
        lse: list[Tensor] | None,
        sequence_parallel: SequenceParallel | None = None,
    ) -> Float[Tensor, "b t l d"]:
        """`text` is embedded text, or keys and values of this layer that were computed before."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.modulation.float() + time_modulation)[
            :, :, None
        ].unbind(3)
        attended = self.self_attn(
            modulated(x, shift, scale, self.eps), rotors, cameras, mask, cache, lse, sequence_parallel
        )
        x = gated(x, attended, gate)
        context = self.cross_attn.keys_values(text) if isinstance(text, Tensor) else text
        x = x + self.cross_attn(self.norm3(x), context, text_of_chunk).type_as(x)
        return gated(x, self.ffn(modulated(x, ffn_shift, ffn_scale, self.eps)), ffn_gate)


class Head(nn.Module):
    """Final adaLN and projection of tokens to patches."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.eps = config.eps
        rows, columns = config.patch_hw
        self.head = nn.Linear(config.dim, rows * columns * config.out_channels)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Float[Tensor, "b t l d"], time: Float[Tensor, "b t d"]) -> Float[Tensor, "b t l o"]:
        shift, scale = (self.modulation.float() + time.float()[:, :, None])[:, :, None].unbind(3)
        return self.head(modulated(x, shift, scale, self.eps))


class CausalVideoDiT(nn.Module):
    """Predicts the flow velocity of video latents, chunk by chunk, remembering earlier chunks in a KV cache.

    Attributes:
        checkpoint_blocks: recompute each block in the backward pass instead of keeping its activations.
        sequence_parallel: the ranks that share the tokens of a pass, each given its `band` of the latents and giving
            its band of the velocity; None = this process alone. For training: no cache.
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        self.checkpoint_blocks = False
        self.sequence_parallel: SequenceParallel | None = None
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
            if isinstance(module, nn.Linear) and "camera_branch_output" in name:
                nn.init.zeros_(module.weight)
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
        text: Float[Tensor, "b s e"] | Float[Tensor, "b k s e"] | PromptContext,
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
            text: one embedding for all, one per chunk (a prompt schedule), or what `encode_prompt` made of either.
            cameras: pose descriptors (Eq. 1), or None to run without.
            camera_valid: which of them may be used; None = all.
            attention: ignored when `cache` is given.
            cache: attend over its entries, with the open slots holding the chunks of this sequence.
            text_of_chunk: which text each chunk reads, when several chunks share texts.
            return_lse: also return, per layer, the log-sum-exp of each query against each chunk of keys
                (`b n l j`); j counts the sequence's chunks, or the cache's entries in slot order.

        Raises:
            InputError: shapes that do not belong together; on CPUs also noise levels outside [0, 1] and cameras
                that are not finite (elsewhere a check would make the device wait).
        """
        config = self.config
        _, t, _, h, w = latents.shape
        rows, columns = config.patch_hw
        sharing = self.sequence_parallel
        if sharing is not None:
            sharing.check(config, (h, w), remembers=cache is not None or return_lse)
        self._check(latents, sigmas, positions, text, cameras, cache, camera_valid)
        num_chunks = t // LATENTS_PER_CHUNK
        grid_hw = (h // rows, w // columns)

        patches = rearrange(latents, "b t c (y p) (x q) -> b t (y x) (c p q)", p=rows, q=columns)
        x = linear(patches.to(self.dtype), self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        x = x.to(self.dtype)  # autocast must not make the residual stream bfloat16
        grid_start = (0, 0) if sharing is None else sharing.grid_start(grid_hw)
        rotors = position_rotors(positions, grid_hw, config, grid_start)[:, :, :, None]
        time, time_modulation = self._time(sigmas)
        if text_of_chunk is None:
            num_texts = text.num_texts if isinstance(text, PromptContext) else text.shape[1] if text.ndim == 4 else 1
            # One text for all: the whole sequence is one "chunk" of it.
            text_of_chunk = (0,) if num_texts == 1 else tuple(range(num_chunks))
        context = None if isinstance(text, PromptContext) else self._embed(text)
        conditions = None
        if cameras is not None and config.camera_mode != "none":
            valid = torch.ones_like(sigmas, dtype=torch.bool) if camera_valid is None else camera_valid
            conditions = CameraConditions(cameras, valid, config)

        mask: ChunkMask | BlockMask | None = None
        if cache is None and attention != "bidirectional":
            chosen = ChunkMask.causal(num_chunks) if isinstance(attention, str) else attention
            tokens = grid_hw[0] * grid_hw[1] * (1 if sharing is None else sharing.size)
            mask = chosen.prepare(LATENTS_PER_CHUNK * tokens, x.device)
        lse: list[Tensor] | None = [] if return_lse else None
        for layer, block in enumerate(self.blocks):
            run = partial(checkpoint, block, use_reentrant=False) if self.checkpoint_blocks else block
            x = run(
                x, time_modulation, rotors, conditions,
                text.layers[layer] if isinstance(text, PromptContext) else context,
                text_of_chunk, mask, None if cache is None else (cache, layer), lse, sharing,
            )
        out = self.head(x, time)
        velocity = rearrange(
            out, "b t (y x) (p q c) -> b t c (y p) (x q)", y=grid_hw[0], p=rows, q=columns
        )
        return velocity if lse is None else (velocity, lse)

    @torch.no_grad()
    def encode_prompt(self, text: Float[Tensor, "b s e"] | Float[Tensor, "b k s e"]) -> PromptContext:
        """Keys and values of a prompt in every layer, for a rollout that runs many passes under it."""
        embedded = self._embed(text)
        return PromptContext(tuple(block.cross_attn.keys_values(embedded) for block in self._blocks()))

    def fold_cameras(self) -> CausalVideoDiT:
        """Let W_V and W_O carry the camera residuals' maps on features, in place; for inference.

        Source: our choice, exact: the residual of Eq. 3 is linear, see `CameraResidual`. What is left of a camera
        is a bias per frame and, in the rotary phases, a factor.

        Raises:
            InputError: a model whose residuals depend on the frame.
        """
        if self.config.camera_mode in ("vo", "full") and self.config.vo_transform == "prope":
            raise InputError("projective camera residuals cannot be folded", got='vo_transform="prope"',
                             expected='"concat"', fix="run the model as it is: a matrix per frame is no weight")
        for block in self._blocks():
            block.self_attn.fold_cameras()
        return self

    def compile_blocks(self, **options: Any) -> CausalVideoDiT:
        """Compile every block by itself, without graph breaks, in place; options go to `torch.compile`."""
        for block in self._blocks():
            block.compile(fullgraph=True, **options)
        return self

    @staticmethod
    def empty(config: DiTConfig) -> CausalVideoDiT:
        """A model on the meta device: shapes and no memory; give it weights by `load_state_dict(..., assign=True)`."""
        with torch.device("meta"):
            return CausalVideoDiT(config)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and so of the matrix products outside autocast."""
        return self.patch_embedding.weight.dtype

    def _embed(self, text: Tensor) -> Float[Tensor, "b k s d"]:
        text = text[:, None] if text.ndim == 3 else text
        return self.text_embedding(text.to(self.dtype))

    def _time(self, sigmas: Float[Tensor, "b t"]) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t 6 d"]]:
        """Embedding of the noise levels and its modulation, never autocast."""
        with torch.autocast(sigmas.device.type, enabled=False):
            waves = sinusoid(1000 * sigmas.float(), self.config.freq_dim)
            time = self.time_embedding(waves.to(self.dtype).to(sigmas.device))
            return time, self.time_projection(time).unflatten(-1, (6, -1)).float()

    def _check(
        self,
        latents: Tensor,
        sigmas: Tensor,
        positions: Tensor,
        text: Tensor | PromptContext,
        cameras: Tensor | None,
        cache: StreamingKVCache | None,
        camera_valid: Tensor | None = None,
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
        if isinstance(text, PromptContext):
            if len(text.layers) != config.num_layers or text.layers[0][0].shape[2] != config.num_heads:
                raise InputError("the prompt was encoded by another model", got=f"{len(text.layers)} layers",
                                 expected=config.num_layers, fix="encode_prompt() with this model")
        elif text.shape[-1] != config.text_dim or text.shape[-2] > config.text_len:
            raise InputError("the text does not fit the model", got=tuple(text.shape[-2:]),
                             expected=f"at most {config.text_len} tokens of {config.text_dim}")
        if cameras is not None and cameras.shape != (b, t, 14):
            raise InputError("cameras need one pose descriptor per latent frame", got=tuple(cameras.shape),
                             expected=(b, t, 14), fix="geometry.pose_descriptor makes them from poses and intrinsics")
        if cache is not None:
            grid = (h // config.patch_hw[0], w // config.patch_hw[1])
            frames = LATENTS_PER_CHUNK * max(1, cache.num_open)
            if cache.config != config or cache.grid_hw != grid or cache.batch != b or t != frames:
                raise InputError("the cache belongs to another model or size, or these are not its open chunks",
                                 got=f"{t} latent frames, batch {b}, grid {grid}",
                                 expected=f"{frames} latent frames, batch {cache.batch}, grid {cache.grid_hw}")
        if torch.compiler.is_compiling() or latents.device.type != "cpu":
            return
        if not ((sigmas >= 0) & (sigmas <= 1)).all():  # also not: NaN
            raise InputError("noise levels must lie in [0, 1]", got=(sigmas.min().item(), sigmas.max().item()))
        if cameras is not None:
            used = cameras if camera_valid is None else cameras[camera_valid]
            if not used.isfinite().all():
                raise InputError("cameras must be finite where they are valid", got="NaN or infinity",
                                 fix="set camera_valid to False there; log focal lengths need positive intrinsics")


def sinusoid(timesteps: Float[Tensor, "b t"], dim: int) -> Float[Tensor, "b t e"]:
    """[cos, sin] of timesteps at `dim / 2` frequencies, computed in float64 (bf16 has 294 distinct timesteps)."""
    half, device = dim // 2, float64_device(timesteps.device)
    frequency = 10_000.0 ** (-torch.arange(half, dtype=torch.float64, device=device) / half)
    angle = timesteps.to(device).double()[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)
