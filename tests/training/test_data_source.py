"""What a run reads: the same from memory and cache, what is held out stays out, and what does not fit is said first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import torch
from rich.console import Console

from remind.data import memory_bank
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.encoded_pair import LatentEncoder
from remind.data.held_out import held_out_clips
from remind.data.interrupt import InterruptionRecipe
from remind.data.latent_build import build_latents
from remind.data.latent_cache import LatentSpec
from remind.data.memory_sample import MemorySample
from remind.data.quarantine import Quarantine
from remind.data.text_build import build_text, store_prompts
from remind.data.world_clips import TRAIN_SEEDS, VALIDATION_SEEDS
from remind.errors import GraphError, InputError, StoreError
from remind.models.codec import LinearCodec
from remind.models.text import WordHashEncoder
from remind.recipes.arms import arm_settings
from remind.training import store_source
from remind.training.config import DataPart, TrainConfig, ValidationOptions
from remind.training.data_source import DataSource, open_data
from remind.world import FAMILIES
from tests.data.make_store import FRAMES, HW, clip_of, damage, make_store, memory_of, provenance_of, recipe_of
from tests.make_memory import TINY

CLIPS = 12
CONFIG = TrainConfig(recipe="by_hand", arm="remind", model=TINY, hw=HW, num_frames=FRAMES, batch_size=3, bank_size=0,
                     **arm_settings("remind"))  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("data") / "store", CLIPS)


@pytest.fixture
def config(root: Path) -> TrainConfig:
    return reading(root)


@pytest.fixture
def two_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of a bank renders a clip of each family; two are enough here."""
    monkeypatch.setattr(memory_bank, "FAMILIES", sorted(FAMILIES)[:2])


def reading(store: Path, latents: Path | None = None, **changes: Any) -> TrainConfig:
    return replace(CONFIG, data=(DataPart(store, latents=latents),), **changes)


def opened(config: TrainConfig, cache_dir: Path | None = None) -> DataSource:
    return open_data(config, Console(quiet=True), workers=1, cache_dir=cache_dir)


def same(a: MemorySample, b: MemorySample) -> bool:
    tensors = [name for name in vars(a) if isinstance(getattr(a, name), torch.Tensor)]
    return a.recipe == b.recipe and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


def cached(root: Path, folder: Path, variants: int = 1, encoder: LatentEncoder | None = None) -> Path:
    build_latents(ClipStore.open(root), encoder or LinearCodec.load(), folder, LatentSpec(variants=variants))
    return folder


class OtherCodec:
    """Stands for an encoder with weights of its own: the embedded codec under another digest."""

    def __init__(self) -> None:
        self.codec, self.digest = LinearCodec.load(), "another"

    def encode(self, rgb: torch.Tensor) -> torch.Tensor:
        return self.codec.encode(rgb)


# --- a store -------------------------------------------------------------------------------------------------------


def test_from_memory_live_and_from_latents_come_the_same_samples(
    config: TrainConfig, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened(config)
    cache = opened(reading(root, cached(root, tmp_path / "latents")))
    monkeypatch.setattr(store_source, "KEEP_BYTES", 1000)  # too little for one clip
    live = opened(config)
    assert [s.facts["stores"][0]["read"] for s in (memory, live, cache)] == ["memory", "live", "cache"]
    for index in range(12):
        assert same(memory.mixture[index], live.mixture[index])
        assert same(memory.mixture[index], cache.mixture[index])
    assert memory.facts["sha256"] == live.facts["sha256"] == cache.facts["sha256"]


def test_a_small_store_is_read_before_the_first_step(root: Path, tmp_path: Path) -> None:
    copy = make_store(tmp_path / "store", 4)
    source = opened(reading(copy))
    for clip in range(4):
        damage(copy, clip)
    assert source.mixture[0].num_frames == FRAMES


def test_a_damaged_clip_is_named_and_a_quarantined_one_is_left_out(tmp_path: Path) -> None:
    root = make_store(tmp_path / "store", 5)
    damage(root, 2)
    config = reading(root)
    with pytest.raises(StoreError, match=r'clip clip-2 is damaged.*add "clip-2" to .*quarantine\.json'):
        opened(config)
    Quarantine(root / "quarantine.json").add("clip-2", "damaged")
    source = opened(config)
    assert (source.facts["clips"], source.facts["stores"][0]["quarantined"]) == (4, ["clip-2"])


# --- what is held out ----------------------------------------------------------------------------------------------


def test_what_is_held_out_is_never_trained_on(config: TrainConfig, root: Path) -> None:
    held = held_out_clips(ClipStore.open(root))
    assert len(held) == 1
    source = opened(config)
    assert source.held_out is not None
    kept = {source.held_out[i].recipe.to_json() for i in range(5)}
    trained = {source.mixture[i].recipe.to_json() for i in range(4 * CLIPS)}
    assert len(kept) == 1
    assert len(trained) == CLIPS - 1
    assert not kept & trained
    assert (source.facts["clips"], source.facts["held_out_clips"]) == (CLIPS - 1, 1)


def test_all_clips_of_a_video_stand_on_one_side_and_stay_there_as_the_store_grows(tmp_path: Path) -> None:
    def store(name: str, videos: int, windows: int) -> ClipStore:
        clip, recipe = memory_of(clip_of(1), recipe_of(1), provenance_of(1)), tmp_path / name
        with ClipStoreWriter(recipe) as writer:
            from remind.data.clip_members import encode_members

            members = encode_members(clip)
            for video in range(videos):
                for window in range(windows):
                    writer.add_members(f"v{video}-{window}", members, replace(clip.facts, item_id=f"{video}.mp4"))
        return ClipStore.open(recipe)

    small, large = held_out_clips(store("small", 150, 2)), held_out_clips(store("large", 300, 2))
    videos = {clip_id.split("-")[0] for clip_id in large}
    assert {f"{video}-{window}" for video in videos for window in (0, 1)} == large
    assert small <= large
    assert 2 <= len(videos) <= 14  # of 300, one in 50
    assert held_out_clips(store("few", 9, 1)) == frozenset()
    assert len(held_out_clips(store("ten", 10, 1))) == 1


def test_a_store_of_few_videos_holds_nothing_out_and_cannot_be_validated_on(tmp_path: Path) -> None:
    config = reading(make_store(tmp_path / "store", 4))
    assert opened(config).held_out is None
    with pytest.raises(InputError, match="nothing to validate on"):
        opened(replace(config, validation=ValidationOptions(every=10)))


# --- several stores ------------------------------------------------------------------------------------------------


def test_stores_are_mixed_by_their_weights(root: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", 4)
    source = opened(replace(CONFIG, data=(DataPart(root, 3.0), DataPart(other, 1.0))))
    places = [source.mixture.locate(i)[0] for i in range(2000)]
    assert places.count(1) / len(places) == pytest.approx(0.25, abs=0.04)
    assert (source.facts["clips"], source.facts["weights"]) == (CLIPS - 1 + 4, [0.75, 0.25])
    assert source.held_out is not None
    assert len(source.held_out.banks) == 1  # of the first store; the other has few videos
    assert source.facts["licences"] == {"": CLIPS + 4}
    swapped = opened(replace(CONFIG, data=(DataPart(other, 1.0), DataPart(root, 3.0))))
    assert swapped.facts["sha256"] != source.facts["sha256"]


def test_stores_of_two_encoders_do_not_mix(root: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", 4)
    config = reading(root, cached(root, tmp_path / "a", 1, OtherCodec()), encoders="wan")
    another = OtherCodec()
    another.digest = "yet another"
    parts = (*config.data, DataPart(other, latents=cached(other, tmp_path / "b", 1, another)))
    text = WordHashEncoder(TINY.text_dim, TINY.text_len)
    for store, folder in ((root, "a"), (other, "b")):
        build_text(store_prompts(ClipStore.open(store), LatentSpec(variants=1)), text, tmp_path / folder / "text")
    with pytest.raises(StoreError, match=r"latents of the stores were made by different encoders.*expected one"):
        opened(replace(config, data=parts))


# --- the world -----------------------------------------------------------------------------------------------------


def test_world_and_store_are_mixed_by_their_share(config: TrainConfig, tmp_path: Path, two_families: None) -> None:
    both = replace(config, bank_size=4, world_share=0.25, validation=ValidationOptions(clips=2))
    source = opened(both, tmp_path)
    places = [source.mixture.locate(i)[0] for i in range(2000)]
    assert places.count(0) / len(places) == pytest.approx(0.25, abs=0.04)
    assert source.held_out is not None
    assert [len(bank) for bank in source.held_out.banks] == [2, 1]
    seeds = source.held_out.banks[0].seeds  # type: ignore[attr-defined]
    assert all(seed in VALIDATION_SEEDS and seed not in TRAIN_SEEDS for seed in seeds)
    assert source.held_out.banks[0][1].clean.shape == source.mixture[0].clean.shape
    world = opened(replace(both, data=()), tmp_path)
    assert world.facts["stores"] == []
    assert world.licence == "Apache-2.0; trained on the embedded world"
    assert len({world.facts["sha256"], source.facts["sha256"], opened(config).facts["sha256"]}) == 3
    json.dumps(source.facts)


def test_a_world_bank_of_some_families_and_interruptions_has_no_others(tmp_path: Path, two_families: None) -> None:
    few = replace(CONFIG, bank_size=6, world_families=("filling", "train"), world_kinds=("occluder",))
    source = opened(few, tmp_path)
    assert {kind for i in range(6) for kind in source.mixture[i].recipe.kinds} == {"occluder"}
    assert isinstance(source.mixture.banks[0], memory_bank.MemoryBank)
    captions = source.mixture.banks[0].captions
    assert [" train" in caption for caption in captions] == [False, True] * 3
    assert opened(replace(few, world_families=()), tmp_path).facts["sha256"] != source.facts["sha256"]
    held = source.held_out
    assert held is not None
    assert {held[i].recipe.kind for i in range(4)} == {"occluder"}  # what is validated on is of the same world


# --- the record ----------------------------------------------------------------------------------------------------


def test_the_hash_follows_ids_and_contents(tmp_path: Path) -> None:
    def sha(name: str, count: int = 4, **changed: object) -> str:
        root = make_store(tmp_path / name, count, **changed)  # type: ignore[arg-type]
        return str(opened(reading(root)).facts["sha256"])

    first = sha("a")
    assert sha("elsewhere") == first
    others = [sha("more", 5), sha("pixels", changed={1: {"seed": 9}}), sha("words", changed={1: {"caption": "other"}}),
              sha("recipe", changed={2: {"recipe_seed": 3}})]  # fmt: skip
    assert len({first, *others}) == 5


def test_licences_are_counted_and_carried_on(tmp_path: Path) -> None:
    with ClipStoreWriter(tmp_path / "store") as writer:
        for i in range(4):
            writer.add(memory_of(clip_of(i), recipe_of(i), provenance_of(i, licence="CC BY 4.0" if i else "")))
    source = opened(reading(tmp_path / "store"))
    assert source.facts["licences"] == {"CC BY 4.0": 3, "": 1}
    assert source.licence == "Apache-2.0; trained on clips under: CC BY 4.0 (3), unknown (1)"


# --- what does not fit ---------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_said_before_anything_is_decoded(config: TrainConfig, root: Path, tmp_path: Path) -> None:
    unread = make_store(tmp_path / "unread", CLIPS)
    for clip in range(CLIPS):
        damage(unread, clip)  # whoever decodes a picture fails otherwise
    mine = reading(unread)
    for changed, words in (
        ({"hw": (32, 32)}, r"another size than the recipe's; got 12 of 16x16; expected 32x32 px.*--hw 32 32"),
        ({"num_frames": 81}, "another length than the recipe's; got 12 of 57 frames; expected 81 frames"),
        ({"batch_size": 12}, "fewer clips than a batch holds; got 11 clips to train on; expected at least 12"),
        ({"data": ()}, "nothing to train on"),
        ({"encoders": "wan"}, "not run while training.*--text"),
        ({"encoders": "wan", "bank_size": 4}, "world clips are encoded by the embedded codec"),
        ({"bank_size": 4, "world_share": 1.0}, "must leave room for world clips and stores"),
    ):
        with pytest.raises(InputError, match=words):
            opened(replace(mine, **{"bank_size": 0, **changed}))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="not a clip store"):
        opened(reading(tmp_path))


def test_a_store_without_recoveries_serves_only_regimes_that_need_none(tmp_path: Path) -> None:
    with ClipStoreWriter(tmp_path / "store") as writer:
        for i in range(4):
            writer.add(memory_of(clip_of(i), InterruptionRecipe(events=()), provenance_of(i)))
    config = reading(tmp_path / "store")
    with pytest.raises(GraphError, match=r"node_drop has nothing to train on.*none of 4 clips with an interruption"):
        opened(config)
    assert opened(replace(config, **arm_settings("matched"))).mixture[0].graph.edges == ()


def test_latents_of_another_encoder_or_another_store_are_refused(
    config: TrainConfig, root: Path, tmp_path: Path
) -> None:
    other = cached(root, tmp_path / "other", encoder=OtherCodec())
    with pytest.raises(StoreError, match=r"of another encoder; got another"):
        opened(reading(root, other))
    fewer = cached(make_store(tmp_path / "fewer", CLIPS - 2), tmp_path / "fewer-latents")
    with pytest.raises(StoreError, match=r"not that of the store as it is now; got 2 clips"):
        opened(reading(root, fewer))
    with pytest.raises(StoreError, match="not a cache of latents"):
        opened(reading(root, tmp_path))


# --- latents and text of large encoders ----------------------------------------------------------------------------


def test_at_the_large_scale_latents_and_text_are_both_read(config: TrainConfig, root: Path, tmp_path: Path) -> None:
    """A stand-in for the encoders: what is read here is made by small ones, under digests of their own."""
    store, latents = ClipStore.open(root), tmp_path / "latents"
    large = reading(root, cached(root, latents, 2, OtherCodec()), encoders="wan")
    with pytest.raises(StoreError, match=r"no prompt embeddings.*--text"):
        opened(large)
    text = WordHashEncoder(TINY.text_dim, TINY.text_len)
    prompts = store_prompts(store, LatentSpec(variants=2))
    build_text(prompts[:-1], text, latents / "text")
    with pytest.raises(StoreError, match=r"a prompt was never embedded; got .*Fix: run `remind data latents"):
        opened(large)
    build_text(prompts, text, latents / "text")
    source = opened(large)
    expected = opened(reading(root, cached(root, tmp_path / "embedded", 2)))
    assert all(same(source.mixture[i], expected.mixture[i]) for i in range(24))
    assert source.facts["encoders"] == {"latents": "another", "text": text.digest}
    with pytest.raises(StoreError, match=r"embedded for another model; got 16 x 8; expected 16 x 9"):
        opened(replace(large, model=replace(TINY, text_dim=9)))
    build_text(prompts, text, tmp_path / "embedded" / "text")
    with pytest.raises(StoreError, match=r"of another encoder; got the embedded codec's; expected a Wan VAE's"):
        opened(reading(root, tmp_path / "embedded", encoders="wan"))


def test_every_prompt_of_every_variant_is_counted_once(root: Path) -> None:
    store = ClipStore.open(root)
    prompts = store_prompts(store, LatentSpec(variants=3))
    assert len(set(prompts)) == len(prompts)
    assert set(pc.unique(store.index["clip_id"]).to_pylist()) == {f"clip-{i}" for i in range(CLIPS)}
    assert {f"square {i} moves" for i in range(CLIPS)} <= set(prompts)
    assert len(prompts) > len(store_prompts(store, LatentSpec(variants=1))) > CLIPS
    assert not any("square 3" in prompt for prompt in store_prompts(store, LatentSpec(), skip={"clip-3"}))
