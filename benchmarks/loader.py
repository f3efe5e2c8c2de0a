"""Training samples per second from memory, from cached latents and live from videos, against nano's need.

    python benchmarks/loader.py --out benchmarks/results/loader.json

Clips of the embedded world, 64x64 px and 81 frames, in a store as `remind data build` makes it. Samples come in the
mixture's order with their prompts embedded, in one process that does nothing else; training shares its cores.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro

from remind.data.clip_records import Provenance
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.dataset import StoreDataset
from remind.data.encoded_pair import LivePairs, VariantSpec
from remind.data.interrupt import sample_recipe
from remind.data.kept_pairs import KeptPairs
from remind.data.latent_build import build_latents
from remind.data.latent_cache import CachedPairs, LatentCache, LatentSpec
from remind.data.loader import StepSampler, read_batches
from remind.data.memory_clip import MemoryClip
from remind.data.memory_sample import MemorySample
from remind.data.mixture import Mixture
from remind.data.world_clips import make_world_clip
from remind.models.codec import LinearCodec
from remind.models.text import WordHashEncoder
from remind.prompt_schedule import chunk_prompts
from remind.recipes import recipe
from remind.training.launch import git_commit, machine_facts

HW = (64, 64)
NANO_STEPS_PER_S = 3.0  # benchmarks/results/nano.json, two cores
AIM = 5.0


def make_store(root: Path, clips: int) -> ClipStore:
    """World clips, degraded by recipes that finished frames allow."""
    kinds = ("light_toggle", "occluder", "zoom")
    with ClipStoreWriter(root) as writer:
        for seed in range(clips):
            clean = make_world_clip(seed, hw=HW).clean
            about = Provenance(source="world", item_id=str(seed), sha256=f"{seed:064x}", start_pts=0, stop_pts=80,
                               time_base=(1, 16))  # fmt: skip
            clip = replace(clean, depth=None, clip_id=f"world-{seed}")  # no recipe needs depth
            recipe = sample_recipe(kinds[seed % 3], len(clip), np.random.default_rng(seed))
            writer.add(MemoryClip(clip, recipe, chunk_prompts(clip.caption, recipe.schedule(len(clip))), about))
    return ClipStore.open(root)


def samples_per_s(data: Sequence[MemorySample], batch: int, seconds: float, workers: int = 0) -> float:
    """Rate over whole batches, after the first two: those start the loader."""
    batches = read_batches(Mixture([data], [1.0], 0), StepSampler(batch, 10**9), workers=workers)
    next(batches), next(batches)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += len(next(batches))
    return done / (time.perf_counter() - start)


def main(out: Path | None = None, clips: int = 48, seconds: float = 4.0) -> None:
    nano = recipe("nano")
    codec, text = LinearCodec.load(), WordHashEncoder(nano.model.text_dim, nano.model.text_len)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", clips)
        spec = LatentSpec(variants=2)
        start = time.perf_counter()
        report = build_latents(store, codec, Path(folder) / "latents", spec)
        building = time.perf_counter() - start
        cached = CachedPairs(LatentCache.open(Path(folder) / "latents"), store, encoder_digest=codec.digest, hw=HW)
        cache, live = StoreDataset(cached, text), StoreDataset(LivePairs(store, codec, spec, hw=HW), text)
        kept = StoreDataset(KeptPairs(LivePairs(store, codec, VariantSpec(), hw=HW)), text)
        for index in range(len(kept)):
            kept[index]  # read once, as a run does before its first step
        rates = {
            "memory": samples_per_s(kept, nano.batch_size, seconds),
            "latent_cache": samples_per_s(cache, nano.batch_size, seconds),
            "latent_cache_1_worker": samples_per_s(cache, nano.batch_size, seconds, workers=1),
            "live": samples_per_s(live, nano.batch_size, seconds),
        }
    need = nano.batch_size * NANO_STEPS_PER_S
    result = {
        "machine": machine_facts(), "commit": git_commit(), "clips": clips, "hw": HW, "num_frames": 81,
        "need_samples_per_s": need, "aim_times_need": AIM,
        "building": {"tracks": report.encoded, "tracks_per_s": round(report.encoded / building, 1),
                     "bytes_per_track": round(report.num_bytes / report.encoded)},
        "samples_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "times_need": {name: round(rate / need, 2) for name, rate in rates.items()},
    }  # fmt: skip
    text_out = json.dumps(result, indent=1)
    print(text_out)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text_out + "\n")


if __name__ == "__main__":
    tyro.cli(main)
