"""The report: one HTML file that needs nothing else, and every number in `summary.json` beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from remind.errors import InputError
from remind.evaluation import report_sections as sections
from remind.evaluation.kv_importance import KVImportance
from remind.evaluation.report_examples import Example, examples_section
from remind.evaluation.report_style import CSS, SCRIPT
from remind.evaluation.report_text import GROUP_WORDS, KIND_WORDS

MAX_BYTES = 15_000_000
# The page may load nothing from anywhere: a browser holds it to that.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src data:",
        "media-src data:",
        "style-src 'unsafe-inline'",
        "script-src 'unsafe-inline'",
    )
)


@dataclass(frozen=True)
class ReportData:
    """All that a report shows.

    Args:
        world: model -> what `aggregate` returned, in the order of the table.
        machine: facts such as processor, cores, python, torch.
        commit: of the code.
        run: what was run: command, checkpoints, training steps, seconds, seeds.
        examples: about eight.
        kv_importance: model -> map, averaged over clips.
        comparisons: "remind - matched" -> what `compare` returned.
        world_i2v: as `world`, where only the first frame was given.
        caveats: more of them, specific to this run.
        title: of the page.
        extra: further top-level entries of summary.json.
    """

    world: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, object]
    commit: str
    run: Mapping[str, object] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    kv_importance: Mapping[str, KVImportance] = field(default_factory=dict)
    comparisons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    world_i2v: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    caveats: Sequence[str] = ()
    title: str = "Did the world go on while nobody looked?"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds."""
        return {
            "world": {name: dict(entry) for name, entry in self.world.items()},
            "world_i2v": {name: dict(entry) for name, entry in self.world_i2v.items()},
            "comparisons": {name: dict(entry) for name, entry in self.comparisons.items()},
            "kv_importance": {name: found.to_json() for name, found in self.kv_importance.items()},
            "machine": dict(self.machine),
            "commit": self.commit,
            "run": dict(self.run),
            **self.extra,
        }


def write_report(path: Path, data: ReportData) -> None:
    """Write `path` and, beside it, `summary.json`; each appears whole or not at all.

    Raises:
        InputError: no model to report, a number that is not finite, a page above 15 MB, or a place that
            cannot be written.
    """
    if not data.world:
        raise InputError(
            "a report needs at least one model", got="none", expected="e.g. remind, base, freeze"
        )
    try:
        summary = json.dumps(data.summary(), indent=2, allow_nan=False, default=str) + "\n"
    except ValueError as error:
        raise InputError(
            "a number in the summary is not finite", got=error, expected="None if unknown"
        ) from None
    page = render_report(data).encode("utf-8")
    if len(page) > MAX_BYTES:
        raise InputError("the report is too large", got=f"{len(page) / 1e6:.1f} MB", expected="<= 15 MB",
                         fix="show fewer examples")  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, content in ((path.with_name("summary.json"), summary.encode("utf-8")), (path, page)):
            partial = target.with_name(target.name + ".partial")
            partial.write_bytes(content)
            os.replace(partial, target)
    except OSError as error:
        raise InputError("the report cannot be written", got=f"{path}: {error.strerror}",
                         fix="choose a folder that you can write to") from None  # fmt: skip


def render_report(data: ReportData) -> str:
    """The page as text."""
    world = data.world
    body = (
        sections.header(data.title, world, {**data.run, **data.machine, "commit": data.commit}),
        sections.results(world, data.comparisons),
        examples_section(data.examples),
        sections.memory(data.kv_importance),
        sections.image_to_video(data.world_i2v),
        sections.breakdown(world, "by_kind", "By interruption", KIND_WORDS),
        sections.breakdown(world, "by_group", "By kind of change", GROUP_WORDS),
        sections.breakdown(world, "by_family", "By scene family", {}, folded=True),
        sections.apart(world),
        sections.explanations(world, data.caveats),
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(data.title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}"><style>{CSS}</style></head>'
        f"<body><main>{''.join(body)}</main><script>{SCRIPT}</script></body></html>"
    )
