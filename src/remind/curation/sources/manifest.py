"""A table of videos: CSV (with a header), JSONL or Parquet, one video a row.

    path | url | archive + member   where the bytes are; one of the three is required. `url` beside the others only says
                                    where the video was found
    id                              unique; otherwise the path, `archive/member` or the url
    caption, author, permission     text
    licence                         text; `license` is read too
    tags                            a list, or text with `;` between
    cameras                         path of the poses
    cameras_format                  required with it: one of `item.CameraFormat`
    cameras_intrinsics              path of the intrinsics, for formats that keep them apart
    cameras_stride                  a pose for every n-th picture, 1 by default
    anything else                   goes to the item's facts, as a number where it is one

Paths are relative to the table's folder and may not lead out of it, links included.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.curation.disk import resolve_inside
from remind.curation.item import CameraFormat, CameraRef, FileMedia, Media, SourceItem, UrlMedia, ZipMedia
from remind.curation.refused import refuse
from remind.curation.sources.tables import Row, read_rows
from remind.curation.web import checked_url
from remind.errors import SourceError

_MAX_CHARS = 10_000
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,30})(\.\d{1,40})?([eE][+-]?\d{1,3})?")  # 007 is a name

Line = Annotated[str, Field(max_length=_MAX_CHARS)]
Name = Annotated[str, Field(max_length=4000)]


class _Columns(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: Name = ""
    url: Name = ""
    archive: Name = ""
    member: Name = ""
    id: Name = ""
    caption: Line = ""
    author: Line = ""
    licence: Line = ""
    permission: Line = ""
    tags: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=100)] = ()
    cameras: Name = ""
    cameras_format: CameraFormat | None = None
    cameras_intrinsics: Name = ""
    cameras_stride: Annotated[int, Field(ge=1, le=100_000)] = 1


class ManifestSource:
    """The rows of a table, streamed. A bad row is listed under `<table>:<line>` and fails with its reason when fetched.

    Args:
        path: a .csv, .jsonl, .ndjson or .parquet file; its columns are at the top of this module.
        allow_root: a folder that paths may lead to instead of the table's own; absolute paths are fine inside it.

    Raises:
        SourceError: from `items`: a table that is missing or damaged as a whole.
    """

    name = "manifest"

    def __init__(self, path: Path, *, allow_root: Path | None = None):
        self._path = path
        self._base = path.parent
        self._root = self._base if allow_root is None else allow_root

    def items(self) -> Iterator[SourceItem]:
        """All rows in their order."""
        lines_of: dict[bytes, int] = {}
        for row in read_rows(self._path):
            try:
                item = self._item(row)
                digest = hashlib.blake2b(item.item_id.encode(), digest_size=16).digest()
                first = lines_of.setdefault(digest, row.line)
                if first != row.line:
                    raise SourceError("two rows of the same id", got=f"{item.item_id!r}, first in line {first}")
            except SourceError as error:
                reason = f"{self._path.name}, line {row.line}: {error}"
                item = refuse(f"{self._path.name}:{row.line}", self.name, reason)
            yield item

    def _item(self, row: Row) -> SourceItem:
        if row.problem:
            raise SourceError(row.problem)
        known, facts = _split(row.values)
        media, natural_id = self._media(known)
        return SourceItem(
            known.id or natural_id,
            self.name,
            media,
            caption=known.caption,
            tags=known.tags,
            cameras=self._cameras(known),
            url=known.url,
            author=known.author,
            licence=known.licence,
            permission=known.permission,
            facts=facts,
        )

    def _media(self, known: _Columns) -> tuple[Media, str]:
        """Where the bytes are, and the id that follows from it."""
        if bool(known.archive) != bool(known.member) or (known.path and known.archive):
            raise SourceError("a row names `path`, or `archive` and `member`, or `url` alone")
        if known.path:
            return FileMedia(self._inside(known.path)), known.path
        if known.archive:
            return ZipMedia(self._inside(known.archive), known.member), f"{known.archive}/{known.member}"
        if known.url:
            checked_url(known.url)
            return UrlMedia(known.url), known.url
        raise SourceError("the row says nowhere where the video is", expected="path, url, or archive and member")

    def _cameras(self, known: _Columns) -> CameraRef | None:
        if not known.cameras and (known.cameras_format or known.cameras_intrinsics):
            raise SourceError("a format of cameras without cameras", expected="the column `cameras`")
        if not known.cameras:
            return None
        if known.cameras_format is None:
            raise SourceError("cameras of no format", expected="the column `cameras_format`")
        intrinsics = self._inside(known.cameras_intrinsics) if known.cameras_intrinsics else ""
        return CameraRef(known.cameras_format, self._inside(known.cameras), intrinsics, known.cameras_stride)

    def _inside(self, name: str) -> str:
        resolved = resolve_inside(self._root, str(self._base.resolve() / name))
        return str(resolved)


def _split(values: Mapping[str, Any]) -> tuple[_Columns, dict[str, str | float]]:
    """The columns that have a meaning, and the rest as facts."""
    values = dict(values)
    if "license" in values and "licence" not in values:
        values["licence"] = values.pop("license")
    known = {name: values.pop(name) for name in _Columns.model_fields if name in values}
    tags = known.get("tags", ())
    if isinstance(tags, str):
        tags = [tag.strip() for tag in tags.split(";") if tag.strip()]
    stride = known.get("cameras_stride", 1)
    try:
        known["tags"] = tuple(tags) if isinstance(tags, list | tuple) else tags
        known["cameras_stride"] = int(stride) if isinstance(stride, str) and stride.isdecimal() else stride
        return _Columns.model_validate(known), {name: _fact(name, value) for name, value in values.items()}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SourceError(f"column {where}: {first['msg']}", got=repr(first.get("input"))[:80]) from None


def _fact(name: str, value: object) -> str | float:
    """A number where it is one, otherwise text; nested JSON stays JSON text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise SourceError(f"column {name[:40]}: not a finite number")
        return number
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if len(text) > _MAX_CHARS or len(name) > 200:
        raise SourceError(f"column {name[:40]}: more than {_MAX_CHARS} characters")
    return text
