"""The layout of a clip store: names, limits, the index's columns, and the checks that an index must pass.

    STORE/index.parquet                  one row per clip: facts to filter by, and the place of each of its files
    STORE/shards/clips-00000-<hash>.tar  <clip_id>.rgb.mp4, .graph.json, .event.json, .caption.json, .provenance.json,
                                         and .cameras.npz, .depth.npz, .state.npz where they are known

A clip is stored clean. `graph.json` holds the interruption recipe; the degraded clip, the schedule and the
frame graph are all derived from it on load and so cannot disagree. Shards are named by their content and the
index is replaced last: whoever opens a store after a kill finds the old one or the new one, whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from remind.data.clip_records import MAX_FRAMES
from remind.errors import StoreError

STORE_VERSION = "2"
INDEX_NAME = "index.parquet"
SHARD_FOLDER = "shards"
WORK_PREFIX = ".building-"
TAR_BLOCK = 512
SHARD_NAME = re.compile(r"clips-\d{5}-[0-9a-f]{16}\.tar")
CLIP_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
MAX_SIDE_PX = 8192
MAX_CLIP_PIXELS = 2**30  # frames times their area; 3 GiB of RGB
MAX_CLIPS = 10_000_000

REQUIRED = ("rgb.mp4", "graph.json", "event.json", "caption.json", "provenance.json")
OPTIONAL = ("cameras.npz", "depth.npz", "state.npz")
MEMBER_NAMES = REQUIRED + OPTIONAL
"""Files of a clip, in the order in which they are stored."""

_MEMBER = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.int64())])
SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("source", pa.string()),
        ("item_id", pa.string()),
        ("kinds", pa.list_(pa.string())),
        ("event_types", pa.list_(pa.string())),
        ("groups", pa.list_(pa.string())),
        ("judged_by", pa.string()),
        ("safety_flags", pa.list_(pa.string())),
        ("num_frames", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("fps", pa.float64()),
        ("has_cameras", pa.bool_()),
        ("has_depth", pa.bool_()),
        ("licence", pa.string()),
        ("sha256", pa.string()),
        ("shard", pa.string()),
        ("members", pa.list_(_MEMBER)),
    ],
    metadata={"remind.store": STORE_VERSION},
)


@dataclass(frozen=True)
class ClipFacts:
    """What the index says about a clip, so that clips are chosen without opening them.

    Args:
        source, item_id, licence: as `Provenance`.
        kinds: of its interruptions, in order of time, each once.
        event_types, groups, judged_by, safety_flags: as `Event`; flags are None where nobody asked.
        num_frames: pixel frames.
        height, width: px.
        fps: frames per second.
        has_cameras: at least one pose is valid.
        has_depth: there is depth.
    """

    source: str
    item_id: str
    kinds: tuple[str, ...]
    event_types: tuple[str, ...]
    groups: tuple[str, ...]
    judged_by: str
    safety_flags: tuple[str, ...] | None
    num_frames: int
    height: int
    width: int
    fps: float
    has_cameras: bool
    has_depth: bool
    licence: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ClipFacts:
        values: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            values[name] = tuple(row[name]) if isinstance(row[name], list) else row[name]
        return cls(**values)

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


def members_sha256(members: Mapping[str, bytes]) -> str:
    """Of a clip's files with their names and sizes, in stored order: the same clip in any store has the same hash."""
    digest = hashlib.sha256()
    for name in MEMBER_NAMES:
        if name in members:
            digest.update(f"{name} {len(members[name])}\n".encode())
            digest.update(members[name])
    return digest.hexdigest()


def check_index(table: pa.Table) -> None:
    """Refuse what a writer never writes: above all, names that lead out of the store.

    Raises:
        StoreError: with the first bad row.
    """
    _require(table, "shard", pc.match_substring_regex(table["shard"], rf"\A(?:{SHARD_NAME.pattern})\z"), StoreError(
        "the store's index names a file outside of the store", expected="clips-<number>-<hash>.tar",
        fix="do not use this store"))  # fmt: skip
    damaged = StoreError("the store's index is damaged", fix="build the store again")
    for name in SCHEMA.names:
        if name != "safety_flags":
            _require(table, name, pc.is_valid(table[name]), damaged)
    _require(table, "clip_id", pc.match_substring_regex(table["clip_id"], rf"\A(?:{CLIP_ID.pattern})\z"), damaged)
    _require(table, "sha256", pc.match_substring_regex(table["sha256"], r"\A[0-9a-f]{64}\z"), damaged)
    for name, most in (("num_frames", MAX_FRAMES), ("height", MAX_SIDE_PX), ("width", MAX_SIDE_PX), ("fps", 1000.0)):
        _require(table, name, pc.and_(pc.greater(table[name], 0), pc.less_equal(table[name], most)), damaged)
    area = pc.multiply(table["height"].cast("int64"), table["width"].cast("int64"))
    pixels = pc.multiply(area, table["num_frames"].cast("int64"))
    _require(table, "num_frames", pc.less_equal(pixels, MAX_CLIP_PIXELS), damaged)
    for name in ("kinds", "event_types", "groups", "safety_flags"):
        _require_values(table, name, pc.is_valid(pc.list_flatten(table[name])), damaged)
    member = pc.list_flatten(table["members"])
    names = pc.struct_field(member, "name")
    _require_values(table, "members", pc.is_in(names, value_set=pa.array(MEMBER_NAMES)), damaged)
    for name in ("offset", "size", "crc32"):
        _require_values(table, "members", pc.greater_equal(pc.struct_field(member, name), 0), damaged)
    if pc.count_distinct(table["clip_id"]).as_py() != len(table):
        raise StoreError("the store's index is damaged", got="a clip id twice", fix="build the store again")


def _require(table: pa.Table, column: str, good: pa.ChunkedArray, error: StoreError) -> None:
    row = pc.index(pc.fill_null(good, False), False).as_py()
    if row >= 0:
        value = repr(table[column][row].as_py())[:120]
        raise StoreError(error.what, got=f"{column} {value} in row {row}", expected=error.expected, fix=error.fix)


def _require_values(table: pa.Table, column: str, good: pa.ChunkedArray, error: StoreError) -> None:
    """As `_require`, for the values inside of a column of lists."""
    place = pc.index(pc.fill_null(good, False), False).as_py()
    if place >= 0:
        row = pc.list_parent_indices(table[column])[place].as_py()
        value = repr(table[column][row].as_py())[:120]
        raise StoreError(error.what, got=f"{column} {value} in row {row}", expected=error.expected, fix=error.fix)
