"""The limits by which frames of world clips are judged, for the frame size and codec of a model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from remind.evaluation.calibration import Calibration, calibrate
from remind.evaluation.world_validator import validation_clips
from remind.inference.pipeline import RemindPipeline

NUM_CLIPS = 32  # our choice where nothing is shipped: two of every family


def limits_for(pipe: RemindPipeline) -> Calibration:
    """The shipped limits for this frame size; without any, limits measured on validation clips through its codec."""
    path = Path(str(resources.files("remind") / "assets" / f"calibration-{pipe.hw[0]}.json"))
    if path.is_file() and (shipped := Calibration.load(path)).hw == pipe.hw:
        return shipped
    components = pipe.components
    with components.placement.using(components.codec):
        return calibrate(validation_clips(NUM_CLIPS, pipe.hw), lambda rgb: components.codec.decode(
            components.codec.encode(rgb[None]).to(components.device))[0].cpu())  # fmt: skip
