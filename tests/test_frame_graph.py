"""The frame graph: chunks partition frames, roles follow from the schedule, edges point back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.errors import GraphError
from remind.frame_graph import (
    FrameGraph,
    Interruption,
    Schedule,
    chunk_of_frame,
    frames_of_chunk,
    num_chunks,
    num_latent_frames,
)


def schedule(num_frames: int, *times: tuple[int, int, int, int]) -> Schedule:
    return Schedule(num_frames, tuple(Interruption("light_toggle", *t) for t in times))


@st.composite
def schedule_times(draw: st.DrawFn) -> tuple[int, list[list[int]]]:
    """Length and times of any legal schedule, whether or not a graph follows from it."""
    frames = 12 * draw(st.integers(2, 14)) - 3
    bounds = sorted(draw(st.lists(st.integers(1, frames), min_size=0, max_size=12)))
    bounds = bounds[: len(bounds) // 4 * 4]
    return frames, [bounds[i : i + 4] for i in range(0, len(bounds), 4)]


def test_the_reference_clip_has_21_latent_frames_in_7_chunks() -> None:
    assert num_latent_frames(81) == 21
    assert num_chunks(81) == 7
    assert [len(frames_of_chunk(k)) for k in range(7)] == [9] + [12] * 6


@pytest.mark.parametrize("frames", [0, -3, 2, 80, 82])
def test_frames_that_are_not_1_plus_4k_are_refused(frames: int) -> None:
    with pytest.raises(GraphError, match=r"1 \+ 4k frames"):
        num_latent_frames(frames)


def test_frames_that_do_not_fill_chunks_are_refused() -> None:
    with pytest.raises(GraphError, match="whole chunks"):
        num_chunks(77)


@given(st.integers(1, 60))
def test_chunks_partition_the_frames(chunks: int) -> None:
    frames = 12 * chunks - 3
    assert num_chunks(frames) == chunks
    assert [f for k in range(chunks) for f in frames_of_chunk(k)] == list(range(frames))
    for k in range(chunks):
        assert {chunk_of_frame(f) for f in frames_of_chunk(k)} == {k}


@given(schedule_times())
def test_a_graph_exists_exactly_if_every_run_has_an_anchor_and_a_recovery(
    times: tuple[int, list[list[int]]],
) -> None:
    plan = Schedule(times[0], tuple(Interruption("zoom", *t) for t in times[1]))
    degraded = plan.degraded_frames()
    chunks = num_chunks(plan.num_frames)
    flags = [any(f in degraded for f in frames_of_chunk(k)) for k in range(chunks)]
    if flags[0] or flags[-1]:
        with pytest.raises(GraphError):
            FrameGraph(plan)
        return
    graph = FrameGraph(plan)
    assert [role == "degraded" for role in graph.roles] == flags
    for edge in graph.edges:
        assert edge.anchor < edge.recovery
        assert edge.gap_chunks == edge.recovery - edge.anchor > 0
        assert graph.roles[edge.recovery] == "recovery"
        assert not flags[edge.anchor]
        assert any(flags[edge.anchor : edge.recovery])  # the gap is a gap: something was hidden in it
    starts = [k for k, (a, b) in enumerate(pairwise(flags), start=1) if b and not a]
    assert len({edge.recovery for edge in graph.edges}) == len(starts) == graph.roles.count("recovery")
    assert set(graph.anchors) == {edge.anchor for edge in graph.edges}
    assert set(graph.degraded) == {k for k, flag in enumerate(flags) if flag}
    assert len(graph.draw()) == chunks
    if plan.interruptions:
        assert graph.frontier is not None
        before = {f for k in range(graph.frontier) for f in frames_of_chunk(k)}
        assert all(
            f < plan.interruptions[-1].hidden_stop for f in before
        )  # a prefix cut there shows no return
    else:
        assert graph.frontier is None


def test_roles_of_the_usual_clip() -> None:
    graph = FrameGraph(schedule(81, (24, 27, 57, 60)))
    assert graph.draw() == "AAxxxxR"
    assert graph.frontier == 5
    assert [(e.recovery, e.anchor, e.gap_chunks) for e in graph.edges] == [(6, 0, 6), (6, 1, 5)]


def test_a_recovery_between_two_interruptions_also_anchors_the_second() -> None:
    graph = FrameGraph(schedule(81, (10, 12, 20, 21), (34, 36, 44, 45)))
    assert graph.roles == ("anchor", "degraded", "recovery", "degraded", "recovery", "clean", "clean")
    assert {(e.recovery, e.anchor) for e in graph.edges} == {(2, 0), (4, 2)}
    assert graph.anchors == (0, 2)


def test_a_clean_clip_has_no_edges() -> None:
    graph = FrameGraph(schedule(81))
    assert graph.roles == ("clean",) * 7
    assert graph.edges == graph.anchors == graph.degraded == ()


def test_hidden_and_degraded_frames() -> None:
    plan = schedule(81, (24, 27, 57, 60))
    assert plan.hidden_frames() == set(range(27, 57))
    assert plan.degraded_frames() == set(range(24, 60))


@pytest.mark.parametrize("times", [(5, 4, 10, 12), (5, 8, 7, 12), (5, 8, 10, 9), (0, 4, 8, 12)])
def test_times_out_of_order_are_refused(times: tuple[int, int, int, int]) -> None:
    with pytest.raises(GraphError, match="must be ordered"):
        Interruption("occluder", *times)


def test_overlapping_or_late_interruptions_are_refused() -> None:
    with pytest.raises(GraphError, match="overlap"):
        schedule(81, (24, 27, 40, 42), (41, 43, 50, 52))
    with pytest.raises(GraphError, match="after the clip"):
        schedule(81, (24, 27, 40, 82))


def test_missing_anchor_and_missing_recovery_say_what_to_do() -> None:
    with pytest.raises(GraphError, match=r"no clean anchor.*frame 9 or later"):
        FrameGraph(schedule(81, (8, 9, 20, 21)))
    with pytest.raises(GraphError, match=r"no recovery chunk.*end the interruption earlier"):
        FrameGraph(schedule(81, (24, 27, 66, 70)))


def test_witnesses_are_all_that_shows_the_state_before_the_view_returns() -> None:
    # Chunk 2 (frames 21..32) begins in view, 3 and 4 are dark throughout, the view returns with chunk 5.
    graph = FrameGraph(Schedule(81, (Interruption("occluder", 25, 28, 57, 60),)))
    assert graph.draw() == "AAxxxxR"
    assert graph.witnesses == (0, 1, 2)
    sudden = FrameGraph(Schedule(81, (Interruption("light_toggle", 21, 21, 57, 57),)))
    assert sudden.witnesses == sudden.anchors == (0, 1)


def test_three_interruptions_each_have_anchors_and_a_recovery_of_their_own() -> None:
    graph = FrameGraph(schedule(153, (22, 24, 33, 36), (70, 72, 81, 83), (106, 110, 129, 131)))
    assert graph.draw() == "AAxxRAxxRxxxR"
    edges = {r: [e.anchor for e in graph.edges if e.recovery == r] for r in (4, 8, 12)}
    assert edges == {4: [0, 1], 8: [4, 5], 12: [8]}
    assert graph.frontier == 11
    assert graph.witnesses == (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert graph.degraded == (2, 3, 6, 7, 9, 10, 11)


def test_interruptions_without_a_clean_chunk_between_them_share_anchor_and_recovery() -> None:
    graph = FrameGraph(schedule(81, (22, 24, 33, 36), (46, 48, 57, 60)))
    assert graph.draw() == "AAxxxxR"
    assert {e.recovery for e in graph.edges} == {6}
    assert graph.witnesses == (0, 1, 2, 3, 4)  # what is glimpsed between the two is a witness, not an anchor


def test_what_acts_on_the_same_clock_is_one_interruption() -> None:
    both = Interruption("occluder", 24, 27, 57, 60, also=("light_toggle",))
    assert both.kinds == ("occluder", "light_toggle")
    assert FrameGraph(Schedule(81, (both,))).roles == FrameGraph(schedule(81, (24, 27, 57, 60))).roles
