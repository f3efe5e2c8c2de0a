"""What the three arms of a size differ in; steps, data, shape of the trunk and everything else are equal."""

from __future__ import annotations

from typing import Any

from remind.training.config import Arm
from remind.training.curriculum import BALANCED, Curriculum
from remind.training.regimes import RegimeOptions


def arm_settings(arm: Arm) -> dict[str, Any]:
    """Curriculum, track and camera mode of an arm.

    `base` never sees an interruption; `matched` sees the same interrupted clips and cameras as `remind` but only
    all-history, so the difference to it is the curriculum's alone.
    """
    if arm == "base":
        return {"curriculum": Curriculum.constant({"all_history": 1.0}), "regime": RegimeOptions(track="clean")}
    if arm == "matched":
        return {"curriculum": Curriculum.constant({"all_history": 1.0}), "regime": RegimeOptions()}
    return {
        "curriculum": BALANCED,
        "regime": RegimeOptions(),
    }
