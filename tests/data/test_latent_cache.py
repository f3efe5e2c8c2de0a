"""Latents come back as they were encoded; a kill costs a shard at most; only what changed is encoded again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from remind.clip import Clip
from remind.data import latent_build
from remind.data.clip_store import ClipStore
from remind.data.encoded_pair import EncodedPair, LivePairs, encode_track
from remind.data.interrupt import InterruptionRecipe, apply_interruption
from remind.data.latent_build import LatentReport, build_latents, plan_latents
from remind.data.latent_cache import CachedPairs, LatentCache, LatentSpec
from remind.data.quarantine import Quarantine
from remind.errors import InputError, StoreError
from remind.models.codec import LinearCodec
from tests.data.make_store import FRAMES, HW, clip_of, damage, make_store, recipe_of
from tests.data.make_video import moving_square

SPEC = LatentSpec(variants=2, seed=1)


class CountingCodec(LinearCodec):
    """The real codec, which also remembers how often it was asked, and can be told to stop."""

    calls = 0
    stop_after = 10**9

    def encode(self, rgb: Tensor) -> Tensor:
        if self.calls >= self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        return super().encode(rgb)


@pytest.fixture
def codec() -> CountingCodec:
    return CountingCodec(LinearCodec.load().tensors)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store")


def build(root: Path, codec: LinearCodec, cache: Path, spec: LatentSpec = SPEC, **options: object) -> LatentReport:
    return build_latents(ClipStore.open(root), codec, cache, spec, **options)  # type: ignore[arg-type]


def pairs_of(root: Path, codec: LinearCodec, cache: Path, **options: object) -> CachedPairs:
    return CachedPairs(LatentCache.open(cache), ClipStore.open(root), encoder_digest=codec.digest, hw=HW,
                       **options)  # type: ignore[arg-type]  # fmt: skip


def same(a: EncodedPair, b: EncodedPair) -> bool:
    return (a.recipe, a.caption, a.num_frames) == (b.recipe, b.caption, b.num_frames) and all(
        torch.equal(getattr(x, part), getattr(y, part))
        for x, y in ((a.clean, b.clean), (a.degraded, b.degraded))
        for part in ("latents", "cameras", "valid")
    )


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def all_same(root: Path, codec: LinearCodec, cache: Path) -> bool:
    """Whether the cache holds what encoding now would give."""
    spec = LatentCache.open(cache).spec
    live, cached = LivePairs(ClipStore.open(root), codec, spec, hw=HW), pairs_of(root, codec, cache)
    return live.clip_ids == cached.clip_ids and all(
        same(live.read(clip, variant), cached.read(clip, variant))
        for clip in range(len(live.clip_ids))
        for variant in range(spec.variants)
    )  # fmt: skip


# --- what is stored --------------------------------------------------------------------------------------------------


def test_pairs_from_the_cache_are_those_encoded_live(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = build(root, codec, tmp_path / "c", progress=lambda *n: told.append(n), shard_bytes=6_000)
    assert (report.encoded, report.kept, report.removed, report.failed) == (12, 0, 0, {})
    assert told == [(3, 12), (6, 12), (9, 12), (12, 12)]
    assert len(list((tmp_path / "c" / "shards").iterdir())) > 1
    assert all_same(root, codec, tmp_path / "c")

    clean = ClipStore.open(root)[2].clean
    pair = pairs_of(root, codec, tmp_path / "c").read(2, 0)
    assert torch.equal(pair.clean.latents, codec.encode(clean.rgb[None])[0])
    assert pair.recipe == recipe_of(2)
    assert pair.clean.valid.all()
    assert not pairs_of(root, codec, tmp_path / "c").read(1, 0).clean.valid.any()  # a clip without cameras


def test_variants_are_drawn_for_the_clip_and_the_seed_alone(root: Path, codec: CountingCodec) -> None:
    recipes = [SPEC.recipe(recipe_of(0), "clip-0", FRAMES, v) for v in range(3)]
    assert recipes[0] == recipe_of(0)
    assert len({r.to_json() for r in recipes}) == 3
    assert LatentSpec(variants=9, seed=1).recipe(recipe_of(5), "clip-0", FRAMES, 1) == recipes[1]
    assert SPEC.recipe(recipe_of(0), "clip-1", FRAMES, 1) != recipes[1]
    assert LatentSpec(seed=2).recipe(recipe_of(0), "clip-0", FRAMES, 1) != recipes[1]


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_types_take_half_the_room_and_round_only_once(
    root: Path, codec: CountingCodec, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    full = build(root, codec, tmp_path / "full")
    spec = LatentSpec(variants=2, seed=1, dtype=dtype)  # type: ignore[arg-type]
    half = build(root, codec, tmp_path / "half", spec)
    assert half.num_bytes < 0.75 * full.num_bytes  # poses and rows stay as they are
    a = pairs_of(root, codec, tmp_path / "full").read(0, 1).degraded
    b = pairs_of(root, codec, tmp_path / "half").read(0, 1).degraded
    assert b.latents.dtype == torch.float32
    assert not torch.equal(a.latents, b.latents)
    torch.testing.assert_close(a.latents, b.latents, rtol=tolerance, atol=1e-6)
    assert torch.equal(a.cameras, b.cameras)


def test_bytes_are_predicted_before_anything_is_written(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    plan = plan_latents(ClipStore.open(root), codec, tmp_path / "c", SPEC)
    assert (plan.new_entries, plan.new_bytes, codec.calls) == (12, plan.num_bytes, 0)
    assert not (tmp_path / "c").exists()
    written = build(root, codec, tmp_path / "c").num_bytes
    assert plan.num_bytes < written < plan.num_bytes + 12 * 700 + 1000
    assert plan_latents(ClipStore.open(root), codec, tmp_path / "c", SPEC).new_bytes == 0


def test_a_wan_clip_is_predicted_at_the_size_that_it_has() -> None:
    from remind.data.latent_build import _track_bytes

    half = _track_bytes(81, (480, 832), LatentSpec(dtype="bfloat16"))
    assert half == pytest.approx(21 * 16 * 60 * 104 * 2, rel=1e-3)


def test_a_track_is_read_without_its_shard(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    """The shard's other bytes may be anything."""
    build(root, codec, tmp_path / "c")
    pairs = pairs_of(root, codec, tmp_path / "c")
    expected = pairs.read(3, 0)
    (shard,) = (tmp_path / "c" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    one = expected.clean.latents.numpy().tobytes()
    start = data.index(one)
    data[start - 5 * len(one) : start - 4 * len(one)] = bytes(len(one))  # another track's latents
    shard.write_bytes(data)
    assert same(pairs.read(3, 0), expected)
    assert sum(_is_damaged(pairs, clip, v) for clip in range(4) for v in range(2)) >= 1


def _is_damaged(pairs: CachedPairs, clip: int, variant: int) -> bool:
    try:
        pairs.read(clip, variant)
    except StoreError as error:
        return "another checksum" in str(error)
    return False


# --- what changed ----------------------------------------------------------------------------------------------------


def test_a_second_build_does_no_work(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    build(root, codec, tmp_path / "c")
    before, codec.calls = files(tmp_path / "c"), 0
    report = build(root, codec, tmp_path / "c")
    assert (report.encoded, report.kept, report.removed, codec.calls) == (0, 12, 0, 0)
    assert files(tmp_path / "c") == before


@pytest.mark.parametrize(
    ("change", "encoded"),
    [({"seed": 99}, 3), ({"recipe_seed": 7}, 1), ({"caption": "another"}, 0)],
    ids=["pictures", "recipe", "caption"],
)
def test_only_what_a_change_touches_is_encoded_again(
    root: Path, codec: CountingCodec, tmp_path: Path, change: dict[str, int | str], encoded: int
) -> None:
    build(root, codec, tmp_path / "c")
    make_store(root, changed={1: change})
    with pytest.raises(StoreError, match=r"1 clips whose latents are missing or stale.*remind data latents"):
        pairs_of(root, codec, tmp_path / "c")
    report = build(root, codec, tmp_path / "c")
    assert (report.encoded, report.kept, report.removed) == (encoded, 12 - encoded, encoded)
    assert all_same(root, codec, tmp_path / "c")


def test_another_encoder_is_noticed_and_encodes_all(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    build(root, codec, tmp_path / "c")
    other = CountingCodec({k: v * 1.01 for k, v in codec.tensors.items()})
    with pytest.raises(StoreError, match="another encoder"):
        pairs_of(root, other, tmp_path / "c")
    assert build(root, other, tmp_path / "c").encoded == 12
    assert all_same(root, other, tmp_path / "c")
    with pytest.raises(StoreError, match="another encoder"):
        pairs_of(root, codec, tmp_path / "c")


def test_more_variants_encode_only_the_new_ones(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    build(root, codec, tmp_path / "c")
    assert build(root, codec, tmp_path / "c", LatentSpec(variants=3, seed=1)).encoded == 4
    assert all_same(root, codec, tmp_path / "c")
    assert build(root, codec, tmp_path / "c", LatentSpec(variants=1, seed=1)).removed == 8
    assert all_same(root, codec, tmp_path / "c")


def test_a_clip_that_left_the_store_leaves_the_disk(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    build(root, codec, tmp_path / "c")
    gone = pairs_of(root, codec, tmp_path / "c").read(3, 1)
    make_store(root, 3)
    report = build(root, codec, tmp_path / "c")
    assert (report.encoded, report.removed) == (0, 3)
    on_disk = b"".join(files(tmp_path / "c").values())
    for track in (gone.clean, gone.degraded):
        assert track.latents.numpy().tobytes() not in on_disk
    assert b"clip-3" not in on_disk
    assert all_same(root, codec, tmp_path / "c")


# --- kills and damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [1, 4, 5, 11])
def test_an_interrupted_build_goes_on_where_it_was(
    root: Path, codec: CountingCodec, tmp_path: Path, stop_after: int
) -> None:
    whole = tmp_path / "whole"
    build(root, CountingCodec(codec.tensors), whole, shard_bytes=1)
    codec.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        build(root, codec, tmp_path / "c", shard_bytes=1)
    finished_clips = stop_after // 3
    codec.stop_after, codec.calls = 10**9, 0
    report = build(root, codec, tmp_path / "c", shard_bytes=1)
    assert report.encoded == codec.calls == 12 - 3 * finished_clips
    assert files(tmp_path / "c") == files(whole)


KILLED = """
import sys, time
from pathlib import Path
from remind.data.clip_store import ClipStore
from remind.data.latent_build import build_latents
from remind.data.latent_cache import LatentSpec
from remind.models.codec import LinearCodec

class Slow(LinearCodec):
    def encode(self, rgb):
        time.sleep(0.05)
        return super().encode(rgb)

build_latents(ClipStore.open(Path(sys.argv[1])), Slow(LinearCodec.load().tensors), Path(sys.argv[2]),
              LatentSpec(variants=2, seed=1), shard_bytes=1)
"""


def test_kill_9_loses_and_duplicates_nothing(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    cache = tmp_path / "c"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(root), str(cache)])
    while len(list((cache / "shards").glob("*.safetensors"))) < 4:
        assert child.poll() is None
        time.sleep(0.01)
    with pytest.raises(StoreError, match="another build is at work"):
        build(root, codec, cache)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    survived = len(list((cache / "shards").glob("*.safetensors")))
    (cache / "shards" / "latents-0000000000000000.safetensors.partial").write_bytes(b"half")
    with pytest.raises(StoreError, match="not a cache"):
        LatentCache.open(cache)
    report = build(root, codec, cache, shard_bytes=1)
    assert (report.encoded, report.kept) == (12 - survived, survived)
    table = pq.read_table(cache / "index.parquet")
    assert len(set(table.column("key").to_pylist())) == len(table) == 12
    build(root, CountingCodec(codec.tensors), tmp_path / "whole", shard_bytes=1)
    assert files(cache) == files(tmp_path / "whole")


def test_a_cut_or_lost_shard_is_made_again(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    build(root, codec, tmp_path / "c", shard_bytes=1)
    first, second, *_ = sorted((tmp_path / "c" / "shards").iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        [pairs_of(root, codec, tmp_path / "c").read(clip, variant) for clip in range(4) for variant in range(2)]
    assert build(root, codec, tmp_path / "c").encoded == 2
    assert all_same(root, codec, tmp_path / "c")


def test_a_damaged_clip_ends_the_build_and_keeps_the_work(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    damage(root, 2)
    with pytest.raises(StoreError, match="clip-2"):
        build(root, codec, tmp_path / "c")
    assert codec.calls == 6
    make_store(root)
    assert build(root, codec, tmp_path / "c").encoded == 6


@pytest.mark.parametrize("member", ["rgb.mp4", "graph.json"])
def test_with_a_quarantine_the_build_goes_on(
    root: Path, codec: CountingCodec, tmp_path: Path, member: str
) -> None:
    damage(root, 2, member)
    quarantine = Quarantine(tmp_path / "q.json")
    report = build(root, codec, tmp_path / "c", quarantine=quarantine)
    assert report.encoded == 9
    assert list(report.failed) == list(quarantine.read()) == ["clip-2"]
    pairs = pairs_of(root, codec, tmp_path / "c", skip=quarantine.read())
    assert pairs.read(3, 1).num_frames == FRAMES
    with pytest.raises(StoreError, match="clip-2"):
        pairs.read(2, 0)
    assert build(root, codec, tmp_path / "c", quarantine=quarantine).failed == {}  # known and left out


def test_a_full_disk_is_said_and_what_is_written_stays(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    build(root, codec, tmp_path / "c", LatentSpec(variants=1), shard_bytes=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # no file may grow beyond: what a quota does
    try:
        with pytest.raises(StoreError, match=r"cannot write the cache.*free some space"):
            build(root, codec, tmp_path / "c", shard_bytes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "c" / "shards").glob("*.partial"))
    assert pairs_of(root, codec, tmp_path / "c").read(0, 0).num_frames == FRAMES  # the old cache, whole
    assert build(root, codec, tmp_path / "c").kept == 8


def test_a_cache_that_cannot_fit_is_not_begun(
    root: Path, codec: CountingCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_build.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 999, 999))
    with pytest.raises(StoreError, match=r"do not fit on the disk.*bfloat16"):
        build(root, codec, tmp_path / "c")
    assert codec.calls == 0


def test_the_wan_vae_fills_a_cache_too(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from remind.models.vae import WanVAE
    from tests.models.make_wan import make_vae

    make_vae(tmp_path / "vae")
    vae = WanVAE.from_pretrained(tmp_path / "vae")
    store, spec = ClipStore.open(make_store(tmp_path / "one", 1)), LatentSpec(dtype="bfloat16")
    assert build_latents(store, vae, tmp_path / "c", spec).encoded == 2
    pairs = CachedPairs(LatentCache.open(tmp_path / "c"), store, encoder_digest=vae.digest, hw=HW)
    expected = vae.encode(store[0].clean.rgb[None])[0].bfloat16().float()
    assert torch.equal(pairs.read(0, 0).clean.latents, expected)


def test_latents_that_are_not_finite_are_refused(root: Path, tmp_path: Path) -> None:
    huge = LinearCodec({k: v * (1e7 if k == "rest.encode" else 1) for k, v in LinearCodec.load().tensors.items()})
    build(root, huge, tmp_path / "c")
    with pytest.raises(StoreError, match="not finite"):
        build(root, huge, tmp_path / "half", LatentSpec(dtype="float16"))


def test_hostile_and_foreign_indices_are_refused(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    build(root, codec, tmp_path / "c")
    index = tmp_path / "c" / "index.parquet"
    table = pq.read_table(index)
    outside = table.set_column(6, "shard", [["../../etc/passwd"] * len(table)])
    pq.write_table(outside.cast(table.schema), index)
    with pytest.raises(StoreError, match="outside of the cache"):
        LatentCache.open(tmp_path / "c")
    pq.write_table(table.replace_schema_metadata({"remind.latents": "99"}), index)
    with pytest.raises(StoreError, match="another format"):
        LatentCache.open(tmp_path / "c")
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"spec": b"{}}"}), index)
    with pytest.raises(StoreError, match="damaged"):
        LatentCache.open(tmp_path / "c")
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(StoreError, match="damaged"):
        LatentCache.open(tmp_path / "c")
    with pytest.raises(StoreError, match="not a cache"):
        LatentCache.open(tmp_path)
    assert build(root, codec, tmp_path / "c").kept == 12  # the shards know what they hold


def test_clips_of_another_size_are_refused(root: Path, codec: CountingCodec, tmp_path: Path) -> None:
    build(root, codec, tmp_path / "c")
    with pytest.raises(InputError, match=r"--hw 32 32"):
        CachedPairs(LatentCache.open(tmp_path / "c"), ClipStore.open(root), encoder_digest=codec.digest, hw=(32, 32))


# --- what keys cannot see --------------------------------------------------------------------------------------------

# The mean colour of the degraded clip over all pixels of three frames. Should this fail because interruptions are
# drawn differently on purpose, raise `latent_cache.PIXELS_VERSION` with the numbers: else caches keep the old pictures.
PIXELS = {
    '{"interruption":{"kind":"light_toggle","start":21,"hidden_start":25,"hidden_stop":33,"stop":37},'
    '"style":{"kind":"light_toggle","curve":1.5},"seed":3}': (25.07, 0.0, 42.77),
    '{"interruption":{"kind":"occluder","start":21,"hidden_start":25,"hidden_stop":33,"stop":37},'
    '"style":{"kind":"occluder","side":"right","leaves":"through","texture":"checker","colors":[[172,134,92],'
    '[62,92,74]],"period":0.3,"shading":0.3},"seed":3}': (63.27, 82.48, 79.59),
    '{"interruption":{"kind":"zoom","start":21,"hidden_start":29,"hidden_stop":29,"stop":37},'
    '"style":{"kind":"zoom","peak_scale":2.0,"pan":[0.3,-0.2],"shake":0.1},"seed":3}': (61.85, 60.29, 61.22),
}


@pytest.mark.parametrize("recipe", PIXELS, ids=["light", "occluder", "zoom"])
def test_the_pixels_of_interruptions_are_those_of_this_pixels_version(recipe: str) -> None:
    clip = Clip(moving_square(FRAMES, (32, 32)), 16.0)
    rgb = apply_interruption(clip, InterruptionRecipe.from_json(recipe)).rgb
    assert [round(rgb[t].float().mean().item(), 2) for t in (23, 29, 35)] == pytest.approx(PIXELS[recipe], abs=0.05)


def test_a_track_does_not_depend_on_what_is_encoded_beside_it(codec: CountingCodec) -> None:
    tracks = [encode_track(clip_of(i), codec) for i in (0, 1, 0)]
    assert torch.equal(tracks[0].latents, tracks[2].latents)
