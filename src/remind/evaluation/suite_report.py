"""The report of one or more evaluations: one page, and the same numbers as JSON, CSV and LaTeX.

    OUT/report.html     tables, differences, figures, examples side by side, every example
    OUT/summary.json    all tables
    OUT/tables.csv      one line a number
    OUT/examples.csv    one line an example and run
    OUT/tables.tex      tabulars
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from remind.errors import InputError
from remind.evaluation import suite_page as page
from remind.evaluation.compare_runs import LoadedRun, compare_runs, load_runs
from remind.evaluation.report import CONTENT_POLICY, MAX_BYTES
from remind.evaluation.report_style import CSS, SCRIPT
from remind.evaluation.suite_examples import suite_examples
from remind.evaluation.suite_tables import examples_csv, tables_csv, tables_latex
from remind.whole_file import whole_file

NUM_EXAMPLES = 6
_SUITE_WORDS = {
    "world": "Hidden state of the embedded world, measured exactly: see docs/conventions.md for the measures.",
    "kv": "Which chunks of the past are read, and whether they are needed.",
    "stress": "How far recovery reaches.",
    "stevo": "STEVO-Bench, judged by a vision-language model.",
    "vbench": "VBench I2V.",
    "recovery": "Recovery of clips whose undegraded version is known.",
}


def write_suite_report(
    folders: Sequence[Path], out: Path, *, title: str = "Evaluations", machine: Mapping[str, object] | None = None,
    num_examples: int = NUM_EXAMPLES,
) -> list[Path]:
    """Write the report of some evaluations; runs of one suite must be of one test and are compared.

    Args:
        folders: of finished evaluations.
        out: folder of the report; may be that of the only run.
        machine: facts of where the report is made.
        num_examples: to show, of every suite; fewer where the page would be larger than 15 MB.

    Returns:
        What was written, the page first.

    Raises:
        InputError: an evaluation that cannot be read or is not done, runs of different tests, or a place that cannot be
            written.
    """
    runs = load_runs(folders)
    groups: dict[str, list[LoadedRun]] = {}
    for run in runs:
        groups.setdefault(run.suite, []).append(run)
    found = {suite: compare_runs(some) for suite, some in groups.items()}
    target = out / "report.html"
    html = render(groups, found, target, title=title, machine=machine or {}, num_examples=num_examples)
    every = [(run.suite, run.name, one) for run in runs for one in run.summary["tables"]]
    compared = [(suite, "", one) for suite, some in found.items() for one in some]
    summary: dict[str, Any] = {
        "runs": {run.name: {"identity": dict(run.identity), "counts": dict(run.counts),
                            "tables": run.summary["tables"]} for run in runs},
        "comparisons": {one["title"]: one for _, _, one in compared},
    }  # fmt: skip
    files = {
        target: html, out / "summary.json": json.dumps(summary, indent=1, allow_nan=False) + "\n",
        out / "tables.csv": tables_csv([*every, *compared]), out / "examples.csv": examples_csv(runs),
        out / "tables.tex": tables_latex([(run, one) for _, run, one in [*every, *compared]]),
    }  # fmt: skip
    for path, text in files.items():
        try:
            with whole_file(path) as partial:
                partial.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError("the report cannot be written", got=f"{path}: {error.strerror}",
                             fix="choose a folder that you can write to") from None  # fmt: skip
    return list(files)


def render(
    groups: Mapping[str, Sequence[LoadedRun]], compared: Mapping[str, Sequence[Mapping[str, Any]]], target: Path, *,
    title: str, machine: Mapping[str, object], num_examples: int = NUM_EXAMPLES,
) -> str:
    """The page as text, with as many examples as fit.

    Raises:
        InputError: a page above 15 MB even without examples.
    """
    for count in (num_examples, num_examples // 2, 1, 0):
        text = _page(groups, compared, target, title, machine, count)
        if len(text.encode()) <= MAX_BYTES:
            return text
    raise InputError("the report is too large", got=f"{len(text) / 1e6:.1f} MB", expected="15 MB or less",
                     fix="report fewer runs at once")  # fmt: skip


def _page(groups: Mapping[str, Sequence[LoadedRun]], compared: Mapping[str, Sequence[Mapping[str, Any]]],
          target: Path, title: str, machine: Mapping[str, object], num_examples: int) -> str:  # fmt: skip
    body = [f"<h1>{escape(title)}</h1>"]
    if machine:
        told = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd></div>" for k, v in machine.items())
        body.append(f"<dl class='run'>{told}</dl>")
    body.append(page.facts([run for some in groups.values() for run in some]))
    for suite, some in groups.items():
        body.append(f"<h2>{escape(suite)}</h2><p class='lead'>{escape(_SUITE_WORDS.get(suite, ''))}</p>")
        if suite == "world":
            body.append(page.progress(some))
        body.append(page.tables(some))
        body += [page.figures(run) for run in some]
        body.append(page.comparisons(compared.get(suite, ())))
        if num_examples:
            body.append(suite_examples(some, num_examples))
        body.append(page.every_example(some, target))
    body.append("<p class='soft'>Small print under a number: its 95 % interval, and the examples behind it. "
                "What failed is counted above and is in no number.</p>")  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}"><style>{CSS}</style></head>'
        f"<body><main>{''.join(body)}</main><script>{SCRIPT}</script></body></html>"
    )
