"""nano: 32x32 px, two million parameters, trains on two CPU cores in under 20 minutes."""

from __future__ import annotations

from remind.models.config import DiTConfig
from remind.recipes.arms import arm_settings
from remind.training.config import Arm, TrainConfig
from remind.training.step import StepOptions


def nano(arm: Arm) -> TrainConfig:
    """The whole configuration; every arm has the same steps, data and trunk."""
    return TrainConfig(
        recipe="nano",
        arm=arm,
        model=DiTConfig.preset("nano", camera_mode="none" if arm == "base" else "full"),
        hw=(32, 32),
        steps=2800,
        batch_size=16,
        optimizer="muon",  # each of these choices: experiments/nano_recipe
        learning_rate=3e-3,
        muon_learning_rate=0.04,
        bank_size=4096,
        # Most of what memory decides is decided at high noise. 12 tokens a chunk: calls cost more than masked pairs.
        step=StepOptions(sigma_shift=4.0, kernel="dense"),
        **arm_settings(arm),
    )
