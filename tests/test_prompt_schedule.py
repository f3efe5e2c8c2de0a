"""Prompts say, chunk by chunk, what happens to the view."""

from __future__ import annotations

from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from remind.data.events import sample_schedule
from remind.frame_graph import FrameGraph, Interruption, InterruptionKind, Schedule
from remind.prompt_schedule import CLEAR_AGAIN, PHRASES, chunk_prompts

KINDS: tuple[InterruptionKind, ...] = get_args(InterruptionKind)


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


def test_two_interruptions_are_told_one_after_the_other() -> None:
    events = (Interruption("occluder", 10, 13, 21, 24), Interruption("blink", 48, 50, 57, 59))
    assert chunk_prompts("a cup fills", Schedule(81, events)) == (
        "a cup fills",
        "a cup fills, a panel covers the view",
        "a cup fills, the panel moves away",
        "a cup fills, the view is clear",
        "a cup fills, the view closes to black",
        "a cup fills, the view opens",
        "a cup fills, the view is clear",
    )


def test_a_chunk_with_an_end_and_a_beginning_says_both_in_order() -> None:
    events = (Interruption("occluder", 10, 13, 21, 24), Interruption("light_toggle", 28, 30, 45, 47))
    phrases = chunk_prompts("", Schedule(81, events))
    assert phrases[2] == "the panel moves away, then the lights go off"
    assert phrases[3] == "the lights are off"
    twice = (Interruption("occluder", 10, 11, 12, 13), Interruption("occluder", 15, 16, 17, 18))
    assert chunk_prompts("", Schedule(81, twice))[1] == "a panel passes by"  # said once


def test_what_happens_at_once_is_said_at_once() -> None:
    event = Interruption("occluder", 23, 27, 57, 61, also=("light_toggle",))
    phrases = chunk_prompts("", Schedule(81, (event,)))
    assert phrases[2] == "a panel covers the view and the lights go off"
    assert phrases[3] == "a panel hides everything and the lights are off"
    assert phrases[5] == "the panel moves away and the lights come back on"
    assert phrases[6] == CLEAR_AGAIN


def test_phrases_leave_room_for_the_caption() -> None:
    """The weight-free encoder reads 24 words and the caption comes first: two phrases at once still fit."""
    longest = max(len(text.split()) for p in PHRASES.values() for text in (p.begins, p.lasts, p.ends, p.passes))
    assert longest <= 5
    assert len({p.begins for p in PHRASES.values()}) == len(KINDS) - 1  # a lookaway is a camera loop to the viewer
