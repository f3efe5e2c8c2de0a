"""The maps of a KV run as SVG for a page: one figure a map, hatched where a chunk of the past could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remind.errors import InputError
from remind.evaluation.kv_importance import KVImportance
from remind.evaluation.kv_summary import MAP_WORDS
from remind.evaluation.report_charts import heatmap


def heatmaps_html(summary: Mapping[str, Any]) -> list[str]:
    """Figures of the maps in the summary of a KV run, in its order, finished HTML.

    Args:
        summary: the `summary` of its `scores.json`.

    Raises:
        InputError: no summary of a KV run.
    """
    figures = []
    try:
        for setting in summary["heatmaps"]:
            for which, data in setting["maps"].items():
                found = KVImportance.from_json(data)
                title = f"{setting['title']}, {MAP_WORDS.get(which, which)} ({found.num_clips} clips)"
                figures.append(heatmap(found, title, range(1, len(found.mass))))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError("these are no results of the KV suite", got=f"{type(error).__name__}: {error}") from None
    return figures
