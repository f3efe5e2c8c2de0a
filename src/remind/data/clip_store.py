"""Reading a clip store: any clip by number or id, whole or in part, trusting nothing. Layout: `store_format`.

No file stays open and nothing is cached, so a store may be shared between processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8
from torch import Tensor

from remind.clip import Clip
from remind.data.clip_members import (
    ClipRecords,
    StoredCameras,
    decode_cameras,
    decode_depth,
    decode_frames,
    decode_graph,
    decode_records,
    decode_states,
)
from remind.data.interrupt import InterruptionRecipe
from remind.data.memory_clip import MemoryClip
from remind.data.store_format import (
    INDEX_NAME,
    MAX_CLIPS,
    MEMBER_NAMES,
    REQUIRED,
    SCHEMA,
    SHARD_FOLDER,
    STORE_VERSION,
    ClipFacts,
    check_index,
)
from remind.errors import RemindError, StoreError


class ClipStore:
    """Clips by number or id. Build one with `ClipStore.open`.

    Args:
        root: folder of the store.
        index: its checked index, see `store_format.SCHEMA`; filter it to choose clips without opening them.
    """

    def __init__(self, root: Path, index: pa.Table):
        self.root, self.index = root, index

    @classmethod
    def open(cls, root: Path) -> ClipStore:
        """Read and check the index.

        Raises:
            StoreError: no store, another version, a damaged index, or a path that leaves the store's folder.
        """
        path = root / INDEX_NAME
        if not path.is_file():
            raise StoreError("not a clip store", got=root, expected=f"a folder with {INDEX_NAME}",
                             fix="make one with `remind data build`")
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                version = (schema.metadata or {}).get(b"remind.store", b"none").decode(errors="replace")
                if version != STORE_VERSION or not schema.equals(SCHEMA):
                    raise StoreError("the store has another format", got=f"version {version}", expected=STORE_VERSION,
                                     fix="build it again from its videos: remind data build ... --overwrite")
                if file.metadata.num_rows > MAX_CLIPS:
                    raise StoreError("the store's index is damaged", got=f"{file.metadata.num_rows} clips",
                                     expected=f"at most {MAX_CLIPS}", fix="build the store again")
                index = file.read().combine_chunks()
            index.validate(full=True)  # offsets of lists, and text that is none
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names that are no text
            raise StoreError("the store's index is damaged", got=f"{path}: {str(error)[:120]}",
                             fix="build the store again") from None
        check_index(index)
        return cls(root, index)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(self.index["clip_id"].to_pylist())

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {clip_id: number for number, clip_id in enumerate(self.clip_ids)}

    def number_of(self, clip_id: str) -> int:
        """The number of a clip.

        Raises:
            StoreError: no such clip.
        """
        number = self._numbers.get(clip_id)
        if number is None:
            raise StoreError("no such clip in the store", got=repr(clip_id),
                             expected=f"one of {len(self)}, e.g. {', '.join(self.clip_ids[:3])}")
        return number

    def __iter__(self) -> Iterator[MemoryClip]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, number: int) -> MemoryClip:
        """The whole clip; errors as `read`."""
        return self.read(number)

    def by_id(self, clip_id: str) -> MemoryClip:
        """The whole clip of this id; errors as `read`."""
        return self.read(self.number_of(clip_id))

    def facts(self, number: int) -> ClipFacts:
        """What the index says about a clip."""
        return ClipFacts.from_row(self.row(number))

    def sha256(self, number: int) -> str:
        """Of the clip's files, see `store_format.members_sha256`."""
        return self.index["sha256"][number].as_py()

    def places(self, number: int) -> dict[str, tuple[str, int, int]]:
        """Where each file of a clip lies: shard, offset, size."""
        row = self.row(number)
        return {m["name"]: (row["shard"], m["offset"], m["size"]) for m in row["members"]}

    def members(self, number: int) -> dict[str, bytes]:
        """The clip's files as they are, e.g. to pack them into another store."""
        row = self.row(number)
        return self._members(row, set(MEMBER_NAMES))

    def read(self, number: int, *, depth: bool = True) -> MemoryClip:
        """Read one clip.

        Args:
            depth: read it too, where there is any; it is the largest part in memory.

        Raises:
            IndexError: no such clip.
            StoreError: a damaged or hostile file.
        """
        row = self.row(number)
        files = self._members(row, set(MEMBER_NAMES) - (set() if depth else {"depth.npz"}))
        with _about(row):
            records = decode_records(row, files)
            stored = decode_cameras(row, files["cameras.npz"]) if "cameras.npz" in files else None
            depth_map = decode_depth(row, files["depth.npz"]) if "depth.npz" in files else None
            states = decode_states(row, files["state.npz"]) if "state.npz" in files else None
            hw = (row["height"], row["width"])
            clean = Clip(
                rgb=decode_frames(row, files["rgb.mp4"], 0, row["num_frames"]),
                fps=row["fps"],
                cameras=None if stored is None else stored.cameras,
                depth=None if depth_map is None else depth_map.resampled(hw),
                caption=records.caption,
                clip_id=row["clip_id"],
            )
            return MemoryClip(
                clean, records.recipe, records.prompts, records.provenance, records.event,
                pose_conf=None if stored is None else stored.pose_conf,
                scale_kind="unknown" if stored is None else stored.scale_kind, depth=depth_map, states=states,
            )  # fmt: skip

    def records(self, number: int) -> ClipRecords:
        """The JSON of a clip alone; errors as `read`."""
        row = self.row(number)
        files = self._members(row, {name for name in REQUIRED if name.endswith(".json")})
        with _about(row):
            return decode_records(row, files)

    def recipe(self, number: int) -> InterruptionRecipe:
        """The interruption recipe of a clip alone, from its smallest file; errors as `read`."""
        row = self.row(number)
        files = self._members(row, {"graph.json"})
        with _about(row):
            return decode_graph(row, files["graph.json"])[0]

    def frames(self, number: int, start: int = 0, stop: int | None = None) -> UInt8[Tensor, "t h w 3"]:
        """Clean pictures alone, decoded from the key frame before `start`; errors as `read`.

        Args:
            start, stop: pixel frames, 0 <= start < stop <= the clip's; None: to its end.
        """
        row = self.row(number)
        stop = row["num_frames"] if stop is None else stop
        if not 0 <= start < stop <= row["num_frames"]:
            raise StoreError("no such frames", got=f"{start} to {stop}", expected=f"within 0 to {row['num_frames']}")
        files = self._members(row, {"rgb.mp4"})
        with _about(row):
            return decode_frames(row, files["rgb.mp4"], start, stop)

    def cameras(self, number: int) -> StoredCameras | None:
        """Cameras alone; None where there are none; errors as `read`."""
        row = self.row(number)
        files = self._members(row, {"cameras.npz"})
        with _about(row):
            return decode_cameras(row, files["cameras.npz"]) if files else None

    def row(self, number: int) -> dict[str, Any]:
        """All columns of the index for a clip.

        Raises:
            IndexError: no such clip.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"clip {number} of {len(self)}")
        return self.index.slice(number % len(self), 1).to_pylist()[0]

    def _members(self, row: dict[str, Any], wanted: Set[str]) -> dict[str, bytes]:
        places = {member["name"]: member for member in row["members"]}
        with _about(row):
            missing = wanted & set(REQUIRED) - places.keys()
            if missing or len(places) != len(row["members"]):
                raise StoreError(f"no {', '.join(sorted(missing))}" if missing else "the same file twice")
            found = [name for name in MEMBER_NAMES if name in wanted and name in places]
            return {name: self._bytes(row["shard"], places[name]) for name in found}

    def _bytes(self, shard: str, place: dict[str, Any]) -> bytes:
        path = self.root / SHARD_FOLDER / shard
        try:
            if path.is_symlink() or not path.is_file():
                raise StoreError(f"its shard {shard} is missing")
            if place["offset"] + place["size"] > path.stat().st_size:
                raise StoreError(f"{place['name']} ends after its shard")
            with path.open("rb") as file:
                file.seek(place["offset"])
                data = file.read(place["size"])
        except OSError as error:
            raise StoreError(shard, got=error.strerror) from None
        if zlib.crc32(data) != place["crc32"]:
            raise StoreError(f"{place['name']} has another checksum")
        return data


@contextmanager
def _about(row: dict[str, Any]) -> Iterator[None]:
    """Errors within name the clip."""
    try:
        yield
    except RemindError as error:
        got = error.what if error.got is None else f"{error.what}: {error.got}"
        raise StoreError(f"clip {row['clip_id']} cannot be read", got=got, fix="build the store again") from None
