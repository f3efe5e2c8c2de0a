"""The picture of a clip: it is drawn for every kind of clip, and its panels show what the clip says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import torch
from rich.console import Console

from remind.clip import Cameras
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.inspect_clip import describe_clip, draw_clip, inspect_clip
from remind.data.inspect_panels import beside_caption, luma_change, moves, wrap_prompts, yaw_and_pitch_deg
from remind.data.interrupt import sample_recipe
from remind.data.memory_clip import MemoryClip
from remind.data.video_io import read_clip
from remind.data.world_clips import make_world_clip
from remind.errors import StoreError
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw
from remind.prompt_schedule import chunk_prompts
from tests.data.test_clip_store import full_clip, make_clip, provenance


def picture(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_a_clip_of_a_store_becomes_a_picture_and_words(tmp_path: Path) -> None:
    with ClipStoreWriter(tmp_path / "s") as writer:
        writer.add(full_clip())
    store = ClipStore.open(tmp_path / "s")
    console = Console(record=True, width=150)
    console.print(inspect_clip(store, "clip-0", tmp_path / "clip.png"))
    said = console.export_text()
    for line in (
        "clip-0", "AAxxxxR", "chunk 2 degraded", "the lights go off", "local: a.mp4", "types: slide", "watermark",
        "a vision-language model looked", "kept: 12 % of the picture moves", "licence: CC0",
        "69 of 81 cameras valid, relative scale",
    ):  # fmt: skip
        assert line in said
    drawn = picture(tmp_path / "clip.png")
    assert drawn.shape[1] == 2100
    assert drawn.std() > 20
    with pytest.raises(StoreError, match="no such clip"):
        inspect_clip(store, "clip-7", tmp_path / "no.png")
    assert not (tmp_path / "no.png").exists()




def test_what_cannot_be_degraded_is_still_drawn(tmp_path: Path) -> None:
    world = make_world_clip(2, hw=(16, 32), kind="camera_loop")
    prompts = chunk_prompts(world.clean.caption, world.schedule)
    clean = replace(world.clean, depth=None)
    clip = MemoryClip(clean, world.recipe, prompts, provenance(), states=world.scene.states.double())
    draw_clip(clip, tmp_path / "a.png")
    assert picture(tmp_path / "a.png").std() > 10


@pytest.mark.filterwarnings("error")
def test_hostile_words_long_clips_and_tall_pictures_are_drawn(tmp_path: Path) -> None:
    recipe = sample_recipe("occluder", 321, np.random.default_rng(0))
    clip = make_clip("a", hw=(48, 16), recipe=recipe, num_frames=321)
    caption = "a $\\frac{1 broken} <b> [red] & 雪\n\t \x1b[31m\0" * 40
    words = {f"k{i}": "v" * 999 for i in range(60)}
    clip = replace(
        clip, clean=replace(clip.clean, caption=caption), prompts=chunk_prompts(caption, recipe.schedule(321)),
        provenance=provenance().model_copy(update={"facts": words, "item_id": "x/" * 4000}),
    )  # fmt: skip
    draw_clip(clip, tmp_path / "a.png")
    height, width = picture(tmp_path / "a.png").shape[:2]
    assert height < 2 * width
    console = Console(record=True, width=100)
    console.print(describe_clip(clip))
    shown = console.export_text()
    assert "[red]" in shown
    assert "\x1b" not in shown
    draw_clip(clip, tmp_path / "a.svg")
    ElementTree.parse(tmp_path / "a.svg")


def test_prompts_are_shown_beside_the_caption() -> None:
    assert beside_caption("a ball rolls, the lights go off", "a ball rolls.") == "the lights go off"
    assert beside_caption("something else", "a ball rolls") == "something else"
    assert beside_caption("the lights go off", "") == "the lights go off"
    wrapped = wrap_prompts(["a", "a, b", "a, b", "a"], "a", 45, 8.0)
    alone = "(the caption alone)"
    assert wrapped == [(range(0, 9), alone), (range(9, 33), "b"), (range(33, 45), alone)]


def test_yaw_turns_right_and_is_unknown_where_the_pose_is() -> None:
    yaw = torch.linspace(0, 270, 20)
    valid = torch.arange(20) != 7
    cameras = Cameras(rigid(rotation_yaw(yaw), torch.zeros(20, 3, dtype=torch.float64)),
                      intrinsics_from_fov(60.0, (8, 8), 20), (8, 8), valid)  # fmt: skip
    got, pitch = yaw_and_pitch_deg(cameras)
    assert np.flatnonzero(np.isnan(got)).tolist() == [7]
    np.testing.assert_allclose(got[valid.numpy()], yaw.numpy()[valid.numpy()], atol=1e-4)
    assert np.nanmax(np.abs(pitch)) < 1e-9
    assert moves(cameras)
    assert not moves(cameras[torch.tensor([0])])
    assert not moves(replace(cameras, valid=torch.zeros(20, dtype=torch.bool)))


def test_change_of_luma_is_in_percent() -> None:
    clip = make_clip().clean
    rgb = torch.zeros_like(clip.rgb)
    rgb[3:] = 255
    change = luma_change(clip.with_rgb(rgb))
    assert np.isnan(change[0])
    np.testing.assert_allclose(change[1:5], [0, 0, 100, 0], atol=1e-3)


def test_a_real_clip_is_drawn(tmp_path: Path) -> None:
    data = os.environ.get("REMIND_TEST_DATA")
    if data is None:
        pytest.skip("REMIND_TEST_DATA is not set")
    sampled = read_clip(Path(data) / "videos" / "crush_027.mp4", num_frames=81, fps=16, hw=(96, 160))
    clip = make_clip("crush", hw=(96, 160))
    draw_clip(replace(clip, clean=clip.clean.with_rgb(sampled.rgb)), tmp_path / "a.png")
    assert picture(tmp_path / "a.png").std() > 20
