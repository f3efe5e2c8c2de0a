"""OpenVid-1M: a CSV of captions and scores, and zips of videos that stay packed.

Source: Nan et al., 2025 (OpenVid-1M) for the columns. Any part of the parts is enough: rows whose video is not here
are counted by the completeness report and not listed.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from remind.curation.item import SourceItem, ZipMedia
from remind.curation.refused import refuse
from remind.curation.sources.openvid_parts import PartMap, duplicates, read_part_map
from remind.curation.sources.tables import Row, read_rows
from remind.errors import InputError, SourceError

HOME = "https://huggingface.co/datasets/nkp37/OpenVid-1M"
# Column of the CSV -> fact of the item.
_SCORES = {
    "aesthetic score": "aesthetic_score",
    "motion score": "motion_score",
    "temporal consistency score": "temporal_consistency_score",
    "frame": "num_frames",
    "fps": "fps",
    "seconds": "seconds",
}
_MAX_CAPTION, _MAX_NAME = 10_000, 400
_MISSED = "missed:"
_NUM_EXAMPLES = 20


@dataclass(frozen=True)
class OpenVidOptions:
    """Which rows to list; None is no bound. A row without a score that is asked for is not listed.

    Args:
        min_aesthetic: LAION aesthetic score, about 4 to 7 in this set.
        min_motion: and `max_motion`, of the optical flow.
        min_temporal_consistency: 0..1.
        min_seconds: and `max_seconds`, of the clip.
        min_fps: of the clip.
        camera_motions: as the column says it, e.g. "static"; empty takes all.
    """

    min_aesthetic: float | None = None
    min_motion: float | None = None
    max_motion: float | None = None
    min_temporal_consistency: float | None = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    min_fps: float | None = None
    camera_motions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, bound in asdict(self).items():
            if isinstance(bound, int | float) and not math.isfinite(bound):
                raise InputError(f"{name} must be a number", got=bound, expected="a finite number or None")

    def why_not(self, facts: Mapping[str, str | float]) -> str:
        """The first bound that a row misses; empty if it meets all."""
        bounds = (
            ("aesthetic_score", self.min_aesthetic, None),
            ("motion_score", self.min_motion, self.max_motion),
            ("temporal_consistency_score", self.min_temporal_consistency, None),
            ("seconds", self.min_seconds, self.max_seconds),
            ("fps", self.min_fps, None),
        )
        for name, least, most in bounds:
            value = facts.get(name, math.nan)
            if (least is not None and not value >= least) or (most is not None and not value <= most):  # type: ignore[operator]
                return name
        if self.camera_motions and facts.get("camera_motion") not in self.camera_motions:
            return "camera_motion"
        return ""


@dataclass(frozen=True)
class Finding:
    """How often something was met, and the first few names."""

    count: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completeness:
    """How the CSV and the parts fit.

    Args:
        rows: of the CSV, damaged ones included.
        videos: in the readable parts, each counted once.
        listed: rows that `items` gives, refused ones left out.
        filtered: rows with a video that the options leave out, by the bound they miss first.
        damaged_rows: with line number and reason.
        rows_without_video, duplicate_rows, videos_without_row, duplicate_videos: by name.
        unreadable_parts: with the reason.
    """

    rows: int
    videos: int
    listed: int
    filtered: dict[str, int] = field(default_factory=dict)
    damaged_rows: Finding = Finding()
    rows_without_video: Finding = Finding()
    duplicate_rows: Finding = Finding()
    videos_without_row: Finding = Finding()
    duplicate_videos: Finding = Finding()
    unreadable_parts: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


class OpenVidSource:
    """Rows of the CSV whose video is in a part that is here, in order of the CSV.

    Args:
        csv: `OpenVid-1M.csv` or `OpenVidHD.csv`.
        parts: folder of the zips; those published in pieces (`..._partaa`) need not be joined.
        options: which rows to take.
        cache: folder for the map of the parts; None: beside them.

    Raises:
        SourceError: from `items` and `completeness`: a CSV or folder that is missing or damaged as a whole.
    """

    name = "openvid"

    def __init__(self, csv: Path, parts: Path, options: OpenVidOptions | None = None, *, cache: Path | None = None):
        self._csv, self._folder, self._cache = csv, parts, cache
        self._options = options or OpenVidOptions()

    def items(self) -> Iterator[SourceItem]:
        """Rows that pass the options; a damaged or second row is listed as `<csv>:<line>` and fails when fetched."""
        for verdict in self._verdicts(read_part_map(self._folder, self._cache)):
            if verdict.item is not None:
                yield verdict.item

    def completeness(self) -> Completeness:
        """Read the CSV and the directories of the parts, and compare them."""
        parts = read_part_map(self._folder, self._cache)
        has_row = np.zeros(len(parts), dtype=bool)
        counts: Counter[str] = Counter()
        examples: dict[str, list[str]] = defaultdict(list)
        for verdict in self._verdicts(parts):
            counts[verdict.kind] += 1
            if len(examples[verdict.kind]) < _NUM_EXAMPLES:
                examples[verdict.kind].append(verdict.name)
            if verdict.index is not None:
                has_row[verdict.index] = True
        twice = duplicates(parts)
        first_of_each = parts.first_rows()
        unnamed = first_of_each[~has_row[first_of_each]]
        found = {kind: Finding(counts[kind], tuple(examples[kind])) for kind in ("damaged", "absent", "duplicate")}
        return Completeness(
            rows=counts.total(),
            videos=len(first_of_each),
            listed=counts["listed"],
            filtered={kind.removeprefix(_MISSED): n for kind, n in sorted(counts.items()) if kind.startswith(_MISSED)},
            damaged_rows=found["damaged"],
            rows_without_video=found["absent"],
            duplicate_rows=found["duplicate"],
            videos_without_row=Finding(len(unnamed), tuple(parts.row(i)[0] for i in unnamed[:_NUM_EXAMPLES].tolist())),
            duplicate_videos=Finding(len(twice), tuple(twice[:_NUM_EXAMPLES])),
            unreadable_parts=parts.unreadable,
        )

    def _verdicts(self, parts: PartMap) -> Iterator[_Verdict]:
        """What becomes of each row of the CSV."""
        line_of: dict[int, int] = {}
        for row in read_rows(self._csv, required=("video",)):
            place = f"{self._csv.name}:{row.line}"
            try:
                video, caption, facts = _parse(row)
            except SourceError as error:
                yield _Verdict("damaged", f"{place}: {error}", None, refuse(place, self.name, f"{place}: {error}"))
                continue
            index = parts.find(video)
            if index is None:
                yield _Verdict("absent", video)
            elif index in line_of:
                reason = f"{place}: the video {video!r} has a row already, line {line_of[index]}"
                yield _Verdict("duplicate", video, index, refuse(place, self.name, reason))
            else:
                line_of[index] = row.line
                if missed := self._options.why_not(facts):
                    yield _Verdict(_MISSED + missed, video, index)
                else:
                    _, part, member = parts.row(index)
                    media = ZipMedia(str(self._folder / part), member)
                    item = SourceItem(video, self.name, media, caption=caption, url=HOME, facts=facts)
                    yield _Verdict("listed", video, index, item)


@dataclass(frozen=True)
class _Verdict:
    """What becomes of a row: listed, damaged, duplicate, absent or missed:<bound>."""

    kind: str
    name: str
    index: int | None = None
    item: SourceItem | None = None


def _parse(row: Row) -> tuple[str, str, dict[str, str | float]]:
    """Video, caption and facts of a row."""
    if row.problem:
        raise SourceError(row.problem)
    video, caption = row.values.get("video", ""), row.values.get("caption", "")
    if not video or len(video) > _MAX_NAME or "/" in video:
        raise SourceError("no file name in the column `video`", got=repr(video[:80]))
    if len(caption) > _MAX_CAPTION:
        raise SourceError(
            "the caption is too long", got=f"{len(caption)} characters", expected=f"at most {_MAX_CAPTION}"
        )
    facts: dict[str, str | float] = {}
    for column, name in _SCORES.items():
        if text := row.values.get(column, ""):
            try:
                facts[name] = float(text)
            except ValueError:
                raise SourceError(f"column {column!r} is no number", got=repr(text[:80])) from None
            if not math.isfinite(float(text)):
                raise SourceError(f"column {column!r} is not finite", got=text[:80])
    if motion := row.values.get("camera motion", "")[:_MAX_NAME]:
        facts["camera_motion"] = motion
    return video, caption, facts
