"""Which part of OpenVid-1M holds a video: its CSV does not say, so the directories of the zips are read once."""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from remind.curation.archives import FIRST_PIECE, open_archive, pieces_of
from remind.curation.disk import disk_errors
from remind.errors import SourceError

CACHE_NAME = "openvid-parts.parquet"
_KEY = b"remind.openvid.parts"
_VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov")
_SCHEMA = pa.schema([("video", pa.string()), ("part", pa.string()), ("member", pa.string())])


@dataclass(frozen=True)
class PartMap:
    """Every video of the parts that are here, by file name.

    Args:
        videos: sorted by video, then part, then member; a video that is there twice has two rows.
        unreadable: parts that could not be read, with the reason.
    """

    videos: pa.Table
    unreadable: dict[str, str]

    def __len__(self) -> int:
        return self.videos.num_rows

    def find(self, video: str) -> int | None:
        """The first row of a video, or None."""
        column = _Strings(self.videos["video"].chunk(0)) if len(self) else ()
        row = bisect_left(column, video)
        return row if row < len(column) and column[row] == video else None

    def first_rows(self) -> Int64[np.ndarray, " videos"]:
        """The first row of each video."""
        names = self.videos["video"].to_numpy()
        return np.flatnonzero(np.append(True, names[1:] != names[:-1])[: len(names)])

    def row(self, index: int) -> tuple[str, str, str]:
        """Video, name of its part, member."""
        video, part, member = (self.videos[name][index].as_py() for name in _SCHEMA.names)
        return video, part, member


def find_parts(folder: Path) -> list[Path]:
    """The zips of a folder, and the first pieces of those that were cut up and are not joined again.

    Raises:
        SourceError: a folder that cannot be read or holds no part.
    """
    with disk_errors("cannot read the folder of parts", folder):
        names = set(os.listdir(folder))
    firsts = {name for name in names if FIRST_PIECE.fullmatch(name)}
    cut = {name for name in firsts if re.sub(r"_parta+$", "", name) + ".zip" not in names}
    zips = {name for name in names if name.lower().endswith(".zip") and not name.startswith(".")}
    if not zips | cut:
        raise SourceError(
            "no part of OpenVid-1M", got=folder, expected="OpenVid_part0.zip, ...", fix="download at least one part"
        )
    return [folder / name for name in sorted(zips | cut)]


def read_part_map(folder: Path, cache: Path | None = None) -> PartMap:
    """The map of all parts in a folder, from the cache if no part has changed since.

    Our choice: nothing is cached while a part cannot be read, since permissions can be mended without a trace.

    Args:
        cache: folder to keep `openvid-parts.parquet` in; None: beside the parts.

    Raises:
        SourceError: as `find_parts`, or a cache that cannot be written.
    """
    parts = find_parts(folder)
    key = _state(parts)
    file = (folder if cache is None else cache) / CACHE_NAME
    if (kept := _read_cache(file, key)) is not None:
        return PartMap(kept, {})
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    unreadable: dict[str, str] = {}
    for part in parts:
        try:
            members = _video_members(part)
        except SourceError as error:
            unreadable[part.name] = str(error)
            continue
        columns[0].extend(PurePosixPath(member).name for member in members)
        columns[1].extend([part.name] * len(members))
        columns[2].extend(members)
    table = pa.table(list(columns), schema=_SCHEMA).sort_by([(name, "ascending") for name in _SCHEMA.names])
    table = table.combine_chunks().replace_schema_metadata({_KEY: key})
    if not unreadable:
        _write_cache(file, table)
    return PartMap(table, unreadable)


def duplicates(parts: PartMap) -> list[str]:
    """Videos that are there more than once."""
    counts = parts.videos.group_by("video").aggregate([("video", "count")])
    return sorted(counts.filter(pc.greater(counts["video_count"], 1))["video"].to_pylist())


def _video_members(part: Path) -> list[str]:
    with open_archive(part) as opened:
        names = [info.filename for info in opened.filelist if not info.is_dir()]
    videos = [name for name in names if name.lower().endswith(_VIDEO_SUFFIXES)]
    plain = [name for name in videos if not PurePosixPath(name).name.startswith(".") and "__MACOSX/" not in name]
    try:
        "".join(plain).encode()
    except UnicodeEncodeError:
        raise SourceError(f"{part.name}: names that are no text", fix="download it again") from None
    return plain


def _state(parts: Sequence[Path]) -> bytes:
    """Name, size and time of every file that the map depends on."""
    with disk_errors("cannot read the parts", parts[0].parent):
        files = [piece for part in parts for piece in pieces_of(part)]
        return json.dumps([(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]).encode()


def _read_cache(file: Path, key: bytes) -> pa.Table | None:
    """The cached map if it is one, of exactly these parts; a damaged cache is made again."""
    if not file.is_file():
        return None
    try:
        table = pq.read_table(file, memory_map=False)
    except (pa.ArrowException, OSError, ValueError):
        return None
    if not table.schema.equals(_SCHEMA) or (table.schema.metadata or {}).get(_KEY) != key:
        return None
    return table.combine_chunks()


def _write_cache(file: Path, table: pa.Table) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with disk_errors("cannot write the map of parts; give a folder for it that can be written (cache)", file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, temporary)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


class _Strings(Sequence[str]):
    """An Arrow column as a sequence, for bisection without a million Python strings."""

    def __init__(self, column: pa.StringArray):
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return self._column[index].as_py()
