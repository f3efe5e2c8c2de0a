"""Which windows are kept, by what a vision-language model or, without one, optical flow says of them.

Source: ReMind F.1 keeps clips whose dynamics cover much of the picture for long, and drops static ones, montage and
tiny motion; the paper gives no numbers, so the thresholds are our choice, and so are those for the safety flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from remind.curation.annotation import FLAGS, Annotation, Flag, TagGroup
from remind.errors import InputError


@dataclass(frozen=True)
class KeepPolicy:
    """Thresholds for annotated windows; a value at a threshold is kept.

    Args:
        min_occupancy: least area share of the dynamic region, 0..1.
        min_visible_share: least share of the duration in which the change is in view, 0..1.
        drop_cuts: drop windows with a cut.
        require_event: drop windows in which no event of the taxonomy takes place.
        allowed_groups: tag groups of which at least one event must be; None for any.
        forbidden_flags: safety flags that drop a window.
        max_flags: most safety flags of any kind, 0..5.
        unsure_is_yes: whether a flag answered with "unsure" counts as raised.
    """

    min_occupancy: float = 0.1
    min_visible_share: float = 0.5
    drop_cuts: bool = True
    require_event: bool = True
    allowed_groups: tuple[TagGroup, ...] | None = None
    forbidden_flags: tuple[Flag, ...] = ("nudity", "violence", "minors")
    max_flags: int = len(FLAGS)
    unsure_is_yes: bool = True

    def __post_init__(self) -> None:
        _check_shares(min_occupancy=self.min_occupancy, min_visible_share=self.min_visible_share)
        if wrong := set(self.forbidden_flags) - set(FLAGS):
            raise InputError("no such safety flag", got=", ".join(sorted(wrong)), expected=", ".join(FLAGS))
        if not 0 <= self.max_flags <= len(FLAGS):
            raise InputError("no such number of safety flags", got=self.max_flags, expected=f"0..{len(FLAGS)}")


def why_dropped(annotation: Annotation, policy: KeepPolicy, taxonomy: Mapping[str, TagGroup]) -> str | None:
    """The first reason to drop an annotated window, or None to keep it.

    Args:
        taxonomy: the tag group of every event type.

    Raises:
        InputError: an annotated event that the taxonomy does not hold.
    """
    raised = annotation.flags.raised(unsure_too=policy.unsure_is_yes)
    if forbidden := [flag for flag in raised if flag in policy.forbidden_flags]:
        return "flagged: " + ", ".join(f"{flag} {getattr(annotation.flags, flag)}" for flag in forbidden)
    if len(raised) > policy.max_flags:
        return f"flagged: {len(raised)} flags ({', '.join(raised)}), at most {policy.max_flags} are allowed"
    if policy.drop_cuts and annotation.has_cut:
        return f"cut at {annotation.cut_time_s:.2f} s"
    if policy.require_event and not annotation.events:
        return "no event: nothing of the taxonomy takes place"
    if policy.allowed_groups is not None and annotation.events:
        groups = sorted({_group_of(event, taxonomy) for event in annotation.events})
        if not set(groups) & set(policy.allowed_groups):
            return f"group: {', '.join(groups)}, allowed are {', '.join(policy.allowed_groups)}"
    if annotation.occupancy < policy.min_occupancy:
        area, least = annotation.occupancy, policy.min_occupancy
        return f"small: {area:.1%} of the picture changes, at least {least:.1%} is needed"
    if annotation.visible_share < policy.min_visible_share:
        share, least = annotation.visible_share, policy.min_visible_share
        return f"brief: in view for {share:.1%} of the time, at least {least:.1%} is needed"
    return None


@dataclass(frozen=True)
class FlowStatistics:
    """What optical flow tells about a window.

    Args:
        object_area: share of the picture in which objects move, 0..1.
        object_duration: share of the duration in which they do, 0..1.
        camera_motion: px per frame, >= 0.
    """

    object_area: float
    object_duration: float
    camera_motion: float

    def __post_init__(self) -> None:
        _check_shares(object_area=self.object_area, object_duration=self.object_duration)
        if not 0 <= self.camera_motion < float("inf"):
            raise InputError("no such camera motion", got=f"{self.camera_motion} px", expected="0 or more px per frame")


@dataclass(frozen=True)
class FlowPolicy:
    """Thresholds for windows that no vision-language model has seen; a value at a threshold is kept.

    Our choice: area and duration as in `KeepPolicy`, area halved because flow misses what changes without moving
    (light, colour) and smooth surfaces that do.

    Args:
        min_object_area: least share of the picture in which objects move, 0..1.
        min_object_duration: least share of the duration, 0..1.
        max_camera_motion: px per frame, above which flow cannot tell objects from the camera.
    """

    min_object_area: float = 0.05
    min_object_duration: float = 0.5
    max_camera_motion: float = 32.0

    def __post_init__(self) -> None:
        _check_shares(min_object_area=self.min_object_area, min_object_duration=self.min_object_duration)
        if not self.max_camera_motion >= 0:
            raise InputError("no such camera motion", got=f"{self.max_camera_motion} px", expected="0 or more")

    def provenance(self) -> str:
        """What a clip's record says about how it was judged."""
        return (
            "no VLM looked: kept by optical flow alone, so events, caption and safety flags are unknown "
            f"(object area >= {self.min_object_area:.1%}, duration >= {self.min_object_duration:.1%}, "
            f"camera <= {self.max_camera_motion:g} px per frame)"
        )


def why_dropped_by_flow(statistics: FlowStatistics, policy: FlowPolicy) -> str | None:
    """The first reason to drop a window by its optical flow, or None to keep it."""
    if statistics.camera_motion > policy.max_camera_motion:
        motion, most = statistics.camera_motion, policy.max_camera_motion
        return f"shaken: the camera moves {motion:.1f} px a frame, at most {most:g} is allowed"
    if statistics.object_area < policy.min_object_area:
        area, least = statistics.object_area, policy.min_object_area
        return f"small: objects move in {area:.1%} of the picture, at least {least:.1%} is needed"
    if statistics.object_duration < policy.min_object_duration:
        share, least = statistics.object_duration, policy.min_object_duration
        return f"brief: objects move for {share:.1%} of the time, at least {least:.1%} is needed"
    return None


def _group_of(event: str, taxonomy: Mapping[str, TagGroup]) -> TagGroup:
    if event not in taxonomy:
        raise InputError("the taxonomy has no such event", got=event, fix="annotate again with today's taxonomy")
    return taxonomy[event]


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError("a share must lie between 0 and 1", got=f"{name} = {share}")
