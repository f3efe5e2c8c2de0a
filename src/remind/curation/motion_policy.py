"""Which windows are kept by their numbers alone, before any model looks."""

from __future__ import annotations

from dataclasses import dataclass

from remind.curation.scan import Window
from remind.data.motion import Motion, why_static


@dataclass(frozen=True)
class MotionPolicy:
    """When a window moves enough to be kept; see `Motion` and `FlowStatistics`. Source: ReMind F.1, numbers our choice.

    Args:
        min_change: mean change of luma a frame, 0..1.
        min_moving_share: of the picture, 0..1.
        min_object_area: of what moves otherwise than the camera, 0..1; 0 keeps clips in which only the camera moves.
        min_object_duration: share of the time in which something does, 0..1.
    """

    min_change: float = 5e-4
    min_moving_share: float = 0.01
    min_object_area: float = 0.01
    min_object_duration: float = 0.2


def why_dropped(window: Window, policy: MotionPolicy) -> str | None:
    """A reason to leave a window out, from its numbers alone, or None. Source: ReMind F.1, thresholds our choice."""
    if window.transition_s is not None:
        return f"a dissolve or fade at {window.transition_s:.2f} s"
    if not window.scores:  # a rendered scene: chosen, not found
        return None
    scores = window.scores
    motion = Motion(scores["mean_change"], scores["moving_share"])
    if reason := why_static(motion, min_change=policy.min_change, min_share=policy.min_moving_share):
        return reason
    if scores["object_area"] < policy.min_object_area:
        return (f"little moves but the camera: {scores['object_area']:.1%} of the picture, "
                f"at least {policy.min_object_area:.1%} is needed")  # fmt: skip
    if scores["object_duration"] < policy.min_object_duration:
        return (f"short: something moves for {scores['object_duration']:.0%} of the time, "
                f"at least {policy.min_object_duration:.0%} is needed")  # fmt: skip
    return None
