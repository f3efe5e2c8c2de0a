"""Encode a store once: the writer of `latent_cache`.

Shards are whole when they appear and name their own content, and the index is derived from them and replaced last. So
whoever kills a build at any moment loses the shard in the making and nothing else: the next build adopts finished
shards that no index names yet.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from remind.data.clip_store import ClipStore
from remind.data.encoded_pair import LatentEncoder, Track, encode_track
from remind.data.encoder_input import encoder_input
from remind.data.interrupt import InterruptionRecipe, apply_interruption, clean_view
from remind.data.latent_cache import (
    CACHE_VERSION,
    CLEAN,
    DTYPES,
    SCHEMA,
    Entry,
    LatentSpec,
    entries_of,
    entry_row,
)
from remind.data.latent_shards import Rows, ShardWriter, drop_dead, find_rows
from remind.data.memory_clip import MemoryClip
from remind.data.memory_sample import Progress
from remind.data.quarantine import Quarantine, exclusive
from remind.errors import GraphError, StoreError, VideoError
from remind.frame_graph import num_latent_frames
from remind.models.codec import BLOCK_PX, CHANNELS
from remind.whole_file import whole_file


@dataclass(frozen=True)
class LatentPlan:
    """What a build will do.

    Args:
        clips: store index, and the entries to encode, of each clip that lacks some.
        entries: all tracks that the finished cache holds, in order.
        failed: clips whose facts cannot be read, with the reason.
        num_bytes: of all latents and poses of the finished cache.
        new_bytes: of those to be encoded.
    """

    clips: tuple[tuple[int, tuple[Entry, ...]], ...]
    entries: tuple[Entry, ...]
    failed: dict[str, str]
    num_bytes: int
    new_bytes: int

    @property
    def new_entries(self) -> int:
        return sum(len(entries) for _, entries in self.clips)


@dataclass(frozen=True)
class LatentReport:
    """What a build did: tracks encoded, kept from before and removed; clips that failed, with the reason."""

    encoded: int
    kept: int
    removed: int
    failed: dict[str, str]
    num_bytes: int


def plan_latents(store: ClipStore, encoder: LatentEncoder, folder: Path, spec: LatentSpec,
                 *, skip: Collection[str] = ()) -> LatentPlan:  # fmt: skip
    """Predict a build without doing any of it: what `--dry-run` prints.

    Args:
        folder: of the cache; need not be there.
        skip: clips to leave out, e.g. quarantined ones.
    """
    found = find_rows(folder)
    clips: list[tuple[int, tuple[Entry, ...]]] = []
    entries: list[Entry] = []
    failed: dict[str, str] = {}
    num_bytes = new_bytes = 0
    digest = encoder.digest
    for index, clip_id in enumerate(store.clip_ids):
        if clip_id in skip:
            continue
        try:
            facts = encoder_input(store, index)
            wanted = entries_of(facts, spec, digest)
            size = _track_bytes(facts.num_frames, facts.hw, spec)
        except (StoreError, GraphError) as error:
            failed[clip_id] = str(error)
            continue
        missing = tuple(entry for entry in wanted if entry.key not in found)
        if missing:
            clips.append((index, missing))
        entries.extend(wanted)
        num_bytes += size * len(wanted)
        new_bytes += size * len(missing)
    return LatentPlan(tuple(clips), tuple(entries), failed, num_bytes, new_bytes)


def build_latents(
    store: ClipStore,
    encoder: LatentEncoder,
    folder: Path,
    spec: LatentSpec,
    *,
    quarantine: Quarantine | None = None,
    shard_bytes: int = 256 * 2**20,
    progress: Progress | None = None,
) -> LatentReport:
    """Make the cache hold the latents of the store as it is now, no more and no less.

    Only what is missing is encoded; tracks that nothing asks for any more (other recipe, other encoder, clip taken
    down) leave the disk. Memory holds one clip and one shard, the latter twice while it is written.

    Args:
        folder: of the cache; made if missing. One build at a time.
        quarantine: damaged clips are recorded in it and those in it are left out; None = a damaged clip ends the build.
        shard_bytes: a shard is written once it is as large, > 0.
        progress: called after each clip with (tracks encoded, tracks to encode).

    Raises:
        StoreError: a damaged clip without a quarantine, another build at work, or a disk that is full or too small.
        InputError: an encoder that does not fit the clips.
    """
    try:
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            return _build(store, encoder, folder, spec, quarantine, shard_bytes, progress)
    except (OSError, SafetensorError) as error:
        raise StoreError("cannot write the cache", got=f"{folder}: {error}",
                         fix="free some space or choose another folder; what is written stays") from None  # fmt: skip


def _build(store: ClipStore, encoder: LatentEncoder, folder: Path, spec: LatentSpec, quarantine: Quarantine | None,
           shard_bytes: int, progress: Progress | None) -> LatentReport:  # fmt: skip
    for left_over in (folder / "shards").glob("*.partial"):
        left_over.unlink()
    before = find_rows(folder)
    plan = plan_latents(store, encoder, folder, spec, skip=() if quarantine is None else quarantine.read())
    _check_room(folder, plan.new_bytes)
    writer = ShardWriter(folder / "shards", shard_bytes, DTYPES[spec.dtype])
    failed = dict(plan.failed)
    if failed and quarantine is None:
        raise StoreError(next(iter(failed.values())))
    done = 0
    for index, entries in plan.clips:
        try:
            for entry, track in _encode(store[index], entries, encoder):
                writer.add(entry, track)
        except (StoreError, VideoError, GraphError) as error:
            if quarantine is None:
                writer.flush()  # what is encoded stays
                raise
            failed[store.clip_ids[index]] = str(error)
        done += len(entries)
        if progress is not None:
            progress(done, plan.new_entries)
    writer.flush()
    for clip_id, reason in failed.items():
        assert quarantine is not None
        quarantine.add(clip_id, reason)
    return _commit(folder, plan, writer, failed, before, spec, encoder.digest)


def _commit(folder: Path, plan: LatentPlan, writer: ShardWriter, failed: dict[str, str], before: Rows,
            spec: LatentSpec, encoder_digest: str) -> LatentReport:  # fmt: skip
    """Let the index name what is wanted, and delete the rest."""
    entries = [entry for entry in plan.entries if entry.clip_id not in failed]
    found = before | writer.rows
    rows = drop_dead(folder, {entry.key: found[entry.key] for entry in entries}, writer)
    _write_index(folder, entries, rows, spec, encoder_digest)
    live = {row["shard"] for row in rows.values()}
    for path in (folder / "shards").glob("latents-*"):
        if path.name not in live:
            path.unlink()
    kept = sum(entry.key in before for entry in entries)
    size = sum((folder / "shards" / name).stat().st_size for name in live)
    return LatentReport(len(entries) - kept, kept, len(before) - kept, failed, size)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError("the latents do not fit on the disk", got=f"{free / 2**20:,.0f} MiB free",
                         expected=f"{needed / 2**20:,.0f} MiB",
                         fix="free some space, or store them as bfloat16 or with fewer variants")  # fmt: skip


def _encode(clip: MemoryClip, entries: tuple[Entry, ...], encoder: LatentEncoder) -> list[tuple[Entry, Track]]:
    """All or nothing of a clip, so that a failure leaves no half of it."""
    return [
        (entry, encode_track(clean_view(clip.clean, clip.recipe) if entry.variant == CLEAN else apply_interruption(
            clip.clean, InterruptionRecipe.from_json(entry.recipe)), encoder))
        for entry in entries
    ]  # fmt: skip


def _track_bytes(num_frames: int, hw: tuple[int, int], spec: LatentSpec) -> int:
    latent_frames = num_latent_frames(num_frames)
    values = latent_frames * CHANNELS * (hw[0] // BLOCK_PX) * (hw[1] // BLOCK_PX)
    return values * DTYPES[spec.dtype].itemsize + latent_frames * (14 * 4 + 1)


def _write_index(folder: Path, entries: list[Entry], rows: Rows, spec: LatentSpec, encoder_digest: str) -> None:
    places = [entry_row(entry, *(rows[entry.key][name] for name in ("shard", "row", "crc32"))) for entry in entries]
    about = {"remind.latents": CACHE_VERSION, "encoder": encoder_digest, "spec": spec.model_dump_json()}
    table = pa.Table.from_pylist(places, schema=SCHEMA.with_metadata(about))
    with whole_file(folder / "index.parquet") as file:
        pq.write_table(table, file)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with exclusive(folder / ".lock", wait=False):
            yield
    except BlockingIOError:
        raise StoreError("another build is at work in this cache", got=folder, fix="wait for it to end") from None
