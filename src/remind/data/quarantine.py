"""The list of clips that cannot be read: a JSON file that people may edit and several processes may extend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from remind.errors import InputError
from remind.whole_file import whole_file

QUARANTINE_NAME = "quarantine.json"  # beside a store's index


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    quarantined: dict[str, str]


class Quarantine:
    """`{"quarantined": {clip_id: reason}}` in a file; no file is an empty quarantine.

    Args:
        path: its folder must exist.
    """

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, str]:
        """Reasons by clip id.

        Raises:
            InputError: a file that is no quarantine.
        """
        try:
            return _File.model_validate_json(self.path.read_bytes()).quarantined
        except FileNotFoundError:
            return {}
        except (ValidationError, OSError) as error:
            raise InputError("not a quarantine file", got=f"{self.path}: {str(error).splitlines()[0]}",
                             expected='{"quarantined": {"<clip id>": "<reason>"}}',
                             fix="mend or delete it") from None  # fmt: skip

    def add(self, clip_id: str, reason: str) -> None:
        """Record a clip; the reason that was there first stays.

        Raises:
            InputError: a file that is no quarantine, or cannot be written.
        """
        try:
            with exclusive(self.path.with_name(f".{self.path.name}.lock")):
                items = self.read()
                if clip_id in items:
                    return
                items[clip_id] = reason
                with whole_file(self.path) as file:
                    file.write_text(json.dumps({"quarantined": dict(sorted(items.items()))}, indent=1) + "\n")
        except OSError as error:
            raise InputError("the quarantine cannot be written", got=f"{self.path}: {error.strerror}",
                             fix="choose a file in a folder that you can write to") from None  # fmt: skip


@contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process ends, however it ends.

    Where the system knows no such locks (Windows) nothing is held: files still appear whole, work may be done twice.

    Raises:
        BlockingIOError: another process holds it, without `wait`.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
