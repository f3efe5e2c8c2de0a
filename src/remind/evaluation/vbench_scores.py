"""VBench I2V's scores: official normalisation, weights and sums, and the paper's three groups by a mapping of ours.

Source: Vchitect/VBench, the constants of its I2V leaderboard; ReMind Table 1. The official script counts a dimension
that was not measured as 0; here a sum that lacks one has no value, and says which it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.score_cells import Cell, row, table
from remind.evaluation.statistics import NUM_RESAMPLES
from remind.evaluation.vbench_results import Results
from remind.evaluation.vbench_tasks import DIMENSIONS, VBenchVideo

VERSION = "vbench-i2v-1"
RANGES: dict[str, tuple[float, float]] = {
    "i2v_subject": (0.1462, 1.0), "i2v_background": (0.2615, 1.0), "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0), "motion_smoothness": (0.706, 0.9975),
}  # fmt: skip
"""Of the dimensions that are rescaled; the others are 0..1 already."""
WEIGHTS = dict.fromkeys(DIMENSIONS, 1.0) | {"camera_motion": 0.1, "dynamic_degree": 0.5}
I2V = ("i2v_subject", "i2v_background", "camera_motion")
QUALITY = ("subject_consistency", "background_consistency", "motion_smoothness", "dynamic_degree", "aesthetic_quality",
           "imaging_quality")  # fmt: skip
GROUPS: dict[str, tuple[str, ...]] = {
    "Semantic Accuracy": I2V,
    "Motion & Temporal": ("subject_consistency", "background_consistency", "motion_smoothness", "dynamic_degree"),
    "Visual Quality": ("aesthetic_quality", "imaging_quality"),
}
"""Our choice: each dimension in one group, with the official weights; the paper does not say its mapping."""

Means = Float[np.ndarray, "*r d"]


def write_records(
    run: EvalRun, videos: Sequence[VBenchVideo], results: Results, *, folder: Path | None = None,
    problems: Mapping[str, str] | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """A record for each expected video; one without any value is missing.

    Args:
        folder: of the videos, if it is known.
        problems: why a video was not made, by id.

    Returns:
        Names of videos in the results that the list does not expect.
    """
    expected, known = {video.file for video in videos}, run.records()

    def write(record: Record) -> None:
        if known.get(record.id) != record:  # thousands of files, each safe on the disk, take half a minute
            run.write(record)

    for video in videos:
        scores = {name: results.videos.get(name, {}).get(video.file) for name in video.asked.dimensions}
        about = {"file": video.file, "prompt": video.asked.prompt, "sample": video.sample, "image": video.asked.image,
                 "video": None if folder is None else str(folder / video.file)}  # fmt: skip
        if all(value is None for value in scores.values()):
            why = (problems or {}).get(video.id, "")
            reason = "not generated" if why else "missing in the results"
            write(Record(video.id, "failed", {}, about | ({"why": why} if why else {}), reason))
        else:
            write(Record(video.id, "scored", scores, about))
    there = {name for values in results.videos.values() for name in values}
    return tuple(sorted(there - expected))


def summarise(
    name: str, records: Mapping[str, Record], videos: Sequence[VBenchVideo], results: Results, *,
    extra: Sequence[str] = (), failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """All tables.

    Args:
        name: of the model or folder.
        extra: videos in the results that the list does not expect.
        failed: dimensions that could not be measured, and why.
    """
    sums, counts = _by_image(records, videos)
    expected = {d: sum(d in video.asked.dimensions for video in videos) for d in DIMENSIONS}
    means, drawn = _means(sums, counts)
    alone = [d for i, d in enumerate(DIMENSIONS) if d in results.stated and not counts[:, i].any()]
    for name_alone in alone:  # a mean without its videos counts, but nobody knows how sure it is
        means[DIMENSIONS.index(name_alone)] = results.stated[name_alone]
    dimensions = [row(d, {
        "raw": _cell(means[i], drawn[:, i], int(counts[:, i].sum())),
        "normalised": _cell(100 * _normalised(means)[i], 100 * _normalised(drawn)[:, i], int(counts[:, i].sum())),
        "videos": {"value": float(counts[:, i].sum()), "low": None, "high": None, "n": expected[d],
                   "k": int(counts[:, i].sum())},
    }) for i, d in enumerate(DIMENSIONS)]  # fmt: skip
    measured = int((counts.sum(1) > 0).sum())

    def of(names: Sequence[str]) -> Cell:
        return _cell(_weighted(means, names), _weighted(drawn, names), measured)

    total = (_weighted(means, I2V) + _weighted(means, QUALITY)) / 2
    totals = (_weighted(drawn, I2V) + _weighted(drawn, QUALITY)) / 2
    cells = {"I2V": of(I2V), "Quality": of(QUALITY), "Total": _cell(total, totals, measured)}
    lacking = [d for i, d in enumerate(DIMENSIONS) if not np.isfinite(means[i])]
    note = "Percent. Intervals resample pictures, with all videos of each; n is pictures."
    if lacking:
        note += f" Not measured: {', '.join(lacking)}; sums that need them have no value."
    return {
        "tables": [
            table("VBench I2V, official sums", [row(name, cells)], note),
            table("VBench I2V in three groups (Table 1)", [row(name, {g: of(d) for g, d in GROUPS.items()})],
                  "The paper does not say which dimensions its groups hold, so this is not comparable with it: "
                  + "; ".join(f"{group} = {', '.join(held)}" for group, held in GROUPS.items()) + "."),
            table("VBench I2V by dimension", dimensions, "raw is 0..1, normalised is percent; n is videos."),
        ],
        "missing_videos": {d: expected[d] - int(counts[:, i].sum()) for i, d in enumerate(DIMENSIONS)},
        "not_measured": lacking,
        "means_without_videos": alone,
        "failed_dimensions": dict(failed or {}),
        "stated_means": dict(results.stated),
        "stated_means_disagree": list(results.disagree),
        "extra_videos": list(extra),
    }  # fmt: skip


def _by_image(
    records: Mapping[str, Record], videos: Sequence[VBenchVideo]
) -> tuple[Float[np.ndarray, "i d"], Float[np.ndarray, "i d"]]:
    """Sums and counts of the values of each picture's videos."""
    images = {image: i for i, image in enumerate(dict.fromkeys(video.asked.image for video in videos))}
    sums, counts = np.zeros((2, len(images), len(DIMENSIONS)))
    for video in videos:
        for name, value in records[video.id].scores.items():
            if value is not None:
                place = images[video.asked.image], DIMENSIONS.index(name)
                sums[place] += value
                counts[place] += 1
    return sums, counts


def _means(
    sums: Float[np.ndarray, "i d"], counts: Float[np.ndarray, "i d"]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "r d"]]:
    """Means over videos, and those of resampled pictures; NaN where there are none."""
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), NUM_RESAMPLES)
    with np.errstate(invalid="ignore"):
        return sums.sum(0) / counts.sum(0), (drawn @ sums) / (drawn @ counts)


def _normalised(means: Means) -> Means:
    low = np.array([RANGES.get(name, (0.0, 1.0))[0] for name in DIMENSIONS])
    high = np.array([RANGES.get(name, (0.0, 1.0))[1] for name in DIMENSIONS])
    return (means - low) / (high - low)


def _weighted(means: Means, names: Sequence[str]) -> Any:
    """Weighted mean of normalised dimensions, percent."""
    at, weights = [DIMENSIONS.index(name) for name in names], np.array([WEIGHTS[name] for name in names])
    return 100 * (_normalised(means)[..., at] * weights).sum(-1) / weights.sum()


def _cell(value: Any, drawn: Float[np.ndarray, " r"], n: int) -> Cell:
    kept = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None, "n": n}
    if n < 2 or not len(kept):
        return {"value": float(value), "low": None, "high": None, "n": n}
    low, high = np.percentile(kept, (2.5, 97.5))
    return {"value": float(value), "low": float(low), "high": float(high), "n": n}
