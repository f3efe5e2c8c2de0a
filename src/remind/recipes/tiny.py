"""tiny: 64x64 px, the same code at four times the tokens; hours on two CPU cores."""

from __future__ import annotations

from remind.models.config import DiTConfig
from remind.recipes.arms import arm_settings
from remind.training.config import Arm, TrainConfig
from remind.training.step import StepOptions


def tiny(arm: Arm) -> TrainConfig:
    """The whole configuration; every arm has the same steps, data and trunk."""
    return TrainConfig(
        recipe="tiny",
        arm=arm,
        model=DiTConfig.preset("tiny", camera_mode="none" if arm == "base" else "full"),
        hw=(64, 64),
        steps=6000,
        batch_size=16,
        optimizer="muon",  # as nano; not compared at this size
        learning_rate=3e-3,
        muon_learning_rate=0.04,
        bank_size=4096,
        step=StepOptions(sigma_shift=4.0),
        **arm_settings(arm),
    )
