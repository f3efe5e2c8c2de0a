"""The limits by which frames of world clips are judged, for the frame size and codec of a model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from remind.evaluation.calibration import Calibration, calibrate
from remind.evaluation.world_validator import validation_clips
from remind.inference.pipeline import RemindPipeline

NUM_CLIPS = 32  # our choice where nothing is shipped: two of every family


SHIPPED_SIZE = 32


def shipped_limits(side: int = SHIPPED_SIZE) -> Calibration:
    """Limits that come with the package, for square frames of `side` px.

    Raises:
        InputError: none for this size.
    """
    return Calibration.load(_file(side))


def _file(side: int) -> Path:
    return Path(str(resources.files("remind") / "assets" / f"calibration-{side}.json"))


def limits_for(pipe: RemindPipeline) -> Calibration:
    """The shipped limits for this frame size; without any, limits measured on validation clips through its codec."""
    if _file(pipe.hw[0]).is_file() and (shipped := shipped_limits(pipe.hw[0])).hw == pipe.hw:
        return shipped
    components = pipe.components
    with components.placement.using(components.codec):
        return calibrate(validation_clips(NUM_CLIPS, pipe.hw), lambda rgb: components.codec.decode(
            components.codec.encode(rgb[None]).to(components.device))[0].cpu())  # fmt: skip
