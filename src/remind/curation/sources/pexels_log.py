"""What was asked of Pexels and what it answered, one page a line, so that nothing is asked twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.curation.disk import disk_errors, locked
from remind.curation.sources.pexels_api import Count, SearchPage
from remind.errors import SourceError

_MAX_LINE_BYTES = 16 << 20

PageKey = tuple[str, int, int]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    query: Annotated[str, Field(max_length=500)]
    number: Count
    per_page: Count
    asked_at: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    reply: SearchPage


class SearchLog:
    """The pages of one log file, held by one process at a time."""

    def __init__(self, path: Path, file: IO[bytes]):
        self._path, self._file = path, file
        self._offsets: dict[PageKey, int] = {}
        self.times: list[float] = []
        self._load()

    def get(self, key: PageKey) -> SearchPage | None:
        """The page of (query, page, per_page) if it was asked for."""
        offset = self._offsets.get(key)
        if offset is None:
            return None
        with disk_errors("cannot read the log of searches", self._path):
            self._file.seek(offset)
            return self._parse(self._file.readline(_MAX_LINE_BYTES), offset).reply

    def add(self, key: PageKey, asked_at: float, reply: SearchPage) -> None:
        """Append a page; it is on the disk when this returns."""
        query, number, per_page = key
        entry = _Entry(query=query, number=number, per_page=per_page, asked_at=asked_at, reply=reply)
        with disk_errors("cannot write the log of searches", self._path):
            offset = self._file.seek(0, os.SEEK_END)
            self._file.write(entry.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._offsets[key] = offset
        self.times.append(asked_at)

    def _load(self) -> None:
        """Index the lines; what a killed run left half-written at the end is cut off."""
        with disk_errors("cannot read the log of searches", self._path):
            self._file.seek(0)
            offset = 0
            while line := self._file.readline(_MAX_LINE_BYTES):
                if not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
                    self._file.truncate(offset)
                    break
                entry = self._parse(line, offset)
                self._offsets[entry.query, entry.number, entry.per_page] = offset
                self.times.append(entry.asked_at)
                offset += len(line)

    def _parse(self, line: bytes, offset: int) -> _Entry:
        try:
            return _Entry.model_validate_json(line)
        except ValidationError as error:
            raise SourceError(
                f"{self._path.name}: the log of searches is damaged",
                got=f"{error.errors()[0]['msg'][:120]}, in the line at byte {offset}",
                fix="delete that line; its page will be asked for again",
            ) from None


@contextmanager
def open_search_log(path: Path) -> Iterator[SearchLog]:
    """Open or make a log.

    Raises:
        SourceError: in use by another run, damaged, or not writable.
    """
    with locked(path, wait=False) as file:
        yield SearchLog(path, file)
