"""A store's clips without their pictures: facts, provenance, raw files, and copies that decode nothing.

The only place outside of `clip_store` that knows how its index looks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from remind.clip import Cameras
from remind.data.clip_store import ClipStore, ClipStoreWriter, Provenance, _cameras, _Caption, _Graph, _parse
from remind.data.interrupt import InterruptionRecipe
from remind.errors import StoreError

_SEEN_BY_ENCODERS = ("rgb.mp4", "cameras.npz")


@dataclass(frozen=True)
class ClipFacts:
    """What is known of a clip before its pictures are decoded.

    Args:
        content: hash over names, sizes and checksums of the files that pictures and cameras come from: equal for
            copies, another for anything encoded anew.
    """

    clip_id: str
    num_frames: int
    hw: tuple[int, int]
    fps: float
    recipe: InterruptionRecipe
    caption: str
    content: str


def clip_facts(store: ClipStore, index: int) -> ClipFacts:
    """Facts of a clip, read from the index and its two smallest files.

    Raises:
        StoreError: a damaged clip.
    """
    row = store._rows[index]
    graph = _parse(_Graph, row, read_file(store, index, "graph.json"))
    caption = _parse(_Caption, row, read_file(store, index, "caption.json")).caption
    members = sorted((m["name"], m["size"], m["crc32"]) for m in row["members"] if m["name"] in _SEEN_BY_ENCODERS)
    content = hashlib.sha256(repr((members, row["height"], row["width"], row["fps"])).encode()).hexdigest()[:32]
    return ClipFacts(row["clip_id"], row["num_frames"], (row["height"], row["width"]), row["fps"], graph.recipe,
                     caption, content)  # fmt: skip


def clip_provenance(store: ClipStore, index: int) -> Provenance:
    """Where a clip comes from.

    Raises:
        StoreError: a damaged clip.
    """
    return _parse(Provenance, store._rows[index], read_file(store, index, "provenance.json"))


def file_names(store: ClipStore, index: int) -> tuple[str, ...]:
    """The files of a clip, e.g. `rgb.mp4`."""
    return tuple(m["name"] for m in store._rows[index]["members"])


def read_file(store: ClipStore, index: int, name: str) -> bytes:
    """One file of a clip as it lies in the store, its checksum verified.

    Raises:
        StoreError: no such file, or a damaged one.
    """
    row = store._rows[index]
    for member in row["members"]:
        if member["name"] == name:
            return store._read(row, member)
    raise StoreError(f"clip {row['clip_id']} cannot be read", got=f"no {name}", fix="build the store again")


def copy_clip(store: ClipStore, index: int, writer: ClipStoreWriter) -> None:
    """Append a clip to another store bit for bit: no picture is encoded a second time.

    Raises:
        StoreError: a damaged clip.
        OSError: a full disk.
    """
    row = store._rows[index]
    members = [writer._append(f"{row['clip_id']}.{m['name']}", store._read(row, m)) for m in row["members"]]
    writer._ids.add(row["clip_id"])
    writer._rows.append({**row, "shard": len(writer._done), "members": members})
    if writer._shard is not None and writer._shard.tell() >= writer.shard_bytes:
        writer._close_shard()


def clip_cameras(store: ClipStore, index: int) -> Cameras | None:
    """Cameras of a clip, or None where it has none.

    Raises:
        StoreError: a damaged clip.
    """
    if "cameras.npz" not in file_names(store, index):
        return None
    return _cameras(store._rows[index], read_file(store, index, "cameras.npz"))
