"""Recipes of several events and of wide clips on their way: through a store, into training, and in the world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from remind.clip import Clip
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.dataset import StoreDataset
from remind.data.encoded_pair import LivePairs, VariantSpec
from remind.data.interrupt import (
    Event,
    InterruptionRecipe,
    LightStyle,
    RecipeDistribution,
    Window,
    apply_interruption,
    clean_view,
    sample_composition,
)
from remind.data.interrupt.styles import CameraLoopStyle
from remind.data.kinds import KINDS, kinds_of
from remind.data.world_clips import make_world_clip
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import run_control
from remind.evaluation.observation import observe
from remind.frame_graph import Interruption, InterruptionKind
from remind.models.codec import LinearCodec
from remind.models.text import WordHashEncoder
from tests.data.make_store import memory_of
from tests.data.make_video import moving_square
from tests.data.test_clip_store import provenance

SEEN, STORED = (32, 32), (48, 128)
WINDOW = Window(stored_hw=STORED, view_hw=SEEN)
MIX = RecipeDistribution(
    (("light_toggle", 1.0), ("occluder", 1.0), ("lookaway", 2.0)), several_share=0.7, together_share=0.4
)


def test_wide_clips_with_compositions_are_stored_and_trained_on(tmp_path: Path) -> None:
    recipes = [sample_composition(81, np.random.default_rng(s), MIX, window=WINDOW) for s in range(4)]
    with ClipStoreWriter(tmp_path / "store") as writer:
        for i, drawn in enumerate(recipes):
            clip = Clip(moving_square(81, STORED), 16.0, caption="a square moves", clip_id=f"wide-{i}")
            writer.add(memory_of(clip, drawn, provenance()))
    store = ClipStore.open(tmp_path / "store")
    assert [memory.recipe for memory in store] == recipes
    assert any(len(drawn.events) > 1 for drawn in recipes)
    pairs = LivePairs(store, LinearCodec.load(), VariantSpec(), hw=SEEN)
    dataset = StoreDataset(pairs, WordHashEncoder(8, 24))
    for sample, memory in zip((dataset[i] for i in range(len(dataset))), store, strict=True):
        clean = clean_view(memory.clean, memory.recipe)
        assert clean.hw == memory.degraded().hw == SEEN
        codec = LinearCodec.load()
        assert torch.equal(sample.clean, codec.encode(clean.rgb[None])[0])
        assert torch.equal(sample.degraded, codec.encode(memory.degraded().rgb[None])[0])
        assert sample.graph == memory.graph
        assert sample.clean_prompts != sample.degraded_prompts


def test_the_world_renders_its_loops_and_the_rest_happens_on_its_frames() -> None:
    loop = Interruption("camera_loop", 22, 25, 42, 45)
    events = (
        Event(interruption=loop, style=CameraLoopStyle()),
        Event(interruption=Interruption("light_toggle", 58, 60, 66, 68), style=LightStyle()),
    )
    case = make_world_clip(11, hw=(24, 24), recipe=InterruptionRecipe(events=events))
    only_loop = make_world_clip(11, hw=(24, 24), recipe=InterruptionRecipe(events=events[:1]))
    assert case.graph.draw() == "AAxxRxR"
    assert torch.equal(case.degraded.rgb[:58], only_loop.degraded.rgb[:58])
    assert (case.degraded.rgb[60:66] == 0).all()
    assert not torch.equal(case.degraded.rgb[30], case.clean.rgb[30])
    assert torch.equal(case.degraded.rgb[68:], case.clean.rgb[68:])
    assert case.scene.object_visible(None, case.degraded.cameras)[:22].any()
    assert not case.scene.object_visible(None, case.degraded.cameras)[25:42].any()
    dark_loop = Event(interruption=loop, style=CameraLoopStyle(), also=(LightStyle(),))
    both = make_world_clip(11, hw=(24, 24), recipe=InterruptionRecipe(events=(dark_loop,)))
    assert (both.degraded.rgb[25:42] == 0).all()
    assert both.degraded.cameras is not None
    assert only_loop.degraded.cameras is not None
    assert torch.equal(both.degraded.cameras.c2w, only_loop.degraded.cameras.c2w)


@pytest.mark.parametrize("kind", kinds_of("held_out"))
def test_held_out_interruptions_can_be_measured_in_the_world(kind: InterruptionKind) -> None:
    """The truth passes observation control, and a video that shows the undisturbed scene does not."""
    case = make_world_clip(2_000_000_003, hw=(32, 32), family="walker", kind=kind)
    meter = CaseMeter(case)
    seen = observe(run_control("oracle", meter), meter)
    assert seen is not None
    assert seen.passed
    disturbed = observe(case.clean.rgb, meter)
    assert disturbed is not None
    assert not disturbed.passed
    assert KINDS[kind].held_out


def test_either_of_two_covers_at_once_will_do_for_observation() -> None:
    style_times = Interruption("occluder", 22, 27, 57, 60)
    base = make_world_clip(2_000_000_003, hw=(32, 32), family="walker", kind="occluder").recipe.style
    event = Event(interruption=style_times, style=base, also=(LightStyle(),))
    case = make_world_clip(2_000_000_003, hw=(32, 32), family="walker", recipe=InterruptionRecipe(events=(event,)))
    meter = CaseMeter(case)
    panel_only = Event(interruption=style_times, style=base)
    lit = apply_interruption(case.clean, InterruptionRecipe(events=(panel_only,))).rgb
    for video in (case.degraded.rgb, lit):
        seen = observe(video, meter)
        assert seen is not None
        assert seen.passed
