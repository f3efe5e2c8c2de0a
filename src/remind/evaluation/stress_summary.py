"""Curves and tables of a stress run: means with intervals over clips, and memories compared on the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remind.evaluation.eval_run import Record
from remind.evaluation.statistics import Estimate, bootstrap, paired_difference
from remind.evaluation.stress_curves import Curve, CurvePoint, draw_curves
from remind.evaluation.stress_points import X_LABELS, StressPlan, StressPoint

CHANCE = "guess (middle of the range)"
Examples = Mapping[str, tuple[StressPoint, int, str]]
Series = dict[tuple[StressPoint, str], list[float | None]]

NOTE = ("mean state progress with 95 % bootstrap intervals over clips: 0 = a world that stood still or is not shown, "
        "1 = the truth; what failed is left out and counted apart")  # fmt: skip


def summarise(
    folder: Path, plan: StressPlan, points: Sequence[StressPoint], examples: Examples, records: Mapping[str, Record], *,
    trained_latent_frames: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Draw a figure per study into `folder/figures`, and return tables and curves as plain values.

    Args:
        folder: of the run.
        points: in order.
        examples, records: of all of them.
        trained_latent_frames: the farthest that attention reached in training; None = unknown.
    """
    tables: list[dict[str, Any]] = []
    figures: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    progress, shown, within, chance = (_series(plan, examples, records, key)
                                       for key in ("progress", "shown_share", "within_15", "chance"))  # fmt: skip
    for study, mode in dict.fromkeys((p.study, p.mode) for p in points):
        here = [p for p in points if (p.study, p.mode) == (study, mode)]
        title = f"{study}, {mode.upper()}: {X_LABELS[study]}"
        drawn = [_curve(memory, here, progress) for memory in plan.memories]
        guess = _guess(here, plan, chance)
        file = f"figures/{study}-{mode}.png"
        beyond = [p.x for p in here if _reach(p, examples, records) > (trained_latent_frames or 10**9)]
        draw_curves(folder / file, [*drawn, guess], x_label=X_LABELS[study], beyond=min(beyond, default=None))
        figures.append({"title": title, "file": file})
        curves += [{"study": study, "mode": mode, **curve.to_json()} for curve in (*drawn, guess)]
        tables.append({"title": f"State progress by {title}", "rows": [_row(curve, here) for curve in (*drawn, guess)],
                       "note": NOTE})  # fmt: skip
        for name, series, statistic in (("Share of clips within 15 %", within, "share"),
                                        ("Frames that show a state", shown, "mean")):  # fmt: skip
            rows = [_row(_curve(memory, here, series, statistic), here) for memory in plan.memories]
            tables.append({"title": f"{name} by {title}", "rows": rows, "note": "95 % intervals over clips"})
        first, *others = plan.memories
        if others:
            rows = [{"name": f"{other} - {first}", "cells": {
                p.label: _cell(paired_difference(progress[p, other], progress[p, first])) for p in here}}
                for other in others]  # fmt: skip
            tables.append({"title": f"Difference of state progress by {title}", "rows": rows,
                           "note": "paired on the same clips and noise"})  # fmt: skip
    return {"tables": tables, "curves": curves, "figures": figures,
            "trained_latent_frames": trained_latent_frames}  # fmt: skip


def _series(plan: StressPlan, examples: Examples, records: Mapping[str, Record], key: str) -> Series:
    """Per setting and memory a value a clip, in order; None where it failed."""
    found: Series = {}
    for name, (point, number, memory) in examples.items():
        values = found.setdefault((point, memory), [None] * plan.clips)
        record = records[name]
        value = record.scores.get(key) if record.status == "scored" else None
        values[number] = None if value is None else float(value)
    return found


def _curve(memory: str, points: Sequence[StressPoint], series: Series, statistic: Any = "mean") -> Curve:
    return Curve(memory, tuple(
        CurvePoint(p.x, bootstrap([v for v in series[p, memory] if v is not None], statistic)) for p in points
    ))  # fmt: skip


def _guess(points: Sequence[StressPoint], plan: StressPlan, chance: Series) -> Curve:
    """Over all clips of a setting; one value a clip, whichever memory was scored on it."""
    found = []
    for point in points:
        per_clip = zip(*(chance[point, memory] for memory in plan.memories), strict=True)
        known = [next(v for v in values if v is not None) for values in per_clip if any(v is not None for v in values)]
        found.append(CurvePoint(point.x, bootstrap(known)))
    return Curve(CHANCE, tuple(found), reference=True)


def _reach(point: StressPoint, examples: Examples, records: Mapping[str, Record]) -> int:
    """The farthest that attention reached back in a setting, latent frames."""
    return max((int(records[name].about.get("reach_latent_frames", 0)) for name, (p, *_) in examples.items()
                if p == point), default=0)  # fmt: skip


def _row(curve: Curve, points: Sequence[StressPoint]) -> dict[str, Any]:
    cells = {p.label: _cell(c.estimate) for p, c in zip(points, curve.points, strict=True)}
    return {"name": curve.name, "cells": cells}


def _cell(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
