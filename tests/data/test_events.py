"""Schedules that are drawn always make a graph, leave the rate of change visible and leak nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.data.events import RAMP_FRAMES, sample_interruption, sample_schedule
from remind.errors import InputError
from remind.frame_graph import (
    FrameGraph,
    InterruptionKind,
    frames_of_chunk,
    num_chunks,
)

KINDS: tuple[InterruptionKind, ...] = ("light_toggle", "occluder", "camera_loop", "zoom")


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.sampled_from([57, 69, 81, 93, 153, 321]))
def test_every_draw_follows_the_rules(kind: InterruptionKind, seed: int, num_frames: int) -> None:
    schedule = sample_schedule(kind, num_frames, np.random.default_rng(seed))
    graph = FrameGraph(schedule)
    (event,) = schedule.interruptions
    assert event.kind == kind
    assert graph.roles[:2] == ("anchor", "anchor")
    assert event.start >= 21
    assert event.hidden_start - event.start == event.stop - event.hidden_stop
    assert RAMP_FRAMES[kind][0] <= event.stop - event.hidden_stop <= RAMP_FRAMES[kind][1]
    assert event.hidden_stop in {frames_of_chunk(k).start for k in range(num_chunks(num_frames))}
    assert any(frames_of_chunk(k).start >= event.stop for k in range(num_chunks(num_frames)))


@given(st.sampled_from(KINDS[:3]), st.integers(0, 2**32 - 1))
def test_the_view_of_an_81_frame_clip_is_hidden_for_24_to_40_frames(
    kind: InterruptionKind, seed: int
) -> None:
    event = sample_interruption(kind, 81, np.random.default_rng(seed))
    assert 24 <= event.hidden_stop - event.hidden_start <= 40


def test_zoom_hides_nothing() -> None:
    schedule = sample_schedule("zoom", 81, np.random.default_rng(0))
    assert schedule.hidden_frames() == frozenset()
    assert schedule.degraded_frames()


def test_the_same_generator_state_gives_the_same_times() -> None:
    first, second = (sample_interruption("occluder", 81, np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert len({sample_interruption("occluder", 81, np.random.default_rng(s)) for s in range(50)}) > 10


def test_the_hidden_length_can_be_asked_for() -> None:
    for seed in range(20):
        event = sample_interruption("light_toggle", 81, np.random.default_rng(seed), hidden_frames=(12, 12))
        assert event.hidden_stop - event.hidden_start == 12


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"no occluder interruption fits.*81 frames"):
        sample_interruption("occluder", 45, rng)
    with pytest.raises(InputError, match="fits"):
        sample_interruption("light_toggle", 81, rng, hidden_frames=(60, 70))
    with pytest.raises(InputError, match="must be a range"):
        sample_interruption("light_toggle", 81, rng, hidden_frames=(9, 5))
    with pytest.raises(InputError, match="zoom hides nothing"):
        sample_interruption("zoom", 81, rng, hidden_frames=(9, 12))
