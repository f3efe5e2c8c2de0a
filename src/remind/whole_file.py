"""A file that appears whole or not at all: one rule for all that the project writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(target: Path, *, synced: bool = True) -> Iterator[Path]:
    """A name to write to that becomes `target` when all went well, and nothing otherwise.

    Two processes may write one target. The folder is made if missing.

    Args:
        synced: it is safe on the disk before it has its name. False only where a reader checks the content anyway and
            there are many small files: waiting for the disk would cost more than writing.

    Raises:
        OSError: a place that cannot be written, or a full disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        if synced:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
