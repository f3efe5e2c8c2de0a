"""What WRBench's own toolkit says of the videos: its score files, read by the rules of its metric contract.

Source: the contract `wrbench_latest_d1_d6_metrics_v3`: one field a dimension and no other in its place; D5 and D6 only
where the re-observation gate says that what had left the view came back. Files are known by what is in them, so it does
not matter how they are called.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remind.errors import InputError

CONTRACT = "wrbench_latest_d1_d6_metrics_v3"
COLUMNS = {
    "D1": "D1 CamPrec", "CamAlign": "D1 CamAlign", "D2": "D2 integrity", "D3": "D3 space in view",
    "D4": "D4 state in view", "reobserved": "came back (%)", "D5": "D5 space come back", "D6": "D6 state come back",
}  # fmt: skip
GATED = ("D5", "D6")
_FIELD = {"D1": "d1_camera_accuracy", "CamAlign": "d1_camalign_score", "D2": "d2_selected_visual_integrity_score",
          "D3": "vlm_spatial_fidelity", "D4": "vlm_state_fidelity", "D5": "vlm_spatial_reasoning",
          "D6": "vlm_state_reasoning"}  # fmt: skip
_STATUS = {"D1": "d1_status", "CamAlign": "d1_camalign_status", "D2": "d2_status"}
_FORBIDDEN = {"D2": "d2_dinov2_temporal_consistency"}
_GATE = "runtime_v2_evidence_shared_oov_applicable"
_GATE_OF = {"D5": "runtime_v2_evidence_d5_applicable", "D6": "runtime_v2_evidence_d6_applicable"}
_POLICY, _MASKED = "runtime_v2_evidence_export_policy", "evidence_gate_masked_export"
_MAX_BYTES = 256 * 2**20
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class WRResults:
    """What the files say.

    Args:
        scores: by video, then by dimension, 0..1; `reobserved` is the gate. None = the toolkit has no score, and `why`.
        why: reasons without a score, by video and dimension.
        files: that were read, by what they hold.
        sha256: of them all.
        model: that they are about.
    """

    scores: Mapping[str, Mapping[str, float | bool | None]]
    why: Mapping[str, Mapping[str, str]]
    files: Mapping[str, str]
    sha256: str
    model: str


def read_results(folder: Path, *, model: str = "") -> WRResults:
    """All score files of the toolkit below a folder, as `wrbench eval run` and its single stages write them.

    Args:
        model: whose rows, where files hold several.

    Raises:
        InputError: no such folder, no score file, a damaged one, two of one dimension, or a row that breaks the
            contract.
    """
    if not folder.is_dir():
        raise InputError("no such folder of results", got=folder)
    found: dict[str, tuple[Path, Rows]] = {}
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".jsonl") and p.is_file()):
        rows, data = _rows(path)
        kind = _kind(rows)
        if kind is None:
            continue
        if kind in found:
            raise InputError("two results of one kind", got=f"{kind}: {found[kind][0]} and {path}",
                             fix="remove the older one")  # fmt: skip
        found[kind] = (path, rows)
        digest.update(data)
    if "masked" in found:
        found.pop("probe", None)  # the same scores without the gate
    if not found:
        raise InputError("no score file of WRBench is there", got=folder,
                         expected="what `wrbench eval run`, d1, d1-camalign, d2 or d3d6 wrote")  # fmt: skip
    name = _model({str(row.get("model")) for _, rows in found.values() for row in rows}, model)
    scores: dict[str, dict[str, float | bool | None]] = {}
    why: dict[str, dict[str, str]] = {}
    for kind, (path, rows) in found.items():
        seen: set[str] = set()
        for row in (row for row in rows if str(row.get("model")) == name):
            video = row.get("video_id")
            if not isinstance(video, str) or video in seen:
                raise InputError("a row of the results has no video of its own", got=f"{path}: {video!r}")
            seen.add(video)
            values, reasons = _read(path, kind, row, video)
            scores.setdefault(video, {}).update(values)
            why.setdefault(video, {}).update(reasons)
    return WRResults(scores, why, {kind: str(path) for kind, (path, _) in found.items()}, digest.hexdigest(), name)


def _rows(path: Path) -> tuple[Rows, bytes]:
    """Objects of a JSON list, of a list under `records`, `scores` or `data`, or of lines; none of anything else."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError("a result cannot be read", got=f"{path}: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise InputError("a result is too large", got=path, expected=f"{_MAX_BYTES // 2**20} MiB or less")
    try:
        if path.suffix == ".jsonl":
            told: Any = [json.loads(line) for line in data.splitlines() if line.strip()]
        else:
            told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("a result is damaged", got=f"{path}: {str(error)[:100]}",
                         fix="run that stage of WRBench again") from None  # fmt: skip
    if isinstance(told, dict):
        told = next((told[key] for key in ("records", "scores", "data") if isinstance(told.get(key), list)), [])
    return [row for row in told if isinstance(row, dict)] if isinstance(told, list) else [], data


def _kind(rows: Rows) -> str | None:
    keys = {key for row in rows for key in row}
    if _POLICY in keys:
        policies = {row.get(_POLICY) for row in rows}
        return "masked" if policies == {_MASKED} else "probe"
    if _STATUS["CamAlign"] in keys:
        return "CamAlign"
    if _STATUS["D1"] in keys:
        return "D1"
    return "D2" if _FIELD["D2"] in keys or _FORBIDDEN["D2"] in keys else None


def _model(there: set[str], asked: str) -> str:
    if len(there) == 1 and not asked:
        return there.pop()
    if asked in there:
        return asked
    raise InputError("the results are of other models", got=", ".join(sorted(there)[:5]),
                     expected=asked or "one model", fix="name one as --name")  # fmt: skip


def _read(
    path: Path, kind: str, row: dict[str, Any], video: str
) -> tuple[dict[str, float | bool | None], dict[str, str]]:
    if kind not in ("masked", "probe"):
        status = row.get(_STATUS[kind], "ok" if kind == "D2" else None)
        if status != "ok":
            return {kind: None}, {kind: str(status)}
        if _FORBIDDEN.get(kind) in row:
            raise InputError("a result holds an older score in place of the right one",
                             got=f"{path}: {video}: {_FORBIDDEN[kind]}", expected=_FIELD[kind])  # fmt: skip
        return {kind: _score(path, row, video, kind)}, {}
    gate = row.get(_GATE)
    if not isinstance(gate, bool):
        raise InputError("a result says nothing of the re-observation gate", got=f"{path}: {video}", expected=_GATE)
    values: dict[str, float | bool | None] = {"reobserved": gate}
    values |= {name: _score(path, row, video, name) for name in ("D3", "D4")}
    reasons: dict[str, str] = {}
    for name in GATED:
        own = row.get(_GATE_OF[name])
        if own if isinstance(own, bool) else gate:
            values[name] = _score(path, row, video, name)
        else:
            reason = row.get(f"runtime_v2_evidence_{name.lower()}_na_reason")
            values[name], reasons[name] = None, str(reason or "did not come back into view")
    return values, reasons


def _score(path: Path, row: dict[str, Any], video: str, name: str) -> float:
    value = row.get(_FIELD[name])
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise InputError("a score of WRBench is none", got=f"{path}: {video}: {_FIELD[name]} = {str(value)[:40]}",
                         expected="a number 0..1")  # fmt: skip
    return float(value)
