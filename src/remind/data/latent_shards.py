"""Shards of a latent cache: whole when they appear, named by their keys, describing themselves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from remind.data.encoded_pair import Track
from remind.data.latent_cache import SHARD_NAME, Entry, checksum, entry_row, read_stored
from remind.errors import StoreError
from remind.whole_file import whole_file

Rows = dict[str, dict[str, Any]]
"""Index rows by key."""


def find_rows(folder: Path) -> Rows:
    """Index rows of all tracks in the shards of a cache; a shard that cannot be opened holds none.

    Args:
        folder: of the cache; need not be there.
    """
    rows: Rows = {}
    for path in sorted((folder / "shards").glob("latents-*")):
        for row in _rows_of_shard(path):
            rows.setdefault(row["key"], row)
    return rows


def _rows_of_shard(path: Path) -> list[dict[str, Any]]:
    if not SHARD_NAME.fullmatch(path.name):
        return []
    try:
        with safe_open(str(path), framework="pt") as file:  # checks that the file is as long as it says
            count = file.get_slice("latents").get_shape()[0]
            rows = json.loads(file.get_tensor("entries").numpy().tobytes())
        good = len(rows) == count and all(
            isinstance(row["key"], str) and row["row"] == i and isinstance(row["crc32"], int)
            for i, row in enumerate(rows)
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return []
    return [{**row, "shard": path.name} for row in rows] if good else []


class ShardWriter:
    """Collects tracks of one shape and writes them as a shard; `rows` are those on disk.

    Args:
        folder: of the shards.
        shard_bytes: a shard is written once its latents are as large, > 0.
        dtype: in which latents are stored.
    """

    def __init__(self, folder: Path, shard_bytes: int, dtype: torch.dtype):
        self.folder, self.shard_bytes, self.dtype = folder, shard_bytes, dtype
        self.rows: Rows = {}
        self._waiting: list[tuple[Entry, Track]] = []
        self._bytes = 0

    def add(self, entry: Entry, track: Track) -> None:
        """Take a track; latents are rounded to the stored type.

        Raises:
            StoreError: latents that are not finite in that type.
        """
        latents = track.latents.to(self.dtype)
        if not torch.isfinite(latents).all():
            raise StoreError(f"latents of clip {entry.clip_id} are not finite", got=f"NaN or infinity as {self.dtype}",
                             fix="look at the encoder, or choose another type")  # fmt: skip
        if self._waiting and self._waiting[0][1].latents.shape != latents.shape:
            self.flush()
        self._waiting.append((entry, Track(latents, track.cameras, track.valid)))
        self._bytes += latents.numel() * latents.element_size()
        if self._bytes >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one shard."""
        if not self._waiting:
            return
        entries, tracks = [entry for entry, _ in self._waiting], [track for _, track in self._waiting]
        name = hashlib.sha256(" ".join(entry.key for entry in entries).encode()).hexdigest()[:16]
        name = f"latents-{name}.safetensors"
        rows = [entry_row(entry, name, i, checksum(track))
                for i, (entry, track) in enumerate(zip(entries, tracks, strict=True))]  # fmt: skip
        tensors = {part: torch.stack([getattr(track, part) for track in tracks])
                   for part in ("latents", "cameras", "valid")}  # fmt: skip
        # Not in the file's metadata: the header is read with every track and must stay small.
        tensors["entries"] = torch.frombuffer(bytearray(json.dumps(rows).encode()), dtype=torch.uint8)
        with whole_file(self.folder / name) as file:
            save_file(tensors, str(file))
        self.rows |= {row["key"]: row for row in rows}
        self._waiting, self._bytes = [], 0


def drop_dead(folder: Path, rows: Rows, writer: ShardWriter) -> Rows:
    """Copy what is alive out of shards that also hold other tracks; returns where `rows` are then.

    So a clip that was taken down leaves the disk with its shard, which the caller deletes.

    Args:
        rows: the tracks that are wanted, by key.
        writer: with nothing waiting.
    """
    alive: dict[str, list[dict[str, Any]]] = {}
    for row in rows.values():
        alive.setdefault(row["shard"], []).append(row)
    for shard, wanted in sorted(alive.items()):
        if len(wanted) == len(_rows_of_shard(folder / "shards" / shard)):
            continue
        for row in sorted(wanted, key=lambda row: row["row"]):
            fields = {name: row[name] for name in Entry.__dataclass_fields__}
            writer.add(Entry(**fields), read_stored(folder, row, writer.dtype))
    writer.flush()
    return {key: writer.rows.get(key, row) for key, row in rows.items()}
