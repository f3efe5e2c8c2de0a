"""The page of one or more evaluations as HTML. Everything that comes from a file passes through `html.escape`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from remind.errors import InputError
from remind.evaluation import report_charts as charts
from remind.evaluation.compare_runs import LoadedRun, measures_of
from remind.evaluation.report_media import data_uri
from remind.evaluation.report_sections import table as html_table
from remind.evaluation.suite_examples import path_of
from remind.evaluation.suite_tables import columns_of, number, videos_of

_MAX_FIGURE_BYTES = 2_000_000


def facts(runs: Sequence[LoadedRun]) -> str:
    """What was measured, and what came of the examples: what failed is named, never scored."""
    rows = []
    for run in runs:
        c = run.counts
        reasons = "; ".join(f"{reason}: {count}" for reason, count in c.get("reasons", {}).items()) or "none"
        extra = run.summary.get("extra_videos") or []
        strangers = f"{len(extra)}: {', '.join(map(str, extra[:3]))}" if extra else "none"
        rows.append(f"<tr><td>{_dot(run.name)}{escape(run.name)}</td><td>{escape(run.suite)}</td>"
                    f"<td>{c['examples']}</td><td>{c['scored']}</td><td>{c['failed']}</td>"
                    f"<td class='part'>{escape(reasons)}</td><td class='part'>{escape(strangers)}</td></tr>")
    heads = ("run", "suite", "examples", "scored", "failed", "why", "files that no example expects")
    identities = "".join(
        f"<details><summary>what decided {escape(run.name)}</summary><dl class='run'>"
        + "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v)[:400])}</dd></div>"
                  for k, v in run.identity.items()) + "</dl></details>" for run in runs)  # fmt: skip
    return f"<h2>What was measured</h2>{html_table(heads, rows)}{identities}"


def _dot(name: str) -> str:
    return f'<span class="dot" style="background:{charts.colour_of(name)}"></span>'


def tables(runs: Sequence[LoadedRun]) -> str:
    """All tables of a suite: a row of each run under every name."""
    titles = list(dict.fromkeys(one["title"] for run in runs for one in run.summary["tables"]))
    parts = []
    for title in titles:
        some = [(run.name, one) for run in runs for one in run.summary["tables"] if one["title"] == title]
        parts.append(_table(title, some, folded=sum(len(one["rows"]) for _, one in some) > 16))
    return "".join(parts)


def comparisons(found: Sequence[Mapping[str, Any]]) -> str:
    """Tables of differences."""
    shown = [one for one in found if one["rows"]]
    return "<h2>Differences on the same examples</h2>" + "".join(
        _table(one["title"], [("", one)]) for one in shown) if shown else ""  # fmt: skip


def _table(title: str, some: Sequence[tuple[str, Mapping[str, Any]]], *, folded: bool = False) -> str:
    columns = columns_of(one for _, one in some)
    names = list(dict.fromkeys(line["name"] for _, one in some for line in one["rows"]))
    rows = []
    for name in names:
        for place, (run, one) in enumerate(some):
            for line in one["rows"]:
                if line["name"] != name:
                    continue
                who = f"<small>{_dot(run)}{escape(run)}</small>" if len(some) > 1 else ""
                first = ' class="first"' if place == 0 and len(some) > 1 else ""
                cells = "".join(_cell(line["cells"].get(column)) for column in columns)
                rows.append(f"<tr{first}><td class='part'>{escape(str(name))}{who}</td>{cells}</tr>")
    inside = html_table(["", *columns], rows)
    told = dict.fromkeys(one["note"] for _, one in some if one.get("note"))
    notes = "".join(f"<p class='soft'>{escape(note)}</p>" for note in told)
    if folded:
        inside = f"<details><summary>show {len(rows)} rows</summary>{inside}</details>"
    return f"<h3>{escape(title)}</h3>{inside}{notes}"


def _cell(cell: Mapping[str, Any] | None) -> str:
    if not cell or cell.get("value") is None:
        n = "" if not cell or cell.get("n") is None else f"<small>n {cell['n']}</small>"
        return f'<td><span class="soft">&ndash;</span>{n}</td>'
    interval = "" if cell.get("low") is None else f"{number(cell['low'])} to {number(cell['high'])}, "
    counts = f"{cell['k']} of {cell['n']}" if cell.get("k") is not None else f"n {cell.get('n', '?')}"
    return f"<td>{number(cell['value'])}<small>{interval}{counts}</small></td>"


def progress(runs: Sequence[LoadedRun]) -> str:
    """State progress of world runs on one axis."""
    rows = []
    for run in runs:
        head = run.summary["tables"][0]["rows"][0]["cells"].get("state progress", {}) if run.summary["tables"] else {}
        rows.append((run.name, head.get("value"), head.get("low"), head.get("high")))
    return f'<div class="card"><div class="scroll">{charts.progress_bars(rows)}</div></div>'


def figures(run: LoadedRun) -> str:
    """Heatmaps of a KV run, and pictures that a run drew, inside the page."""
    parts = []
    if run.suite == "kv":
        from remind.evaluation.kv_html import heatmaps_html

        parts += heatmaps_html(run.summary)
    else:
        for named in run.summary.get("figures", []):
            parts.append(_picture(run, str(named["file"] if isinstance(named, Mapping) else named)))
    kept = "".join(filter(None, parts))
    if not kept:
        return ""
    grid = "heats" if run.suite == "kv" else ""
    return f'<h3>{escape(run.name)}</h3><div class="card {grid}">{kept}</div>'


def _picture(run: LoadedRun, file: str) -> str:
    """A PNG of the run's own folder; nothing outside of it is shown."""
    path = (run.folder / file).resolve()
    if not path.is_relative_to(run.folder.resolve()) or path.suffix != ".png" or not path.is_file():
        return ""
    if path.stat().st_size > _MAX_FIGURE_BYTES:
        raise InputError("a figure is too large for a page", got=path, expected="2 MB or less")
    return (f'<figure><img style="max-width:100%" alt="{escape(path.stem, quote=True)}" '
            f'src="{data_uri("image/png", path.read_bytes())}"></figure>')  # fmt: skip


def every_example(runs: Sequence[LoadedRun], page: Path) -> str:
    """A fold for each example: what it was, each run's scores and the way to its video.

    Args:
        page: where the page will be; links to videos are relative to it.
    """
    measures = measures_of(runs)
    names = sorted({name for run in runs for name in run.records})
    folds = "".join(_fold(name, runs, measures, page) for name in names)
    return f"<h2>Every example</h2><details><summary>show {len(names)}</summary>{folds}</details>"


def _fold(name: str, runs: Sequence[LoadedRun], measures: Mapping[str, Mapping[str, str]], page: Path) -> str:
    rows = []
    for run in runs:
        record = run.records.get(name)
        if record is None:
            continue
        links = " ".join(f'<a href="{_link(path_of(run, path), page)}">{escape(label or "video")}</a>'
                         for label, path in videos_of(record.about))  # fmt: skip
        values = "".join(f"<td>{_value(record.scores.get(key))}</td>" for key in measures)
        said = record.status if record.status == "scored" else f"failed: {record.reason}"
        rows.append(f"<tr><td>{_dot(run.name)}{escape(run.name)}</td><td>{escape(said)}</td><td>{links}</td>{values}</tr>")
    about = next(run.records[name].about for run in runs if name in run.records)
    said = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v)[:600])}</dd></div>" for k, v in about.items()
                   if k not in ("video", "videos"))  # fmt: skip
    heads = ("run", "status", "video", *(m.get("title", key) for key, m in measures.items()))
    return (f'<details id="example-{escape(name, quote=True)}"><summary>{escape(name)}</summary>'
            f"{html_table(heads, rows)}<dl class='run'>{said}</dl></details>")  # fmt: skip


def _link(video: Path, page: Path) -> str:
    return escape(quote(os.path.relpath(video.resolve(), page.resolve().parent)), quote=True)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else "&ndash;"
