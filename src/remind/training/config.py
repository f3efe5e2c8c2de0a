"""Everything that decides a training run, in one frozen object."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from remind.data.world_clips import HIDING_KINDS
from remind.frame_graph import InterruptionKind, num_latent_frames
from remind.models.config import DiTConfig
from remind.training.config_check import check_config
from remind.training.curriculum import Curriculum
from remind.training.lora import LoraOptions
from remind.training.losses import LossOptions
from remind.training.regimes import RegimeOptions
from remind.training.step import StepOptions

Arm = Literal["remind", "base", "matched"]


@dataclass(frozen=True)
class Execution:
    """How a run is carried out: nothing here changes what it computes, so a resumed run may have other values.

    Args:
        micro_batch: clips per forward pass and rank; 0 = the rank's whole share of a group. Gradients of the passes of
            a step are accumulated.
        recompute: keep no activations of blocks, compute them again in the backward pass.
        compile: compile every block by itself.
        replicate: replicas of the sharded model (HSDP); 1 = shard over all ranks (FSDP).
        sequence_parallel: ranks that share the tokens of each clip.
        checkpoint_every: steps.
        keep: latest checkpoints that stay on disk beside the best one.
        workers: processes that render world clips and read clips ahead; 0 = none.
        trackers: what shows the run's numbers, of `tensorboard` and `wandb`; may be empty.
        device: `auto`, `cpu`, `cuda` or `mps`.
    """

    micro_batch: int = 0
    recompute: bool = False
    compile: bool = False
    replicate: int = 1
    sequence_parallel: int = 1
    checkpoint_every: int = 200
    keep: int = 2
    workers: int = 2
    trackers: tuple[str, ...] = ("tensorboard",)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


@dataclass(frozen=True)
class ValidationOptions:
    """What is looked at while a run goes on, on clips that it never trains on.

    Args:
        every: steps between two looks; 0 = never.
        by: `world`, generate held-out world clips and read their hidden state (for the embedded codec); `loss`, the
            loss on held-out clips at fixed noise levels.
        clips: how many clips.
    """

    every: int = 0
    by: Literal["world", "loss"] = "loss"
    clips: int = 16


@dataclass(frozen=True)
class DataPart:
    """One store of a run's mixture.

    Args:
        store: folder of memory clips, as `remind data build` makes it.
        weight: how much of what stores give comes from it, > 0, in proportion to the other stores' weights.
        latents: a cache of its latents (`remind data latents`); None = encode on the fly.
    """

    store: Path
    weight: float = 1.0
    latents: Path | None = None


@dataclass(frozen=True)
class TrainConfig:
    """A complete run.

    Args:
        recipe: its name.
        arm: what it is compared as: `remind`; `base`, all-history on clean clips without cameras; `matched`,
            all-history on interrupted clips with cameras, the fair baseline.
        model: shape.
        hw: frame size, px.
        num_frames: pixel frames per clip.
        steps: optimiser steps.
        batch_size: clips per step, over all ranks and micro-batches.
        group_size: neighbouring clips of a step that share a regime and so a visibility pattern; 0 = the whole batch.
            Must divide the batch.
        optimizer: `adamw`, or `muon` for the blocks' matrices with AdamW for the rest.
        learning_rate: AdamW's peak, reached after `warmup_steps`, then cosine to a twentieth.
        muon_learning_rate: Muon's peak.
        warmup_steps: over which the rates rise from nothing.
        weight_decay: on matrices only.
        grad_clip: largest gradient norm.
        ema_decay: of the averaged weights that are shipped.
        curriculum: weights of the regimes, over the run's progress.
        regime: options of the regimes.
        step: options of noise and attention.
        loss: variant and weights of the loss.
        precision: `fp32`, or `bf16`: matrix products in bfloat16 by autocast, weights and norms in float32.
        init_from: checkpoint to start from (any that `load_checkpoint` reads); None = random weights.
        lora: train low-rank adapters and cameras on a frozen base; None = all weights.
        bank_size: world clips to train on; 0 = none.
        world_families: families of their scenes; none named = all.
        world_kinds: interruptions of the world clips.
        data: stores of memory clips to train on; none named = the world alone.
        encoders: what made latents and text: `embedded`, the linear codec and the word hash, which run anywhere; `wan`,
            a Wan VAE and UMT5, which no rank runs: both are read from the stores' latents.
        world_share: share of world clips when stores are mixed in, 0..1.
        seed: of weights, order, regimes and noise.
        validation: what is looked at meanwhile.
        execution: how the run is carried out.

    Raises:
        InputError: a value out of its range, or two that contradict each other.
    """

    recipe: str
    arm: Arm
    model: DiTConfig
    hw: tuple[int, int]
    num_frames: int = 81
    steps: int = 1000
    batch_size: int = 32
    group_size: int = 0
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    muon_learning_rate: float = 0.02
    warmup_steps: int = 60
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    ema_decay: float = 0.998
    curriculum: Curriculum = field(default_factory=lambda: Curriculum.constant({"all_history": 1.0}))
    regime: RegimeOptions = field(default_factory=RegimeOptions)
    step: StepOptions = field(default_factory=StepOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    precision: Literal["fp32", "bf16"] = "fp32"
    init_from: str | None = None
    lora: LoraOptions | None = None
    bank_size: int = 3072
    world_families: tuple[str, ...] = ()
    world_kinds: tuple[InterruptionKind, ...] = HIDING_KINDS
    data: tuple[DataPart, ...] = ()
    encoders: Literal["embedded", "wan"] = "embedded"
    world_share: float = 0.5
    seed: int = 0
    validation: ValidationOptions = field(default_factory=ValidationOptions)
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        check_config(self)

    @property
    def latent_hw(self) -> tuple[int, int]:
        return self.hw[0] // 8, self.hw[1] // 8

    @property
    def num_latents(self) -> int:
        return num_latent_frames(self.num_frames)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; paths become strings."""
        data = [{"store": str(part.store), "weight": part.weight,
                 "latents": None if part.latents is None else str(part.latents)} for part in self.data]  # fmt: skip
        return asdict(self) | {"model": self.model.to_json(), "data": data, "curriculum": self.curriculum.to_json()}
