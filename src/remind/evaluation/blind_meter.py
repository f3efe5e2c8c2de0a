"""Clips on which the state meter is blind: it reads a state from a view that shows none.

A meter names the state that explains a picture best. Where the thing itself is dark, a dark picture may look like a
state to it, and a model that leaves the view hidden would be scored as right or wrong. This is a fact of a clip and of
the limits, known before any model has run. Such clips are failed for everybody, and counted. Our choice.
"""

from __future__ import annotations

from jaxtyping import UInt8
from torch import Tensor

from remind.evaluation.calibration import Calibration
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.world_benchmark import score_video

BLIND = "the meter reads a state from the hidden view"


def held_hidden(meter: CaseMeter) -> UInt8[Tensor, "t h w 3"]:
    """The clip whose last hidden frame lasts to the end: its view never comes back."""
    video = meter.case.degraded.rgb.clone()
    stop = meter.case.schedule.interruptions[-1].hidden_stop
    video[stop:] = video[stop - 1].clone()
    return video


def is_blind(meter: CaseMeter, limits: Calibration) -> bool:
    """Whether any frame of a view that never comes back is taken to show a state."""
    shown = score_video(meter.case, held_hidden(meter), meter, limits).shown_share
    return shown is not None and shown > 0
