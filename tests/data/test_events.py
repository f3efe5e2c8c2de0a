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
    Interruption,
    InterruptionKind,
    Schedule,
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


def test_prompts_say_what_happens_to_the_view_chunk_by_chunk() -> None:
    schedule = Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),))
    assert chunk_prompts("a cup fills with water.", schedule) == (
        "a cup fills with water",
        "a cup fills with water",
        "a cup fills with water, the lights go off",
        "a cup fills with water, the lights are off",
        "a cup fills with water, the lights are off",
        "a cup fills with water, the lights come back on",
        "a cup fills with water, the view is clear",
    )


def test_an_abrupt_return_is_announced_in_the_chunk_that_shows_it() -> None:
    schedule = Schedule(81, (Interruption("light_toggle", 21, 21, 45, 45),))
    phrases = chunk_prompts("", schedule)
    assert phrases[2] == "the lights go off"
    assert phrases[4] == "the lights come back on"
    assert phrases[5] == "the view is clear"


def test_a_blink_within_one_chunk_has_one_phrase() -> None:
    schedule = Schedule(81, (Interruption("occluder", 22, 24, 28, 30),))
    assert chunk_prompts("", schedule)[2] == "a panel passes by"


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_prompts_of_any_schedule_are_short_and_change_with_the_view(
    kind: InterruptionKind, seed: int
) -> None:
    schedule = sample_schedule(kind, 81, np.random.default_rng(seed))
    prompts = chunk_prompts("a red candle burns down", schedule)
    graph = FrameGraph(schedule)
    assert len(prompts) == 7
    assert all(len(p.split()) <= 5 + 5 for p in prompts)
    assert all(
        p == "a red candle burns down" for p, r in zip(prompts, graph.roles, strict=True) if r == "anchor"
    )
    assert all(
        p != "a red candle burns down" for p, r in zip(prompts, graph.roles, strict=True) if r != "anchor"
    )


def test_a_clean_schedule_has_the_caption_alone() -> None:
    assert chunk_prompts("a door opens", Schedule(81)) == ("a door opens",) * 7
