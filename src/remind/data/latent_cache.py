"""Latents on disk, read at random: what training reads when encoding takes longer than learning.

    CACHE/index.parquet                   one row per track, in the store's order
    CACHE/shards/latents-<hash>.safetensors
        latents [n t 16 y x], cameras [n t 14], valid [n t], and `entries`, the index rows of the n tracks as JSON

A track is the clean clip or one of its degraded variants. Its key hashes all that decides it, so a changed clip,
recipe, encoder or type is another key: what is stale cannot be mistaken for what is wanted. `latent_build` writes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from remind.data.clip_store import ClipStore
from remind.data.encoded_pair import EncodedPair, Track, VariantSpec, check_size
from remind.data.encoder_input import EncoderInput, encoder_input
from remind.data.interrupt import InterruptionRecipe
from remind.errors import RemindError, StoreError
from remind.frame_graph import num_latent_frames
from remind.models.codec import CHANNELS

CACHE_VERSION = "1"
# To be raised when `apply_interruption` gives other pixels for a recipe that it knew before; a test watches them.
PIXELS_VERSION = "1"
CLEAN = -1  # in place of a variant's number
AGAIN = "run `remind data latents` again: it encodes only what is missing"

LatentDtype = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[LatentDtype, torch.dtype] = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
}  # fmt: skip
SCHEMA = pa.schema(
    [
        ("key", pa.string()), ("clip_id", pa.string()), ("variant", pa.int32()), ("recipe", pa.string()),
        ("caption", pa.string()), ("num_frames", pa.int32()), ("shard", pa.string()), ("row", pa.int32()),
        ("crc32", pa.int64()),
    ]
)  # fmt: skip
SHARD_NAME = re.compile(r"latents-[0-9a-f]{16}\.safetensors")


class LatentSpec(VariantSpec):
    """What decides a cache beside clips and encoder.

    Args:
        dtype: in which latents are stored. Half of it halves a cache: a Wan clip of 81 frames at 480x832 px is
            21x16x60x104 values a track, 8.4 MB in float32.
    """

    dtype: LatentDtype = "float32"


@dataclass(frozen=True)
class Entry:
    """One track of a clip as it should be stored.

    Args:
        variant: `CLEAN`, or 0 and up.
        recipe: as JSON; empty for the clean track.
    """

    key: str
    clip_id: str
    variant: int
    recipe: str
    caption: str
    num_frames: int


def entries_of(facts: EncoderInput, spec: LatentSpec, encoder_digest: str) -> tuple[Entry, ...]:
    """The clean track and all variants of a clip, with their keys."""
    entries = []
    for variant in (CLEAN, *range(spec.variants)):
        recipe = "" if variant == CLEAN else spec.recipe(
            facts.recipe, facts.clip_id, facts.num_frames, variant).to_json()  # fmt: skip
        parts = [CACHE_VERSION, facts.clip_id, facts.content, encoder_digest, spec.dtype, recipe]
        parts += [PIXELS_VERSION] if recipe else []
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
        entries.append(Entry(key, facts.clip_id, variant, recipe, facts.caption, facts.num_frames))
    return tuple(entries)


class LatentCache:
    """Tracks by row number of the index. Keeps no file open: safe to pickle, to fork, and to share.

    Build one with `LatentCache.open`.
    """

    def __init__(self, folder: Path, table: pa.Table, spec: LatentSpec, encoder_digest: str):
        self.folder, self.table, self.spec, self.encoder_digest = folder, table, spec, encoder_digest

    @classmethod
    def open(cls, folder: Path) -> LatentCache:
        """Read and check the index.

        Raises:
            StoreError: no cache, one of another version, or a damaged or hostile index.
        """
        path = folder / "index.parquet"
        if not path.is_file():
            raise StoreError("not a cache of latents", got=folder, expected="a folder with index.parquet",
                             fix="make one with `remind data latents`")  # fmt: skip
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise _damaged_index(path, str(error)[:120]) from None
        meta = {k.decode(errors="replace"): v.decode(errors="replace")
                for k, v in (table.schema.metadata or {}).items()}  # fmt: skip
        if meta.get("remind.latents") != CACHE_VERSION or not table.schema.equals(SCHEMA):
            raise StoreError("the cache has another format", got=f"version {meta.get('remind.latents', 'none')}",
                             expected=CACHE_VERSION, fix="delete it and make it again")  # fmt: skip
        try:
            spec = LatentSpec.model_validate_json(meta.get("spec", ""))
        except ValidationError:
            raise _damaged_index(path, "its settings cannot be read") from None
        if any(column.null_count for column in table.columns):
            raise _damaged_index(path, "empty fields")
        for shard in table.column("shard").unique().to_pylist():
            if not SHARD_NAME.fullmatch(shard):
                raise StoreError("the cache's index names a file outside of the cache", got=repr(shard)[:120],
                                 expected="latents-<hash>.safetensors", fix="do not use this cache")  # fmt: skip
        return cls(folder, table, spec, meta.get("encoder", ""))

    def __len__(self) -> int:
        return self.table.num_rows

    def row(self, number: int) -> dict[str, Any]:
        """An index row as plain values."""
        return {name: self.table.column(name)[number].as_py() for name in SCHEMA.names}

    def read_track(self, number: int) -> Track:
        """The track of an index row; latents as float32. Reads its own bytes and no others.

        Raises:
            StoreError: a damaged shard.
        """
        track = read_stored(self.folder, self.row(number), DTYPES[self.spec.dtype])
        return Track(track.latents.float(), track.cameras, track.valid)


def read_stored(folder: Path, row: dict[str, Any], dtype: torch.dtype) -> Track:
    """The track of an index row, latents as they are stored.

    Raises:
        StoreError: a damaged shard.
    """
    try:
        with safe_open(str(folder / "shards" / row["shard"]), framework="pt") as file:
            latents, cameras, valid = (file.get_slice(name)[row["row"]] for name in ("latents", "cameras", "valid"))
    except (SafetensorError, OSError, IndexError) as error:
        raise _damaged_track(row, f"{type(error).__name__}: {str(error)[:120]}") from None
    num = num_latent_frames(row["num_frames"])
    kinds = [(tensor.dtype, tuple(tensor.shape)) for tensor in (latents, cameras, valid)]
    if kinds != [(dtype, (num, CHANNELS, *latents.shape[2:])), (torch.float32, (num, 14)), (torch.bool, (num,))]:
        raise _damaged_track(row, f"arrays of {kinds}")
    track = Track(latents, cameras, valid)
    if checksum(track) != row["crc32"]:
        raise _damaged_track(row, "another checksum")
    return track


class CachedPairs:
    """The clips of a store as pairs from a cache.

    Args:
        encoder_digest: of the encoder that the model goes with.
        hw: size that the model expects, px.
        skip: clips that nobody will ask for, e.g. quarantined ones; they may lack latents.

    Raises:
        StoreError: a cache of another encoder, or clips whose latents are missing or stale.
        InputError: clips of another size.
    """

    def __init__(self, cache: LatentCache, store: ClipStore, *, encoder_digest: str, hw: tuple[int, int],
                 skip: Collection[str] = ()):  # fmt: skip
        if cache.encoder_digest != encoder_digest:
            raise StoreError("the latents are of another encoder", got=cache.encoder_digest, expected=encoder_digest,
                             fix="run `remind data latents` with this encoder")  # fmt: skip
        self.cache, self.variants = cache, cache.spec.variants
        self._clip_ids = store.clip_ids
        # Row numbers of (clean, variant 0, ...) per clip; -1 where the clip is damaged or skipped.
        self._numbers = np.full((len(store), 1 + self.variants), -1, dtype=np.int64)
        by_key = {key: number for number, key in enumerate(cache.table.column("key").to_pylist())}
        captions = cache.table.column("caption").to_pylist()
        missing = 0
        for clip, clip_id in enumerate(self._clip_ids):
            if clip_id in skip:
                continue
            try:
                facts = encoder_input(store, clip)
            except StoreError:
                continue  # said again, with its reason, by whoever reads the clip
            check_size(facts.hw, hw)
            numbers = [by_key.get(entry.key, -1) for entry in entries_of(facts, cache.spec, encoder_digest)]
            missing += -1 in numbers or any(captions[number] != facts.caption for number in numbers)
            self._numbers[clip] = numbers
        if missing:
            raise StoreError("the cache is not that of the store as it is now",
                             got=f"{missing} clips whose latents are missing or stale", fix=AGAIN)  # fmt: skip
        self._store = store

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return self._clip_ids

    def read(self, clip: int, variant: int) -> EncodedPair:
        clean, degraded = (int(self._numbers[clip, column]) for column in (0, 1 + variant))
        if clean < 0:
            encoder_input(self._store, clip)  # raises what is wrong with a damaged clip
            raise StoreError(f"clip {self._clip_ids[clip]} was to be skipped", fix=AGAIN)
        row = self.cache.row(degraded)
        try:
            recipe = InterruptionRecipe.from_json(row["recipe"])
        except RemindError as error:
            raise _damaged_track(row, str(error)) from None
        return EncodedPair(self.cache.read_track(clean), self.cache.read_track(degraded), recipe, row["caption"],
                           row["num_frames"])  # fmt: skip


def checksum(track: Track) -> int:
    """CRC-32 over the bytes of a track as stored."""
    value = 0
    for tensor in (track.latents, track.cameras, track.valid):
        value = zlib.crc32(tensor.contiguous().view(torch.uint8).numpy().data, value)
    return value


def entry_row(entry: Entry, shard: str, row: int, crc32: int) -> dict[str, Any]:
    """The index row of a stored track."""
    return {**asdict(entry), "shard": shard, "row": row, "crc32": crc32}


def _damaged_index(path: Path, got: str) -> StoreError:
    return StoreError("the cache's index is damaged", got=f"{path}: {got}", fix=f"delete it and {AGAIN}")


def _damaged_track(row: dict[str, Any], got: str) -> StoreError:
    return StoreError(f"latents of clip {row['clip_id']} cannot be read", got=f"{row['shard']}: {got}",
                      fix=f"delete that shard and {AGAIN}")  # fmt: skip
