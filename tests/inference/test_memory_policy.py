"""Memory policies on pasts made by hand, in which one criterion alone decides, and what holds for all of them."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.clip import Cameras
from remind.errors import InputError
from remind.frame_graph import FrameGraph, Interruption, Role, Schedule
from remind.geometry import intrinsics_from_fov, yaw_trajectory
from remind.inference.memory_policy import (
    Anchors,
    Coming,
    Full,
    MemoryPolicy,
    Remembered,
    Retrieve,
    SinkWindow,
    Window,
    anchors_of_past,
    memory_policy,
)

ROLE_OF: dict[str, Role] = {".": "clean", "A": "anchor", "x": "degraded", "R": "recovery", "r": "reference"}


def looking(yaw_deg: float) -> Cameras:
    yaw = torch.full((3,), float(yaw_deg))
    valid = torch.ones(3, dtype=torch.bool)
    return Cameras(yaw_trajectory(yaw), intrinsics_from_fov(60.0, (48, 80), 3), (48, 80), valid)


def make_past(
    roles: str,
    *,
    protected: tuple[int, ...] = (),
    away: tuple[int, ...] = (),
    importance: dict[int, float] | None = None,
    yaw_deg: dict[int, float] | None = None,
) -> list[Remembered]:
    """Chunk k has the role of the k-th letter; `away` are those that are not resident."""
    measured = {k: float(value) for k, value in (importance or {}).items()}
    return [
        Remembered(k, 3 * k, ROLE_OF[letter], k in protected, k not in away, measured.get(k), None,
                   None if yaw_deg is None else looking(yaw_deg.get(k, 180.0)))
        for k, letter in enumerate(roles)
    ]  # fmt: skip


def coming_after(past: list[Remembered], role: Role = "clean", yaw_deg: float | None = 0.0) -> Coming:
    return Coming(len(past), 3 * len(past), role, None if yaw_deg is None else looking(yaw_deg))


def keep(policy: MemoryPolicy, past: list[Remembered], room: int, role: Role = "clean") -> tuple[int, ...]:
    return policy.keep(past, coming_after(past, role), room)


# --- full, window, sinks -------------------------------------------------------------------------------------------


def test_full_keeps_everything_and_refuses_a_room_that_is_too_small() -> None:
    assert keep(Full(), make_past("AAxxR"), 5) == (0, 1, 2, 3, 4)
    assert keep(Full(), make_past("AAxxR", away=(1,)), 4) == (0, 2, 3, 4)
    with pytest.raises(InputError, match=r"full is used up at chunk 5; got room for 4 chunks; expected room for 5\. "
                                         r"Fix: .*window:4, sink_window:1\+3, anchors or retrieve:3"):
        keep(Full(), make_past("AAxxR"), 4)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_the_policies_that_full_names_can_be_typed(room: int) -> None:
    with pytest.raises(InputError) as refused:
        keep(Full(), make_past("......"), room)
    assert refused.value.fix is not None
    names = refused.value.fix.split("forgets: ")[1].replace(" or ", ", ").split(", ")
    assert len({type(memory_policy(name)) for name in names}) == 4
    for name in names:
        assert len(keep(memory_policy(name), make_past("AAAAAA"), room)) == room


def test_a_window_is_the_most_recent_chunks() -> None:
    assert keep(Window(3), make_past("........"), 8) == (5, 6, 7)
    assert keep(Window(3), make_past("........"), 2) == (6, 7)
    assert keep(Window(3), make_past(".."), 8) == (0, 1)
    assert keep(Window(3), [], 8) == ()


def test_a_window_keeps_protected_chunks_however_old() -> None:
    past = make_past("........", protected=(1, 6))
    assert keep(Window(3), past, 8) == (1, 5, 6, 7)
    assert keep(Window(3), past, 3) == (1, 6, 7)


def test_recent_means_late_in_time_whatever_the_order_and_the_ids() -> None:
    """References that were added last stand at old positions."""
    past = make_past("....")
    reference = Remembered(99, -9, "reference", False, True, None, None, None)
    for order in ([*past, reference], [reference, *past[::-1]]):
        assert Window(2).keep(order, coming_after(past), 8) == (2, 3)
        assert SinkWindow(1, 2).keep(order, coming_after(past), 8) == (2, 3, 99)


def test_sinks_are_the_first_chunks() -> None:
    past = make_past("........")
    assert keep(SinkWindow(2, 3), past, 8) == (0, 1, 5, 6, 7)
    assert keep(SinkWindow(2, 3), past, 3) == (0, 1, 7)  # sinks go before the window, not before the last chunk
    assert keep(SinkWindow(2, 3), make_past("...."), 8) == (0, 1, 2, 3)
    assert keep(SinkWindow(1, 1), make_past("........", protected=(3, 4)), 3) == (3, 4, 7)


# --- anchors -------------------------------------------------------------------------------------------------------


def test_anchors_stay_through_an_interruption() -> None:
    past = make_past("..AAxxxx")
    assert keep(Anchors(1), past, 8, "degraded") == (2, 3, 7)
    assert keep(Anchors(3), past, 8, "degraded") == (2, 3, 5, 6, 7)
    assert keep(Anchors(3), past, 2, "degraded") == (3, 7)
    assert keep(Anchors(1), make_past("..AAxxxx", protected=(0,)), 3, "degraded") == (0, 3, 7)


def test_references_are_anchors() -> None:
    assert keep(Anchors(1), make_past("rr....xx"), 8) == (0, 1, 7)


def test_a_recovery_between_two_interruptions_is_an_anchor_of_the_second() -> None:
    past = make_past("AxRxxR..")
    assert anchors_of_past(past, coming_after(past)) == {0, 2}
    assert anchors_of_past(past[:3], coming_after(past[:3], "degraded")) == {0, 2}
    assert anchors_of_past(past[:3], coming_after(past[:3], "clean")) == {0}


def test_anchors_agree_with_the_frame_graph() -> None:
    """Between two interruptions: one chunk, then two chunks of rest."""
    for rest in (1, 2):
        spans = [(21, 45), (45 + 12 * rest, 81 + 12 * rest)]
        schedule = Schedule(129 + 12 * rest, tuple(Interruption("light_toggle", a, a, b, b) for a, b in spans))
        graph = FrameGraph(schedule)
        roles, positions = graph.roles, range(len(graph.roles))
        past = [Remembered(k, 3 * k, role, False, True, None, None, None)
                for k, role in zip(positions, roles, strict=True)]
        assert anchors_of_past(past, coming_after(past)) == {edge.anchor for edge in graph.edges}


# --- retrieve: each criterion alone --------------------------------------------------------------------------------


def test_role_decides_against_importance_overlap_and_time() -> None:
    """A recovery asks for the anchor, though the dark chunks were read more, look the same way and are newer."""
    past = make_past("A..xxx.", importance={0: 0.1, 1: 5, 2: 5, 3: 9, 4: 9, 5: 9},
                     yaw_deg={0: 180, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0})
    assert keep(Retrieve(1), past, 8, "recovery") == (0, 6)
    assert keep(Retrieve(1), past, 8, "degraded") == (0, 6)
    assert keep(Retrieve(3), past, 8, "recovery") == (0, 1, 2, 6)  # then what shows something
    assert keep(Retrieve(2), past, 8, "clean") == (1, 2, 6)  # nothing is asked for: darkness is last


def test_importance_decides_among_equal_roles_against_overlap_and_time() -> None:
    past = make_past("......", importance={0: 1, 1: 4, 2: 1, 3: 2, 4: 1, 5: 100},
                     yaw_deg={0: 0, 1: 180, 2: 0, 3: 180, 4: 0})
    assert keep(Retrieve(1), past, 8) == (1, 5)
    assert keep(Retrieve(2), past, 8) == (1, 3, 5)


def test_overlap_decides_among_equal_roles_and_importance_against_time() -> None:
    past = make_past("......", importance=dict.fromkeys(range(5), 1.0), yaw_deg={0: 100, 1: 5, 2: 100, 3: 40, 4: 100})
    assert keep(Retrieve(1), past, 8) == (1, 5)
    assert keep(Retrieve(2), past, 8) == (1, 3, 5)


def test_time_decides_among_what_is_equal() -> None:
    assert keep(Retrieve(2), make_past("......"), 8) == (3, 4, 5)


def test_overlap_alone_would_have_taken_the_dark_chunk() -> None:
    """Eq. 10: the anchor and the covered chunk are seen from one place."""
    past = make_past("Axx", yaw_deg={0: 8, 1: 0, 2: 0})
    assert keep(Retrieve(1), past, 8, "recovery") == (0, 2)


def test_differences_of_importance_below_a_tenth_are_left_to_the_camera() -> None:
    past = make_past("....", importance={0: 1.00, 1: 0.97, 2: 0.5}, yaw_deg={0: 120, 1: 0, 2: 0})
    assert keep(Retrieve(1), past, 8) == (1, 3)
    past = make_past("....", importance={0: 1.00, 1: 0.80, 2: 0.5}, yaw_deg={0: 120, 1: 0, 2: 0})
    assert keep(Retrieve(1), past, 8) == (0, 3)


def test_what_was_never_measured_counts_as_average() -> None:
    past = make_past("....", importance={0: 3.0, 2: 1.0})
    assert keep(Retrieve(1), past, 8) == (0, 3)
    assert keep(Retrieve(2), past, 8) == (0, 1, 3)


def test_without_cameras_the_rest_decides() -> None:
    past = make_past("....", importance={0: 1.0, 1: 1.0, 2: 0.1})
    assert Retrieve(1).keep(past, coming_after(past, yaw_deg=None), 8) == (1, 3)


def test_retrieval_counts_beside_recent_and_protected_chunks() -> None:
    past = make_past("........", protected=(2,), importance={2: 9.0, 0: 5.0, 5: 3.0})
    assert keep(Retrieve(1, recent=2), past, 8) == (0, 2, 6, 7)
    assert keep(Retrieve(1, recent=2), past, 3) == (0, 2, 7)
    assert keep(Retrieve(1, recent=2), past, 2) == (2, 7)


def test_the_protected_chunks_that_are_needed_most_win_where_not_all_fit() -> None:
    past = make_past("A.x.....", protected=(0, 1, 2, 3), importance={3: 2.0, 1: 1.0, 0: 0.1, 2: 9.0})
    assert keep(Retrieve(4), past, 2, "recovery") == (0, 7)
    assert keep(Retrieve(4), past, 3, "recovery") == (0, 3, 7)
    assert keep(Retrieve(4), past, 4, "recovery") == (0, 1, 3, 7)
    assert keep(Window(4), past, 3) == (2, 3, 7)  # the others keep the most recent
    views = make_past("......", protected=(0, 1, 2), yaw_deg={0: 0, 1: 90, 2: 90})
    assert keep(Retrieve(4), views, 2) == (0, 5)


def test_only_retrieve_recalls_what_is_not_resident() -> None:
    past = make_past("A..xxx.", away=(0, 1))
    assert keep(Retrieve(1), past, 8, "recovery") == (0, 6)
    assert keep(Anchors(1), past, 8, "recovery") == (6,)
    assert [p.recalls for p in (Full(), Window(), SinkWindow(), Anchors(), Retrieve())] == [False] * 4 + [True]


# --- what holds for all --------------------------------------------------------------------------------------------


@st.composite
def situations(draw: st.DrawFn) -> tuple[MemoryPolicy, list[Remembered], Coming, int]:
    n, small = draw(st.integers(0, 12)), st.integers(1, 6)
    policy = draw(st.one_of(st.builds(Window, small), st.builds(SinkWindow, small, small), st.builds(Anchors, small),
                            st.builds(Retrieve, small, small)))
    chances = draw(st.randoms(use_true_random=False))
    past = [
        Remembered(k, 3 * k, chances.choice([*ROLE_OF.values()]), chances.random() < 0.3,
                   k == n - 1 or chances.random() < 0.7, chances.choice([None, 0.0, chances.random()]), None,
                   chances.choice([None, VIEWS[chances.randrange(4)]]))
        for k in range(n)
    ]  # fmt: skip
    view = VIEWS[chances.randrange(4)]
    return policy, past, Coming(n, 3 * n, chances.choice([*ROLE_OF.values()]), view), draw(st.integers(0, 14))


VIEWS = [looking(yaw_deg) for yaw_deg in (0, 20, 90, 180)]


@given(situations())
@settings(max_examples=150)
def test_rules_that_all_policies_share(situation: tuple[MemoryPolicy, list[Remembered], Coming, int]) -> None:
    policy, past, coming, room = situation
    kept = policy.keep(past, coming, room)
    reach = [m for m in past if m.resident or policy.recalls]
    assert len(kept) <= room
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= {m.chunk for m in reach}
    if past and room:
        assert past[-1].chunk in kept
    protected = {m.chunk for m in reach if m.protected}
    places = room - (bool(past) and not past[-1].protected)  # one is the last chunk's
    assert len(protected & set(kept)) == min(len(protected), max(places, 0))
    shuffled = past.copy()
    random.Random(0).shuffle(shuffled)
    assert policy.keep(shuffled, coming, room) == kept
    assert set(policy.keep(past, coming, room + 1)) >= set(kept)  # more room never costs a memory


@given(st.integers(0, 12), st.integers(1, 8), st.integers(0, 14))
def test_a_window_without_protection_is_the_tail(n: int, chunks: int, room: int) -> None:
    past = make_past("." * n)
    assert keep(Window(chunks), past, room) == tuple(range(max(n - min(chunks, room), 0), n))


# --- text forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "policy"), [
    ("full", Full()), ("window", Window(6)), ("window:3", Window(3)), ("sink_window", SinkWindow(1, 5)),
    ("sink_window:2", SinkWindow(2, 5)), ("sink_window:2+4", SinkWindow(2, 4)), ("anchors", Anchors(1)),
    ("anchors:2", Anchors(2)), ("retrieve", Retrieve(4, 1)), ("retrieve:8", Retrieve(8, 1)),
    (" retrieve:8+2 ", Retrieve(8, 2)),
])  # fmt: skip
def test_text_forms(text: str, policy: MemoryPolicy) -> None:
    assert memory_policy(text) == policy
    assert memory_policy(policy.name) == policy


@pytest.mark.parametrize(("text", "message"), [
    ("lru", r"no such memory policy; got lru; expected one of full, window:6, sink_window:1\+5, anchors:1, retrieve:4"),
    ("", "no such memory policy"),
    ("Window:3", "no such memory policy"),
    ("full:3", "full cannot be read; got full:3; expected e.g. full"),
    ("window:", "window cannot be read; got window:; expected e.g. window:6"),
    ("window:3+4", "window cannot be read"),
    ("window:many", "window cannot be read"),
    ("window:-1", "window cannot be read"),
    ("window:1.5", "window cannot be read"),
    ("window:²", "window cannot be read"),
    ("sink_window:1+", "sink_window cannot be read"),
    ("retrieve:1+2+3", r"retrieve cannot be read; got retrieve:1\+2\+3; expected e.g. retrieve:4\+1"),
    ("window:0", "a window of memory must hold at least one chunk; got 0"),
    ("sink_window:0+5", "the sinks of a memory must hold at least one chunk"),
    ("sink_window:1+0", "a window of memory must hold at least one chunk"),
    ("anchors:0", "the recent chunks of a memory must hold at least one chunk"),
    ("retrieve:0", "retrieval from memory must hold at least one chunk"),
    ("retrieve:1+0", "the recent chunks of a memory must hold at least one chunk"),
])
def test_bad_text_forms_teach(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        memory_policy(text)
