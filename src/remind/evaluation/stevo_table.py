"""Table 2 from records: counts and denominators, two kinds of intervals, and what is missing.

Source: ReMind Table 2 and STEVO-Bench's summary: every metric is the plain share of the tasks that have it, so
denominators differ, and Total is the sum of the five percentages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from remind.evaluation.eval_run import Record
from remind.evaluation.judge_calls import FAILED
from remind.evaluation.score_cells import Cell, Row, count_cell, row, share_cell, table
from remind.evaluation.statistics import NUM_RESAMPLES
from remind.evaluation.stevo_questions import METRICS, Metric
from remind.evaluation.stevo_tasks import DISTRACTORS

COLUMNS: dict[Metric, str] = {
    "state_progress": "State Progress", "plausibility": "Physical Plausibility", "coherence": "Coherence",
    "observation_control": "Observation Control", "action_control": "Action Control",
}  # fmt: skip
_NOTE = ("Percent of the tasks that have the metric; k/n are counts. Intervals are Wilson's; those of bootstrap_low "
         "and bootstrap_high resample tasks. Total is the sum of the five and its interval resamples tasks. Judge "
         "failures are votes that no verdict could be read from; a metric is left out for a task if they could change "
         "it.")  # fmt: skip


def summarise(name: str, records: Mapping[str, Record], *, extra: Sequence[str] = ()) -> dict[str, Any]:
    """All tables of a run.

    Args:
        name: of the model or folder, for the rows.
        records: all of the run; failed ones count as missing.
        extra: names of videos that no task expects.
    """
    scored = [record for record in records.values() if record.status == "scored"]
    asked = [record for record in scored if record.about.get("distractor") != "baseline"]
    rows = [_row(name, asked, [r for r in records.values() if r.about.get("distractor") != "baseline"])]
    baseline = [record for record in records.values() if record.about.get("distractor") == "baseline"]
    if baseline:
        rows.append(_row(f"{name}, baseline tasks", [r for r in baseline if r.status == "scored"], baseline))
    return {
        "tables": [
            table("STEVO-Bench (Table 2)", rows, _NOTE),
            table("By distractor", _by(records, "distractor", DISTRACTORS)),
            table("By level", _by(records, "level")),
            table("Under conditions", _conditions(asked), "Our own: the official metrics have no conditions, and count "
                  "an action that nobody asked for as done."),
        ],
        "missing": {record.id: record.reason for record in records.values() if record.status == "failed"},
        "extra_videos": list(extra),
        "judge": {
            "asked_votes": sum(int(r.scores.get("asked_votes") or 0) for r in records.values()),
            "failed_votes": sum(int(r.scores.get(FAILED) or 0) for r in records.values()),
            "undecided": {metric: [r.id for r in scored if r.scores.get(metric) is None] for metric in METRICS},
            "contradictory_coherence_replies": sum(int(r.about.get("contradictions") or 0) for r in scored),
        },
    }  # fmt: skip


def _row(name: str, scored: Sequence[Record], every: Sequence[Record]) -> Row:
    cells: dict[str, Cell] = {column: share_cell(_values(scored, metric)) for metric, column in COLUMNS.items()}
    cells["Total"] = total_cell(scored)
    cells["Judge failures"] = count_cell(sum(int(r.scores.get(FAILED) or 0) for r in every),
                                         sum(int(r.scores.get("asked_votes") or 0) for r in every))  # fmt: skip
    cells["Missing tasks"] = count_cell(len(every) - len(scored), len(every))
    return row(name, cells)


def _values(records: Sequence[Record], metric: Metric) -> list[bool | None]:
    return [record.scores.get(metric) for record in records]


def total_cell(records: Sequence[Record]) -> Cell:
    """The sum of the five percentages; tasks are resampled whole, since a task's metrics go together.

    Our choice: where no resample differs, the sums of the ends of Wilson's intervals: equal tasks are no certainty.
    """
    values = np.array([[np.nan if (value := record.scores.get(metric)) is None else float(value) for metric in METRICS]
                       for record in records]).reshape(-1, len(METRICS))  # fmt: skip
    count = len(values)
    if not count or np.isnan(values).all(0).any():
        return {"value": None, "low": None, "high": None, "n": count}
    value = 100 * float(np.nanmean(values, 0).sum())
    if count == 1:
        return {"value": value, "low": None, "high": None, "n": 1}
    drawn = values[np.random.default_rng(0).integers(0, count, (NUM_RESAMPLES, count))]
    there = ~np.isnan(drawn)
    with np.errstate(invalid="ignore"):
        totals = 100 * (np.where(there, drawn, 0).sum(1) / there.sum(1)).sum(1)
    low, high = np.nanpercentile(totals, (2.5, 97.5))
    if low == high:
        ends = [share_cell(_values(records, metric)) for metric in METRICS]
        low, high = (sum(cell[end] for cell in ends) for end in ("low", "high"))
    return {"value": value, "low": float(low), "high": float(high), "n": count}


def _by(records: Mapping[str, Record], key: str, order: Sequence[str] = ()) -> list[Row]:
    groups: dict[str, list[Record]] = {}
    for record in records.values():
        groups.setdefault(str(record.about.get(key)), []).append(record)
    names = [name for name in order if name in groups] + sorted(set(groups) - set(order))
    return [_row(name, [r for r in groups[name] if r.status == "scored"], groups[name]) for name in names]


def _conditions(scored: Sequence[Record]) -> list[Row]:
    hidden = [record for record in scored if record.scores.get("observation_control") is True]
    triggered = [record for record in scored if record.scores.get("triggered")]
    return [
        row("State Progress where the view was really lost", {"share": share_cell(_values(hidden, "state_progress"))}),
        row("Coherence where the view was really lost", {"share": share_cell(_values(hidden, "coherence"))}),
        row("Action Control where an action was asked for",
            {"share": share_cell(_values(triggered, "action_control"))}),
    ]  # fmt: skip
