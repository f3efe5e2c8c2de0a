"""The embedded world as a source: listed by seed, tagged as the taxonomy has it, rendered exactly."""

from __future__ import annotations

import itertools

import pytest
import torch

from remind.curation.item import SourceItem, WorldMedia
from remind.curation.sources.world import FAMILY_EVENTS, WorldSource, event_tags, render_world_item, world_states
from remind.curation.taxonomy import GROUPS, Taxonomy
from remind.data.world_clips import TEST_SEEDS, TRAIN_SEEDS, make_world_clip
from remind.errors import InputError
from remind.world import FAMILIES, sample_scene

HW, FRAMES = (16, 24), 57


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy.load()


def listed(**changes: object) -> list[SourceItem]:
    options = {"first_seed": 3, "count": 30, "hw": HW, "num_frames": FRAMES} | changes
    return list(WorldSource(**options).items())  # type: ignore[arg-type]


def test_families_and_taxonomy_agree_on_the_groups(taxonomy: Taxonomy) -> None:
    assert FAMILY_EVENTS.keys() == FAMILIES.keys()
    for family, events in FAMILY_EVENTS.items():
        assert {taxonomy[event].group for event in events} == {FAMILIES[family].group}, family
        if not FAMILIES[family].reversible:
            assert len(set(events)) == 1
    assert {f.group for f in FAMILIES.values()} == set(GROUPS)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_captions_of_a_family_are_recognised(taxonomy: Taxonomy, family: str) -> None:
    """By keywords alone: never another group alone, and the type that happens for one wording in three or more."""
    scenes = [sample_scene(seed, family=family) for seed in range(16)]
    happens = [(event_tags(s), taxonomy.match(s.caption)) for s in scenes if event_tags(s)]
    right = sum(tags[0] in found for tags, found in happens)
    assert right >= len(happens) / 3 > 0
    strange = [found for _, found in happens if found and FAMILIES[family].group not in taxonomy.groups_of(found)]
    assert strange == []


def test_items_are_the_scenes_of_the_seeds() -> None:
    items = listed()
    assert items == listed()
    assert [i.media.seed for i in items if isinstance(i.media, WorldMedia)] == list(range(3, 33))
    assert len({i.item_id for i in items}) == 30
    assert len({i.describe() for i in items}) == 30
    for item in items:
        media = item.media
        assert isinstance(media, WorldMedia)
        scene = sample_scene(media.seed, num_frames=FRAMES, hw=HW)  # the one that the loader of tiny draws
        assert (item.item_id, item.caption, media.family) == (scene.scene_id, scene.caption, scene.family)
        assert (item.source, item.licence, item.facts) == ("world", "Apache-2.0", {"split": "train"})


def test_families_are_taken_in_turn() -> None:
    families = ("door", "sunset", "clock")
    items = listed(count=6, families=families)
    assert [i.media.family for i in items if isinstance(i.media, WorldMedia)] == [*families, *families]
    assert listed(first_seed=4, count=1, families=families) == [items[1]]  # by the seed, not by the place


def test_tags_tell_what_happens(taxonomy: Taxonomy) -> None:
    for item in listed(count=40, families=("filling",)):
        falls = any(word in item.caption for word in ("drains", "sinks", "down"))
        assert item.tags == (("vessel_draining",) if falls else ("vessel_filling",))
    doors = listed(count=40, families=("door",))
    assert {item.tags for item in doors} == {("door_opening",), ()}
    assert all((item.tags == ()) == ("stay" in item.caption) for item in doors)
    assert all(tag in taxonomy for item in listed(count=60) for tag in item.tags)


def test_rendering_gives_the_exact_clip_and_states() -> None:
    item = listed(first_seed=11, count=1)[0]
    assert isinstance(item.media, WorldMedia)
    clip, states = render_world_item(item.media), world_states(item.media)
    same = make_world_clip(11, hw=HW, num_frames=FRAMES)
    assert torch.equal(clip.rgb, same.clean.rgb)
    assert torch.equal(states, same.scene.states)
    assert clip.rgb.shape == (FRAMES, *HW, 3)
    assert clip.depth is not None
    assert clip.depth.shape == (FRAMES, *HW)
    assert clip.cameras is not None
    assert clip.cameras.valid.all()
    assert (clip.caption, clip.clip_id) == (item.caption, item.item_id)
    assert len(states) == FRAMES
    assert (states[1:] != states[:-1]).any()


def test_splits_are_told_and_not_mixed() -> None:
    assert listed(first_seed=TEST_SEEDS.start, count=1)[0].facts["split"] == "test"
    with pytest.raises(InputError, match="two splits"):
        listed(first_seed=TRAIN_SEEDS.stop - 1, count=2)


def test_listing_is_lazy() -> None:
    source = WorldSource(0, 500_000_000, (480, 832), 321)
    assert len(list(itertools.islice(source.items(), 3))) == 3


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"first_seed": -1}, "no split has this seed; got -1"),
        ({"first_seed": TEST_SEEDS.stop}, "no split"),
        ({"count": 0}, "count 0"),
        ({"hw": (8, 64)}, "16..2048"),
        ({"hw": (64, 100_000)}, "16..2048"),
        ({"num_frames": 1}, "1 frames"),
        ({"families": ("dragon",)}, "unknown scene families; got dragon"),
        ({"families": ()}, "none at all"),
    ],
)
def test_sources_that_cannot_be_are_refused(changes: dict, line: str) -> None:
    with pytest.raises(InputError, match=line):
        listed(**changes)
