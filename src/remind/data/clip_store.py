"""Reading a clip store: any clip by number or id, whole or in part, trusting nothing. Layout: `store_format`.

No file stays open and nothing is cached, so a store may be shared between processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.clip import Cameras, Clip
from remind.data.clip_records import Caption, Event, Provenance, read_graph, read_record
from remind.data.interrupt import InterruptionRecipe
from remind.data.memory_clip import SCALE_KINDS, DepthMap, MemoryClip, ScaleKind, interruption_kinds
from remind.data.npz import read_npz
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
from remind.data.video_io import decode, probe
from remind.errors import RemindError, StoreError


@dataclass(frozen=True)
class ClipRecords:
    """All that a store knows about a clip in words; cheap to read."""

    caption: str
    recipe: InterruptionRecipe
    prompts: tuple[str, ...]
    event: Event
    provenance: Provenance


@dataclass(frozen=True)
class StoredCameras:
    """Cameras as stored; arguments as `MemoryClip`."""

    cameras: Cameras
    pose_conf: Float[Tensor, " t"]
    scale_kind: ScaleKind


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
        except (pa.ArrowException, OSError) as error:
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
        return ClipFacts.from_row(self._row(number))

    def sha256(self, number: int) -> str:
        """Of the clip's files, see `store_format.members_sha256`."""
        return self.index["sha256"][number].as_py()

    def members(self, number: int) -> dict[str, bytes]:
        """The clip's files as they are, e.g. to pack them into another store."""
        row = self._row(number)
        return self._members(row, set(MEMBER_NAMES))

    def read(self, number: int, *, depth: bool = True) -> MemoryClip:
        """Read one clip.

        Args:
            depth: read it too, where there is any; it is the largest part in memory.

        Raises:
            IndexError: no such clip.
            StoreError: a damaged or hostile file.
        """
        row = self._row(number)
        files = self._members(row, set(MEMBER_NAMES) - (set() if depth else {"depth.npz"}))
        with _about(row):
            records = _records(row, files)
            stored = _cameras(row, files["cameras.npz"]) if "cameras.npz" in files else None
            depth_map = _depth(row, files["depth.npz"]) if "depth.npz" in files else None
            states = _states(row, files["state.npz"]) if "state.npz" in files else None
            hw = (row["height"], row["width"])
            clean = Clip(
                rgb=_frames(row, files["rgb.mp4"], 0, row["num_frames"]),
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
        row = self._row(number)
        files = self._members(row, {name for name in REQUIRED if name.endswith(".json")})
        with _about(row):
            return _records(row, files)

    def frames(self, number: int, start: int = 0, stop: int | None = None) -> UInt8[Tensor, "t h w 3"]:
        """Clean pictures alone, decoded from the key frame before `start`; errors as `read`.

        Args:
            start, stop: pixel frames, 0 <= start < stop <= the clip's; None: to its end.
        """
        row = self._row(number)
        stop = row["num_frames"] if stop is None else stop
        if not 0 <= start < stop <= row["num_frames"]:
            raise StoreError("no such frames", got=f"{start} to {stop}", expected=f"within 0 to {row['num_frames']}")
        files = self._members(row, {"rgb.mp4"})
        with _about(row):
            return _frames(row, files["rgb.mp4"], start, stop)

    def cameras(self, number: int) -> StoredCameras | None:
        """Cameras alone; None where there are none; errors as `read`."""
        row = self._row(number)
        files = self._members(row, {"cameras.npz"})
        with _about(row):
            return _cameras(row, files["cameras.npz"]) if files else None

    def _row(self, number: int) -> dict[str, Any]:
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


def _records(row: dict[str, Any], files: dict[str, bytes]) -> ClipRecords:
    num_frames, recipe, prompts = read_graph(files["graph.json"])
    if num_frames != row["num_frames"]:
        raise StoreError("its graph and the index disagree", got=f"{num_frames} frames, not {row['num_frames']}")
    kinds = interruption_kinds(recipe.schedule(num_frames))
    if kinds != tuple(row["kinds"]):
        raise StoreError("its graph and the index disagree", got=f"{kinds}, not {tuple(row['kinds'])}")
    caption = read_record(Caption, files["caption.json"]).caption
    event = read_record(Event, files["event.json"])
    return ClipRecords(caption, recipe, prompts, event, read_record(Provenance, files["provenance.json"]))


def _frames(row: dict[str, Any], data: bytes, start: int, stop: int) -> UInt8[Tensor, "t h w 3"]:
    h, w = row["height"], row["width"]
    ticks = 1 / (Fraction(row["fps"]).limit_denominator(1001) * probe(data).time_base) if start else Fraction(0)
    first_pts = round(start * ticks)
    pictures = (picture for picture in decode(data, start_pts=first_pts or None) if picture.pts >= first_pts)
    # One more than promised is enough to notice.
    images = []
    for picture in islice(pictures, stop - start + (stop == row["num_frames"])):
        if picture.display_hw() != (h + h % 2, w + w % 2):  # even sizes are an H.264 need, see `encode_mp4`
            raise StoreError("pictures of another size", got=picture.display_hw(), expected=(h, w))
        images.append(picture.rgb()[:h, :w])
    if len(images) != stop - start:
        raise StoreError(f"not {row['num_frames']} pictures")
    return torch.from_numpy(np.stack(images))


def _cameras(row: dict[str, Any], data: bytes) -> StoredCameras:
    t = row["num_frames"]
    arrays = read_npz(data, {
        "c2w": ("f8", (t, 4, 4)), "intrinsics_px": ("f4", (t, 4)), "hw": ("i8", (2,)), "pose_valid": ("?", (t,)),
        "pose_conf": ("f4", (t,)), "scale_kind": ("U8", ()),
    })  # fmt: skip
    intrinsics_px, valid = torch.from_numpy(arrays["intrinsics_px"]).double(), torch.from_numpy(arrays["pose_valid"])
    height, width = (int(side) for side in arrays["hw"])
    kind = next((kind for kind in SCALE_KINDS if arrays["scale_kind"] == kind), None)
    conf = torch.from_numpy(arrays["pose_conf"])
    if kind is None or min(height, width) < 1 or not (torch.isfinite(conf) & (conf >= 0)).all():
        raise StoreError("cameras.npz is damaged", got=f"scale_kind {arrays['scale_kind']!r}, hw {(height, width)}",
                         expected=f"{', '.join(SCALE_KINDS)}; sizes above 0; a finite pose_conf of 0 or more")
    cameras = Cameras(torch.from_numpy(arrays["c2w"]), intrinsics_px, (height, width), valid)
    return StoredCameras(cameras, conf, kind)


def _depth(row: dict[str, Any], data: bytes) -> DepthMap:
    t = row["num_frames"]
    arrays = read_npz(data, {"depth": ("f2", (t, None, None)), "intrinsics_px": ("f4", (t, 4))})
    if 0 in arrays["depth"].shape:
        raise StoreError("depth without pixels", got=arrays["depth"].shape)
    intrinsics_px = torch.from_numpy(arrays["intrinsics_px"])
    return DepthMap(torch.from_numpy(arrays["depth"].astype(np.float32)), intrinsics_px)


def _states(row: dict[str, Any], data: bytes) -> Float[Tensor, " t"]:
    states = read_npz(data, {"state": ("f8", (row["num_frames"],))})["state"]
    if not np.isfinite(states).all():
        raise StoreError("state.npz holds NaN or infinity")
    return torch.from_numpy(states)
