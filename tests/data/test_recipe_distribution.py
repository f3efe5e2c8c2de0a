"""What training reads: any number of interruptions, returns at every chunk, and never a held-out kind."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.clip import Clip
from remind.data.events import RAMP_FRAMES, most_events, sample_times
from remind.data.interrupt import (
    HELD_OUT,
    InterruptionRecipe,
    OccluderStyle,
    RecipeDistribution,
    Window,
    apply_interruption,
    clean_view,
    sample_composition,
    sample_recipe,
)
from remind.data.kinds import KINDS, LAYERS, kinds_of
from remind.errors import InputError
from remind.frame_graph import FrameGraph, InterruptionKind, frames_of_chunk, num_chunks
from remind.prompt_schedule import PHRASES

MANY = RecipeDistribution(several_share=1.0, together_share=0.5)
WIDE_MIX = RecipeDistribution((("light_toggle", 1.0), ("occluder", 1.0), ("zoom", 1.0), ("lookaway", 2.0)),
                              several_share=0.5, together_share=0.3)  # fmt: skip
WINDOW = Window(stored_hw=(48, 120), view_hw=(32, 40))
any_seed = st.integers(0, 2**32 - 1)


def draw(seed: int, frames: int = 81, distribution: RecipeDistribution = MANY) -> InterruptionRecipe:
    return sample_composition(frames, np.random.default_rng(seed), distribution)


def test_every_table_knows_every_kind() -> None:
    kinds = set(get_args(InterruptionKind))
    assert set(KINDS) == set(RAMP_FRAMES) == set(PHRASES) == kinds
    assert {info.layer for info in KINDS.values()} == set(LAYERS)
    assert {info.family for info in KINDS.values()} == {"light_toggle", "occluder", "camera_loop", "zoom"}


def test_held_out_kinds_are_never_drawn_for_training() -> None:
    held_out, trained = set(kinds_of("held_out")), set(kinds_of("train"))
    assert held_out == {"cardboard", "curtain", "flicker", "blink"}
    assert held_out.isdisjoint(trained)
    assert held_out | trained == set(KINDS)
    assert {kind for s in range(300) for kind in draw(s).kinds} == {"light_toggle", "occluder", "zoom"}
    assert {kind for s in range(300) for kind in draw(s, distribution=HELD_OUT).kinds} == held_out
    with pytest.raises(InputError, match="no distribution of train interruptions"):
        RecipeDistribution((("light_toggle", 1.0), ("blink", 0.1)))
    with pytest.raises(InputError, match="no distribution of held_out interruptions"):
        RecipeDistribution((("occluder", 1.0),), split="held_out")
    with pytest.raises(InputError, match="no distribution"):
        RecipeDistribution((("camera_loop", 1.0),))  # no finished frame can be made to show one


@settings(deadline=None, max_examples=200)
@given(any_seed, st.sampled_from([45, 57, 69, 81, 153, 321]), st.sampled_from([MANY, HELD_OUT]))
def test_every_recipe_has_a_graph_with_an_anchor_and_a_recovery_for_each_event(
    seed: int, frames: int, distribution: RecipeDistribution
) -> None:
    drawn = draw(seed, frames, distribution)
    assert drawn == draw(seed, frames, distribution)
    assert InterruptionRecipe.from_json(drawn.to_json()) == drawn
    graph = FrameGraph(drawn.schedule(frames))
    assert 1 <= len(drawn.events) <= most_events(frames)
    assert graph.roles.count("recovery") == len(drawn.events)
    starts = {frames_of_chunk(k).start for k in range(num_chunks(frames))}
    for event in drawn.events:
        times = event.interruption
        assert times.hidden_stop in starts
        assert times.hidden_start - times.start == times.stop - times.hidden_stop
        if any(KINDS[kind].hides for kind in event.kinds):
            assert times.hidden_stop - times.hidden_start >= 4
        else:
            assert times.hidden_stop == times.hidden_start


@pytest.mark.parametrize("kind", ["light_toggle", "occluder", "curtain", "blink", "lookaway"])
def test_the_view_of_an_81_frame_clip_returns_at_every_chunk_about_as_often(kind: InterruptionKind) -> None:
    times = [sample_times([kind], 81, np.random.default_rng(s))[0] for s in range(600)]
    returns = Counter(t.hidden_stop for t in times)
    assert set(returns) - {69} == {33, 45, 57}
    assert (69 in returns) == (RAMP_FRAMES[kind][0] == 0)  # only what is over at once leaves a clean chunk after it
    ramped = Counter(t.hidden_stop for t in times if t.stop > t.hidden_stop)
    assert min(ramped.values()) > 0.25 * ramped.total()
    assert {t.hidden_stop - t.hidden_start for t in times} >= {8, 12, 24, 30}
    assert all(t.start >= 21 for t in times)


def test_the_number_of_events_follows_the_length_of_the_clip() -> None:
    assert [most_events(frames) for frames in (45, 81, 117, 153, 321)] == [1, 2, 3, 4, 8]
    assert {len(draw(s, 321).events) for s in range(40)} == {8}
    counts = Counter(len(draw(s, 81, RecipeDistribution()).events) for s in range(400))
    assert 0.2 < counts[2] / 400 < 0.5
    pair = Counter(tuple(i.interruption.hidden_stop for i in draw(s).events) for s in range(50))
    assert (21, 57) in pair


def test_long_clips_use_their_whole_length() -> None:
    single = RecipeDistribution(several_share=0.0)
    times = [draw(s, 321, single).interruption for s in range(300)]
    assert max(t.hidden_stop - t.hidden_start for t in times) > 120
    assert min(t.hidden_stop for t in times) < 60
    assert max(t.hidden_stop for t in times) > 280


def test_looks_durations_and_company_vary() -> None:
    events = [event for s in range(300) for event in draw(s).events]
    panels = [style for e in events for style in e.styles if isinstance(style, OccluderStyle)]
    assert {p.texture for p in panels} == {"plain", "stripes", "checker", "grain"}
    assert {p.softness > 0 for p in panels} == {True, False}
    assert len(set(panels)) == len(panels)
    company = {frozenset(e.kinds) for e in events}
    assert {frozenset(("light_toggle", "occluder")), frozenset(("zoom", "light_toggle"))} <= company
    assert frozenset(("zoom",)) in company
    assert len({e.seed for e in events}) == len(events)


def test_clean_controls_come_as_often_as_asked() -> None:
    distribution = RecipeDistribution(clean_share=0.3)
    share = sum(draw(s, distribution=distribution).kind == "clean" for s in range(400)) / 400
    assert share == pytest.approx(0.3, abs=0.07)


@settings(deadline=None, max_examples=40)
@given(any_seed)
def test_drawn_recipes_hide_what_they_say_and_touch_nothing_else(seed: int) -> None:
    drawn = draw(seed)
    clips = [Clip(torch.randint(1, 256, (81, 24, 32, 3), dtype=torch.uint8,
                                generator=torch.Generator().manual_seed(i)), 16.0) for i in (0, 1)]  # fmt: skip
    one, other = (apply_interruption(clip, drawn).rgb for clip in clips)
    schedule = drawn.schedule(81)
    hidden, degraded = schedule.hidden_frames(), schedule.degraded_frames()
    for t in range(81):
        assert torch.equal(one[t], clips[0].rgb[t]) == (t not in degraded)
        assert torch.equal(one[t], other[t]) == (t in hidden)


def test_wide_clips_are_looked_away_from_and_always_seen_through_a_view() -> None:
    clip = Clip(torch.randint(0, 256, (81, 48, 120, 3), dtype=torch.uint8), 16.0)
    kinds: set[str] = set()
    for seed in range(25):
        drawn = sample_composition(81, np.random.default_rng(seed), WIDE_MIX, window=WINDOW)
        assert drawn.view is not None
        out, clean = apply_interruption(clip, drawn), clean_view(clip, drawn)
        assert out.hw == clean.hw == (32, 40)
        degraded = drawn.schedule(81).degraded_frames()
        assert all(torch.equal(out.rgb[t], clean.rgb[t]) == (t not in degraded) for t in range(81))
        kinds |= set(drawn.kinds)
        for event in drawn.events:
            if event.kinds == ("lookaway",):
                assert event.interruption.hidden_start < event.interruption.hidden_stop  # wide enough to hide
    assert "lookaway" in kinds
    narrow = Window(stored_hw=(40, 56), view_hw=(32, 40))
    only = RecipeDistribution((("lookaway", 1.0),), several_share=0.0, together_share=0.0)
    times = sample_composition(81, np.random.default_rng(0), only, window=narrow).interruption
    assert times.hidden_start == times.hidden_stop  # not wide enough: it says so
    same = Window(stored_hw=(32, 40), view_hw=(32, 40))
    assert sample_composition(81, np.random.default_rng(0), window=same).view is None


def test_a_lookaway_needs_to_know_the_stored_size() -> None:
    only = RecipeDistribution((("lookaway", 1.0),))
    with pytest.raises(InputError, match="how wide the clip is stored"):
        draw(0, distribution=only)
    with pytest.raises(InputError, match="no room to look away"):
        sample_composition(81, np.random.default_rng(0), only, window=Window(stored_hw=(33, 41), view_hw=(32, 40)))
    with pytest.raises(InputError, match="depends on the clip"):
        sample_recipe("lookaway", 81, np.random.default_rng(0))


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no occluder fits"):
        sample_times(["occluder"], 33, rng)
    with pytest.raises(InputError, match=r"3 interruptions do not fit.*at most 2"):
        sample_times(["occluder"] * 3, 81, rng)
    with pytest.raises(InputError, match="must be a range"):
        sample_times(["occluder"], 81, rng, hidden_frames=(9, 5))
    with pytest.raises(InputError, match="there must be an interruption"):
        sample_times([], 81, rng)
    for bad in (float("nan"), -1.0, 0.0):
        with pytest.raises(InputError):
            RecipeDistribution((("occluder", bad),))
    with pytest.raises(InputError, match="shares"):
        RecipeDistribution(several_share=1.5)
