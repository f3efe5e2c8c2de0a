"""What the three arms of a size differ in; steps, data, shape of the trunk and everything else are equal."""

from __future__ import annotations

from typing import Any

from remind.training.config import Arm
from remind.training.regimes import Curriculum, RegimeOptions


def arm_settings(arm: Arm) -> dict[str, Any]:
    """Curriculum, track and camera mode of an arm.

    `base` never sees an interruption; `matched` sees the same interrupted clips and cameras as `remind` but only
    all-history, so the difference to it is the curriculum's alone.
    """
    if arm == "base":
        return {"curriculum": Curriculum((("all_history", 1.0),)), "regime": RegimeOptions(track="clean")}
    if arm == "matched":
        return {"curriculum": Curriculum((("all_history", 1.0),)), "regime": RegimeOptions()}
    return {
        "curriculum": Curriculum((
            ("all_history", 0.2), ("noisy_memory", 0.05), ("node_drop", 0.15), ("v2v_frontier", 0.5),
            ("reference_cache", 0.1),
        )),
        "regime": RegimeOptions(),
    }
