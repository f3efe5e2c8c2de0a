"""Prompts say, chunk by chunk, what happens to the view."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from remind.data.events import sample_schedule
from remind.frame_graph import FrameGraph, Interruption, InterruptionKind, Schedule
from remind.prompt_schedule import chunk_prompts

KINDS: tuple[InterruptionKind, ...] = ("light_toggle", "occluder", "camera_loop", "zoom")


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
