"""A store as memory samples: the same from cache and live, and damage is named, counted and never hidden."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from remind.data.clip_store import ClipStore
from remind.data.dataset import StoreDataset
from remind.data.encoded_pair import LivePairs, VariantSpec
from remind.data.kept_pairs import KeptPairs, pair_bytes
from remind.data.latent_build import build_latents
from remind.data.latent_cache import CachedPairs, LatentCache, LatentSpec
from remind.data.loader import StepSampler, read_batches
from remind.data.memory_sample import MemorySample
from remind.data.mixture import Mixture
from remind.data.quarantine import Quarantine
from remind.errors import InputError, StoreError
from remind.models.codec import LinearCodec
from remind.models.text import WordHashEncoder
from tests.data.make_store import HW, damage, make_store

COUNT, VARIANTS = 4, 2


@pytest.fixture
def text() -> WordHashEncoder:
    return WordHashEncoder(8, 16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", COUNT)


def live(root: Path) -> LivePairs:
    return LivePairs(ClipStore.open(root), LinearCodec.load(), VariantSpec(variants=VARIANTS), hw=HW)


def cached(root: Path, folder: Path) -> CachedPairs:
    codec = LinearCodec.load()
    store = ClipStore.open(root)
    build_latents(store, codec, folder, LatentSpec(variants=VARIANTS))
    return CachedPairs(LatentCache.open(folder), store, encoder_digest=codec.digest, hw=HW)


def same(a: MemorySample, b: MemorySample) -> bool:
    tensors = [name for name in vars(a) if isinstance(getattr(a, name), torch.Tensor)]
    assert len(tensors) == 7
    rest = ("recipe", "num_frames", "clean_prompts", "degraded_prompts")
    alike = all(getattr(a, n) == getattr(b, n) for n in rest)
    return alike and all(torch.equal(getattr(a, n), getattr(b, n)) for n in tensors)


def test_items_are_every_clip_in_every_variant(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    a, b = StoreDataset(live(root), text), StoreDataset(cached(root, tmp_path / "c"), text)
    assert len(a) == len(b) == COUNT * VARIANTS
    assert [a.clip_id(i) for i in range(len(a))] == [f"clip-{i}" for i in range(COUNT)] * VARIANTS
    assert all(same(a[i], b[i]) for i in range(len(a)))
    assert len({a[i].recipe.to_json() for i in range(len(a))}) == len(a)
    assert torch.equal(a[1].clean, a[COUNT + 1].clean)
    for index in (-1, len(a)):
        with pytest.raises(IndexError):
            a[index]


def test_pairs_kept_in_memory_are_read_once_and_are_the_same(root: Path, text: WordHashEncoder) -> None:
    kept = KeptPairs(live(root))
    dataset, expected = StoreDataset(kept, text), [StoreDataset(live(root), text)[i] for i in range(COUNT * VARIANTS)]
    assert all(same(dataset[i], expected[i]) for i in range(len(dataset)))
    for clip in range(COUNT):
        damage(root, clip)  # no one looks at the disk any more
    assert all(same(dataset[i], expected[i]) for i in range(len(dataset)))
    tensors = [t for pair in (kept.read(0, 0),) for track in (pair.clean, pair.degraded) for t in vars(track).values()]
    assert sum(t.numel() * t.element_size() for t in tensors) == pair_bytes(57, HW)


def test_loader_processes_read_what_one_process_reads(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    mixture = Mixture([StoreDataset(cached(root, tmp_path / "c"), text), StoreDataset(live(root), text)],
                      [1.0, 1.0], seed=2)  # fmt: skip
    expected = [mixture[i] for i in range(4, 16)]
    for workers in (0, 2):
        got = [s for b in read_batches(mixture, StepSampler(4, 4, first_step=1), workers=workers) for s in b]
        assert all(same(x, y) for x, y in zip(expected, got, strict=True))


def test_a_dataset_from_the_cache_can_be_pickled(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    dataset = StoreDataset(cached(root, tmp_path / "c"), text)
    assert same(pickle.loads(pickle.dumps(dataset))[5], dataset[5])


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_clip_is_named_with_the_way_out(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    damage(root, 2)
    with pytest.raises(StoreError, match=r'clip clip-2 is damaged.*add "clip-2" to the quarantine file'):
        StoreDataset(live(root), text)[2]
    quarantine = Quarantine(tmp_path / "q.json")
    with pytest.raises(StoreError, match=r"q\.json"):
        StoreDataset(live(root), text, quarantine=quarantine)[2]
    assert quarantine.read() == {}


def test_a_new_find_stands_for_the_next_item_and_is_counted(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    whole = [StoreDataset(live(root), text)[i] for i in range(COUNT * VARIANTS)]
    damage(root, 1)
    damage(root, 2)
    quarantine = Quarantine(tmp_path / "q.json")
    dataset = StoreDataset(live(root), text, on_corrupt="quarantine", quarantine=quarantine)
    assert dataset.newly_quarantined == ()
    for _ in range(2):  # whether it was known or not
        assert same(dataset[1], whole[3])
        assert same(dataset[2], whole[3])
        assert same(dataset[0], whole[0])
    assert dataset.newly_quarantined == ("clip-1", "clip-2")
    assert dataset.skipped == ()
    assert len(dataset) == COUNT * VARIANTS  # the order of this run stays
    assert "clip-1" in quarantine.read()["clip-1"]


def test_the_last_item_goes_round(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    damage(root, 3)
    dataset = StoreDataset(live(root), text, on_corrupt="quarantine", quarantine=Quarantine(tmp_path / "q.json"))
    assert same(dataset[COUNT * VARIANTS - 1], dataset[0])


def test_all_processes_see_the_same_and_count_together(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    damage(root, 0)
    for workers in (0, 2):
        quarantine = Quarantine(tmp_path / f"q{workers}.json")
        dataset = StoreDataset(live(root), text, on_corrupt="quarantine", quarantine=quarantine)
        mixture = Mixture([dataset], [1.0], seed=0)
        got = [s for batch in read_batches(mixture, StepSampler(4, 3), workers=workers) for s in batch]
        if workers == 0:
            first = got
        assert dataset.newly_quarantined == ("clip-0",)
    assert all(same(a, b) for a, b in zip(first, got, strict=True))


def test_the_next_run_skips_from_the_start_and_a_resumed_one_does_not(
    root: Path, tmp_path: Path, text: WordHashEncoder
) -> None:
    quarantine = Quarantine(tmp_path / "q.json")
    quarantine.add("clip-1", "damaged")
    quarantine.add("of-another-store", "damaged")
    dataset = StoreDataset(live(root), text, quarantine=quarantine)
    assert dataset.skipped == ("clip-1",)
    assert [dataset.clip_id(i) for i in range(len(dataset))] == ["clip-0", "clip-2", "clip-3"] * VARIANTS
    resumed = StoreDataset(live(root), text, quarantine=quarantine, skip=())
    assert len(resumed) == COUNT * VARIANTS
    order = [Mixture([StoreDataset(live(root), text, quarantine=quarantine)], [1.0], 5).locate(i) for i in range(9)]
    quarantine.add("clip-0", "damaged")  # found by another run
    again = Mixture([StoreDataset(live(root), text, quarantine=quarantine, skip=dataset.skipped)], [1.0], 5)
    assert [again.locate(i) for i in range(9)] == order


def test_settings_are_never_the_clips_fault(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    pairs = LivePairs(ClipStore.open(root), LinearCodec.load(), VariantSpec(), hw=(32, 32))
    quarantine = Quarantine(tmp_path / "q.json")
    with pytest.raises(InputError, match="another size"):
        StoreDataset(pairs, text, on_corrupt="quarantine", quarantine=quarantine)[0]
    assert quarantine.read() == {}
    with pytest.raises(InputError, match="need a place"):
        StoreDataset(live(root), text, on_corrupt="quarantine")


def test_nothing_left_to_read_is_an_error(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    for clip in range(COUNT):
        damage(root, clip)
    quarantine = Quarantine(tmp_path / "q.json")
    dataset = StoreDataset(live(root), text, on_corrupt="quarantine", quarantine=quarantine)
    with pytest.raises(StoreError, match="no clip of the store can be read"):
        dataset[0]
    with pytest.raises(InputError, match="all of them skipped"):
        StoreDataset(live(root), text, quarantine=quarantine)
    with pytest.raises(InputError, match="an empty store"):
        StoreDataset(live(make_store(tmp_path / "empty", 0)), text)


def test_a_damaged_shard_of_the_cache_is_named_with_its_clip(root: Path, tmp_path: Path, text: WordHashEncoder) -> None:
    pairs = cached(root, tmp_path / "c")
    (shard,) = (tmp_path / "c" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    one = pairs.read(1, 1).degraded.latents.numpy().tobytes()
    data[data.index(one)] ^= 1
    shard.write_bytes(data)
    dataset = StoreDataset(pairs, text)
    assert dataset[1].num_frames == 57  # another variant of the clip
    with pytest.raises(StoreError, match=r"clip clip-1 is damaged.*another checksum"):
        dataset[COUNT + 1]
