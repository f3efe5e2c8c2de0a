"""A store as others may have it: what its clips are and where they come from; pictures only where licences allow.

    OUT/README.md        the dataset card
    OUT/croissant.json   the same for machines
    OUT/clips.parquet    a row per clip: ids, spans, hashes, annotations
    OUT/cameras.parquet  poses, where any clip has them
    OUT/media/           <clip_id>.mp4 of clips whose licences allow it, if asked for

Our choice: whoever has the sources can make the same clips again from spans and hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from remind.curation.croissant import ReleasedFile, croissant
from remind.curation.licences import redistributable
from remind.curation.release_card import dataset_card
from remind.curation.takedown import Takedown
from remind.data.clip_records import Provenance
from remind.data.clip_store import ClipStore
from remind.errors import InputError, StoreError

_PARQUET = "application/x-parquet"  # the name by which Croissant's library knows it
# column: (type, what it means); the card and the metadata are made of it.
_COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "clip_id": (pa.string(), "unique name of the clip"),
    "source": (pa.string(), "name of the source"),
    "item_id": (pa.string(), "name of the source file within its source"),
    "sha256": (pa.string(), "hash of the source file"),
    "url": (pa.string(), "where the source file was found; empty if unknown"),
    "author": (pa.string(), "who made the source; empty if unknown"),
    "licence": (pa.string(), "terms of the source as its source states them; empty if unknown"),
    "licence_id": (pa.string(), "SPDX identifier where the terms allow redistribution, else empty"),
    "permission": (pa.string(), "permission on record beside the licence; empty if none"),
    "start_pts": (pa.int64(), "timestamp of the first frame in the source, in units of the time base"),
    "stop_pts": (pa.int64(), "timestamp of the last frame in the source, in units of the time base"),
    "time_base_num": (pa.int64(), "numerator of the time base, seconds per unit"),
    "time_base_den": (pa.int64(), "denominator of the time base"),
    "shot": (pa.int64(), "number of the shot within the source, from 0"),
    "num_frames": (pa.int64(), "frames of the clip"),
    "height": (pa.int64(), "px"),
    "width": (pa.int64(), "px"),
    "fps": (pa.float64(), "frames per second of the clip"),
    "kind": (pa.string(), "kind of interruption"),
    "recipe": (pa.string(), "the interruption recipe as JSON: times in frames of the clip, looks, seed"),
    "caption": (pa.string(), "object, state variable and direction of change; may be empty"),
    "event_types": (pa.string(), "event types of the taxonomy, separated by semicolons"),
    "groups": (pa.string(), "tag groups, separated by semicolons; a clip may be in several"),
    "judged_by": (pa.string(), "who says so: vlm (a model looked), world (rendered), no_vlm (nobody looked)"),
    "event": (pa.string(), "the whole annotation record as JSON, safety flags included"),
    "scores": (pa.string(), "every number by which the clip was kept, as JSON"),
    "tool_versions": (pa.string(), "of what made the clip, as JSON"),
    "has_cameras": (pa.bool_(), "whether cameras.parquet has its poses"),
    "has_depth": (pa.bool_(), "whether the store has its depth, which is not released"),
    "video_sha256": (pa.string(), "hash of the clip's own mp4, released or not"),
    "media": (pa.string(), "path of the mp4 within the release, empty if not released"),
}
CLIPS_SCHEMA = pa.schema([(name, kind) for name, (kind, _) in _COLUMNS.items()])
CAMERAS_SCHEMA = pa.schema([
    ("clip_id", pa.string()), ("c2w", pa.list_(pa.float64())), ("intrinsics_px", pa.list_(pa.float64())),
    ("height", pa.int64()), ("width", pa.int64()), ("pose_valid", pa.list_(pa.bool_())),
])  # fmt: skip


@dataclass(frozen=True)
class ReleaseReport:
    """What a release holds.

    Args:
        clips: rows in clips.parquet.
        media: mp4 files.
        taken_down: ids of clips that the takedown list kept out.
        unmatched: lines of the takedown list that matched no clip.
        without_media: why clips came without pictures, with counts; empty if none were asked for.
    """

    clips: int
    media: int
    taken_down: tuple[str, ...]
    unmatched: tuple[str, ...]
    without_media: dict[str, int] = field(default_factory=dict)


def release(
    store: ClipStore,
    out: Path,
    *,
    takedown: Takedown | None = None,
    include_media: bool = False,
    name: str = "memory-clips",
    version: str = "1.0.0",
) -> ReleaseReport:
    """Write a release; the same store and arguments give the same bytes.

    Args:
        out: folder; appears whole or not at all, and must not be there yet.
        takedown: clips to leave out.
        include_media: copy the clean clips whose licences allow redistribution (`licences.redistributable`), with
            attribution where they ask for it.
        name, version: of the dataset, for card and metadata.

    Raises:
        InputError: something in the way of `out`.
        StoreError: a damaged clip, no clip left, or a full disk.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("something is in the way of the release", got=out, expected="a new folder",
                         fix="choose another --out")  # fmt: skip
    work = None
    try:
        work = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}-"))
        work.chmod(0o755)
        report = _write(store, work, takedown or Takedown(()), include_media, name, version)
        os.replace(work, out)
    except OSError as error:
        raise StoreError("cannot write the release", got=f"{out}: {error.strerror or error}",
                         expected="a folder whose parent exists and has room",
                         fix="choose another --out") from None  # fmt: skip
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return report


def _write(store: ClipStore, folder: Path, takedown: Takedown, include_media: bool, name: str,
           version: str) -> ReleaseReport:  # fmt: skip
    rows: list[dict[str, Any]] = []
    taken_down: list[str] = []
    matched: set[str] = set()
    without: Counter[str] = Counter()
    if include_media:
        (folder / "media").mkdir()
    with pq.ParquetWriter(folder / "cameras.parquet", CAMERAS_SCHEMA) as cameras:
        for index, clip_id in enumerate(store.clip_ids):
            provenance = store.records(index).provenance
            lines = takedown.matches(clip_id, provenance)
            matched.update(lines)
            if lines:
                taken_down.append(clip_id)
                continue
            row, video = _row(store, index, provenance)
            if include_media:
                if reason := why_no_media(provenance):
                    without[reason] += 1
                else:
                    row["media"] = f"media/{clip_id}.mp4"
                    (folder / row["media"]).write_bytes(video)
            if row["has_cameras"]:
                cameras.write_table(_camera_row(store, index))
            rows.append(row)
    if not rows:
        raise StoreError("there is nothing to release", got=f"{len(taken_down)} clips, all of them taken down"
                         if taken_down else "an empty store")  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=CLIPS_SCHEMA), folder / "clips.parquet")
    if not any(row["has_cameras"] for row in rows):
        (folder / "cameras.parquet").unlink()
    media = sum(bool(row["media"]) for row in rows)
    if include_media and not media:
        (folder / "media").rmdir()
    report = ReleaseReport(len(rows), media, tuple(taken_down), takedown.unmatched(matched),
                           dict(sorted(without.items())))  # fmt: skip
    _describe(folder, rows, report, name, version)
    return report


def why_no_media(provenance: Provenance) -> str:
    """Why a clip's pictures must not be released; empty if they may be."""
    licence = redistributable(provenance.licence)
    if licence is None:
        return f"licence: {provenance.licence.strip()[:80] or 'unknown'}"
    if licence.attribution and not provenance.author.strip():
        return f"{licence.spdx} asks to name the author, who is unknown"
    return ""


def _row(store: ClipStore, index: int, provenance: Provenance) -> tuple[dict[str, Any], bytes]:
    facts, records = store.facts(index), store.records(index)
    video = store.members(index)["rgb.mp4"]
    licence = redistributable(provenance.licence)
    return {
        "clip_id": store.clip_ids[index],
        **{key: getattr(provenance, key) for key in ("source", "item_id", "sha256", "url", "author", "licence",
                                                     "permission", "start_pts", "stop_pts", "shot")},
        "licence_id": "" if licence is None else licence.spdx,
        "time_base_num": provenance.time_base[0],
        "time_base_den": provenance.time_base[1],
        "num_frames": facts.num_frames,
        "height": facts.height,
        "width": facts.width,
        "fps": facts.fps,
        "kind": records.recipe.kind,
        "recipe": records.recipe.to_json(),
        "caption": records.caption,
        "event_types": ";".join(facts.event_types),
        "groups": ";".join(facts.groups),
        "judged_by": facts.judged_by,
        "event": records.event.model_dump_json(),
        "scores": json.dumps(provenance.scores, sort_keys=True),
        "tool_versions": json.dumps(provenance.tool_versions, sort_keys=True),
        "has_cameras": facts.has_cameras,
        "has_depth": facts.has_depth,
        "video_sha256": hashlib.sha256(video).hexdigest(),
        "media": "",
    }, video  # fmt: skip


def _camera_row(store: ClipStore, index: int) -> pa.Table:
    stored = store.cameras(index)
    assert stored is not None
    cameras = stored.cameras
    return pa.Table.from_pylist([{
        "clip_id": store.clip_ids[index], "c2w": cameras.c2w.flatten().tolist(),
        "intrinsics_px": cameras.intrinsics_px.flatten().tolist(), "height": cameras.hw[0], "width": cameras.hw[1],
        "pose_valid": cameras.valid.tolist(),
    }], schema=CAMERAS_SCHEMA)  # fmt: skip


def _describe(folder: Path, rows: list[dict[str, Any]], report: ReleaseReport, name: str, version: str) -> None:
    """Card and metadata, which name the other files with their hashes."""
    about = {column: meaning for column, (_, meaning) in _COLUMNS.items()}
    card = dataset_card(rows, report.media, len(report.taken_down), report.without_media, about, name, version)
    (folder / "README.md").write_text(card, encoding="utf-8")
    files = [_released(folder, "clips.parquet", "A row per clip.", CLIPS_SCHEMA)]
    if (folder / "cameras.parquet").exists():
        files.append(_released(folder, "cameras.parquet",
                               "Camera-to-world matrices (row by row, OpenCV axes, frame after frame), fx fy cx cy in "
                               "pixels of height and width, and where they are valid."))  # fmt: skip
    licences = sorted({row["licence_id"] or row["licence"] for row in rows} - {""})
    description = (f"{len(rows)} memory clips: short videos with an interruption, to train and test video models on "
                   "what happens out of sight.")  # fmt: skip
    metadata = croissant(name, version, description, licences, files, about, with_media=report.media > 0)
    (folder / "croissant.json").write_text(json.dumps(metadata, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _released(folder: Path, name: str, about: str, schema: pa.Schema | None = None) -> ReleasedFile:
    data = (folder / name).read_bytes()
    return ReleasedFile(name, _PARQUET, len(data), hashlib.sha256(data).hexdigest(), about, schema)
