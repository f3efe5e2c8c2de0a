"""The 1.3B recipes: 480x832 px, 81 frames at 16 fps, on 32 or 64 GPUs, or on one with adapters.

From the paper (ReMind Sec. 3.4, Appendices B, F and G.1): shape and format of the clips, the base (the Wan2.1 1.3B
family), bfloat16, gradient checkpointing, AdamW with warmup, periodic validation and checkpoints, the delta loss after
2,000 iterations, the sources of data and their roles, and which regimes a V2V-heavy and an I2V-aligned run use. It
gives no numbers for batch, rate, steps, average, weights of regimes or of sources: those here are our choice. None of
these recipes has been run at its size by us; `remind train NAME --dry-run` says what it would take.

Stores are made by `remind data build`, latents and prompt embeddings by `remind data latents --vae --text`; the paths
below are relative to where the command runs, and `--data`, `--latents` and `--init-from` name others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from remind.models.config import DiTConfig
from remind.training.config import DataPart, Execution, TrainConfig, ValidationOptions
from remind.training.curriculum import BALANCED, I2V_ALIGNED, V2V_HEAVY
from remind.training.lora import LoraOptions
from remind.training.losses import LossOptions
from remind.training.regimes import RegimeOptions
from remind.training.step import StepOptions

# A causal multi-step checkpoint of the family needs the least unlearning (docs/guides/wan_checkpoints.md).
BASE = "checkpoints/ar_diffusion.pt"


def store(name: str, weight: float) -> DataPart:
    """A store and its latents where these recipes look for them."""
    return DataPart(Path("stores") / name, weight, Path("latents") / name)


SOURCES = (
    store("openvid", 0.25),  # general videos: appearance
    store("dl3dv", 0.15),  # and camera motion
    store("pexels", 0.25),  # natural dynamics: visible state evolution and interactions
    store("loops", 0.15),  # camera loops: memory of what was looked away from
    store("generated", 0.2),  # hard dynamics: high-occupancy state changes
)
"""Components of ReMind Table 5. The weights are our choice: a good half of the samples shows an evolving state."""


def wan_i2v() -> TrainConfig:
    """I2V-aligned, 32 GPUs: clean first-frame seeding and node-drop, no V2V prefix."""
    return TrainConfig(
        recipe="wan_i2v",
        arm="remind",
        model=DiTConfig.preset("wan-1.3b", camera_mode="full"),
        hw=(480, 832),
        num_frames=81,
        steps=10_000,
        batch_size=64,
        group_size=1,  # a pass holds one clip, so every clip may have a regime of its own and a step mixes all of them
        optimizer="adamw",
        learning_rate=2e-5,
        warmup_steps=500,
        weight_decay=0.01,
        grad_clip=1.0,
        ema_decay=0.999,
        curriculum=I2V_ALIGNED,
        regime=RegimeOptions(track="degraded"),
        step=StepOptions(sigma_shift=5.0),  # as Wan samples
        loss=LossOptions(variant="dynamic_adaptive", alpha=0.2, gamma=5.0, gate_steps=2000),
        precision="bf16",
        init_from=BASE,
        bank_size=0,
        data=SOURCES,
        encoders="wan",
        validation=ValidationOptions(every=500, by="loss", clips=32),
        execution=Execution(micro_batch=1, recompute=True, checkpoint_every=500, workers=4),
    )


def wan_v2v() -> TrainConfig:
    """V2V-heavy, 32 GPUs: frontier continuation after clean or degraded prefixes, and reference-cache reads."""
    return TrainConfig(
        recipe="wan_v2v",
        arm="remind",
        model=DiTConfig.preset("wan-1.3b", camera_mode="full"),
        hw=(480, 832),
        num_frames=81,
        steps=10_000,
        batch_size=64,
        group_size=1,
        optimizer="adamw",
        learning_rate=2e-5,
        warmup_steps=500,
        weight_decay=0.01,
        grad_clip=1.0,
        ema_decay=0.999,
        curriculum=V2V_HEAVY,
        regime=RegimeOptions(track="degraded"),
        step=StepOptions(sigma_shift=5.0),
        loss=LossOptions(variant="dynamic_adaptive", alpha=0.2, gamma=5.0, gate_steps=2000),
        precision="bf16",
        init_from=BASE,
        bank_size=0,
        data=SOURCES,
        encoders="wan",
        validation=ValidationOptions(every=500, by="loss", clips=32),
        execution=Execution(micro_batch=1, recompute=True, checkpoint_every=500, workers=4),
    )


def wan_full() -> TrainConfig:
    """One model for both, 64 GPUs: all regimes, twice the batch and the steps."""
    return TrainConfig(
        recipe="wan_full",
        arm="remind",
        model=DiTConfig.preset("wan-1.3b", camera_mode="full"),
        hw=(480, 832),
        num_frames=81,
        steps=20_000,
        batch_size=128,
        group_size=1,
        optimizer="adamw",
        learning_rate=2e-5,
        warmup_steps=500,
        weight_decay=0.01,
        grad_clip=1.0,
        ema_decay=0.999,
        curriculum=BALANCED,
        regime=RegimeOptions(track="degraded"),
        step=StepOptions(sigma_shift=5.0),
        loss=LossOptions(variant="dynamic_adaptive", alpha=0.2, gamma=5.0, gate_steps=2000),
        precision="bf16",
        init_from=BASE,
        bank_size=0,
        data=SOURCES,
        encoders="wan",
        validation=ValidationOptions(every=500, by="loss", clips=32),
        execution=Execution(micro_batch=1, recompute=True, checkpoint_every=500, workers=4),
    )


def on_one_gpu(config: TrainConfig) -> TrainConfig:
    """The same run with adapters on one GPU: a small batch, a rate ten times as high, and fewer steps.

    Our choice, after what adapters of the Wan family are trained with. Cameras are trained in full, since a base has
    none. The gate of the delta loss is a share of the steps again: 2,000 would be most of the run.
    """
    return replace(
        config,
        recipe=f"{config.recipe}_lora",
        steps=4000,
        batch_size=8,
        learning_rate=2e-4,
        warmup_steps=100,
        ema_decay=0.995,
        loss=replace(config.loss, gate_steps=None),
        lora=LoraOptions(rank=64, alpha=64.0),
        execution=replace(config.execution, checkpoint_every=200),
    )
