"""Self-attention with QK-norm, rotary phases and, with cameras, one of the modes of ReMind Table 3."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import scaled_dot_product_attention

from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.attention import ChunkMask, chunk_attention, chunk_lse
from remind.models.camera_conditions import CameraConditions
from remind.models.config import DiTConfig
from remind.models.kv_cache import StreamingKVCache
from remind.models.norms import QKNorm
from remind.models.pm_rope import CameraPhase, CameraResidual, rotate
from remind.models.projective import ProjectiveResidual, transform_groups
from remind.models.sequence_parallel import SequenceParallel, heads_for_tokens, tokens_for_heads


class SelfAttention(nn.Module):
    """Source: ReMind Eqs. 2-3 (`qk`, `vo`, `full`); `dual` after WorldPlay, ReMind Sec. 3.2 and Table 3."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        dim, mode = config.dim, config.camera_mode
        self.num_heads, self.mode = config.num_heads, mode
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = QKNorm(dim, config.eps), QKNorm(dim, config.eps)
        self.camera_phase: CameraPhase | None = None
        self.camera_value: CameraResidual | ProjectiveResidual | None = None
        self.camera_output: CameraResidual | ProjectiveResidual | None = None
        if mode in ("qk", "full"):
            self.camera_phase = CameraPhase(config)
        if mode in ("vo", "full"):
            residual = ProjectiveResidual if config.vo_transform == "prope" else CameraResidual
            self.camera_value, self.camera_output = residual(dim), residual(dim)
        if mode == "dual":
            self.camera_branch_output = nn.Linear(dim, dim)

    def fold_cameras(self) -> None:
        """See `CausalVideoDiT.fold_cameras`."""
        for residual in (self.camera_value, self.camera_output):
            assert not isinstance(residual, ProjectiveResidual)
        if isinstance(self.camera_value, CameraResidual) and isinstance(self.camera_output, CameraResidual):
            self.camera_value.fold_into_value(self.v)
            self.camera_output.fold_into_output(self.o)

    def forward(
        self,
        x: Float[Tensor, "b t l d"],
        rotors: Complex[Tensor, "b t l 1 p"],
        cameras: CameraConditions | None,
        mask: ChunkMask | BlockMask | None,
        cache: tuple[StreamingKVCache, int] | None,
        lse: list[Tensor] | None,
        sequence_parallel: SequenceParallel | None = None,
    ) -> Float[Tensor, "b t l d"]:
        """Attend within the sequence (`mask`, None = everything), or over the cache of layer `cache[1]`.

        With `sequence_parallel`, `x` is this rank's band of tokens and attention runs over those of all ranks.
        """
        q = self.norm_q(self.q(x)).unflatten(-1, (self.num_heads, -1))
        k = self.norm_k(self.k(x)).unflatten(-1, (self.num_heads, -1))
        v = self.v(x) if self.camera_value is None else self.camera_value.value(self.v, x, cameras)
        v = v.unflatten(-1, (self.num_heads, -1))
        offsets = None
        if self.camera_phase is not None and cameras is not None:
            offsets = self.camera_phase(cameras.descriptor, cameras.valid)
        turn = rotors if offsets is None else rotors * offsets
        if self.mode == "dual":
            q, k, v, turn = self._with_branch(q, k, v, turn, cameras)
        q = rotate(q, turn)
        raw = cache is not None and cache[0].keys == "raw"
        k = k if raw else rotate(k, turn)
        if sequence_parallel is not None:
            q, k, v = tokens_for_heads(sequence_parallel, q, k, v)
        q, k, v = (rearrange(y, "b t l n d -> b n (t l) d") for y in (q, k, v))

        if cache is not None:
            y = cache[0].attend(cache[1], q, k, v, offsets=offsets, lse=lse)
        else:
            if lse is not None:
                lse.append(chunk_lse(q, k, v, LATENTS_PER_CHUNK * x.shape[2]))
            y = scaled_dot_product_attention(q, k, v) if mask is None else chunk_attention(q, k, v, mask)
        y = rearrange(y, "b n (t l) d -> b t l n d", t=x.shape[1])
        return self._output(y if sequence_parallel is None else heads_for_tokens(sequence_parallel, y), cameras)

    def _output(self, y: Float[Tensor, "b t l n d"], cameras: CameraConditions | None) -> Float[Tensor, "b t l e"]:
        """o of Eq. 3, or the sum of both branches."""
        if self.mode == "dual":
            y, branch = y.split(self.num_heads, 3)
            if cameras is not None:
                branch = transform_groups(branch, cameras.projection)
            return self.o(y.flatten(3)) + self.camera_branch_output(branch.flatten(3))
        y = y.flatten(3)
        return self.o(y) if self.camera_output is None else self.camera_output.output(self.o, y, cameras)

    def _with_branch(
        self, q: Tensor, k: Tensor, v: Tensor, turn: Tensor, cameras: CameraConditions | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A second set of heads that sees relative cameras and no time: q' = P^T q, k' = P^-1 k, v' = P^-1 v."""
        q2, k2, v2 = q, k, v
        if cameras is not None:
            q2 = transform_groups(q, cameras.projection.mT)
            k2 = transform_groups(k, cameras.inverse_projection)
            v2 = transform_groups(v, cameras.inverse_projection)
        heads = turn.expand(*turn.shape[:3], self.num_heads, -1)
        still = torch.ones_like(heads)
        pairs = zip((q, k, v, heads), (q2, k2, v2, still), strict=True)
        q, k, v, turn = (torch.cat(pair, 3) for pair in pairs)
        return q, k, v, turn

