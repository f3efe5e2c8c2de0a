"""Tables of the recovery suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from remind.evaluation.eval_run import Record
from remind.evaluation.lpips_weights import HOW_TO_GET
from remind.evaluation.recovery_cases import RECOVERY_KINDS
from remind.evaluation.recovery_scores import MEASURES, PHASES
from remind.evaluation.statistics import Estimate, bootstrap, paired_difference

NAMES = {"psnr_db": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS-Alex"}
NO_LPIPS = f"LPIPS was not measured: its weights are not here ({HOW_TO_GET})."


def summarise(records: Iterable[Record], *, with_lpips: bool) -> dict[str, Any]:
    """The tables: nearness to the truth by phase, and loop closure.

    Args:
        with_lpips: whether LPIPS was measured; if not, no column has its name.
    """
    scored = [record for record in records if record.status == "scored"]
    groups = {kind: [r for r in scored if r.about["kind"] == kind] for kind in RECOVERY_KINDS}
    rows = {"all": scored} | {kind: group for kind, group in groups.items() if group}
    measures = [name for name in MEASURES if name != "lpips" or with_lpips]
    phases = [phase for phase in PHASES if any(_values(scored, f"{phase}_{name}") for name in measures)]
    missing = "" if with_lpips else " " + NO_LPIPS
    tables = [
        {
            "title": f"Recovery: frames {phase} the interruption against the truth",
            "rows": [{"name": kind, "cells": {NAMES[m]: _cell(bootstrap(_values(group, f"{phase}_{m}")))
                                              for m in measures}} for kind, group in rows.items()],
            "note": "mean over clips of the mean over frames that were made; PSNR of equal frames counts as 60 dB; 95 "
                    "% bootstrap intervals over clips." + missing,
        }
        for phase in reversed(phases)
    ]  # fmt: skip
    closed = [record for record in scored if record.scores.get("revisit_psnr_db") is not None]
    if closed:
        tables.append(_loop_closure(closed, measures, missing))
    partly = sum(not record.about["hides"] for record in scored if record.about["kind"] != "zoom")
    return {"tables": tables, "lpips": "measured" if with_lpips else NO_LPIPS, "hides_only_a_part": partly}


def _loop_closure(closed: Sequence[Record], measures: Sequence[str], missing: str) -> dict[str, Any]:
    made = {m: [r.scores[f"revisit_{m}"] for r in closed] for m in measures}
    truth = {m: [r.scores[f"truth_revisit_{m}"] for r in closed] for m in measures}
    of = {
        "made": {NAMES[m]: _cell(bootstrap([v for v in made[m] if v is not None])) for m in measures},
        "truth": {NAMES[m]: _cell(bootstrap([v for v in truth[m] if v is not None])) for m in measures},
        "made - truth": {NAMES[m]: _cell(paired_difference(made[m], truth[m])) for m in measures},
    }
    return {
        "title": "Loop closure: the same view before and after a look away",
        "rows": [{"name": name, "cells": cells} for name, cells in of.items()],
        "note": "frames of one pose (within 1 degree), seen before the look away and made after it. A world that goes "
                "on differs from itself: the truth's own number is what to reach; a copy exceeds it." + missing,
    }  # fmt: skip


def _values(records: Sequence[Record], name: str) -> list[float]:
    return [record.scores[name] for record in records if record.scores.get(name) is not None]


def _cell(found: Estimate) -> dict[str, float | int | None]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
