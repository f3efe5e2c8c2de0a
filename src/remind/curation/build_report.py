"""What a build kept, dropped and could not do: the same for the same videos and options, whatever ran it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from remind.errors import StoreError

REPORT_NAME = "report.json"
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Dropped:
    """What did not become a clip by policy: a file, a shot or a window, the stage that decided, and why."""

    item: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Quarantined:
    """What could not be done: the stage that failed and its error. `remind data retry` tries again."""

    item: str
    stage: str
    reason: str


@dataclass(frozen=True)
class BuildReport:
    """Args:
    kept: clips in the store.
    dropped, failed: in order of the items.
    options: as `BuildOptions.describe`.
    sources: sha256 of every item's content, in order; empty where it could not be read.
    tool_versions: of what decides the content.
    source: how the items were listed, so that `retry` can list them again.
    unmatched: lines of a takedown list that matched nothing; said to whoever builds, and written nowhere.
    """

    kept: int
    dropped: tuple[Dropped, ...] = ()
    failed: tuple[Quarantined, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    tool_versions: dict[str, str] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps({k: v for k, v in asdict(self).items() if k != "unmatched"}, indent=1) + "\n"

    def reasons(self) -> str:
        """The stages that dropped something, most first: `cut 3, motion 2`."""
        return _counts([d.stage for d in self.dropped])

    def failures(self) -> str:
        """The stages that failed, most first: `scan 3, annotate 2`."""
        return _counts([f.stage for f in self.failed])


def _counts(stages: list[str]) -> str:
    return ", ".join(f"{stage} {n}" for stage, n in Counter(stages).most_common())


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    item: str
    stage: str
    reason: str


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    kept: int
    dropped: list[_Entry]
    failed: list[_Entry]
    options: dict[str, Any]
    sources: dict[str, str]
    tool_versions: dict[str, str]
    source: dict[str, Any]


def read_report(store: Path) -> BuildReport | None:
    """The report of a store; None if there is none.

    Raises:
        StoreError: a report that is not ours.
    """
    path = store / REPORT_NAME
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        raw = _Report.model_validate_json(path.read_bytes())
    except (OSError, ValueError, ValidationError) as error:
        raise StoreError("the store's report is damaged", got=f"{path}: {str(error).splitlines()[0]}",
                         fix="choose another folder, or delete this one") from None
    dropped = tuple(Dropped(d.item, d.stage, d.reason) for d in raw.dropped)
    failed = tuple(Quarantined(f.item, f.stage, f.reason) for f in raw.failed)
    return BuildReport(raw.kept, dropped, failed, raw.options, raw.sources, raw.tool_versions, raw.source)
