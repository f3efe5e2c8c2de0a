"""The shape of a model, in one frozen object that is also its `config.json`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from remind.errors import CheckpointError, InputError

CameraMode = Literal["none", "qk", "vo", "full", "dual"]


@dataclass(frozen=True)
class DiTConfig:
    """Shape of a `CausalVideoDiT`. Names and meaning follow the Wan family.

    Args:
        dim: width of the residual stream.
        ffn_dim: hidden width of the feed-forward layers.
        num_heads: attention heads; dim / num_heads must be even and at least 6.
        num_layers: transformer blocks.
        in_channels: latent channels in; 16, or 36 for checkpoints with extra condition channels.
        out_channels: latent channels out.
        freq_dim: width of the sinusoidal noise-level embedding.
        text_dim: width of the text embeddings that come in.
        text_len: largest number of text tokens.
        patch_hw: latent pixels a token covers (height, width).
        eps: epsilon of all norms.
        rope_theta: base of the rotary frequencies.
        rope_grid_scale: height and width of a token are multiplied by it before they become phases. Grids of a few
            tokens use a sliver of the circle otherwise, and neighbours look alike.
        camera_mode: the rows of ReMind Table 3: `none`; `qk`, phase offsets alone (Eq. 2); `vo`, residuals alone
            (Eq. 3); `full`, both; `dual`, a second attention branch with a zero-initialised output (WorldPlay).
        vo_transform: how Eq. 3 is read: `concat`, a linear map on [feature, 6-DoF embedding], as its authors
            implement it and foldable; `prope`, a linear map on features moved by 4x4 blocks of the pose.
        camera_hidden: width of the MLP that maps a pose descriptor to phase offsets.
        phase_pairs: which rotary pairs the offsets touch.
        phase_per_head: one offset per head instead of one shared by all heads (the paper does not say).
        max_trained_distance: largest temporal distance, in latent frames, attended in training; None = unknown.
    """

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    in_channels: int = 16
    out_channels: int = 16
    freq_dim: int = 256
    text_dim: int = 4096
    text_len: int = 512
    patch_hw: tuple[int, int] = (2, 2)
    eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_grid_scale: float = 1.0
    camera_mode: CameraMode = "none"
    vo_transform: Literal["concat", "prope"] = "concat"
    camera_hidden: int = 256
    phase_pairs: Literal["all", "temporal"] = "all"
    phase_per_head: bool = False
    max_trained_distance: int | None = None

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.dim % self.num_heads or self.head_dim % 2 or self.head_dim < 6:
            raise InputError("dim does not split into heads", got=f"dim {self.dim}, {self.num_heads} heads",
                             expected="an even head width of at least 6")
        if (self.camera_mode == "dual" or self.vo_transform == "prope") and self.head_dim % 4:
            raise InputError("4x4 camera blocks do not split this head", got=f"head width {self.head_dim}",
                             expected="a multiple of 4")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def rotary_pairs_thw(self) -> tuple[int, int, int]:
        """Rotary pairs given to time, height and width: 22, 21, 21 at head width 128, as Wan."""
        spatial = self.head_dim // 6
        return self.head_dim // 2 - 2 * spatial, spatial, spatial

    @staticmethod
    def preset(name: str, **changes: Any) -> DiTConfig:
        """A named shape: `nano`, `tiny` or `wan-1.3b`.

        Raises:
            InputError: an unknown name.
        """
        if name not in _PRESETS:
            raise InputError("unknown model preset", got=name, expected=" | ".join(_PRESETS))
        return DiTConfig(**{**_PRESETS[name], **changes})

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "patch_hw": list(self.patch_hw)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> DiTConfig:
        """Read a config; unknown and missing fields are errors.

        Raises:
            CheckpointError: a field that this version does not know.
        """
        known = {f.name for f in fields(DiTConfig)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise CheckpointError("the model config has unknown fields", got=unknown,
                                  fix="use the version of remind that wrote it")
        try:
            return DiTConfig(**{**data, "patch_hw": tuple(data.get("patch_hw", (2, 2)))})
        except TypeError as error:
            raise CheckpointError("the model config is incomplete", got=str(error)) from None


_PRESETS: dict[str, dict[str, Any]] = {
    # 4 tokens of 64 numbers per latent frame at 32x32 px: a token stays well below the width.
    # Wan's rotary base and unit steps leave neighbours of a 2x2 grid alike; here they are half a turn apart.
    "nano": {"dim": 128, "ffn_dim": 512, "num_heads": 4, "num_layers": 6, "freq_dim": 64, "text_dim": 64,
             "text_len": 24, "camera_hidden": 64, "rope_theta": 100.0, "rope_grid_scale": math.pi},
    "tiny": {"dim": 192, "ffn_dim": 768, "num_heads": 6, "num_layers": 8, "freq_dim": 64, "text_dim": 64,
             "text_len": 24, "camera_hidden": 64, "rope_theta": 100.0, "rope_grid_scale": math.pi / 2},
    "wan-1.3b": {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30},
}
