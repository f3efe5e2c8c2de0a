"""A store as a run reads it: which clips, from where, and whether they fit, before any is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from remind.data.clip_store import ClipStore
from remind.data.dataset import StoreDataset
from remind.data.encoded_pair import LivePairs, PairReader, VariantSpec
from remind.data.held_out import held_out_clips
from remind.data.kept_pairs import KeptPairs, pair_bytes
from remind.data.latent_cache import CachedPairs, LatentCache
from remind.data.memory_sample import Progress as Report
from remind.data.quarantine import QUARANTINE_NAME, Quarantine
from remind.data.store_fit import check_fit
from remind.data.text_build import store_prompts
from remind.data.text_cache import CachedText
from remind.errors import StoreError
from remind.models.codec import LinearCodec
from remind.models.text import TextEncoder
from remind.training.config import DataPart, TrainConfig
from remind.training.regimes import check_supports

KEEP_BYTES = 2**29
"""Latents of a live store stay in memory up to this much per process. Our choice: 512 MiB, 3,000 clips of 64x64 px."""


class StoreSource:
    """A store that was found to fit; nothing of it is decoded yet.

    Attributes:
        trained, held_out: ids of the clips on either side, in the store's order.
    """

    def __init__(self, part: DataPart, config: TrainConfig, codec: LinearCodec, text: TextEncoder):
        self.path, self.latents, self.text = part.store, part.latents, text
        path = part.store
        self.store = ClipStore.open(path)
        self.quarantined = sorted(set(Quarantine(path / QUARANTINE_NAME).read()) & set(self.store.clip_ids))
        held_out = held_out_clips(self.store)
        ids = [clip_id for clip_id in self.store.clip_ids if clip_id not in set(self.quarantined)]
        self.trained = [clip_id for clip_id in ids if clip_id not in held_out]
        self.held_out = [clip_id for clip_id in ids if clip_id in held_out]
        graphs = check_fit(self.store, hw=config.hw, num_frames=config.num_frames, skip=self.quarantined)
        for name in config.curriculum.regimes if graphs else ():
            check_supports(name, graphs)
        self.pairs: PairReader
        if self.latents is None:
            self.read, self.pairs_digest = "live", codec.digest
            self.pairs = LivePairs(self.store, codec, VariantSpec(), hw=config.hw)
            if len(ids) * pair_bytes(config.num_frames, config.hw) <= KEEP_BYTES:
                self.read, self.pairs = "memory", KeptPairs(self.pairs)
        else:
            cache = LatentCache.open(self.latents)
            expected = codec.digest
            if config.encoders == "wan":
                expected = cache.encoder_digest  # whichever Wan VAE it was: the record says which
                if expected == codec.digest:
                    raise StoreError("the latents are of another encoder", got="the embedded codec's",
                                     expected="a Wan VAE's",
                                     fix="remind data latents STORE --vae FOLDER ...")  # fmt: skip
            self.read, self.pairs_digest = "cache", cache.encoder_digest
            self.pairs = CachedPairs(cache, self.store, encoder_digest=expected, hw=config.hw, skip=self.quarantined)
            if isinstance(text, CachedText):
                text.check(store_prompts(self.store, cache.spec, skip=self.quarantined))

    def dataset(self, clips: Sequence[str], console: Console | None = None) -> StoreDataset:
        """Some clips as samples; with a console, what stays in memory is read now."""
        wanted = set(clips)
        skip = [clip_id for clip_id in self.store.clip_ids if clip_id not in wanted]
        dataset = StoreDataset(self.pairs, self.text, quarantine=Quarantine(self.path / QUARANTINE_NAME), skip=skip)
        if console is not None and self.read == "memory":
            with progress_report(f"reading {self.path.name}", console) as report:
                for index in range(len(dataset)):
                    dataset[index]
                    report(index + 1, len(dataset))
        elif console is not None and self.read == "live":
            console.print(f"{len(clips)} clips of {self.path} are decoded anew each time: "
                          "`remind data latents` once makes that fast")  # fmt: skip
        return dataset

    def licences(self) -> Counter[str]:
        """Clips by licence; those held out count too, for they choose the checkpoint."""
        named = dict(zip(self.store.clip_ids, self.store.index["licence"].to_pylist(), strict=True))
        return Counter(named[clip_id] for clip_id in (*self.trained, *self.held_out))

    def contents(self) -> list[list[str]]:
        """Id and hash of every clip, in order, and on which side it stands."""
        hashes = dict(zip(self.store.clip_ids, self.store.index["sha256"].to_pylist(), strict=True))
        return [[side, clip_id, hashes[clip_id]] for side, ids in (("train", self.trained), ("held", self.held_out))
                for clip_id in ids]  # fmt: skip

    def facts(self) -> dict[str, Any]:
        return {"path": str(self.path), "clips": len(self.trained), "variants": self.pairs.variants,
                "held_out_clips": len(self.held_out), "held_out": "one video in 50, by the hash of its name",
                "quarantined": self.quarantined, "read": self.read,
                "latents": None if self.latents is None else str(self.latents)}  # fmt: skip


@contextmanager
def progress_report(text: str, console: Console) -> Iterator[Report]:
    """A bar with count and time left, which appears with the first news."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=console.quiet) as bar:
        tasks: list[TaskID] = []

        def report(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bar.add_task(text, total=total))
            bar.update(tasks[0], completed=done)

        yield report
