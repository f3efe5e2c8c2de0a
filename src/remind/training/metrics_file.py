"""RUN/metrics.jsonl: one record a step, never one of a step that a resumed run does again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from remind.errors import InputError
from remind.whole_file import whole_file


class MetricsFile:
    """Open for appending; lines are on their way to the disk as soon as they are written.

    Args:
        path: the file.
        step: of the checkpoint that the run goes on from; later records belong to steps that are done again, and a line
            that was being written when the run was killed to none.
    """

    def __init__(self, path: Path, step: int):
        self.path = path
        try:
            _cut(path, step)
            self.file: IO[str] = path.open("a", buffering=1)
        except OSError as error:
            raise self._full(error) from None

    def write(self, record: dict[str, Any]) -> None:
        """Append a record.

        Raises:
            InputError: a full disk.
        """
        try:
            self.file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise self._full(error) from None

    def close(self) -> None:
        """What could not be written has been said when it was written."""
        with suppress(OSError):
            self.file.close()

    def _full(self, error: OSError) -> InputError:
        return InputError("the record of the run cannot be written", got=f"{self.path}: {error.strerror}",
                          fix="make room on the disk, then --resume")  # fmt: skip


def _cut(path: Path, step: int) -> None:
    if not path.is_file():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept: list[str] = []
    for line in lines:
        if not line.endswith("\n") or _step_of(line) > step:
            break
        kept.append(line)
    if len(kept) < len(lines):
        with whole_file(path) as file:
            file.write_text("".join(kept))


def _step_of(line: str) -> float:
    """A line that is no record, as a power cut can leave, belongs to no step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
