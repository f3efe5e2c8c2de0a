"""Maps and tables of a KV run: where recoveries look, beyond the sink, and what happens when it is taken away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from remind.evaluation.eval_run import Record
from remind.evaluation.kv_groups import GROUPS
from remind.evaluation.kv_heatmap import save_heatmaps
from remind.evaluation.kv_importance import KVImportance, average
from remind.evaluation.kv_settings import KVSetting
from remind.evaluation.statistics import Estimate, bootstrap, paired_difference

GROUP_WORDS = {"first": "first chunk (anchor and sink)", "other_anchors": "other anchors",
               "previous": "the chunk just before", "rest": "the rest of the past"}  # fmt: skip
MAP_WORDS = {"interrupted": "interrupted", "uninterrupted": "same scene, nothing to recall",
             "without_anchors": "anchors knocked out"}  # fmt: skip

READER_WORDS = {"return": "the return", "recovery": "the recovery"}
Value = Callable[[Record], float | None]


def summarise(folder: Path, records: Mapping[KVSetting, Sequence[Record]]) -> dict[str, Any]:
    """Draw a figure a setting into `folder/figures`, and return tables and maps as plain values.

    Args:
        folder: of the run.
        records: of every setting, in order of clips; failed ones are left out and counted elsewhere.
    """
    scored = {setting: [r for r in found if r.status == "scored"] for setting, found in records.items()}
    tables: list[dict[str, Any]] = []
    heatmaps: list[dict[str, Any]] = []
    for setting, kept in scored.items():
        if not kept:
            continue
        maps = {which: average([KVImportance.from_json(r.scores["maps"][which]) for r in kept]) for which in MAP_WORDS}
        file = f"figures/kv-{setting.name}.png"
        save_heatmaps(folder / file, f"Attention to the past, {setting.name.replace('-', ', ')}",
                      {MAP_WORDS[which]: (found, setting.calm if which == "uninterrupted" else setting.graph)
                       for which, found in maps.items()})  # fmt: skip
        heatmaps.append({
            "title": setting.name, "file": file, "roles": setting.graph.draw(), "readers": setting.readers,
            "maps": {which: {**found.to_json(), "cells": {kind: len(where) for kind, where in found.cells().items()}}
                     for which, found in maps.items()},
        })  # fmt: skip
        tables += [_where(setting, kept, reader) for reader in setting.readers]
    tables += [_cause(scored), _shown(scored)]
    return {"tables": tables, "heatmaps": heatmaps}


def _where(setting: KVSetting, kept: Sequence[Record], reader: str) -> dict[str, Any]:
    """Shares of a chunk's attention to the past, and how much of it is not place and habit."""
    rows = []
    for group in GROUPS:
        here, sink = (_share(reader, which, group, "mass") for which in ("interrupted", "uninterrupted"))
        if all(here(r) is None for r in kept):
            continue
        rows.append({"name": GROUP_WORDS[group], "cells": {
            "mass": _mean(kept, here),
            "mass over token share": _mean(kept, _share(reader, "interrupted", group, "over_token_share")),
            "with nothing to recall (sink, place)": _mean(kept, sink),
            "beyond that": _difference(kept, here, sink),
        }})  # fmt: skip
    return {
        "title": f"Where the chunk of {READER_WORDS[reader]} looks (chunk {setting.readers[reader]}), {setting.name}",
        "rows": rows,
        "note": "shares of the attention to earlier chunks, " + kept[0].scores["maps"]["interrupted"]["reduction"]
                + "; mass over token share: 1 = an even spread; the last two columns are of the same scene without its "
                "interruption, and the difference, paired by clip; 95 % bootstrap intervals over clips",
    }  # fmt: skip


def _share(reader: str, which: str, group: str, key: str) -> Value:
    def value(record: Record) -> float | None:
        found = record.scores["groups"][reader][which].get(group)
        return None if found is None else float(found[key])

    return value


def _cause(scored: Mapping[KVSetting, Sequence[Record]]) -> dict[str, Any]:
    """State progress with a memory and without it, on forks of the same past."""
    rows = []
    for setting, kept in scored.items():
        whole, anchors, hidden = (_of("progress", which) for which in ("with", "without_anchors", "without_hidden"))
        rows.append({"name": setting.name, "cells": {
            "everything remembered": _mean(kept, whole),
            "without anchors": _mean(kept, anchors),
            "without hidden chunks": _mean(kept, hidden),
            "effect of the anchors": _difference(kept, whole, anchors),
            "effect of hidden chunks": _difference(kept, whole, hidden),
        }})  # fmt: skip
    return {"title": "Does it need what it reads? State progress, knocked out by rebuild", "rows": rows,
            "note": "0 = a world that stood still or is not shown, 1 = the truth; effects are paired by clip and "
                    "noise; without hidden chunks: those that show nothing are taken out instead; 95 % bootstrap "
                    "intervals over clips"}  # fmt: skip


def _shown(scored: Mapping[KVSetting, Sequence[Record]]) -> dict[str, Any]:
    """Whether a progress of zero is a scene that stood still, or none that could be recognised."""
    words = {"with": "everything remembered", "without_anchors": "without anchors",
             "without_hidden": "without hidden chunks"}  # fmt: skip
    rows = [{"name": setting.name, "cells": {word: _mean(kept, _of("shown", which)) for which, word in words.items()}}
            for setting, kept in scored.items()]  # fmt: skip
    return {"title": "Share of the frames after the interruption that show a state", "rows": rows,
            "note": "frames that no state explains count as a world that stood still; 95 % bootstrap intervals over "
                    "clips"}  # fmt: skip


def _of(measure: str, which: str) -> Value:
    def value(record: Record) -> float | None:
        found = record.scores[measure][which]
        return None if found is None else float(found)

    return value


def _mean(records: Sequence[Record], value: Value) -> dict[str, Any]:
    return _cell(bootstrap([v for r in records if (v := value(r)) is not None]))


def _difference(records: Sequence[Record], first: Value, second: Value) -> dict[str, Any]:
    return _cell(paired_difference([first(r) for r in records], [second(r) for r in records]))


def _cell(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
