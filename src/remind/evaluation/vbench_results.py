"""VBench's result files, one or more dimensions each, as one value per video and dimension.

Source: its format: {dimension: [mean, [{"video_path": ..., "video_results": ...}, ...]]}; camera_motion has the means
by motion in between. imaging_quality is 0..100 per video and 0..1 in the mean.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from remind.errors import InputError
from remind.evaluation.eval_run import read_json
from remind.evaluation.vbench_tasks import DIMENSIONS

_PERCENT = ("imaging_quality",)
_TOLERANCE = 1e-4  # of the mean that a file states; its values were rounded by float32


@dataclass(frozen=True)
class Results:
    """What the files say.

    Args:
        stated: mean of each dimension, as a file has it, 0..1.
        videos: value of each video by dimension and file name, 0..1.
        disagree: dimensions whose stated mean is not that of their videos; theirs is taken.
        sha256: of all that was read.
    """

    stated: Mapping[str, float]
    videos: Mapping[str, Mapping[str, float]]
    disagree: tuple[str, ...]
    sha256: str


def read_results(place: Path) -> Results:
    """A result file, or all *_eval_results.json below a folder.

    Raises:
        InputError: none there, a damaged one, or two about one dimension.
    """
    files = [place] if place.is_file() else sorted(place.rglob("*_eval_results.json"))
    if not files:
        raise InputError("no results of VBench are there", got=place, expected="*_eval_results.json")
    stated: dict[str, float] = {}
    videos: dict[str, dict[str, float]] = {}
    source: dict[str, Path] = {}
    digest = hashlib.sha256()
    for file in files:
        data = read_json(file)
        digest.update(json.dumps(data, sort_keys=True).encode())
        for name in sorted(set(data) & set(DIMENSIONS)):
            if name in source:
                raise InputError("two results of one dimension", got=f"{name}: {source[name]} and {file}",
                                 fix="remove the older one")  # fmt: skip
            source[name] = file
            stated[name], videos[name] = _dimension(file, name, data[name])
    if not stated:
        raise InputError("the results are of none of the dimensions that count", got=files[0], expected=DIMENSIONS)
    disagree = [name for name, values in videos.items()
                if values and abs(sum(values.values()) / len(values) - stated[name]) > _TOLERANCE]  # fmt: skip
    return Results(stated, videos, tuple(disagree), digest.hexdigest())


def _dimension(file: Path, name: str, value: object) -> tuple[float, dict[str, float]]:
    parts = value if isinstance(value, list) else []
    lines = parts[-1] if len(parts) in (2, 3) else None
    mean = _number(parts[0]) if parts else None
    if mean is None or not isinstance(lines, list):
        raise InputError("the result is damaged", got=f"{file}: {name}", expected="[mean, [videos]]")
    found: dict[str, float] = {}
    for line in lines:
        path = line.get("video_path") if isinstance(line, dict) else None
        score = _number(line.get("video_results")) if isinstance(line, dict) else None
        if not isinstance(path, str) or score is None:
            raise InputError("the result is damaged", got=f"{file}: {name}: {str(line)[:80]}",
                             expected="video_path and a finite video_results")  # fmt: skip
        video = PurePosixPath(path.replace("\\", "/")).name
        if video in found:
            raise InputError("a video stands twice in a result", got=f"{file}: {name}: {video}")
        found[video] = score / 100 if name in _PERCENT else score
    return mean, found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
