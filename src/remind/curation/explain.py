"""What became of an item of a build: from its ledger and its report, while it runs or later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remind.curation.build_report import read_report
from remind.curation.ledger import LEDGER, Ledger
from remind.errors import InputError


@dataclass(frozen=True)
class Explanation:
    """What became of an item: lines for people, in order."""

    item: str
    lines: tuple[str, ...]


def explain(out: Path, item: str) -> Explanation:
    """Say which stages ran on an item, what came out, and why something is missing.

    Args:
        item: its id, or a part of it that only one has.

    Raises:
        StoreError: no build here.
        InputError: no such item, or several.
    """
    report = read_report(out)
    with Ledger.read(out / LEDGER) as ledger:
        names = sorted({*ledger.items(), *(report.sources if report else ())})
        found = [item] if item in names else [name for name in names if item in name]
        if len(found) != 1:
            raise InputError("no item has this name" if not found else "several items have this in their name",
                             got=item, expected=", ".join((found or names)[:5]), fix="give more of its name")
        lines = []
        for result in ledger.of_item(found[0]):
            said = result.payload if result.status == "failed" else _in_short(result.stage, result.payload)
            lines.append(f"{result.stage:9s} {result.status:6s} {result.seconds:7.2f} s  {result.unit}: {said}")
    for kind, entries in (("dropped", report.dropped if report else ()), ("failed", report.failed if report else ())):
        lines += [f"{kind} by {e.stage}: {e.item}: {e.reason}" for e in entries
                  if e.item == found[0] or e.item.startswith(f"{found[0]}#")]  # fmt: skip
    return Explanation(found[0], tuple(lines))


def _in_short(stage: str, payload: Any) -> str:
    if stage == "scan":
        return f"{len(payload['windows'])} windows, {len(payload['short'])} shots that hold none"
    if stage == "pack":
        return str(payload["clip_id"])
    return str(payload.get("verdict", payload.get("sha256", "")) if isinstance(payload, dict) else payload)[:160]
