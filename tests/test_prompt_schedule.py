"""Prompts say, chunk by chunk, what happens to the view."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.data.events import sample_schedule
from remind.errors import InputError
from remind.frame_graph import FrameGraph, Interruption, InterruptionKind, Schedule
from remind.prompt_schedule import CLEAR_AGAIN, PHRASES, PromptSchedule, chunk_prompts

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


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.sampled_from(["", "a red candle burns down."]))
def test_a_schedule_of_an_interruption_says_what_chunk_prompts_says(
    kind: InterruptionKind, seed: int, caption: str
) -> None:
    schedule = sample_schedule(kind, 81, np.random.default_rng(seed))
    made = PromptSchedule.of_interruption(caption, schedule)
    assert made.per_chunk(7) == chunk_prompts(caption, schedule)
    assert PromptSchedule.of(made.as_written()) == made


def test_two_interruptions_as_a_schedule() -> None:
    events = (Interruption("occluder", 10, 13, 21, 24), Interruption("blink", 48, 50, 57, 59))
    schedule = Schedule(81, events)
    assert PromptSchedule.of_interruption("a cup", schedule).per_chunk(7) == chunk_prompts("a cup", schedule)
    assert PromptSchedule.of_interruption("a cup", Schedule(81)) == PromptSchedule("a cup")


def test_a_change_holds_until_the_next_and_stands_behind_the_base_prompt() -> None:
    said = PromptSchedule.of({"5": None, 2: "the lights  go off\n", "2.9s": "they flicker"}, base="a cup fills.")
    assert said.per_chunk(7) == (
        "a cup fills",
        "a cup fills",
        "a cup fills, the lights go off",
        "a cup fills, the lights go off",
        "a cup fills, they flicker",
        "a cup fills",
        "a cup fills",
    )


def test_seconds_mean_the_chunk_that_shows_that_moment() -> None:
    """Chunk 3 has the frames 33..44 at 16 fps: 2.0625 s to just before 2.8125 s."""
    for text, chunk in (("0s", 0), ("0.5624s", 0), ("0.5625s", 1), ("2.0624s", 2), ("2.0625s", 3), ("2.8124 s", 3),
                        ("2.8125s", 4), ("5s", 6)):
        assert PromptSchedule.of({text: "x"}).changes == ((chunk, "x"),)
    assert PromptSchedule.of({"2.5s": "x"}, fps=8).changes == ((1, "x"),)


def test_a_whole_prompt_stands_alone_and_null_is_the_base_again() -> None:
    said = PromptSchedule.of({"0": "at dawn", "1": "= a city at night", "2": None, "3": ""}, base="a cup")
    assert said.per_chunk(4) == ("a cup, at dawn", "a city at night", "a cup", "a cup")
    assert PromptSchedule.of({"1": "="}, base="a cup").prompt_of(1) == ""


def test_lists_one_text_and_nothing_are_schedules_too() -> None:
    assert PromptSchedule.of(["one", None, "two"], base="b").per_chunk(4) == ("b, one", "b", "b, two", "b, two")
    assert PromptSchedule.of("always", base="b").per_chunk(2) == ("b, always",) * 2
    assert PromptSchedule.of(None, base="b").per_chunk(2) == ("b",) * 2
    assert PromptSchedule.of({"base": "b", "1": "x"}).per_chunk(2) == ("b", "b, x")
    assert PromptSchedule().per_chunk(1) == ("",)


def test_a_schedule_longer_than_the_rollout_names_both_numbers() -> None:
    said = PromptSchedule.of({"0": "x", "6": "y"})
    assert said.per_chunk(7)[-1] == "y"
    with pytest.raises(InputError, match=r"chunk 6 \(4\.31 s\).*the rollout has 6.*generate 7 chunks"):
        said.per_chunk(6)


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ({"soon": "x"}, "'soon'.*2.5s"),
        ({2.5: "x"}, "2.5"),
        ({-1: "x"}, "-1"),
        ({True: "x"}, "True"),
        ({"1e3s": "x"}, "1e3s"),
        ({"１": "x"}, "no time"),
        ({"999999": "x"}, "no possible chunk"),
        ({1: False}, "no text.*False"),
        ({1: ["x"]}, "no text"),
        ({1: "x", "0.6s": "y"}, "two prompts for chunk 1.*1 and 0.6s"),
        ({"base": "b", 1: "x"}, "given twice"),
        ({1: "x" * 5000}, "too long"),
        (["x"] * 20_000, "too many"),
        (3, "no schedule"),
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(written: object, line: str) -> None:
    with pytest.raises(InputError, match=line):
        PromptSchedule.of(written, base="given")


def test_changes_must_be_in_order() -> None:
    with pytest.raises(InputError, match="in order"):
        PromptSchedule("", ((2, "x"), (2, "y")))
