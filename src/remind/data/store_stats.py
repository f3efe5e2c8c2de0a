"""What is in a store and what was left out: counts as in ReMind Table 7, and along every other line of the index."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError
from rich import box
from rich.columns import Columns
from rich.console import Group as Rows
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from remind.data.clip_records import printable
from remind.data.clip_store import ClipStore
from remind.errors import StoreError
from remind.world.families import Group

REPORT_NAME = "report.json"
GROUP_NAMES: dict[Group, str] = {
    "translational": "Translational", "monotonic_state": "Monotonic state", "deformation": "Deformation",
    "lighting_weather": "Lighting/weather", "interaction": "Interaction", "periodic": "Periodic",
    "discrete": "Discrete",
}  # fmt: skip
"""In the order of Table 7."""

UNKNOWN = "(unknown)"
_BAR = 18  # characters of the longest bar in the terminal
_SHOWN = 15

Counts = Mapping[str, int]


@dataclass(frozen=True)
class StoreStats:
    """Counts of a store's clips; along groups, types, kinds and flags a clip may count several times.

    Args:
        store: folder.
        clips: all of them.
        num_frames: pixel frames of all clips.
        seconds: length of all clips.
        num_bytes: by file, e.g. `rgb.mp4`.
        groups: by tag group of Table 7, all seven.
        without_group: clips in none.
        event_types: by event type of the taxonomy.
        sources, kinds, licences, judged_by: by source, kind of interruption, licence, and who looked.
        durations: by length, e.g. `5.06 s`.
        sizes: by size and rate, e.g. `832x480 at 16 fps`.
        safety_flags: by flag raised; `without_safety` counts the clips of which nobody asked.
        with_cameras, with_depth: clips that have them.
        dropped: by stage, then by reason; None: no report says what was dropped.
    """

    store: str
    clips: int
    num_frames: int
    seconds: float
    num_bytes: Counts
    groups: Counts
    without_group: int
    event_types: Counts
    sources: Counts
    kinds: Counts
    licences: Counts
    judged_by: Counts
    durations: Counts
    sizes: Counts
    safety_flags: Counts
    without_safety: int
    with_cameras: int
    with_depth: int
    dropped: Mapping[str, Counts] | None

    @property
    def named_groups(self) -> dict[str, int]:
        """Clips by name of tag group, and those in none."""
        return {GROUP_NAMES[group]: self.groups[group] for group in GROUP_NAMES} | {"(none)": self.without_group}

    @property
    def reasons(self) -> dict[str, int]:
        """What was dropped, by `stage: reason`."""
        return {
            f"{stage}: {reason}": n for stage, counts in (self.dropped or {}).items() for reason, n in counts.items()
        }

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def __rich__(self) -> RenderableType:
        size = sum(self.num_bytes.values()) / 2**20
        head = Text.assemble(
            (f"{self.store}: {self.clips} clips", "bold"),
            f", {self.seconds / 60:.1f} min, {size:.1f} MiB, {self.with_cameras} with cameras, "
            f"{self.with_depth} with depth",
        )
        safety = {**self.safety_flags, "(nobody asked)": self.without_safety}
        tables = [
            _table("tag group", self.named_groups), _table("event type", self.event_types),
            _table("interruption", self.kinds), _table("source", self.sources), _table("licence", self.licences),
            _table("judged by", self.judged_by), _table("safety flag", safety), _table("length", self.durations),
            _table("size", self.sizes),
        ]  # fmt: skip
        notes = "Groups, event types, interruptions and flags are not mutually exclusive."
        if self.dropped is None:
            return Rows(head, Columns(tables), Text(notes + f" No {REPORT_NAME}: what was dropped is unknown."))
        return Rows(head, Columns(tables), _table("dropped, by stage and reason", self.reasons), Text(notes))


class _Dropped(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")
    item: str
    stage: str
    reason: str


class _Report(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")  # the builder's report says more than is needed here
    dropped: list[_Dropped]


def collect_stats(root: Path, *, dropped: Iterable[tuple[str, str, str]] | None = None) -> StoreStats:
    """Count the clips of a store by its index alone.

    Args:
        dropped: item, stage and reason of everything that did not become a clip; None: as `report.json` says.

    Raises:
        StoreError: no store, or a damaged index or report.
    """
    store = ClipStore.open(root)
    table = store.index
    dropped = _read_report(root) if dropped is None else dropped

    def count(column: str) -> dict[str, int]:
        values = table[column]
        values = pc.list_flatten(values) if str(values.type).startswith("list") else values
        return _ranked({v["values"] or UNKNOWN: v["counts"] for v in pc.value_counts(values).to_pylist()})

    lengths, shapes = Counter[str](), Counter[str]()
    frames, seconds = 0, 0.0
    for row in table.select(["num_frames", "height", "width", "fps"]).to_pylist():
        frames += row["num_frames"]
        seconds += row["num_frames"] / row["fps"]
        lengths[f"{row['num_frames'] / row['fps']:.2f} s"] += 1
        shapes[f"{row['width']}x{row['height']} at {row['fps']:g} fps"] += 1
    sizes = Counter[str]()
    for member in pc.list_flatten(table["members"]).to_pylist():
        sizes[member["name"]] += member["size"]
    groups = count("groups")
    return StoreStats(
        store=str(root),
        clips=len(store),
        num_frames=frames,
        seconds=seconds,
        num_bytes=_ranked(sizes),
        groups={group: groups.get(group, 0) for group in get_args(Group)},
        without_group=pc.sum(pc.equal(pc.list_value_length(table["groups"]), 0)).as_py() or 0,
        event_types=count("event_types"),
        sources=count("source"),
        kinds=count("kinds"),
        licences=count("licence"),
        judged_by=count("judged_by"),
        durations=_ranked(lengths),
        sizes=_ranked(shapes),
        safety_flags=count("safety_flags"),
        without_safety=table["safety_flags"].null_count,
        with_cameras=pc.sum(table["has_cameras"]).as_py() or 0,
        with_depth=pc.sum(table["has_depth"]).as_py() or 0,
        dropped=None if dropped is None else _by_stage(dropped),
    )


def reason_kind(item: str, reason: str) -> str:
    """A reason without its particulars, so that equal ones count as one: no file name, no number, no detail.

    Args:
        item: what was dropped, `folder/name.mp4` or a part of it, `folder/name.mp4#1.50s`.
        reason: e.g. `too short: 80 pictures in 5.00 s, ...` -> `too short`.
    """
    name = item.rsplit("#", 1)[0].rsplit("/", 1)[-1]
    reason = reason.removeprefix(f"{name}: ").replace("video in memory: ", "")
    head = re.split(r"[:;(]|\d", reason, maxsplit=1)[0]
    head = re.sub(r"^same content as .*", "same content as another", head)
    return re.sub(r"(\s(at|of|than|in|by|is|a|the))+\s*$", "", head).strip(" ,.") or "other"


def _ranked(counts: Counts) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _by_stage(dropped: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, int]]:
    stages: dict[str, Counter[str]] = {}
    for item, stage, reason in dropped:
        stages.setdefault(stage, Counter())[reason_kind(item, reason)] += 1
    return {stage: _ranked(stages[stage]) for stage in sorted(stages, key=lambda s: (-stages[s].total(), s))}


def _read_report(root: Path) -> list[tuple[str, str, str]] | None:
    path = root / REPORT_NAME
    if not path.is_file():
        return None
    try:
        report = _Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError("the store's report is damaged", got=f"{path}: {str(error).splitlines()[0]}",
                         fix=f"remove {REPORT_NAME} or build the store again") from None
    return [(d.item, d.stage, d.reason) for d in report.dropped]


def _table(name: str, counts: Counts) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(name, overflow="fold", max_width=48)
    table.add_column("n", justify="right")
    table.add_column("")
    longest = max(counts.values(), default=0)
    for value, n in list(counts.items())[:_SHOWN]:
        table.add_row(Text(printable(value)), str(n), Text("█" * round(_BAR * n / max(longest, 1)), style="blue"))
    rest = list(counts.values())[_SHOWN:]
    if rest:
        table.add_row(Text(f"{len(rest)} more", style="dim"), str(sum(rest)), "")
    return table
