"""Everything that decides a training run, in one frozen object."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from remind.frame_graph import num_latent_frames
from remind.models.config import DiTConfig
from remind.training.regimes import Curriculum, RegimeOptions
from remind.training.step import StepOptions

Arm = Literal["remind", "base", "matched"]


@dataclass(frozen=True)
class TrainConfig:
    """A complete run.

    Args:
        recipe: its name.
        arm: `remind`; `base`, all-history on clean clips without cameras; `matched`, all-history on interrupted
            clips with cameras, the fair baseline.
        model: shape.
        hw: frame size, px.
        num_frames: pixel frames per clip.
        steps: optimiser steps.
        batch_size: clips per step.
        optimizer: `adamw`, or `muon` for the blocks' matrices with AdamW for the rest.
        learning_rate: AdamW's peak, reached after `warmup_steps`, then cosine to a twentieth.
        muon_learning_rate: Muon's peak.
        weight_decay: on matrices only.
        grad_clip: largest gradient norm.
        ema_decay: of the averaged weights that are shipped.
        delta_gate: share of the steps before the delta loss counts (Eq. 6 is gated; 15 % at small scale).
        curriculum: weights of the regimes.
        regime: options of the regimes.
        step: options of noise and loss.
        bank_size: world clips to train on.
        world_share: share of world clips when a store is mixed in, 0..1.
        checkpoint_every: steps.
        seed: of weights, order, regimes and noise.
    """

    recipe: str
    arm: Arm
    model: DiTConfig
    hw: tuple[int, int]
    num_frames: int = 81
    steps: int = 1000
    batch_size: int = 32
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    muon_learning_rate: float = 0.02
    warmup_steps: int = 60
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    ema_decay: float = 0.998
    delta_gate: float = 0.15
    curriculum: Curriculum = field(default_factory=lambda: Curriculum((("all_history", 1.0),)))
    regime: RegimeOptions = field(default_factory=RegimeOptions)
    step: StepOptions = field(default_factory=StepOptions)
    bank_size: int = 3072
    world_share: float = 0.5
    checkpoint_every: int = 200
    seed: int = 0

    @property
    def latent_hw(self) -> tuple[int, int]:
        return self.hw[0] // 8, self.hw[1] // 8

    @property
    def num_latents(self) -> int:
        return num_latent_frames(self.num_frames)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"model": self.model.to_json()}
