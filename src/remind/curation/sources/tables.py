"""Rows of a CSV, JSONL or Parquet file, streamed, each with its line number; a damaged row is told, not raised."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from remind.curation.disk import disk_errors
from remind.errors import SourceError

_MAX_LINE_CHARS = 1 << 20
_MAX_COLUMNS = 256
_PARQUET_BATCH = 256
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        line: of the file, from 1, where the row begins; of a Parquet file, the row's number.
        values: by column; what is empty or null is left out. CSV gives text, the others what they hold.
        problem: why the row cannot be used; empty if it can.
    """

    line: int
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_rows(path: Path, *, required: Sequence[str] = ()) -> Iterator[Row]:
    """All rows of a table, by the file's suffix: .csv (with a header line), .jsonl, .ndjson or .parquet.

    Args:
        required: columns without which a CSV or Parquet file is the wrong one.

    Raises:
        SourceError: no such file, another suffix, a required column that is missing, or a table that is damaged as a
            whole.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SourceError("no kind of table that is read here", got=path.name, expected=", ".join(SUFFIXES))
    with disk_errors("cannot read the table", path):
        if not path.is_file():
            raise SourceError("no such table", got=path, expected="a file", fix="check the path")
        if suffix == ".parquet":
            yield from _parquet_rows(path, required)
            return
        # Bytes that are no UTF-8 survive as lone surrogates, and `_checked` finds them in their row.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield from _csv_rows(path, file, required) if suffix == ".csv" else _json_rows(file)


def _csv_rows(path: Path, file: TextIO, required: Sequence[str]) -> Iterator[Row]:
    cut: set[int] = set()

    def lines() -> Iterator[str]:
        for number, text in _lines(file):
            if text is None:
                cut.add(number)
            yield "\n" if text is None else text

    reader = csv.reader(lines(), strict=True)  # an open quote would swallow rows
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise SourceError(f"{path.name}: the header cannot be read", got=error) from None
    if not any(header) or len(header) > _MAX_COLUMNS or len(set(header)) < len(header) or 1 in cut:
        raise SourceError(
            f"{path.name}: not a table with a header",
            got=", ".join(repr(name[:40]) for name in header[:8]) or "nothing",
            expected=f"1..{_MAX_COLUMNS} names, all different",
        )
    _require(path, header, required)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(line, problem=f"not CSV up to line {reader.line_num}: {error}")
            continue
        if cut & set(range(line, reader.line_num + 1)):
            yield Row(line, problem=f"a line of more than {_MAX_LINE_CHARS} characters")
        elif cells and len(cells) != len(header):
            yield Row(line, problem=f"{len(cells)} cells where the header has {len(header)}")
        elif cells:
            yield _checked(line, {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""})


def _json_rows(file: TextIO) -> Iterator[Row]:
    for line, text in _lines(file):
        if text is None:
            yield Row(line, problem=f"a line of more than {_MAX_LINE_CHARS} characters")
            continue
        if not text.strip():
            continue
        try:
            values = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            yield Row(line, problem=f"not JSON: {error}")
            continue
        if not isinstance(values, dict) or len(values) > _MAX_COLUMNS:
            yield Row(line, problem=f"not a JSON object of at most {_MAX_COLUMNS} fields")
            continue
        yield _checked(line, {name: value for name, value in values.items() if value is not None})


def _parquet_rows(path: Path, required: Sequence[str]) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            if len(file.schema_arrow) > _MAX_COLUMNS:
                raise SourceError(f"{path.name}: too many columns", expected=f"at most {_MAX_COLUMNS}")
            _require(path, file.schema_arrow.names, required)
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield _checked(number, {k: v for k, v in values.items() if v is not None and v != ""})
    except (pa.ArrowException, OSError, ValueError) as error:
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise SourceError(f"{path.name}: not a Parquet file, damaged, or cut short", got=said) from None


def _require(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    missing = sorted(set(required) - set(columns))
    if missing:
        got = ", ".join(name[:40] for name in columns[:12])
        raise SourceError(
            f"{path.name}: another table than expected", got=got, expected=f"columns {', '.join(missing)}"
        )


def _lines(file: TextIO) -> Iterator[tuple[int, str | None]]:
    """Lines with their numbers; None for one that is too long, of which no more than a part is ever held."""
    number = 0
    while text := file.readline(_MAX_LINE_CHARS):
        number += 1
        whole = len(text) < _MAX_LINE_CHARS or text.endswith("\n")
        yield number, text if whole else None
        while not whole and (rest := file.readline(_MAX_LINE_CHARS)):
            whole = rest.endswith("\n")


def _checked(line: int, values: dict[str, Any]) -> Row:
    for name, value in values.items():
        text = name + value if isinstance(value, str) else name
        if "\0" in text:
            return Row(line, problem=f"{name[:40]!r}: a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError:
            return Row(line, problem=f"{name[:40]!r}: not UTF-8")
    return Row(line, values)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
