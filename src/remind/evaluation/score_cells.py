"""Cells of a table of results: a value, its interval, how many examples it rests on, and integer counts for shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from remind.evaluation.statistics import bootstrap, wilson

Cell = dict[str, Any]
Row = dict[str, Any]


def share_cell(values: Iterable[bool | None], *, percent: bool = True) -> Cell:
    """Yes over asked. `low` and `high` are Wilson's, `bootstrap_low` and `bootstrap_high` resample the examples.

    Args:
        values: one an example; None is left out.
        percent: times 100.
    """
    kept = [bool(value) for value in values if value is not None]
    scale = 100.0 if percent else 1.0
    if not kept:
        return {"value": None, "low": None, "high": None, "n": 0, "k": 0}
    low, high = wilson(sum(kept), len(kept))
    resampled = bootstrap(kept, "share")
    return {"value": scale * sum(kept) / len(kept), "low": scale * low, "high": scale * high, "n": len(kept),
            "k": sum(kept), "bootstrap_low": _scaled(resampled.low, scale),
            "bootstrap_high": _scaled(resampled.high, scale)}  # fmt: skip


def mean_cell(values: Iterable[float | None]) -> Cell:
    """A mean with its bootstrap interval over examples; None is left out."""
    found = bootstrap([value for value in values if value is not None])
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def count_cell(count: int, n: int) -> Cell:
    """A count of n, without an interval."""
    return {"value": float(count), "low": None, "high": None, "n": n, "k": count}


def table(title: str, rows: Sequence[Row], note: str = "") -> dict[str, Any]:
    """A table of a summary."""
    return {"title": title, "rows": list(rows), "note": note}


def row(name: str, cells: Mapping[str, Cell]) -> Row:
    """A row of a table."""
    return {"name": name, "cells": dict(cells)}


def most_frequent(words: Sequence[str]) -> str:
    """The word that comes most often, the first such one; "nothing" of none."""
    return Counter(words).most_common(1)[0][0] if words else "nothing"


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value
