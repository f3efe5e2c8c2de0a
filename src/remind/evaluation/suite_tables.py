"""Tables of evaluations for other programs: CSV of every number, LaTeX to paste."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from remind.evaluation.compare_runs import LoadedRun, measures_of

Table = Mapping[str, Any]

_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
          "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip
_NUMBERS = ("value", "low", "high", "n", "k")


def columns_of(tables: Iterable[Table]) -> list[str]:
    """All columns of some tables, in order of appearance."""
    return list(dict.fromkeys(c for one in tables for line in one["rows"] for c in line["cells"]))


def tables_csv(tables: Iterable[tuple[str, str, Table]]) -> str:
    """One line a cell: suite, run, table, row, column, value, low, high, n, k.

    Args:
        tables: suite, run and table; the run is empty for comparisons.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["suite", "run", "table", "row", "column", *_NUMBERS])
    for suite, run, one in tables:
        for line in one["rows"]:
            for column, cell in line["cells"].items():
                writer.writerow([suite, *map(_inert, (run, one["title"], line["name"], column)),
                                 *("" if cell.get(key) is None else cell[key] for key in _NUMBERS)])  # fmt: skip
    return out.getvalue()


def examples_csv(runs: Sequence[LoadedRun]) -> str:
    """One line an example of each run: where its video is, whether it was scored, and its measures."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = list(dict.fromkeys(key for run in runs for key in measures_of([run])))
    writer.writerow(["suite", "run", "example", "status", "reason", "video", *keys])
    for run in runs:
        for name, record in run.records.items():
            videos = " ".join(path for _, path in videos_of(record.about))
            values = [record.scores.get(key) for key in keys]
            writer.writerow([run.suite, _inert(run.name), name, record.status, _inert(record.reason), _inert(videos),
                             *(v if isinstance(v, bool | int | float) else "" for v in values)])  # fmt: skip
    return out.getvalue()


def _inert(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def videos_of(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and path of the videos that a record names: `video` or `videos`, as text or with their hashes."""
    named = about.get("videos") if isinstance(about.get("videos"), Mapping) else {"": about.get("video")}
    assert named is not None
    paths = [(str(label), v.get("path") if isinstance(v, Mapping) else v) for label, v in named.items()]
    return [(label, path) for label, path in paths if isinstance(path, str) and path]


def latex(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(_LATEX.get(c, c) for c in re.sub(r"\s+", " ", text))


def tables_latex(tables: Iterable[tuple[str, Table]]) -> str:
    """Tables as `tabular`s, needing booktabs; intervals in brackets, integer counts of shares below.

    Args:
        tables: name of the run and table; rows of several runs stand together under one title.
    """
    groups: dict[str, list[tuple[str, Table]]] = {}
    for run, one in tables:
        groups.setdefault(one["title"], []).append((run, one))
    return "% needs \\usepackage{booktabs}\n\n" + "\n".join(_tabular(title, some) for title, some in groups.items())


def _tabular(title: str, some: Sequence[tuple[str, Table]]) -> str:
    columns = columns_of(one for _, one in some)
    lines = [f"% {latex(title)}", rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule",
             " & ".join(["", *map(latex, columns)]) + r" \\", r"\midrule"]  # fmt: skip
    names = list(dict.fromkeys(line["name"] for _, one in some for line in one["rows"]))
    for name in names:
        for run, one in some:
            for line in one["rows"]:
                if line["name"] == name:
                    label = name if len(some) == 1 else f"{name}, {run}"
                    cells = [_latex_cell(line["cells"].get(column)) for column in columns]
                    lines.append(" & ".join([latex(label), *cells]) + r" \\")
    notes = dict.fromkeys(one["note"] for _, one in some if one.get("note"))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {latex(note)}" for note in notes)]) + "\n"


def _latex_cell(cell: Mapping[str, Any] | None) -> str:
    if not cell or cell.get("value") is None:
        return "--"
    value, low, high = (None if cell.get(key) is None else number(cell[key]).replace("-", "$-$")
                        for key in ("value", "low", "high"))  # fmt: skip
    return f"{value}" if low is None or high is None else rf"{value} {{\scriptsize [{low}, {high}]}}"


def number(value: int | float) -> str:
    """A number with as many digits as tell something."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.01 else f"{value:.2g}"
