"""Which windows are kept, by what a vision-language model says of them.

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


def _group_of(event: str, taxonomy: Mapping[str, TagGroup]) -> TagGroup:
    if event not in taxonomy:
        raise InputError("the taxonomy has no such event", got=event, fix="annotate again with today's taxonomy")
    return taxonomy[event]


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError("a share must lie between 0 and 1", got=f"{name} = {share}")
