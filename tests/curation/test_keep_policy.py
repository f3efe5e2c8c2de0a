from __future__ import annotations

import math

import pytest

from remind.curation.annotation import FLAGS, Annotation, Caption, SafetyFlags
from remind.curation.keep_policy import KeepPolicy, why_dropped
from remind.errors import InputError

TAXONOMY = {"pouring": "monotonic_state", "walking": "translational"}
POLICY = KeepPolicy(min_occupancy=0.2, min_visible_share=0.5)
UNDER, OVER = math.nextafter(0.2, 0.0), math.nextafter(0.5, 0.0)


def annotation(events: tuple[str, ...] = ("pouring",), occupancy: float = 0.2, visible_share: float = 0.5,
               cut_time_s: float | None = None, **flags: str) -> Annotation:
    caption = Caption(text="t", object="o", state_variable="s", direction="d", trigger=None, before=None, after=None)
    return Annotation(
        has_cut=cut_time_s is not None, cut_time_s=cut_time_s, events=events, occupancy=occupancy,
        visible_share=visible_share, caption=caption,
        flags=SafetyFlags(**(dict.fromkeys(FLAGS, "no") | flags)),  # type: ignore[arg-type]
    )


def test_a_value_at_its_threshold_is_kept_and_one_below_is_not() -> None:
    assert why_dropped(annotation(), POLICY, TAXONOMY) is None
    small = why_dropped(annotation(occupancy=UNDER), POLICY, TAXONOMY)
    brief = why_dropped(annotation(visible_share=OVER), POLICY, TAXONOMY)
    assert small == "small: 20.0% of the picture changes, at least 20.0% is needed"
    assert brief == "brief: in view for 50.0% of the time, at least 50.0% is needed"


def test_a_cut_drops_unless_allowed() -> None:
    assert why_dropped(annotation(cut_time_s=0.0), POLICY, TAXONOMY) == "cut at 0.00 s"
    assert why_dropped(annotation(cut_time_s=1.5), KeepPolicy(drop_cuts=False), TAXONOMY) is None


def test_without_event_it_is_dropped_unless_allowed() -> None:
    reason = why_dropped(annotation(events=()), POLICY, TAXONOMY)
    assert reason is not None
    assert reason.startswith("no event")
    anything = KeepPolicy(require_event=False, allowed_groups=("discrete",))
    assert why_dropped(annotation(events=()), anything, TAXONOMY) is None


def test_one_event_of_an_allowed_group_is_enough() -> None:
    policy = KeepPolicy(allowed_groups=("translational",))
    assert why_dropped(annotation(("pouring", "walking")), policy, TAXONOMY) is None
    assert why_dropped(annotation(("pouring",)), policy, TAXONOMY) == (
        "group: monotonic_state, allowed are translational")
    with pytest.raises(InputError, match="no such event"):
        why_dropped(annotation(("gone",)), policy, TAXONOMY)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("verdict", ["yes", "unsure"])
def test_forbidden_flags_drop(flag: str, verdict: str) -> None:
    forbidding = KeepPolicy(forbidden_flags=(flag,))  # type: ignore[arg-type]
    flagged = annotation(**{flag: verdict})
    assert why_dropped(flagged, forbidding, TAXONOMY) == f"flagged: {flag} {verdict}"
    assert why_dropped(flagged, KeepPolicy(forbidden_flags=()), TAXONOMY) is None
    lenient = KeepPolicy(forbidden_flags=(flag,), unsure_is_yes=False)  # type: ignore[arg-type]
    assert (why_dropped(flagged, lenient, TAXONOMY) is None) == (verdict == "unsure")


def test_the_number_of_flags_is_bounded() -> None:
    policy = KeepPolicy(forbidden_flags=(), max_flags=1)
    assert why_dropped(annotation(watermark="yes"), policy, TAXONOMY) is None
    assert why_dropped(annotation(watermark="yes", identifiable_faces="unsure"), policy, TAXONOMY) == (
        "flagged: 2 flags (identifiable_faces, watermark), at most 1 are allowed")


def test_safety_comes_before_every_other_reason() -> None:
    bad = annotation(events=(), occupancy=0.0, cut_time_s=1.0, nudity="yes")
    assert why_dropped(bad, POLICY, TAXONOMY) == "flagged: nudity yes"


@pytest.mark.parametrize("wrong", [{"min_occupancy": 1.1}, {"min_visible_share": -0.1}, {"min_occupancy": float("nan")},
                                   {"max_flags": 6}, {"max_flags": -1}])
def test_thresholds_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        KeepPolicy(**wrong)  # type: ignore[arg-type]
